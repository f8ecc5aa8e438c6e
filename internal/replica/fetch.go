package replica

import (
	"context"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// The server's side of a page. CROSS JOIN keeps the order feed, item, runs: the planner
// would rather scan all runs, or make an index over all vectors.
const (
	sqlFetchFeed = `SELECT f.n, f.kind, f.item, f.scope, f.gone_us FROM feed f WHERE %s%s ORDER BY f.n`

	// The first parameter is the text of have.
	fromHave = ` FROM feed f CROSS JOIN episodes e ON e.id = f.item LEFT JOIN
 (SELECT unhex(value ->> 0) AS id, value ->> 1 AS rev, value ->> 2 AS last, unhex(value ->> 3) AS key, value ->> 4 AS runs FROM json_each(?1)) h ON h.id = e.id`
	whereHave = ` WHERE %s AND f.kind = 1 AND f.gone_us IS NULL AND h.rev IS NOT e.rev%s`
	kept      = `iif((SELECT key FROM runs WHERE place = (e.seq << 24) + h.last) = h.key AND
 e.start_us || ' ' || (SELECT ` + same + ` FROM runs WHERE place > (e.seq << 24) AND place <= (e.seq << 24) + h.last) = h.runs, h.last, 0)`

	sqlFetchHeads = `SELECT e.id, task_type, domain, language, outcome, start_us, end_us, steps, e.rev, payload, bytes, e.scope,
 (SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE episode = e.seq ORDER BY pos)), ` + kept + fromHave + whereHave
	sqlFetchRuns = `SELECT e.id, r.first, r.count, r.key, r.payload` + fromHave + `
 CROSS JOIN runs r ON r.place > (e.seq << 24) + ` + kept + ` AND r.place < ((e.seq + 1) << 24)` + whereHave + ` ORDER BY r.place`
	sqlFetchPatterns = `SELECT e.id, e.kind, domain, success_rate, created_us, payload, e.scope, rev FROM feed f CROSS JOIN patterns e ON e.id = f.item
 WHERE %s AND f.kind = 2 AND f.gone_us IS NULL%s`
	sqlFetchHeuristics = `SELECT e.id, confidence, created_us, payload, e.scope, rev FROM feed f CROSS JOIN heuristics e ON e.id = f.item
 WHERE %s AND f.kind = 3 AND f.gone_us IS NULL%s`
	sqlFetchRelations = `SELECT s.id, r.type, d.id, r.created_us, r.payload FROM feed f CROSS JOIN episodes s ON s.id = f.item
 CROSS JOIN relations r ON r.src = s.seq CROSS JOIN episodes d ON d.seq = r.dst WHERE %s AND f.kind = 4 AND f.gone_us IS NULL%s`
	sqlFetchEmbeddings = `SELECT e.kind, e.item, e.model, e.dim, e.vector FROM feed f
 CROSS JOIN embeddings e ON e.kind IN ('episode', 'pattern', 'heuristic') AND e.item = f.item WHERE %s AND f.kind = 5 AND f.gone_us IS NULL%s`
	sqlFetchScopes = `SELECT n, project, user, agent FROM scopes WHERE n IN (SELECT f.scope FROM feed f WHERE %s%s)`
)

// choice is which changes of the server's feed a fetch is for: those after a number and up
// to another one, or those of some items.
type choice struct {
	after, upto int64
	items       string // a JSON array of ids in hex; empty: the range
	since       int64  // only episodes that began then or later
	beyond      int64  // also which changes there are after this number; 0: not asked
}

func (c choice) condition() (sql string, args []engine.Value) {
	if c.items != "" {
		return "f.item IN (SELECT unhex(value) FROM json_each(?))", []engine.Value{c.items}
	}
	return "f.n > ? AND f.n <= ?", []engine.Value{c.after, c.upto}
}

// chosen is a statement of a fetch, whose own parameters come first, with a condition of the
// bounds.
func (r *Replica) chosen(sql, bounds, column string, c choice, args ...engine.Value) engine.Stmt {
	cond, more := c.condition()
	scope, scopeArgs := r.scope(column)
	return engine.Stmt{SQL: fmt.Sprintf(sql, cond, within(bounds, c.since)+scope), Args: append(append(args, more...), scopeArgs...)}
}

// wanted is which statements a fetch needs. Each is some hundred bytes, which is as much as
// a step may have.
type wanted struct {
	kinds        [feed.Embeddings + 1]bool
	large        bool // steps, relations and embeddings; else they are left to fetchLarge
	scopes       bool
	dictionaries bool
}

var everything = wanted{kinds: [...]bool{feed.Episode: true, feed.Pattern: true, feed.Heuristic: true, feed.Relations: true, feed.Embeddings: true}, large: true, scopes: true, dictionaries: true}

// needs returns what a fetch of some changes needs.
func needs(changes []change, dictionaries bool) wanted {
	w := wanted{large: true, dictionaries: dictionaries}
	w.add(changes)
	return w
}

// add adds what changes need, and reports whether that is more.
func (w *wanted) add(changes []change) bool {
	before := *w
	for _, c := range changes {
		if !c.gone && c.kind > 0 && int(c.kind) < len(w.kinds) {
			w.kinds[c.kind] = true
		}
		w.scopes = w.scopes || c.scope != 0
	}
	return *w != before
}

// fetch reads what the server has of the chosen changes, in one snapshot, but for what
// have tells.
func (r *Replica) fetch(ctx context.Context, c choice, have string, w wanted) (*fetched, error) {
	p, err := r.fetchOnce(ctx, c, have, w)
	if err == nil && w.add(p.changes) { // there are others by now
		return r.fetchOnce(ctx, c, have, everything)
	}
	return p, err
}

func (r *Replica) fetchOnce(ctx context.Context, c choice, have string, w wanted) (*fetched, error) {
	p := &fetched{sure: w.dictionaries}
	var stmts []engine.Stmt
	var read []func([][]engine.Value) error
	ask := func(st engine.Stmt, f func([][]engine.Value) error) { stmts, read = append(stmts, st), append(read, f) }

	ask(engine.Stmt{SQL: sqlState}, into(&p.server, serverFrom))
	ask(r.chosen(sqlFetchFeed, "", "f.scope", c), into(&p.changes, changesFrom))
	if c.beyond > 0 {
		ask(r.chosen(sqlFetchFeed, "", "f.scope", choice{after: c.beyond, upto: all}), into(&p.beyond, changesFrom))
	}
	if w.kinds[feed.Episode] {
		ask(r.chosen(sqlFetchHeads, headsSince, "f.scope", c, have), into(&p.Heads, headsFrom))
	}
	if w.kinds[feed.Episode] && w.large {
		ask(r.chosen(sqlFetchRuns, headsSince, "f.scope", c, have), into(&p.Runs, runsFrom))
	}
	if w.kinds[feed.Pattern] {
		ask(r.chosen(sqlFetchPatterns, "", "f.scope", c), into(&p.Patterns, itemsFrom))
	}
	if w.kinds[feed.Heuristic] {
		ask(r.chosen(sqlFetchHeuristics, "", "f.scope", c), into(&p.Heuristics, itemsFrom))
	}
	if w.kinds[feed.Relations] && w.large {
		ask(r.relations(c), into(&p.relations, asTheyAre))
	}
	if w.kinds[feed.Embeddings] && w.large {
		ask(r.embeddings(c), into(&p.embeddings, asTheyAre))
	}
	if w.scopes {
		ask(r.chosen(sqlFetchScopes, "", "f.scope", c), into(&p.scopes, asTheyAre))
	}
	if w.dictionaries {
		held, err := r.heldDictionaries(ctx)
		if err != nil {
			return nil, err
		}
		ask(engine.Stmt{SQL: sqlFetchDictionaries, Args: []engine.Value{held}}, into(&p.dictionaries, dictionariesFrom))
	}

	res, err := r.cfg.Server.Query(ctx, stmts...)
	if err != nil {
		return nil, err
	}
	for i, f := range read {
		if err := f(res[i].Rows); err != nil {
			return nil, err
		}
	}
	p.told = slices.Clone(p.changes)
	return p, nil
}

// relations reads those of the chosen changes. Their sources lie in the scope, since they have
// that of the feed's row.
func (r *Replica) relations(c choice) engine.Stmt {
	return r.chosen(sqlFetchRelations, relationsSince, "d.scope", c)
}

func (r *Replica) embeddings(c choice) engine.Stmt {
	return r.chosen(sqlFetchEmbeddings, embeddingsSince, "f.scope", c)
}

// into returns a function that reads rows into a variable.
func into[T any](v *T, from func([][]engine.Value) (T, error)) func([][]engine.Value) error {
	return func(rows [][]engine.Value) (err error) {
		*v, err = from(rows)
		return err
	}
}

func asTheyAre(rows [][]engine.Value) ([][]engine.Value, error) { return rows, nil }

func changesFrom(rows [][]engine.Value) ([]change, error) {
	list := make([]change, len(rows))
	for i, row := range rows {
		in := engine.Row{Values: row}
		list[i] = change{n: in.Int(0), kind: feed.Kind(in.Int(1)), item: in.Blob(2), scope: in.Int(3), gone: row[4] != nil}
		if in.Err != nil {
			return nil, fmt.Errorf("change %v of the server: %w", row[0], in.Err)
		}
	}
	return list, nil
}
