package episodic

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// ConflictKind says what a queued write met on the server.
type ConflictKind string

// The kinds of a Conflict.
const (
	// ConflictChanged: others had changed the same fields. Those of the write, which came
	// later, are stored; Kept are the others'.
	ConflictChanged ConflictKind = "changed"
	// ConflictSameID: a new episode came to one that others had stored with its id. A started
	// or put one was merged with it, ours first, and Kept is theirs; of AddEpisodes theirs
	// stays, and Kept is ours.
	ConflictSameID ConflictKind = "same_id"
	// ConflictLate: steps came to an episode that others had ended. They are stored, behind
	// all others, and nothing is lost.
	ConflictLate ConflictKind = "late"
	// ConflictGone: others had deleted what the write changes. It stays deleted, and Kept is
	// what was here, with the write and what else was queued for the item.
	ConflictGone ConflictKind = "gone"
	// ConflictDeleted: a deletion came to an item that others had changed since it was
	// deleted here. It is deleted, and Kept is what it was.
	ConflictDeleted ConflictKind = "deleted"
)

// Conflict is a queued write that met what others had written, what was decided, and what
// was kept of what lost. All machines list the same ones.
type Conflict struct {
	Number   int64        `json:"number"` // for Store.Restore
	Kind     ConflictKind `json:"kind"`
	ItemKind ItemKind     `json:"item_kind"`
	Item     ID           `json:"item"`
	Time     time.Time    `json:"time"` // when it was decided, by the server's clock
	// Fields are those of Kept that lost, such as outcome or metadata.KEY; none: all of it.
	Fields []string `json:"fields,omitempty"`
	// Kept is what lost: one of these, or none if nothing did. An Episode is without its
	// steps, which StepCount counts if they are kept.
	Episode   *Episode   `json:"episode,omitempty"`
	Pattern   *Pattern   `json:"pattern,omitempty"`
	Heuristic *Heuristic `json:"heuristic,omitempty"`
	// Write says what a write does that was kept without an item, such as put relation.
	Write string `json:"write,omitempty"`
	Late  int    `json:"late,omitempty"` // steps that were late

	kept kept
}

// conflictTime is for how long conflicts are kept. The schema has it too.
const conflictTime = 30 * 24 * time.Hour

const (
	conflictColumns = `n, kind, item_kind, item, at_us, payload`
	sqlNote         = `INSERT INTO conflicts(kind, item_kind, item, scope, rev, at_us, outbox, payload)
 SELECT ?1, ?2, ?3, ifnull((SELECT scope FROM feed WHERE item = ?3 ORDER BY n DESC LIMIT 1), 0), ?4, us, ?5, ?6 FROM now`
	sqlNoteSteps = `INSERT INTO kept_steps SELECT max(n), ?, ? FROM conflicts`
	sqlNoted     = `SELECT 1 FROM conflicts WHERE item = ? AND kind = ? AND rev = ?`
	sqlKeptSteps = `SELECT payload FROM kept_steps WHERE conflict = ? AND part > ? ORDER BY part LIMIT 4`
	unforgotten  = `at_us > (SELECT us FROM now) - ?`
)

// noteConflict returns the statements that note a settlement's conflict.
func (s *Store) noteConflict(st *settlement, item [16]byte, outbox []byte) ([]engine.Stmt, error) {
	k := st.kept
	if k.Episode != nil {
		e := *k.Episode
		e.Steps, e.StepCount = nil, len(k.steps)
		k.Episode = &e
	}
	frame, err := s.payloads.EncodeBuiltin(boundConflict(st.kind, st.itemKind, item), &k)
	if err != nil {
		return nil, encodeFailed("kept", err)
	}
	stmts := []engine.Stmt{{SQL: sqlNote, Args: []any{string(st.kind), string(st.itemKind), item[:], st.rev, outbox, frame}}}
	runs, _, err := cutRuns(k.steps, 1)
	if err != nil {
		return nil, err
	}
	for i, r := range runs {
		stmts = append(stmts, engine.Stmt{SQL: sqlNoteSteps, Args: []any{int64(i + 1), s.payloads.EncodeBuiltinJSON(boundPart(int64(i+1)), r.payload)}})
	}
	return stmts, nil
}

