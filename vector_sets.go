package episodic

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/feed"
	"github.com/episodic-memory/episodic/internal/vector"
)

// Vectors says what a Store keeps in memory for Nearest.
type Vectors struct {
	// MaxBytes bounds the memory of the vectors that are held, of all kinds and models
	// together, in bytes. A vector of 384 numbers as Float16 takes about 900. If
	// there is no room for another kind and model, those that were used least recently make
	// room. One that does not fit alone is not held: each call then reads it through in the
	// database, which Stats().Vectors.Fallbacks counts. That takes one to three seconds for 100,000
	// vectors, on a local file, which is read through, and on a server, which compares them.
	// At least 65,536. Default 268,435,456 (256 MiB) for a local file or a replica, and for a
	// server without one 67,108,864 (64 MiB), because all of it is fetched from there once.
	MaxBytes int64
}

const (
	minVectorBytes    = 64 << 10
	fileVectorBytes   = 256 << 20
	serverVectorBytes = 64 << 20
)

func (v *Vectors) validate() error {
	if v.MaxBytes != 0 && v.MaxBytes < minVectorBytes {
		return invalid("Vectors.MaxBytes", "is %d; it must be at least %d, or 0 for the default", v.MaxBytes, minVectorBytes)
	}
	return nil
}

// VectorStats is what a Store did for Nearest.
type VectorStats struct {
	Held  int   `json:"held"`  // vectors in memory now
	Bytes int64 `json:"bytes"` // that they take

	Searches  uint64 `json:"searches"`  // calls of Nearest that were answered
	Fallbacks uint64 `json:"fallbacks"` // of Searches, those for which the vectors did not fit into memory
	Loads     uint64 `json:"loads"`     // times that the vectors of a kind and model were loaded
	Evictions uint64 `json:"evictions"` // times that those of one made room for others
}

func (s VectorStats) plus(o VectorStats) VectorStats {
	return VectorStats{
		Held: s.Held + o.Held, Bytes: s.Bytes + o.Bytes,
		Searches: s.Searches + o.Searches, Fallbacks: s.Fallbacks + o.Fallbacks, Loads: s.Loads + o.Loads, Evictions: s.Evictions + o.Evictions,
	}
}

// vectorSets are what a Store holds in memory for Nearest.
type vectorSets struct {
	engine   querier
	file     *embedded.Engine // nil: a server
	maxBytes int64

	loading chan struct{} // of capacity 1: one set is loaded at a time

	mu    sync.Mutex
	sets  map[vectorKey]*vectorSet
	uses  uint64
	stats VectorStats
}

func newVectorSets(e engine.Engine, o *Vectors) *vectorSets {
	s := &vectorSets{engine: e, maxBytes: serverVectorBytes, loading: make(chan struct{}, 1), sets: make(map[vectorKey]*vectorSet)}
	if file, ok := e.(*embedded.Engine); ok {
		s.file, s.maxBytes = file, fileVectorBytes
	}
	s.maxBytes = cmp.Or(o.MaxBytes, s.maxBytes)
	return s
}

// errVoid means that a set must be loaded anew: it made room for others, or was found
// not to be what the database holds, perhaps by another caller.
var errVoid = errors.New("the vectors in memory are void")

func (s *vectorSets) nearest(ctx context.Context, r *nearestRequest) ([]Neighbor, error) {
	var hits []vector.Hit
	fallback, err := false, errVoid
	for try := 0; err == errVoid && try < 3; try++ {
		hits, fallback, err = s.tryNearest(ctx, r)
	}
	if err == errVoid { // callers for other models take the memory each time
		hits, err = s.scan(ctx, r)
		fallback = true
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Searches++
	if fallback {
		s.stats.Fallbacks++
	}
	found := make([]Neighbor, min(len(hits), r.limit))
	for i := range found {
		found[i] = Neighbor{Item: ID(hits[i].ID), Similarity: hits[i].Cosine}
	}
	return found, nil
}

func (s *vectorSets) tryNearest(ctx context.Context, r *nearestRequest) (hits []vector.Hit, fallback bool, err error) {
	set := s.set(r.vectorKey)
	if !set.isReady() {
		if fits, err := s.load(ctx, set, r); err != nil {
			return nil, false, err
		} else if !fits {
			hits, err = s.scan(ctx, r)
			return hits, true, err
		}
	}
	filtered, err := s.refresh(ctx, set, r)
	if _, otherDim := errors.AsType[*dimError](err); otherDim || errors.Is(err, feed.ErrForgotten) {
		set.forgetIfReady()
		return nil, false, errVoid
	}
	if err != nil {
		return nil, false, err
	}
	switch {
	case r.where.sql == "":
		hits, err = set.search(r, r.limit, nil)
	case len(filtered) <= maxFiltered:
		ids := make([]vector.ID, len(filtered))
		for i, row := range filtered {
			id, err := idFrom(row[0])
			if err != nil {
				return nil, false, err
			}
			ids[i] = vector.ID(id)
		}
		hits, err = set.search(r, r.limit, ids)
	default:
		hits, err = s.filter(ctx, set, r)
	}
	return hits, false, err
}

// filter asks of more and more of the nearest whether the filter holds for them, until it
// does for enough.
func (s *vectorSets) filter(ctx context.Context, set *vectorSet, r *nearestRequest) ([]vector.Hit, error) {
	for want := max(4*r.limit, 256); ; want *= 4 {
		hits, err := set.search(r, want, nil)
		if err != nil {
			return nil, err
		}
		all := len(hits) < want
		ids := make([]ID, len(hits))
		for i, h := range hits {
			ids[i] = ID(h.ID)
		}
		match, err := r.matching(ctx, s.engine, ids)
		if err != nil {
			return nil, err
		}
		hits = slices.DeleteFunc(hits, func(h vector.Hit) bool { return !match[ID(h.ID)] })
		if all || len(hits) >= r.limit {
			return hits, nil
		}
	}
}

// set returns the set of a key, and notes that it is used.
func (s *vectorSets) set(key vectorKey) *vectorSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.sets[key]
	if set == nil {
		set = newVectorSet(key)
		s.sets[key] = set
	}
	s.uses++
	set.used = s.uses
	return set
}

