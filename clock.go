package episodic

import (
	"context"
	"fmt"
	"hash/maphash"
	"strconv"
	"sync/atomic"

	"github.com/episodic-memory/episodic/internal/cache"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/payload"
)

// querier is what reading needs of an engine.
type querier interface {
	Query(context.Context, ...engine.Stmt) ([]engine.Result, error)
}

// clockGroups is how many groups the clock has: three hex digits.
const clockGroups = 1 << 12

// clockGroup returns the group that every change of the item shows in.
func clockGroup(id ID) int { return int(id[14]&0x0f)<<8 | int(id[15]) }

// sqlLook tells the last change, and the last one of each group that has changed
// since; if nothing has, that is the one that was known. At first it tells the
// last one.
const sqlLook = `SELECT g,seq FROM clock WHERE seq>=iif(?1,?1,(SELECT max(seq)FROM clock))`

func lookStmt(since int64) engine.Stmt { return engine.Stmt{SQL: sqlLook, Args: []any{since}} }

// lookFrom reads the rows of sqlLook. None are those of a database that was
// restored to what it was before.
func lookFrom(rows [][]any, since int64) (l cache.Look, err error) {
	for _, row := range rows {
		in := reader{row: row}
		name, seq := in.text(0), in.int(1)
		if in.err != nil {
			return l, fmt.Errorf("clock: %w: %w", ErrCorrupt, in.err)
		}
		l.Seq = max(l.Seq, seq)
		if seq == since || name == "" {
			continue
		}
		group, err := strconv.ParseUint(name, 16, 12)
		if err != nil {
			return l, fmt.Errorf("clock: %w: there is no group %q", ErrCorrupt, name)
		}
		l.Changes = append(l.Changes, cache.Change{Group: int(group), Seq: seq})
	}
	return l, nil
}

// look asks the clock.
func look(ctx context.Context, q querier, since int64) (cache.Look, error) {
	r, err := q.Query(ctx, lookStmt(since))
	if err != nil {
		return cache.Look{}, err
	}
	return lookFrom(r[0].Rows, since)
}

// clocked asks the clock together with the first question, before it and in the
// same snapshot, and weighs the answers.
type clocked struct {
	engine querier
	since  int64
	due    bool // the clock was not asked yet

	look    cache.Look
	version uint64 // of all answers
	cost    int    // what they take in memory, about
}

func (c *clocked) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if c.due {
		stmts = append([]engine.Stmt{lookStmt(c.since)}, stmts...)
	}
	r, err := c.engine.Query(ctx, stmts...)
	if err != nil {
		return nil, err
	}
	if c.due {
		if c.look, err = lookFrom(r[0].Rows, c.since); err != nil {
			return nil, err
		}
		c.due, r = false, r[1:]
	}
	c.weigh(r)
	return r, nil
}

var versionSeed = maphash.MakeSeed()

func (c *clocked) weigh(results []engine.Result) {
	for _, r := range results {
		for _, row := range r.Rows {
			for _, v := range row {
				c.cost += 32
				switch v := v.(type) {
				case string:
					c.cost += len(v)
				case []byte:
					c.cost += len(v)
					if n, ok := payload.PlainSize(v); ok {
						c.cost += int(n)
					}
					c.version = c.version*31 + maphash.Bytes(versionSeed, v)
					continue
				}
				c.version = c.version*31 + maphash.Comparable(versionSeed, v)
			}
		}
	}
}

// fileClock asks a local file for its clock only if somebody has written.
type fileClock struct {
	file *embedded.Engine
	seen atomic.Pointer[fileMoment]
}

// fileMoment says what the clock of a file was at a data version.
type fileMoment struct{ version, seq int64 }

func (f *fileClock) look(ctx context.Context, since int64) (cache.Look, error) {
	version, err := f.file.DataVersion(ctx)
	if err != nil {
		return cache.Look{}, err
	}
	// The cache may not have been told yet what the last look showed.
	if seen := f.seen.Load(); seen != nil && *seen == (fileMoment{version, since}) {
		return cache.Look{Seq: since}, nil
	}
	l, err := look(ctx, f.file, since)
	if err == nil {
		f.seen.Store(&fileMoment{version, l.Seq})
	}
	return l, err
}