// Conflicts returns the conflicts of queued writes (Replica.Offline) of all machines that lie
// in the Store's scope, oldest first. The server lists them for 30 days, or until the item
// is deleted, or Restore is called. A damaged one comes as a *DamagedError, behind which it goes
// on; it ends with any other error: Retryable errors if the server cannot be reached. A local file
// has none.
func (s *Store) Conflicts(ctx context.Context) iter.Seq2[Conflict, error] {
	return iterate(ctx, func(ctx context.Context, p *Paging) (_ *Page[Conflict], err error) {
		ctx, end := s.trace(ctx, "Conflicts")
		defer func() { end(err) }()
		if err := s.check(ctx, true, ""); err != nil {
			return nil, failed(err, "list conflicts")
		}
		var w where
		w.and(unforgotten, conflictTime.Microseconds())
		s.scope.and(&w, "scope")
		l := &listing[Conflict]{columns: conflictColumns, from: "conflicts", where: w, keys: []string{"n"}, at: []int{0}, kinds: "i", row: s.conflictFrom}
		page, err := l.page(ctx, s.engine, p)
		return page, failed(err, "list conflicts")
	})
}

// forgetConflicts deletes what is not listed any more.
func (s *Store) forgetConflicts(ctx context.Context) error {
	_, err := s.engine.Repeatable(ctx, engine.Stmt{SQL: `DELETE FROM conflicts WHERE NOT (` + unforgotten + `)`, Args: []any{conflictTime.Microseconds()}})
	return err
}

// conflictFrom reads a row of conflictColumns.
func (s *Store) conflictFrom(ctx context.Context, row []any) (c Conflict, size int, err error) {
	in := engine.Row{Values: row}
	c = Conflict{Number: in.Int(0), Kind: ConflictKind(in.Text(1)), ItemKind: ItemKind(in.Text(2)), Time: time.UnixMicro(in.Int(4)).UTC()}
	if err = in.Err; err == nil {
		c.Item, err = idFrom(row[3])
	}
	if err != nil {
		return c, 0, s.damaged(ctx, "conflict", c.Item, fmt.Errorf("%w: row %v: %w", ErrCorrupt, row[0], err))
	}
	if size, err = s.payloads.DecodeSized(ctx, row[5], boundConflict(c.Kind, c.ItemKind, c.Item), &c.kept); err != nil {
		return c, 0, s.damaged(ctx, "conflict", c.Item, fmt.Errorf("row %d: %w", c.Number, err))
	}
	k := &c.kept
	c.Fields, c.Episode, c.Pattern, c.Heuristic, c.Late = k.Fields, k.Episode, k.Pattern, k.Heuristic, k.Late
	if k.Write >= 1 && k.Write <= int64(len(queuedKinds)) {
		c.Write = queuedKinds[k.Write-1].name
	}
	return c, size, nil
}

// keptSteps reads the steps of the version that a conflict has kept.
func (s *Store) keptSteps(ctx context.Context, n int64) (steps []Step, err error) {
	for part, more := int64(0), true; more; {
		r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlKeptSteps, Args: []any{n, part}})
		if err != nil {
			return nil, err
		}
		for _, row := range r[0].Rows {
			part++
			var stored storedSteps
			if err := s.payloads.Decode(ctx, row[0], boundPart(part), &stored); err != nil {
				return nil, fmt.Errorf("conflict %d: steps: %w", n, err)
			}
			for _, step := range stored.steps {
				step.Number = len(steps) + 1
				steps = append(steps, Step(step))
			}
		}
		more = len(r[0].Rows) > 0
	}
	return steps, nil
}
