package episodic

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
)

// contradiction is rows that contradict others.
type contradiction struct {
	check string
	// sql selects them: names that say which they are, or ids.
	sql             string
	problem, repair string
	mend            []string // statements
}

// scopes finds scopes that are not what their numbers say, and items of scopes that are not there.
func (x *examiner) scopes(ctx context.Context) error {
	r, err := x.engine.Query(ctx, engine.Stmt{SQL: `SELECT n, project, user, agent FROM scopes`})
	if err != nil {
		return err
	}
	var names, numbers []string
	var mend []engine.Stmt
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		n, sc := in.Int(0), Scope{Project: in.Text(1), User: in.Text(2), Agent: in.Text(3)}
		if in.Err == nil && sc.has(n) {
			continue
		}
		names = append(names, fmt.Sprintf("scope %v: project %.60q, user %.60q, agent %.60q", row[0], sc.Project, sc.User, sc.Agent))
		numbers = append(numbers, fmt.Sprint(row[0]))
		mend = append(mend, engine.Stmt{SQL: `UPDATE scopes SET project = ? || n, user = '', agent = '' WHERE n = ?`, Args: []any{lostPrefix, row[0]}})
	}
	x.misnumbered = strings.Join(numbers, ",")
	if len(names) > 0 {
		x.find(Finding{Check: checkedScopes, Severity: Fault,
			Problem: "these are not the project, user and agent by which the scopes were numbered: what belongs to them is found in no scope, or in a wrong one, and cannot be read",
			Repair:  "gives them projects named " + lostPrefix + "N",
			mend: func(ctx context.Context, s *Store) error {
				_, err := s.engine.Batch(ctx, mend...)
				return err
			}}, int64(len(names)), names...)
	}
	return x.contradictions(ctx, contradiction{
		check: checkedScopes, sql: `SELECT DISTINCT 'scope ' || scope FROM items WHERE scope NOT IN (SELECT n FROM scopes)`,
		problem: "what belongs to these scopes cannot be read, because their projects, users and agents are lost",
		repair:  "gives them projects named " + lostPrefix + "N",
		mend:    []string{`INSERT INTO scopes(n, project, user, agent) SELECT DISTINCT scope, '` + lostPrefix + `' || scope, '', '' FROM items WHERE scope NOT IN (SELECT n FROM scopes)`},
	})
}

// orphans finds rows whose owner is not there.
func (x *examiner) orphans(ctx context.Context) error {
	of := func(what, sql, from, where string) contradiction {
		return contradiction{
			check: checkedOrphans, sql: "SELECT DISTINCT " + sql + " FROM " + from + " WHERE " + where,
			problem: what + " of which the owner is not stored: they use space, and what is stored next under the same number could get them",
			repair:  "deletes them", mend: []string{"DELETE FROM " + from + " WHERE " + where},
		}
	}
	const noEpisode = " NOT IN (SELECT seq FROM episodes)"
	return x.contradictions(ctx,
		of("steps", "'episode number ' || episode", "runs", "episode"+noEpisode),
		of("tags", "tag || ' of episode number ' || episode", "tags", "episode"+noEpisode),
		of("relations", "src || ' ' || type || ' ' || dst", "relations", "src"+noEpisode+" OR dst"+noEpisode),
		of("embeddings", "kind || ' ' || lower(hex(item))", "embeddings", "NOT EXISTS (SELECT 1 FROM items WHERE id = embeddings.item AND kind = embeddings.kind)"),
		of("vectors of search models", "'episode number ' || (place >> 24)", "document_vectors", "place >> 24"+noEpisode+" OR model NOT IN (SELECT id FROM models)"),
		of("steps that a conflict has kept", "'conflict ' || conflict", "kept_steps", "conflict NOT IN (SELECT n FROM conflicts)"),
	)
}

// feed compares the change feed with the items.
func (x *examiner) feed(ctx context.Context) error {
	const (
		kinds = `(SELECT 1 AS k, 'episode' AS kind UNION ALL SELECT 2, 'pattern' UNION ALL SELECT 3, 'heuristic')`
		of    = ` FROM items JOIN ` + kinds + ` USING (kind) WHERE NOT EXISTS (SELECT 1 FROM feed WHERE feed.kind = k AND item = items.id AND feed.scope = items.scope AND gone_us IS NULL)`
		// The plus keeps SQLite from walking the whole index for each row.
		dead = ` FROM feed JOIN ` + kinds + ` t ON k = feed.kind WHERE gone_us IS NULL AND NOT EXISTS (SELECT 1 FROM items WHERE items.id = feed.item AND items.kind = t.kind AND items.scope = feed.scope)`
	)
	return x.contradictions(ctx,
		contradiction{
			check: checkedFeed, sql: `SELECT id` + of, problem: "items that the change feed does not name: caches, replicas and Watch do not hear of them",
			repair: "adds them to the feed", mend: []string{`INSERT INTO changed SELECT k, id, scope, NULL` + of},
		},
		contradiction{
			check: checkedFeed, sql: `SELECT item` + dead, problem: "items that the change feed names and that are not stored",
			repair: "adds to the feed that they are gone", mend: []string{`INSERT INTO changed SELECT k, item, feed.scope, (SELECT us FROM now)` + dead},
		},
		contradiction{
			check: checkedFeed, sql: `SELECT 'its row of state' WHERE (SELECT count(*) FROM feed_state) <> 1`,
			problem: "the change feed cannot tell who reads it whether it is still the same", repair: "makes it a new one, which everybody reads from the beginning",
			mend: []string{`DELETE FROM feed_state`, `INSERT INTO feed_state SELECT randomblob(16), ifnull(max(n), 0) FROM feed`},
		},
	)
}

