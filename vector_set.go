package episodic

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
	"github.com/episodic-memory/episodic/internal/vector"
)

// vectorKey names a set of vectors that can be compared.
type vectorKey struct {
	kind  ItemKind
	model string
}

// vectorSet holds the vectors of a kind and model in memory.
type vectorSet struct {
	vectorKey

	mu    sync.RWMutex
	ready bool // until then the fields below belong to whoever loads; callers who gave up have loaded a part
	index *vector.Index
	last  ID    // up to which has been loaded
	seq   int64 // the change that is included
	// version is a data version of the file at which seq was the last change.
	version int64
	scopes  []Scope // by label
	labels  map[string]uint32
	damaged map[ID]damagedVector

	// Guarded by the lock of the vectorSets.
	used    uint64 // when it was used last, as they count
	vectors int
	bytes   int64
	tooMany int64 // so many vectors proved to take too much memory; 0: not known
}

func newVectorSet(key vectorKey) *vectorSet {
	return &vectorSet{vectorKey: key, labels: make(map[string]uint32)}
}

// forget makes the next call load anew.
func (v *vectorSet) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reset()
}

// forgetIfReady leaves alone what another caller has begun to load.
func (v *vectorSet) forgetIfReady() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ready {
		v.reset()
	}
}

func (v *vectorSet) reset() {
	v.ready, v.index, v.last, v.seq, v.version = false, nil, ID{}, 0, 0
	v.scopes, v.labels, v.damaged = nil, make(map[string]uint32), nil
}

// damagedVector is one that cannot be read.
type damagedVector struct {
	label uint32
	err   *DamagedError
}

func (v *vectorSet) isReady() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ready
}

// put adds a row of the columns item, dim, vector, scope to the index. What cannot be read is
// left out, and noted.
func (v *vectorSet) put(in *engine.Row, from int) error {
	id, err := idFrom(in.Values[from])
	dim, blob, scope := in.Int(from+1), in.Blob(from+2), in.Text(from+3)
	if err = errors.Join(err, in.Err); err != nil {
		return fmt.Errorf("embedding: %w: %w", ErrCorrupt, err)
	}
	if v.index == nil || int(dim) != v.index.Dim() { // is it dim that is damaged?
		if _, err = vector.Decode(blob, dim); err != nil {
			v.leaveOut(id, v.label(scope), err)
			return nil
		}
	}
	if v.index == nil {
		if v.index, err = vector.NewIndex(int(dim)); err != nil {
			return fmt.Errorf("embedding of %v: %w: %w", id, ErrCorrupt, err)
		}
	}
	if int(dim) != v.index.Dim() {
		return fmt.Errorf("embedding of %v: %w: %w", id, ErrCorrupt, &dimError{dim, v.index.Dim()})
	}
	if err := v.index.Put(vector.ID(id), v.label(scope), blob); err != nil {
		v.leaveOut(id, v.label(scope), err)
		return nil
	}
	delete(v.damaged, id)
	return nil
}

func (v *vectorSet) leaveOut(id ID, label uint32, err error) {
	if v.damaged == nil {
		v.damaged = make(map[ID]damagedVector)
	}
	v.damaged[id] = damagedVector{label, &DamagedError{Kind: "embedding", ID: id, Problem: fmt.Sprintf("by %s: %v", v.model, err)}}
	if v.index != nil {
		v.index.Delete(vector.ID(id))
	}
}

// tellDamaged notes for a request what is left out of its scope.
func (v *vectorSet) tellDamaged(r *nearestRequest) {
	within := v.labelsWithin(r.scope)
	for _, d := range v.damaged {
		if within == nil || within[d.label] {
			r.damage.note(d.err)
		}
	}
}

// dimError says that a vector differs from others of its model.
type dimError struct {
	dim    int64
	others int
}

func (e *dimError) Error() string {
	return fmt.Sprintf("it has %d numbers, others of the model have %d", e.dim, e.others)
}

// label returns the number by which the index knows a scope.
func (v *vectorSet) label(text string) uint32 {
	label, known := v.labels[text]
	if !known {
		scope, err := scopeFrom(text)
		if err != nil {
			scope = Scope{} // as Changes has it
		}
		label = uint32(len(v.scopes))
		v.scopes, v.labels[text] = append(v.scopes, scope), label
	}
	return label
}