// sqlVectorSet tells how many vectors there are of a kind and model, and the size of one.
const sqlVectorSet = `SELECT (SELECT count(*) FROM embeddings WHERE kind = ?1 AND model = ?2), dim, length(vector)
 FROM embeddings WHERE kind = ?1 AND model = ?2 LIMIT 1`

// load loads a set, or waits for another caller who does; fits is false if there is not
// enough memory.
func (s *vectorSets) load(ctx context.Context, set *vectorSet, r *nearestRequest) (fits bool, err error) {
	select {
	case s.loading <- struct{}{}:
		defer func() { <-s.loading }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if set.isReady() {
		return true, nil
	}
	res, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlVectorSet, Args: []any{string(r.kind), r.model}})
	if err != nil {
		return false, err
	}
	if len(res[0].Rows) == 0 {
		s.drop(set)
		return false, r.unknownModel()
	}
	in := engine.Row{Values: res[0].Rows[0]}
	count, dim, stored := in.Int(0), int(in.Int(1)), int(in.Int(2))
	if in.Err != nil {
		return false, in.Err
	}
	if err := r.checkDim(dim); err != nil {
		return false, err
	}
	if !s.reserve(set, count, vector.EstimateBytes(count, dim, stored)) {
		set.forget() // what others may have loaded of it
		return false, nil
	}
	if err := set.load(ctx, s.engine, s.maxBytes); err != nil {
		return false, err
	}
	s.mu.Lock()
	s.stats.Loads++
	s.mu.Unlock()
	return s.measure(set), nil
}

// refresh makes a set as new as the database is when it is called. It returns the rows of
// the request's filter, if it has one, from the same round trip.
func (s *vectorSets) refresh(ctx context.Context, set *vectorSet, r *nearestRequest) (filtered [][]any, err error) {
	var filter *engine.Stmt
	if r.where.sql != "" {
		stmt := r.filterStmt()
		filter = &stmt
	}
	var version int64
	if s.file != nil {
		if version, err = s.file.DataVersion(ctx); err != nil {
			return nil, err
		}
		if !set.changed(version) {
			if filter == nil {
				return nil, nil
			}
			res, err := s.engine.Query(ctx, *filter)
			if err != nil {
				return nil, err
			}
			return res[0].Rows, nil
		}
	}
	if filtered, err = set.changedSince(ctx, s.engine, version, filter); err == nil && !s.measure(set) {
		err = errVoid
	}
	return filtered, err
}

// reserve makes room for a set that takes so many bytes; false if it cannot. The caller
// is the one who loads.
func (s *vectorSets) reserve(set *vectorSet, vectors, bytes int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes > s.maxBytes || set.tooMany > 0 && vectors >= set.tooMany {
		return false
	}
	for _, other := range s.sets {
		if other != set && other.bytes == 0 {
			other.forget() // of which a part was loaded by callers who gave up
		}
	}
	s.makeRoom(set, bytes)
	return true
}

// makeRoom forgets others, those used least recently first, until a set of so many bytes
// fits. The lock is held.
func (s *vectorSets) makeRoom(set *vectorSet, bytes int64) {
	for {
		var oldest *vectorSet
		sum := bytes
		for _, other := range s.sets {
			if other == set || other.bytes == 0 {
				continue
			}
			if sum += other.bytes; oldest == nil || other.used < oldest.used {
				oldest = other
			}
		}
		if sum <= s.maxBytes || oldest == nil {
			return
		}
		oldest.forget()
		oldest.vectors, oldest.bytes = 0, 0
		s.stats.Evictions++
	}
}

// measure notes how much memory a set takes, which may have grown, and keeps the bound;
// false if the set itself exceeds it, and was forgotten.
func (s *vectorSets) measure(set *vectorSet) bool {
	vectors, bytes := set.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes > s.maxBytes {
		set.forget()
		set.vectors, set.bytes, set.tooMany = 0, 0, int64(vectors)
		return false
	}
	set.vectors, set.bytes = vectors, bytes
	s.makeRoom(set, bytes)
	return true
}

// drop removes a set of which the database holds nothing.
func (s *vectorSets) drop(set *vectorSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sets, set.vectorKey)
}

func (s *vectorSets) vectorStats() VectorStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	for _, set := range s.sets {
		stats.Held += set.vectors
		stats.Bytes += set.bytes
	}
	return stats
}
