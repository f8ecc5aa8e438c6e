package episodic

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/vector"
)

// examiner examines what a database of the newest schema holds.
type examiner struct {
	*Examination
	store  *Store
	engine engine.Engine
	// misnumbered are the numbers of damaged scopes, with commas between. Their items are not looked
	// at before they are mended.
	misnumbered string
}

// examineContent examines what is stored. A damaged file may end one check early, and the
// others go on.
func (x *Examination) examineContent(ctx context.Context, e engine.Engine, o *Options) error {
	w := &examiner{Examination: x, store: newStore(e, o, nil, true), engine: e}
	defer w.store.closeRooms()
	for _, check := range []struct {
		name string
		run  func(context.Context) error
	}{
		{checkedScopes, w.scopes}, {checkedDictionaries, w.dictionaries}, {checkedPayloads, w.payloads}, {checkedVectors, w.vectors},
		{checkedOrphans, w.orphans}, {checkedFeed, w.feed}, {checkedIndex, w.index},
	} {
		err := check.run(ctx)
		if err == nil {
			continue
		}
		kind := engine.KindOf(err)
		damaged := kind == engine.KindCorrupt || x.broken() && (kind == engine.KindOther || kind == engine.KindNoTable) && ctx.Err() == nil
		if !damaged {
			return fmt.Errorf("%s: %w", check.name, err)
		}
		if !x.broken() {
			x.find(Finding{Check: checkedIntegrity, Severity: Fault, Repair: repairAnew, Problem: fmt.Sprintf("SQLite cannot read some of the file: %v", err)}, 1)
		}
		x.Skipped = append(x.Skipped, fmt.Sprintf("%s: %v", check.name, err))
	}
	return nil
}

// closeRooms ends what a Store has begun, and leaves its engine open.
func (s *Store) closeRooms() {
	s.publisher.close()
	s.hub.Close(ErrClosed)
	s.indexer.close()
	s.payloads.Close()
}

// broken is items that cannot be read.
type broken struct {
	names []string
	first string
	keys  [][]any // of their rows
}

func (b *broken) add(name string, err error, key ...any) {
	if b.first == "" {
		b.first = err.Error()
		if damage, ok := errors.AsType[*DamagedError](err); ok {
			b.first = fmt.Sprintf("%s %v: %s", damage.Kind, damage.ID, damage.Problem) // its error names the doctor
		}
	}
	b.names, b.keys = append(b.names, name), append(b.keys, key)
}

// tell adds a finding, unless nothing is broken. what are the items, and sqlDelete deletes one by
// its keys.
func (b *broken) tell(x *examiner, check, what, sqlDelete string) {
	if len(b.names) == 0 {
		return
	}
	x.find(Finding{
		Check: check, Severity: Fault,
		Problem: fmt.Sprintf("%s that cannot be read; the first: %s", what, b.first),
		Repair:  "leaves them out of the repaired file; the original keeps them",
		mend: func(ctx context.Context, s *Store) error {
			for _, key := range b.keys {
				if _, err := s.engine.Batch(ctx, engine.Stmt{SQL: sqlDelete, Args: key}); err != nil {
					return err
				}
			}
			return nil
		},
	}, int64(len(b.names)), b.names...)
}

// unreadable reports whether an error is of what was to be read, and not of the reading.
func unreadable(err error) bool {
	return (errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound)) && engine.KindOf(err) == engine.KindOther
}

// examined is a table of items, by the columns of its listing.
type examined struct {
	what, sql string // sql is read in pages, with keys behind which one begins, and the rows at most
	start     []any
	at        []int // where the keys are in a row
	check     func(ctx context.Context, row []any) (name string, err error)
	sqlDelete string
	checkName string
	counted   bool // its rows are Items
}

// pageRows is how many rows are looked at at once.
const pageRows = 100

