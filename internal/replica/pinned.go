package replica

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	sqlPins     = `SELECT item, rev, 0 FROM pinned UNION ALL SELECT item, rev, 1 FROM was_pinned`
	sqlPassOver = `INSERT INTO passed_over SELECT unhex(value) FROM json_each(?) WHERE true ON CONFLICT DO NOTHING`
	// Refused if one of the items was pinned after it was read which are, or has been since.
	sqlUnpinned = `INSERT INTO required SELECT NOT EXISTS (SELECT 1 FROM (SELECT unhex(value) AS item FROM json_each(?1)) i
 WHERE item IN (SELECT item FROM pinned) OR EXISTS (SELECT 1 FROM was_pinned w WHERE w.item = i.item AND w.rev NOT IN (SELECT value FROM json_each(?2))))`
	sqlPassedOver = `SELECT item FROM passed_over WHERE item NOT IN (SELECT item FROM pinned) LIMIT ?`
	sqlFetched    = `DELETE FROM passed_over WHERE item IN (SELECT unhex(value) FROM json_each(?))`
)

// pins are the items that are pinned at a moment, and those that were since the last page, by
// the revision that was pinned last.
type pins struct {
	pinned map[[16]byte]bool
	pushed map[[16]byte]int64
}

func (r *Replica) pins(ctx context.Context) (pins, error) {
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlPins})
	if err != nil {
		return pins{}, fmt.Errorf("read which items are pinned: %w", err)
	}
	p := pins{make(map[[16]byte]bool), make(map[[16]byte]int64)}
	for _, row := range res[0].Rows {
		id, ok := idOf(row[0])
		switch rev, _ := row[1].(int64); {
		case !ok:
		case row[2] == int64(0):
			p.pinned[id] = true
		default:
			p.pushed[id] = rev
		}
	}
	return p, nil
}

// since reports whether own writes of an item may be missing in what was fetched after before
// was read: some wait, or were pushed meanwhile.
func (p pins) since(before pins, id [16]byte) bool {
	return p.pinned[id] || p.pushed[id] != before.pushed[id]
}

// unpinned is the statement that refuses a transaction if own writes of an item may be missing in
// what was fetched after p was read. Items are in hex.
func (p pins) unpinned(items []string) engine.Stmt {
	revs := make([]int64, 0, len(p.pushed))
	for _, rev := range p.pushed {
		revs = append(revs, rev)
	}
	return engine.Stmt{SQL: sqlUnpinned, Args: []engine.Value{jsonOf(items), jsonOf(revs)}}
}

// passOver takes the items out of a page that are pinned here, or were while it was fetched, and
// returns the statements that note so, and refuse the page if more are by now. seen notes that
// they are on the server.
func (r *Replica) passOver(ctx context.Context, p *fetched, seen bool) (stmts []engine.Stmt, err error) {
	pins, err := r.pins(ctx)
	if err != nil {
		return nil, err
	}
	pinned := func(v engine.Value) bool {
		id, ok := idOf(v)
		return ok && pins.since(p.before, id)
	}
	var passed, stored []string
	p.changes = slices.DeleteFunc(p.changes, func(c change) bool {
		item := hex.EncodeToString(c.item)
		if !pinned(c.item) {
			stored = append(stored, item)
			return false
		}
		passed = append(passed, item)
		if seen && !c.gone {
			stmts = append(stmts, engine.Stmt{SQL: sqlSeen, Args: []engine.Value{int64(c.kind), c.item}})
		}
		return true
	})
	if stored != nil {
		stmts = append(stmts, p.before.unpinned(stored))
	}
	if p.passed = passed != nil; !p.passed {
		return stmts, nil
	}
	p.Heads = slices.DeleteFunc(p.Heads, func(h Head) bool { return pinned(h.ID[:]) })
	p.Patterns = slices.DeleteFunc(p.Patterns, func(it Item) bool { return pinned(it.ID[:]) })
	p.Heuristics = slices.DeleteFunc(p.Heuristics, func(it Item) bool { return pinned(it.ID[:]) })
	p.relations = slices.DeleteFunc(p.relations, func(row []engine.Value) bool { return pinned(row[0]) })
	p.embeddings = slices.DeleteFunc(p.embeddings, func(row []engine.Value) bool { return pinned(row[1]) })
	return append(stmts, notePassed(passed)...), nil
}

// notePassed returns the statement that notes that items, in hex, were passed over.
func notePassed(items []string) []engine.Stmt {
	if items == nil {
		return nil
	}
	return []engine.Stmt{{SQL: sqlPassOver, Args: []engine.Value{jsonOf(items)}}}
}

func jsonOf[T string | int64](list []T) string {
	text, _ := json.Marshal(list) // texts and numbers can always be marshalled
	return string(text)
}

// refetchPassedOver fetches items that were passed over while they were pinned.
func (r *Replica) refetchPassedOver(ctx context.Context) error {
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlPassedOver, Args: []engine.Value{int64(refetched)}})
	if err != nil {
		return fmt.Errorf("read what was passed over: %w", err)
	}
	var ids [][16]byte
	for _, row := range res[0].Rows {
		if id, ok := idOf(row[0]); ok {
			ids = append(ids, id)
		}
	}
	if ids == nil {
		return nil
	}
	return r.refetch(ctx, ids, true)
}