// labelsWithin returns for each label whether its scope lies in another; nil if all do.
func (v *vectorSet) labelsWithin(scope Scope) []bool {
	if scope == (Scope{}) {
		return nil
	}
	within := make([]bool, len(v.scopes))
	for i, sc := range v.scopes {
		within[i] = scope.contains(sc)
	}
	return within
}

// pageBytes is how much of vectors is read at once; servers answer with 10 MB at most.
const pageBytes = 4 << 20

// vectorReader reads rows with vectors in pages that engines answer.
type vectorReader struct {
	limit int // rows of the next page; 0: 512
}

// read runs statements, the last of which has the limit of its rows as its last
// argument, and tells whether there may be more rows.
func (p *vectorReader) read(ctx context.Context, q querier, stmts ...engine.Stmt) (r []engine.Result, more bool, err error) {
	if p.limit == 0 {
		p.limit = 512
	}
	last := &stmts[len(stmts)-1]
	args := last.Args
	for {
		last.Args = append(args[:len(args):len(args)], int64(p.limit))
		r, err = q.Query(ctx, stmts...)
		if engine.KindOf(err) == engine.KindTooLarge && p.limit > 1 {
			p.limit /= 2
			continue
		}
		if err != nil {
			return nil, false, err
		}
		rows := r[len(r)-1].Rows
		more = len(rows) == p.limit
		if size := 0; more {
			for _, row := range rows {
				for _, v := range row {
					size += engine.ValueSize(v)
				}
			}
			p.limit = max(1, min(2*p.limit, len(rows)*pageBytes/max(1, size)))
		}
		return r, more, nil
	}
}

// An item's scope is in its own row of the feed, which is shorter than the item.
const scopeText = `iif(scope, (SELECT text FROM scopes WHERE n = feed.scope), '')`

// sqlVectors reads a page of the vectors of a kind and model, in the order of their
// items, with the condition of a filter.
const sqlVectors = `SELECT e.item, e.dim, e.vector, (SELECT ` + scopeText + ` FROM feed WHERE item = e.item AND kind = ? AND gone_us IS NULL) AS scope
 FROM embeddings e WHERE e.kind = ? AND e.model = ? AND e.item > ? AND scope IS NOT NULL%s ORDER BY e.item LIMIT ?`

// sqlChangedVectors reads the items whose vectors, scope or existence have changed after
// a change, with their vectors of a kind and model.
const sqlChangedVectors = `SELECT f.n, f.item, e.dim, e.vector, (SELECT ` + scopeText + ` FROM feed WHERE item = f.item AND kind = ?1 AND gone_us IS NULL)
 FROM feed f LEFT JOIN embeddings e ON e.kind = ?2 AND e.model = ?3 AND e.item = f.item
 WHERE f.n > ?4 AND (f.kind = 5 OR f.kind = ?1 AND f.gone_us > 0) ORDER BY f.n LIMIT ?5`

// feedKind is how the feed names a kind of items.
func feedKind(kind ItemKind) int64 {
	for f, c := range changeKinds {
		if string(c) == string(kind) {
			return int64(f)
		}
	}
	panic("episodic: no kind of items: " + kind)
}

func (k *vectorKey) vectorsStmt(after ID, filter where) engine.Stmt {
	args := []any{feedKind(k.kind), string(k.kind), k.model, after.bytes()}
	return engine.Stmt{SQL: fmt.Sprintf(sqlVectors, filter.sql), Args: append(args, filter.args...)}
}