// run reads all rows of a table.
func (t *examined) run(ctx context.Context, x *examiner) error {
	var b broken
	for keys, n := t.start, pageRows; ; {
		r, asked, err := halving(n, func(n int) ([]engine.Result, error) {
			return x.engine.Query(ctx, engine.Stmt{SQL: t.sql, Args: append(keys[:len(keys):len(keys)], int64(n))})
		})
		n = asked
		if err != nil {
			b.tell(x, t.checkName, t.what, t.sqlDelete)
			return err
		}
		for _, row := range r[0].Rows {
			next := make([]any, len(t.at))
			for i, at := range t.at {
				next[i] = row[at]
			}
			keys = next
			name, err := t.check(ctx, row)
			switch {
			case err == nil && t.counted:
				x.Items++
			case err == nil:
			case unreadable(err):
				b.add(name, err, keys...)
			default:
				return err
			}
		}
		if len(r[0].Rows) < n {
			b.tell(x, t.checkName, t.what, t.sqlDelete)
			return nil
		}
	}
}

// nameOf names an item by its id, as far as that can be read.
func nameOf(id any, seq any) string {
	if id, err := idFrom(id); err == nil {
		return id.String()
	}
	return fmt.Sprintf("row %v", seq)
}

// payloads reads all items. Episodes whose scope is missing are left to the check of those.
func (x *examiner) payloads(ctx context.Context) error {
	s := x.store
	noun := func(table, columns string, read func(context.Context, []any) error) *examined {
		return &examined{
			what: table, sql: "SELECT " + columns + " FROM " + table + " WHERE seq > ? AND scope IN (SELECT n FROM scopes WHERE n NOT IN (" + x.misnumbered + ")) ORDER BY seq LIMIT ?",
			start: []any{int64(-1 << 62)}, at: []int{0}, sqlDelete: "DELETE FROM " + table + " WHERE seq = ?", checkName: checkedPayloads, counted: true,
			check: func(ctx context.Context, row []any) (string, error) { return nameOf(row[1], row[0]), read(ctx, row) },
		}
	}
	for _, t := range []*examined{
		noun("episodes", "seq, id", func(ctx context.Context, row []any) error {
			id, err := idFrom(row[1])
			if err != nil {
				return fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			e, err := readAgain(ctx, func(ctx context.Context) (*Episode, error) { return s.load(ctx, s.engine, id) })
			if err == nil {
				return s.countRuns(ctx, row[0], e)
			}
			return err
		}),
		noun("patterns", patternColumns, func(ctx context.Context, row []any) error { _, _, err := s.patternFrom(ctx, row); return err }),
		noun("heuristics", heuristicColumns, func(ctx context.Context, row []any) error { _, _, err := s.heuristicFrom(ctx, row); return err }),
		{
			what: "relations", checkName: checkedPayloads, start: []any{int64(-1 << 62), "", int64(-1 << 62)}, at: []int{5, 1, 6},
			sql: "SELECT " + relationColumns + ` FROM relations JOIN episodes a ON a.seq = src JOIN episodes b ON b.seq = dst
 WHERE (src, type, dst) > (?, ?, ?) ORDER BY src, type, dst LIMIT ?`,
			sqlDelete: "DELETE FROM relations WHERE src = ? AND type = ? AND dst = ?",
			check: func(ctx context.Context, row []any) (string, error) {
				_, _, err := s.relationFrom(ctx, row)
				return fmt.Sprintf("%s %v %s", nameOf(row[0], row[5]), row[1], nameOf(row[2], row[6])), err
			},
		},
		{
			what: "conflicts", checkName: checkedPayloads, start: []any{int64(-1 << 62)}, at: []int{0},
			sql:       "SELECT " + conflictColumns + " FROM conflicts WHERE n > ? ORDER BY n LIMIT ?",
			sqlDelete: "DELETE FROM conflicts WHERE n = ?",
			check: func(ctx context.Context, row []any) (string, error) {
				c, _, err := s.conflictFrom(ctx, row)
				if err == nil {
					_, err = s.keptSteps(ctx, c.Number)
				}
				return fmt.Sprintf("conflict %v", row[0]), err
			},
		},
	} {
		if err := t.run(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// countRuns sees that no steps are stored behind the last one of an episode.
func (s *Store) countRuns(ctx context.Context, seq any, e *Episode) error {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: "SELECT count(*) FROM runs WHERE place > (?1 << 24) + ?2 AND place < ((?1 + 1) << 24)", Args: []any{seq, int64(e.StepCount)}})
	if err != nil {
		return err
	}
	if n, err := intFrom(r[0].Rows[0][0]); err != nil || n > 0 {
		return errors.Join(err, fmt.Errorf("%w: there are steps behind its last one, number %d", ErrCorrupt, e.StepCount))
	}
	return nil
}

// vectors reads all vectors.
func (x *examiner) vectors(ctx context.Context) error {
	read := func(row []any, blob, dim int) error {
		in := engine.Row{Values: row}
		data, n := in.Blob(blob), in.Int(dim)
		if in.Err == nil {
			_, in.Err = vector.Decode(data, n)
		}
		if in.Err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, in.Err)
		}
		return nil
	}
	for _, t := range []*examined{
		{
			what: "embeddings", checkName: checkedVectors, start: []any{int64(-1 << 62)}, at: []int{0},
			sql:       "SELECT rowid, kind, item, model, dim, vector FROM embeddings WHERE rowid > ? ORDER BY rowid LIMIT ?",
			sqlDelete: "DELETE FROM embeddings WHERE rowid = ?",
			check: func(_ context.Context, row []any) (string, error) {
				return fmt.Sprintf("%v %s by %v", row[1], nameOf(row[2], row[0]), row[3]), read(row, 5, 4)
			},
		},
		{
			what: "vectors of search models", checkName: checkedVectors, start: []any{int64(-1 << 62), int64(-1 << 62)}, at: []int{0, 1},
			sql: "SELECT model, place, vector, (SELECT dim FROM models WHERE id = model) FROM document_vectors WHERE (model, place) > (?, ?) ORDER BY model, place LIMIT ?",
			// The vectors of an episode are made in their order.
			sqlDelete: "DELETE FROM document_vectors WHERE model = ?1 AND place >= ?2 AND place >> 24 = ?2 >> 24",
			check: func(_ context.Context, row []any) (string, error) {
				return fmt.Sprintf("model %v, place %v", row[0], row[1]), read(row, 2, 3)
			},
		},
	} {
		if err := t.run(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// dictionaries sees that those are there which payloads name.
func (x *examiner) dictionaries(ctx context.Context) error {
	list, err := payload.Dictionaries(ctx, x.engine)
	if err != nil {
		return err
	}
	for _, d := range list {
		f := Finding{Check: checkedDictionaries, Severity: Fault}
		switch name := fmt.Sprintf("dictionary %d", d.ID); {
		case d.Missing:
			f.Problem = "payloads name a dictionary that is not there: they cannot be read"
			x.find(f, 1, name)
		case d.Damaged != nil && d.Used > 0:
			f.Problem = fmt.Sprintf("payloads name a dictionary that is damaged, and cannot be read: %v", d.Damaged)
			x.find(f, 1, name)
		case d.Damaged != nil:
			f.Problem = fmt.Sprintf("a dictionary that no payload names is damaged: %v", d.Damaged)
			f.Repair = "deletes it"
			f.mend = func(ctx context.Context, s *Store) error {
				_, err := s.engine.Batch(ctx, engine.Stmt{SQL: "DELETE FROM dictionaries WHERE id = ?", Args: []any{int64(d.ID)}})
				return err
			}
			x.find(f, 1, name)
		case d.Used == 0 && !d.Active:
			f.Severity, f.Problem = Note, "no payload names this dictionary; episodic compact deletes it"
			x.find(f, 1, name)
		}
	}
	return nil
}
