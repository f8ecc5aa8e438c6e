package episodic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// WriteStatus is what has become of a write.
type WriteStatus string

// The statuses of writes that a Receipt tells of.
const (
	// WriteKept: it is stored as it was acknowledged. Appended steps are kept while the
	// episode has them one after the other, whatever else it has got since.
	WriteKept WriteStatus = "kept"
	// WriteSuperseded: a later write has changed the item. Verdict.Revision and Seq are the
	// item's now.
	WriteSuperseded WriteStatus = "superseded"
	// WriteDeleted: the item was deleted later, as the change feed tells. It does so for 30 days
	// at least; then it is WriteMissing.
	WriteDeleted WriteStatus = "deleted"
	// WriteQueued: it is in this machine's outbox, and not on the server yet.
	WriteQueued WriteStatus = "queued"
	// WriteAltered: the item has the revision of the receipt, and another content, or one that
	// cannot be read. No write of episodic does that.
	WriteAltered WriteStatus = "altered"
	// WriteMissing: it is not there, and nothing tells of a later write that has taken it away: it
	// was lost, an older copy of the database was restored, or this is another one.
	WriteMissing WriteStatus = "missing"
)

// Lost reports whether the write is gone without a later write that explains it: it is
// WriteAltered or WriteMissing.
func (s WriteStatus) Lost() bool { return s == WriteAltered || s == WriteMissing }

// Verdict says what has become of the write that a Receipt tells of.
type Verdict struct {
	Status   WriteStatus `json:"status"`
	Revision int64       `json:"revision,omitempty"` // of the item now; 0: it has none, or is not there
	Seq      int64       `json:"seq,omitempty"`      // of the item's last change; 0: the change feed knows none
	Deleted  time.Time   `json:"deleted,omitzero"`   // when the item was deleted
	Reason   string      `json:"reason,omitempty"`   // why it is WriteAltered or WriteMissing, in words
}

// Verify tells of each receipt what has become of its write, in their order. It asks the database
// itself, past cache and replica; only what is queued is known on this machine. Items
// outside of the Store's scope are WriteMissing. What is verified is read and hashed, one
// round trip for 500 receipts and one for each item of which the revision is that of the receipt. It
// cannot tell a lost write from a superseded one where the item was written again later, nor
// compare numbers of different databases. Errors: ErrInvalid for a receipt that
// ParseReceipt would refuse; Retryable errors if the server cannot be reached.
func (s *Store) Verify(ctx context.Context, receipts ...Receipt) (_ []Verdict, err error) {
	ctx, end := s.trace(ctx, "Verify")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "verify")
	}
	for i := range receipts {
		if err := receipts[i].validate(); err != nil {
			return nil, failed(err, "verify receipt %d of %d", i+1, len(receipts))
		}
	}
	verdicts := make([]Verdict, len(receipts))
	for from := 0; from < len(receipts) && err == nil; from += verifyAtOnce {
		to := min(len(receipts), from+verifyAtOnce)
		err = s.verify(ctx, receipts[from:to], verdicts[from:to])
	}
	if err != nil {
		return nil, failed(err, "verify")
	}
	return verdicts, nil
}

const verifyAtOnce = 500

