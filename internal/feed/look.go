package feed

import (
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// MaxLook is the most changes that a Look lists.
const MaxLook = 1000

// Look is what a cache needs to know of the feed: it is read by one short
// statement, which can go before others in their snapshot.
type Look struct {
	// Changes are those after the number that was asked for, without Gone and Scope.
	Changes []Change
	// More says that there are more than MaxLook, of which Changes lists the first.
	More bool
	// Last is the number of the last change; 0 in an empty database, and if an older
	// copy of it was restored.
	Last int64
}

// sqlLook returns the changes after one, that one itself if it is still the last
// of its item, and with each the number of the last change. After 0 it returns the
// last change only.
const sqlLook = `SELECT n,kind,item,(SELECT max(n)FROM feed)FROM feed WHERE n>=iif(?1>0,?1,(SELECT max(n)FROM feed))ORDER BY n LIMIT 1001`

// LookStmt returns the statement whose rows LookFrom reads.
func LookStmt(since int64) engine.Stmt { return engine.Stmt{SQL: sqlLook, Args: []any{since}} }

// LookFrom reads the rows of LookStmt for the same number.
func LookFrom(rows [][]any, since int64) (Look, error) {
	l := Look{More: len(rows) > MaxLook}
	for _, row := range rows {
		in := engine.Row{Values: row}
		c, ok := item(&in)
		if l.Last = in.Int(3); in.Err != nil {
			return Look{}, fmt.Errorf("feed: change %v: %w", row[0], in.Err)
		}
		if ok && c.Seq > since {
			l.Changes = append(l.Changes, c)
		}
	}
	return l, nil
}

// item reads the columns n, kind and item. ok is false for what an SQL shell has
// stored without a proper id, which nobody can read.
func item(in *engine.Row) (c Change, ok bool) {
	c.Seq, c.Kind = in.Int(0), Kind(in.Int(1))
	id := in.Blob(2)
	return c, copy(c.Item[:], id) == len(c.Item) && len(id) == len(c.Item)
}