// contradictions looks for each of them.
func (x *examiner) contradictions(ctx context.Context, list ...contradiction) error {
	for _, c := range list {
		r, err := x.engine.Query(ctx, engine.Stmt{SQL: fmt.Sprintf("SELECT *, count(*) OVER () FROM (%s) LIMIT %d", c.sql, maxNamed)})
		if err != nil {
			return err
		}
		if len(r[0].Rows) == 0 {
			continue
		}
		var names []string
		for _, row := range r[0].Rows {
			if text, ok := row[0].(string); ok {
				names = append(names, text)
				continue
			}
			names = append(names, nameOf(row[0], row[0]))
		}
		in := engine.Row{Values: r[0].Rows[0]}
		count := in.Int(1)
		if in.Err != nil {
			return in.Err
		}
		x.find(Finding{Check: c.check, Severity: Fault, Problem: c.problem, Repair: c.repair, mend: func(ctx context.Context, s *Store) error {
			var stmts []engine.Stmt
			for _, sql := range c.mend {
				stmts = append(stmts, engine.Stmt{SQL: sql})
			}
			_, err := s.engine.Batch(ctx, stmts...)
			return err
		}}, count, names...)
	}
	return nil
}

const (
	sqlGroups = `SELECT g, id FROM (SELECT seq AS g, id FROM episodes UNION ALL SELECT -2 * seq, id FROM patterns UNION ALL SELECT -2 * seq - 1, id FROM heuristics)
 WHERE g > ? AND g NOT IN (SELECT g FROM index_waiting) ORDER BY g LIMIT ?`
	sqlOnServer = `SELECT seq, id FROM episodes WHERE seq > ? AND seq NOT IN (SELECT id FROM heads_docsize) AND seq NOT IN (SELECT g FROM index_waiting) ORDER BY seq LIMIT ?`
)

// index compares the search index with what is stored.
func (x *examiner) index(ctx context.Context) error {
	f := Finding{Check: checkedIndex, Severity: Fault, Repair: "makes the search index anew", mend: func(ctx context.Context, s *Store) error {
		if err := s.Reindex(ctx); !unreadable(err) { // items that cannot be read are told by others
			return err
		}
		return nil
	}}
	r, err := x.engine.Query(ctx, engine.Stmt{SQL: `SELECT waiting, of_file, of_server FROM index_state`})
	if err != nil {
		return err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	waiting, ofFile, ofServer := in.Int(0), in.Int(1) != 0, in.Int(2) != 0
	if in.Err != nil {
		return in.Err
	}
	if waiting > 0 && x.Schema == x.Newest { // an upgrade has all of it wait
		x.find(Finding{Check: checkedIndex, Severity: Note,
			Problem: "items are waiting for the search index; they are indexed in the background, or by episodic compact"}, waiting)
	}
	onServer := x.store.server != nil
	if onServer && ofFile || !onServer && ofServer {
		x.find(Finding{Check: checkedIndex, Severity: Note, Problem: "the search index is one of a file on a server, or the other way round; it is made anew by whoever writes next"}, 1)
		return nil
	}
	sql, known := sqlOnServer, map[int64]bool{}
	if !onServer {
		sql = sqlGroups
		known, err = index.Check(ctx, x.engine)
		if errors.Is(err, index.ErrDamaged) {
			f.Problem = fmt.Sprintf("the search index cannot be read: %v", err)
			x.find(f, 1)
			return nil
		}
		if err != nil {
			return err
		}
	}
	var names []string
	missing := int64(0)
	for last, more := int64(-1<<62), true; more; {
		r, err := x.engine.Query(ctx, engine.Stmt{SQL: sql, Args: []any{last, int64(1000)}})
		if err != nil {
			return err
		}
		for _, row := range r[0].Rows {
			in := engine.Row{Values: row}
			if last = in.Int(0); in.Err != nil {
				return in.Err
			}
			if known[last] {
				delete(known, last)
				continue
			}
			if missing++; len(names) < maxNamed {
				names = append(names, nameOf(row[1], last))
			}
		}
		more = len(r[0].Rows) == 1000
	}
	if missing > 0 {
		f.Problem = "items that the search index does not hold: searches do not find them"
		x.find(f, missing, names...)
	}
	return x.unowned(ctx, known, f)
}

// unowned finds groups that the index holds and that are not stored.
func (x *examiner) unowned(ctx context.Context, left map[int64]bool, f Finding) error {
	if len(left) == 0 {
		return nil
	}
	r, err := x.engine.Query(ctx, engine.Stmt{SQL: `SELECT g FROM index_waiting`})
	if err != nil {
		return err
	}
	for _, row := range r[0].Rows {
		if g, ok := row[0].(int64); ok {
			delete(left, g)
		}
	}
	if len(left) > 0 {
		f.Problem = "the search index holds words of items that are not stored"
		x.find(f, int64(len(left)))
	}
	return nil
}
