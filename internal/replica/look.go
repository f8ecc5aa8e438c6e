package replica

import (
	"context"
	"fmt"
	"math"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

const (
	sqlState = `SELECT life, forgotten, (SELECT ifnull(max(n), 0) FROM feed) FROM feed_state`
	sqlLooks = `SELECT life, forgotten, (SELECT ifnull(max(n), 0) FROM feed), (SELECT max(version) FROM episodic_migrations),
 (SELECT json_group_array(id) FROM dictionaries) FROM feed_state`
	sqlAhead = `SELECT f.n, f.kind, f.item, f.scope, f.gone_us, e.bytes, length(e.payload), e.rev FROM feed f LEFT JOIN episodes e ON f.kind = 1 AND e.id = f.item
 WHERE f.n > ?%s ORDER BY f.n LIMIT ?`
	sqlBelow = `SELECT f.n, f.kind, f.item, f.scope, f.gone_us, e.bytes, length(e.payload) FROM feed f LEFT JOIN episodes e ON f.kind = 1 AND e.id = f.item
 WHERE f.n < ?%s ORDER BY f.n DESC LIMIT ?`
	sqlRemaining = `SELECT count(*) FROM feed f WHERE f.gone_us IS NULL%s`
)

// look is what the server has that may not be here.
type look struct {
	server
	schema int64
	gone   []int64  // dictionaries that are here, and that the server has no more
	fresh  bool     // it has dictionaries that are not here
	ahead  []change // after the position, in order
	below  []change // items that are missing, the last changed first
	// other says that the database's history is another one, though it has the same life: an
	// older copy was restored, and has grown since.
	other bool
}

// server is the state of the server's feed in a snapshot.
type server struct {
	life      []byte
	forgotten int64 // deletions up to this number may be forgotten
	newest    int64 // number of the last change
}

func serverFrom(rows [][]engine.Value) (s server, err error) {
	if len(rows) != 1 {
		return server{}, fmt.Errorf("the server's table feed_state has %d rows, want 1", len(rows))
	}
	in := engine.Row{Values: rows[0]}
	s.life, s.forgotten, s.newest = in.Blob(0), in.Int(1), in.Int(2)
	s.newest = max(s.newest, s.forgotten)
	if in.Err != nil {
		return server{}, fmt.Errorf("the server's table feed_state: %w", in.Err)
	}
	return s, nil
}

// change is a row of the server's feed.
type change struct {
	n     int64
	kind  feed.Kind
	item  []byte
	scope int64
	gone  bool
	size  int64 // about, of what it holds before compression; of a look
	rev   int64 // of an episode; of a look ahead
}

// flatSize is what an item takes whose size a look does not tell.
const flatSize = 4 << 10

// look asks what has changed since p, and what is missing.
func (r *Replica) look(ctx context.Context, p position) (look, error) {
	stmts := []engine.Stmt{{SQL: sqlLooks}, r.limited(sqlAhead, "", p.upto)}
	if p.filling() {
		stmts = append(stmts, r.limited(sqlBelow, within(belowSince, p.since), p.downto))
	}
	doubtful := r.doubtful()
	if doubtful {
		st, err := r.askWitnesses(ctx, p)
		if err != nil {
			return look{}, err
		}
		stmts = append(stmts, st)
	}
	res, err := r.cfg.Server.Query(ctx, stmts...)
	if err != nil {
		return look{}, err
	}
	var l look
	if doubtful {
		l.other = res[len(res)-1].Rows[0][0] != int64(0)
	}
	if l.server, err = serverFrom(res[0].Rows); err != nil {
		return look{}, err
	}
	state := engine.Row{Values: res[0].Rows[0]}
	if l.schema = state.Int(3); state.Err != nil {
		return look{}, fmt.Errorf("the server's table episodic_migrations: %w", state.Err)
	}
	there := state.Text(4)
	if l.gone, err = lacking(p.dictionaries, there); err != nil {
		return look{}, fmt.Errorf("the server's table dictionaries: %w", err)
	}
	fresh, err := lacking(there, p.dictionaries)
	if err != nil {
		return look{}, fmt.Errorf("the server's table dictionaries: %w", err)
	}
	l.fresh = len(fresh) > 0
	if l.ahead, err = looked(res[1].Rows); err == nil && p.filling() {
		l.below, err = looked(res[2].Rows)
	}
	return l, err
}

func looked(rows [][]engine.Value) ([]change, error) {
	list := make([]change, len(rows))
	for i, row := range rows {
		in := engine.Row{Values: row}
		list[i] = change{n: in.Int(0), kind: feed.Kind(in.Int(1)), item: in.Blob(2), scope: in.Int(3), gone: row[4] != nil, size: flatSize}
		if row[5] != nil {
			list[i].size = in.Int(5) + in.Int(6)
			if len(row) > 7 {
				list[i].rev = in.Int(7)
			}
		}
		if in.Err != nil {
			return nil, fmt.Errorf("change %v of the server: %w", row[0], in.Err)
		}
	}
	return list, nil
}

// scope is the condition that a column holds a scope within the replica's, after AND.
func (r *Replica) scope(column string) (sql string, args []engine.Value) {
	if r.cfg.Scope == nil {
		return "", nil
	}
	if sql, args = r.cfg.Scope(column); sql == "" {
		return "", nil
	}
	return " AND " + sql, args
}

// scoped is a statement on the feed with the condition of scope, and another one.
func (r *Replica) scoped(sql, within string, args ...engine.Value) engine.Stmt {
	cond, more := r.scope("f.scope")
	return engine.Stmt{SQL: fmt.Sprintf(sql, within+cond), Args: append(args, more...)}
}

func (r *Replica) limited(sql, within string, n int64) engine.Stmt {
	st := r.scoped(sql, within, n)
	st.Args = append(st.Args, int64(r.lookRows))
	return st
}

// all is the number after all changes.
const all = math.MaxInt64

// cut returns how many of the changes make a page of at most so many bytes, at least one.
func cut(changes []change, bytes int64) int {
	n := 0
	for ; n < len(changes); n++ {
		if bytes -= changes[n].size; n > 0 && bytes < 0 {
			break
		}
	}
	return n
}