// verify is Verify for as many as one request asks for.
func (s *Store) verify(ctx context.Context, receipts []Receipt, verdicts []Verdict) error {
	waits, err := s.waiting(ctx, receipts)
	if err != nil {
		return err
	}
	states, err := s.states(ctx, receipts)
	if err != nil {
		return err
	}
	items := make(map[string][]int) // receipts of which an item has to be read
	for i := range receipts {
		r := &receipts[i]
		if waits[r.Queued] {
			verdicts[i] = Verdict{Status: WriteQueued}
			continue
		}
		if !s.scope.contains(states[i].scope) {
			states[i] = itemState{database: states[i].database}
		}
		if verdicts[i] = r.bySeq(&states[i]); verdicts[i].Status == "" {
			key := fmt.Sprint(r.Kind, r.ID)
			items[key] = append(items[key], i)
		}
	}
	groups := make([][]int, 0, len(items))
	for _, group := range items {
		groups = append(groups, group)
	}
	return inParallel(len(groups), func(n int) error {
		read := &itemContents{s: s}
		for _, i := range groups[n] {
			if err := read.judge(ctx, &receipts[i], &states[i], &verdicts[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// waiting returns the names of the receipts' writes that are in the outbox.
func (s *Store) waiting(ctx context.Context, receipts []Receipt) (map[int64]bool, error) {
	var queued []int64
	for i := range receipts {
		if receipts[i].Queued != 0 {
			queued = append(queued, receipts[i].Queued)
		}
	}
	if len(queued) == 0 || s.queue == nil {
		return nil, nil
	}
	return s.queue.box.Has(ctx, queued)
}

// states reads the state of each receipt's item.
func (s *Store) states(ctx context.Context, receipts []Receipt) ([]itemState, error) {
	var stmts []engine.Stmt
	places := make(map[string][]int) // of receipts, by the SQL that asks for the states of their items
	var order []string
	for i := range receipts {
		sql := statesStmt(&receipts[i]).SQL
		if len(places[sql]) == 0 {
			order = append(order, sql)
		}
		places[sql] = append(places[sql], i)
	}
	for _, sql := range order {
		ids := make([]ID, len(places[sql]))
		for n, i := range places[sql] {
			ids[n] = receipts[i].ID
		}
		stmts = append(stmts, statesStmt(&receipts[places[sql][0]], ids...))
	}
	results, err := s.engine.Query(ctx, stmts...)
	if err != nil {
		return nil, err
	}
	states := make([]itemState, len(receipts))
	for n, sql := range order {
		for _, row := range results[n].Rows {
			st, err := stateFrom(row)
			if err != nil {
				return nil, err
			}
			states[places[sql][st.at]] = st
		}
	}
	return states, nil
}

// bySeq is what the state of its item tells of a receipt. Its Status is empty if the item itself is
// to be looked at.
func (r *Receipt) bySeq(st *itemState) Verdict {
	v := Verdict{Revision: st.revision, Seq: st.seq}
	if st.goneUs != 0 {
		v.Deleted = time.UnixMicro(st.goneUs).UTC()
	}
	switch {
	case r.Write == deletedItem && st.revision == 0:
		v.Status = WriteKept
	case r.Write == deletedItem:
		v.Status, v.Reason = r.changed(st)
	case r.Write == deletedRelation || r.Write == wroteRelation || r.Write == deletedEmbedding || r.Write == wroteEmbedding:
	case st.revision == 0 && st.goneUs != 0 && r.before(st):
		v.Status = WriteDeleted
	case st.revision == 0:
		v.Status, v.Reason = WriteMissing, "it is not there"
		if st.goneUs == 0 && r.Seq != 0 && r.Database == st.database && r.Seq <= st.forgotten {
			v.Reason += ", and whether it was deleted is forgotten"
		}
	case r.Write != wroteSteps && r.Revision != st.revision:
		v.Status, v.Reason = r.changed(st)
	}
	return v
}

// before reports whether the item was changed after the receipt, or may have been, since their numbers
// cannot be compared.
func (r *Receipt) before(st *itemState) bool {
	return r.Seq == 0 || r.Database != st.database || r.Seq < st.seq
}

// changed is the status of a write of an item that is now another one.
func (r *Receipt) changed(st *itemState) (WriteStatus, string) {
	if r.before(st) {
		return WriteSuperseded, ""
	}
	return WriteMissing, fmt.Sprintf("the item's last change is number %d, and the write was number %d", st.seq, r.Seq)
}

// itemContents reads what receipts of an item are compared with, each at most once.
type itemContents struct {
	s      *Store
	whole  *Episode
	err    error // of reading whole
	digest [][32]byte
}

// judge gives the verdict on a receipt whose item is there, as far as its state tells.
func (c *itemContents) judge(ctx context.Context, r *Receipt, st *itemState, v *Verdict) error {
	hash, revision, err := c.hash(ctx, r)
	switch {
	case errors.Is(err, ErrCorrupt):
		v.Status, v.Reason = WriteAltered, err.Error()
	case errors.Is(err, ErrNotFound):
		switch {
		case r.deletes():
			v.Status = WriteKept
		case st.revision != 0: // deleted since the state was read
			v.Status = WriteDeleted
		case r.before(st) && st.seq != 0:
			v.Status = WriteDeleted
		default:
			v.Status, v.Reason = WriteMissing, "it is not there"
		}
	case err != nil:
		return err
	case hash == r.Hash && (r.Write == wroteSteps || revision == r.Revision):
		v.Status = WriteKept
	case revision == r.Revision && revision != 0:
		v.Status, v.Reason = WriteAltered, "it has the revision of the receipt, and another content"
	case revision != st.revision: // changed since the state was read
		v.Status, v.Revision = WriteSuperseded, revision
	default:
		v.Status, v.Reason = r.changed(st)
	}
	return nil
}

// hash returns the hash of what the receipt tells of as it is stored now, and the item's
// revision. Errors: ErrNotFound; ErrCorrupt.
func (c *itemContents) hash(ctx context.Context, r *Receipt) (hash string, revision int64, err error) {
	switch r.Write {
	case wroteRelation, deletedRelation:
		hash, err = c.s.relationHash(ctx, r)
		return hash, 0, err
	case wroteEmbedding, deletedEmbedding:
		hash, err = c.s.embeddingHash(ctx, r)
		return hash, 0, err
	case wrotePattern:
		p, err := getOne(ctx, c.s.engine, sqlGetPattern, r.ID, c.s.patternFrom)
		if err != nil {
			return "", 0, err
		}
		hash, err = p.contentHash()
		return hash, p.Revision, err
	case wroteHeuristic:
		h, err := getOne(ctx, c.s.engine, sqlGetHeuristic, r.ID, c.s.heuristicFrom)
		if err != nil {
			return "", 0, err
		}
		hash, err = h.contentHash()
		return hash, h.Revision, err
	}
	if c.whole == nil && c.err == nil {
		c.whole, c.err = readAgain(ctx, func(ctx context.Context) (*Episode, error) { return c.s.load(ctx, c.s.engine, r.ID) })
		if c.err == nil {
			c.digest, c.err = stepDigests(c.whole.Steps)
		}
	}
	if c.err != nil {
		return "", 0, c.err
	}
	switch r.Write {
	case wroteSteps:
		hash = c.steps(r)
	case wroteEnd:
		hash, err = c.whole.headHash()
	case wroteTags:
		hash, err = tagsHash(c.whole.Context.Tags)
	default:
		hash, err = c.whole.contentHash()
	}
	return hash, c.whole.Revision, err
}

// steps returns the receipt's hash if the episode has its steps: where they were stored, or
// elsewhere, one after the other.
func (c *itemContents) steps(r *Receipt) string {
	at := func(i int) bool {
		return i >= 0 && i+r.Steps <= len(c.digest) && joined(c.digest[i:i+r.Steps]...) == r.Hash
	}
	if at(r.First - 1) {
		return r.Hash
	}
	for i := range len(c.digest) - r.Steps + 1 {
		if at(i) {
			return r.Hash
		}
	}
	return ""
}

func (s *Store) relationHash(ctx context.Context, r *Receipt) (string, error) {
	w := where{sql: relationOf, args: []any{r.ID.bytes(), r.To.bytes(), string(r.Type)}}
	s.scope.and(&w, "a.scope")
	s.scope.and(&w, "b.scope")
	res, err := s.engine.Query(ctx, engine.Stmt{SQL: w.sql, Args: w.args})
	if err != nil {
		return "", err
	}
	if len(res[0].Rows) == 0 {
		return "", ErrNotFound
	}
	rel, _, err := s.relationFrom(ctx, res[0].Rows[0])
	if err != nil {
		return "", err
	}
	return rel.contentHash()
}

const (
	relationOf  = `SELECT ` + relationColumns + ` FROM ` + relationTables + ` WHERE a.id = ? AND b.id = ? AND type = ?`
	embeddingOf = `SELECT vector FROM embeddings WHERE kind = ? AND item = ? AND model = ?`
)

func (s *Store) embeddingHash(ctx context.Context, r *Receipt) (string, error) {
	res, err := s.engine.Query(ctx, engine.Stmt{SQL: embeddingOf, Args: []any{string(r.Kind), r.ID.bytes(), r.Model}})
	if err != nil {
		return "", err
	}
	if len(res[0].Rows) == 0 {
		return "", ErrNotFound
	}
	in := engine.Row{Values: res[0].Rows[0]}
	blob := in.Blob(0)
	if in.Err != nil {
		return "", fmt.Errorf("embedding by %s: %w: %w", r.Model, ErrCorrupt, in.Err)
	}
	return blobHash(blob), nil
}