// load reads the vectors that have not been read yet. It stops where the index takes more
// than maxBytes. The caller alone loads.
func (v *vectorSet) load(ctx context.Context, q querier, maxBytes int64) error {
	var pages vectorReader
	for more := true; more && (v.index == nil || v.index.Bytes() <= maxBytes); {
		stmts := []engine.Stmt{feed.StateStmt(), v.vectorsStmt(v.last, where{})}
		var r []engine.Result
		var err error
		if r, more, err = pages.read(ctx, q, stmts...); err != nil {
			return err
		}
		if v.last.IsZero() { // what changes from now on, changedSince will read
			if v.seq, err = feed.StateFrom(r[0].Rows, 0); err != nil {
				return err
			}
		}
		for _, row := range r[1].Rows {
			if err := v.put(&engine.Row{Values: row}, 0); err != nil {
				v.forget()
				return err
			}
			v.last = ID(row[0].([]byte))
		}
	}
	if v.index != nil {
		v.index.Settle()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ready = true
	return nil
}

// changedSince reads what has changed since the set's last change, and in the same round
// trip and snapshot the rows of another statement, if there is one. version is the data
// version of the file before the call.
func (v *vectorSet) changedSince(ctx context.Context, q querier, version int64, other *engine.Stmt) (rows [][]any, err error) {
	var pages vectorReader
	for {
		seq, ready := v.position()
		if !ready {
			return rows, errVoid
		}
		stmts := []engine.Stmt{feed.StateStmt(), {SQL: sqlChangedVectors, Args: []any{feedKind(v.kind), string(v.kind), v.model, seq}}}
		if other != nil {
			stmts = append([]engine.Stmt{*other}, stmts...)
		}
		r, more, err := pages.read(ctx, q, stmts...)
		if err != nil {
			return nil, err
		}
		if other != nil {
			rows, r, other = r[0].Rows, r[1:], nil
		}
		newest, err := feed.StateFrom(r[0].Rows, seq)
		if err != nil {
			return rows, err
		}
		if more {
			newest, _ = r[1].Rows[len(r[1].Rows)-1][0].(int64)
		}
		if err := v.apply(r[1].Rows, newest); err != nil || !more {
			if err == nil {
				v.unchangedAt(version)
			}
			return rows, err
		}
	}
}

// apply makes changes up to one, unless another caller has made later ones.
func (v *vectorSet) apply(rows [][]any, newest int64) error {
	if seq, _ := v.position(); seq == newest && len(rows) == 0 {
		return nil // most calls, which need not wait for searches under way
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.ready || newest < v.seq {
		return nil
	}
	for _, row := range rows {
		in := &engine.Row{Values: row}
		if row[2] != nil && row[4] != nil {
			if err := v.put(in, 1); err != nil {
				v.reset()
				return err
			}
		} else if id, err := idFrom(row[1]); err == nil {
			delete(v.damaged, id)
			if v.index != nil {
				v.index.Delete(vector.ID(id))
			}
		}
	}
	if v.index != nil {
		v.index.Settle()
	}
	v.seq = newest
	return nil
}

// unchangedAt notes that nothing has changed since seq when the file had a data version.
func (v *vectorSet) unchangedAt(version int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ready {
		v.version = max(v.version, version)
	}
}

// position returns the change that is included; ready is false if nothing is held.
func (v *vectorSet) position() (seq int64, ready bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if !v.ready {
		return 0, false
	}
	return v.seq, true
}

// changed reports whether anything may have changed since the set was read, when the file
// has a data version.
func (v *vectorSet) changed(version int64) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return !v.ready || v.version != version
}

// size returns how many vectors are held, and their bytes.
func (v *vectorSet) size() (vectors int, bytes int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if !v.ready || v.index == nil {
		return 0, 0
	}
	return v.index.Len(), v.index.Bytes()
}

// search returns the nearest of what is held, of some items unless ids is nil.
func (v *vectorSet) search(r *nearestRequest, limit int, ids []vector.ID) ([]vector.Hit, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.ready {
		v.tellDamaged(r)
	}
	switch {
	case !v.ready:
		return nil, errVoid
	case v.index == nil || v.index.Len() == 0:
		return nil, r.unknownModel()
	}
	if err := r.checkDim(v.index.Dim()); err != nil {
		return nil, err
	}
	query := r.vector
	if query == nil {
		var err error
		if query, err = v.queryVector(r); err != nil {
			return nil, err
		}
		limit++ // for the item itself, which is its own nearest
	}
	hits := v.index.Search(query, limit, vector.Filter{Labels: v.labelsWithin(r.scope), IDs: ids})
	return r.without(hits), nil
}

// queryVector returns the vector of the request's item.
func (v *vectorSet) queryVector(r *nearestRequest) ([]float32, error) {
	if d, damaged := v.damaged[r.item]; damaged && r.store.contains(v.scopes[d.label]) {
		return nil, d.err
	}
	if v.index == nil {
		return nil, r.noVector()
	}
	stored, label, known := v.index.Vector(vector.ID(r.item))
	switch {
	case !known || !r.store.contains(v.scopes[label]):
		return nil, r.noVector()
	case !nonZero(stored):
		return nil, invalid("item", "has a vector of zeros, which has no direction")
	}
	return stored, nil
}
