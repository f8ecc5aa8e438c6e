// Package feed reads the change feed of a database: which items have changed
// since a number, in order, deletions included.
//
// Every change of an item gets a number greater than all before, given by triggers
// in the transaction of whoever changes it, an SQL shell included (schema, 0006).
// The feed has one row for each item, with its last change, so that an answer is
// as long as there are changed items. The package knows the feed's tables and
// nothing of what items are; a Hub shares the reading among many watchers.
package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Kind says what has changed.
type Kind int64

// The kinds, as the table holds them. The last two stand for a set: the relations
// that lead from an episode, and the embeddings of an item.
const (
	Episode Kind = 1 + iota
	Pattern
	Heuristic
	Relations
	Embeddings
)

// Change is the last change of an item.
type Change struct {
	Seq  int64
	Kind Kind
	Item [16]byte // of Relations: the episode; of Embeddings: what they were made of
	Gone bool     // it was deleted; of a set: nothing is left of it
	// Scope is the text of the item's scope, as the table of scopes holds it; empty for
	// the empty scope.
	Scope string
}

// ErrForgotten says that the changes since a number cannot be told: deletions
// since then have been forgotten, or the database was replaced by an older one.
// Whoever asked must read everything anew.
var ErrForgotten = errors.New("the changes since then are not known any more")

// Querier is the part of an engine that reads.
type Querier interface {
	Query(context.Context, ...engine.Stmt) ([]engine.Result, error)
}

// Page is some changes in order.
type Page struct {
	Changes []Change
	// Last is where the next page begins. It may be greater than the number of the
	// last change of the page, if later changes were not asked for.
	Last int64
	More bool // there are more changes up to now
}

const (
	sqlState = `SELECT forgotten, ifnull((SELECT max(n) FROM feed), 0) FROM feed_state`
	sqlSince = `SELECT n, kind, item, gone_us, iif(scope, (SELECT text FROM scopes WHERE scopes.n = scope), '') FROM feed WHERE n > ?`
)

// Since reads at most limit changes after the number since, 0 being before all. The
// condition, which may be empty, narrows the rows of the feed, and begins with AND.
//
// Errors: ErrForgotten; those of the engine.
func Since(ctx context.Context, q Querier, since int64, limit int, condition string, args ...any) (Page, error) {
	all := append(append([]any{since}, args...), int64(limit))
	r, err := q.Query(ctx, StateStmt(), engine.Stmt{SQL: sqlSince + condition + " ORDER BY n LIMIT ?", Args: all})
	if err != nil {
		return Page{}, err
	}
	newest, err := StateFrom(r[0].Rows, since)
	if err != nil {
		return Page{}, err
	}
	p := Page{Last: newest}
	for i, row := range r[1].Rows {
		in := engine.Row{Values: row}
		c, ok := item(&in)
		if in.Err != nil {
			return Page{}, fmt.Errorf("feed: change %v: %w", row[0], in.Err)
		}
		c.Gone = row[3] != nil
		c.Scope, _ = row[4].(string) // unless an SQL shell has deleted the scope
		if ok {
			p.Changes = append(p.Changes, c)
		}
		if i == limit-1 {
			p.Last, p.More = c.Seq, c.Seq < newest
		}
	}
	return p, nil
}

// StateStmt returns the statement whose rows StateFrom reads. It is for those who read
// changes by a statement of their own, in the same snapshot.
func StateStmt() engine.Stmt { return engine.Stmt{SQL: sqlState} }

// StateFrom returns the number of the last change, one that is forgotten included, or
// since if that is greater. Errors: ErrForgotten, as that of Since.
func StateFrom(rows [][]any, since int64) (newest int64, err error) {
	if len(rows) != 1 {
		return 0, fmt.Errorf("feed: the table feed_state has %d rows, want 1", len(rows))
	}
	state := engine.Row{Values: rows[0]}
	forgotten, newest := state.Int(0), state.Int(1)
	switch {
	case state.Err != nil:
		return 0, fmt.Errorf("feed: the table feed_state: %w", state.Err)
	case since > 0 && since < forgotten:
		return 0, fmt.Errorf("%w: change %d was asked for, deletions up to %d are forgotten", ErrForgotten, since, forgotten)
	case since > max(newest, forgotten):
		return 0, fmt.Errorf("%w: change %d was asked for, the newest is %d: an older copy of the database was restored", ErrForgotten, since, newest)
	}
	return max(since, newest, forgotten), nil
}
