package replica

import (
	"context"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Stopped returns a Replica that pulls only when it is told to, and at most so many
// changes, and bytes of a page, at once.
func Stopped(cfg Config, rows int, bytes int64) (*Replica, error) {
	r, err := newReplica(cfg)
	if err == nil {
		r.lookRows, r.pageBytes, r.fillBytes, r.againFor = rows, bytes, bytes, 0
	}
	return r, err
}

// Step takes one step of a pull.
func (r *Replica) Step(ctx context.Context) (asOf time.Time, again bool, err error) {
	s, err := r.pullOne(ctx)
	if err == nil {
		err = r.stepped(s, 0)
	}
	return s.asOf, s.again, err
}

// Statements are those that a server is asked, by name.
func (r *Replica) Statements() map[string]engine.Stmt {
	stmts := map[string]engine.Stmt{"look": {SQL: sqlLooks}, "ahead": r.limited(sqlAhead, "", 5), "below": r.limited(sqlBelow, "", 5), "bounded below": r.limited(sqlBelow, within(belowSince, 7), 5),
		"dictionaries": {SQL: sqlFetchDictionaries, Args: []engine.Value{"[]"}}, "large": {SQL: sqlFetchLarge, Args: []engine.Value{[]byte{1}, int64(1)}}}
	for of, c := range map[string]choice{"range": {after: 5, upto: 9}, "items": {items: `["01"]`}, "bounded": {after: 5, upto: 9, since: 7}} {
		for name, sql := range map[string]string{"feed": sqlFetchFeed, "patterns": sqlFetchPatterns, "heuristics": sqlFetchHeuristics, "scopes": sqlFetchScopes} {
			stmts[of+" "+name] = r.chosen(sql, "", "f.scope", c)
		}
		stmts[of+" embeddings"] = r.chosen(sqlFetchEmbeddings, embeddingsSince, "f.scope", c)
		stmts[of+" heads"] = r.chosen(sqlFetchHeads, headsSince, "f.scope", c, "[]")
		stmts[of+" runs"] = r.chosen(sqlFetchRuns, headsSince, "f.scope", c, "[]")
		stmts[of+" relations"] = r.chosen(sqlFetchRelations, relationsSince, "d.scope", c)
	}
	return stmts
}
