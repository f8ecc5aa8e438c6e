package embedded

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	// shrinkPages is how many pages are given back in one transaction. That many must be
	// moved at most, 1 MiB, which is what a group of writes may hold too.
	shrinkPages = 256
	// A file that was made without the means to give pages back is written anew if more
	// than 1/worthRewriting of it is free.
	worthRewriting = 5
)

// space is how the pages of a file are used.
type space struct {
	size        int64 // of a page, in bytes
	pages, free int64
	shrinks     bool // the file was made so that it can give pages back
}

// Shrink gives the free pages of the file back to the file system, and returns how many
// bytes that is. It does so in short transactions, between which others write. A file of
// before new ones were made for this (auto_vacuum = 0) is written anew, once, if a fifth
// of it is free: that takes up to twice its space for the time being, all writers wait for it,
// and an error leaves the file as it was. Readers go on; while one reads what was
// there before, the file gets shorter only after it, at a later write or when it is closed.
func (e *Engine) Shrink(ctx context.Context) (freed int64, err error) {
	err = e.apart(ctx, func(ctx context.Context, c *conn) (err error) {
		freed, err = e.shrinkBy(ctx, c)
		return err
	})
	return freed, err
}

// apart calls f with a connection of its own, one call at a time. Close ends the context of f.
func (e *Engine) apart(ctx context.Context, f func(context.Context, *conn) error) (err error) {
	select {
	case <-e.shrink:
		defer func() { e.shrink <- struct{}{} }()
	case <-e.life.Done():
		return engine.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	until, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	c, err := openConn(until, e.cfg.Path)
	if err == nil {
		err = errors.Join(f(until, c), c.close())
	}
	if err != nil {
		err = e.readError(ctx, err)
	}
	return err
}

func (e *Engine) shrinkBy(ctx context.Context, c *conn) (freed int64, err error) {
	before, err := c.space(ctx)
	switch {
	case err != nil || before.free == 0:
		return 0, err
	case before.shrinks:
		freed, err = e.giveBack(ctx, before)
	case before.free > before.pages/worthRewriting:
		freed, err = e.rewrite(ctx, c)
	default:
		return 0, nil
	}
	// Also what failed has made the log long, perhaps as long as the disk could hold.
	return freed, errors.Join(err, e.checkpoint(context.WithoutCancel(ctx), c))
}

// giveBack gives back as many pages as are free now, from the end of the file on.
func (e *Engine) giveBack(ctx context.Context, s space) (freed int64, err error) {
	step := engine.Stmt{SQL: fmt.Sprintf("PRAGMA incremental_vacuum(%d)", shrinkPages)}
	for left := s.free; left > 0; left -= shrinkPages {
		r, err := e.Batch(ctx, step)
		if err != nil {
			return freed, err
		}
		n := int64(len(r[0].Rows)) // an empty one for each page
		freed += n * s.size
		if n < shrinkPages {
			break // others have used the rest
		}
	}
	return freed, nil
}

// takeTurn has the writers of this process and others wait until release is called.
func (e *Engine) takeTurn(ctx context.Context) (release func()) {
	t := newTurns(e.cfg.LockDir, e.place.real)
	_ = t.lock.Acquire(ctx, 1) // without the lock the writers wait for SQLite's
	return func() {
		t.Release()
		t.Close()
	}
}

// rewrite is a writer like another process: it has its own turn, for which the lane waits.
func (e *Engine) rewrite(ctx context.Context, c *conn) (freed int64, err error) {
	defer e.takeTurn(ctx)()
	before, err := c.space(ctx) // others may have written meanwhile
	if err != nil {
		return 0, err
	}
	if err := c.vacuum(ctx); err != nil {
		return 0, err
	}
	after, err := c.space(context.WithoutCancel(ctx))
	if err != nil {
		return 0, err
	}
	return (before.pages - after.pages) * before.size, nil
}

// vacuum writes the file anew, such that it can give pages back later.
func (c *conn) vacuum(ctx context.Context) error {
	for _, sql := range []string{"PRAGMA secure_delete(ON)", incremental, "VACUUM"} {
		if err := c.run(ctx, engine.Stmt{SQL: sql}, new(engine.Result)); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint writes the log into the file, which gets shorter by that, and empties it. It
// keeps no writer waiting for a reader: if readers are in the way, it is left to the next one.
func (e *Engine) checkpoint(ctx context.Context, c *conn) error {
	if err := c.exec(ctx, "PRAGMA busy_timeout(0)"); err != nil {
		return err
	}
	err := e.retryBusy(ctx, func() error {
		var r engine.Result
		if err := c.run(ctx, engine.Stmt{SQL: "PRAGMA wal_checkpoint(TRUNCATE)"}, &r); err != nil {
			return err
		}
		if r.Rows[0][0] != int64(0) {
			return &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.New("others read the file")}
		}
		return nil
	})
	if engine.KindOf(classify(err, -1)) == engine.KindBusy {
		return nil
	}
	return err
}

// space asks for it anew: SQLite keeps the answer to auto_vacuum with a prepared statement.
func (c *conn) space(ctx context.Context) (s space, err error) {
	var mode int64
	for _, ask := range []struct {
		pragma string
		into   *int64
	}{{"page_size", &s.size}, {"page_count", &s.pages}, {"freelist_count", &s.free}, {"auto_vacuum", &mode}} {
		if err := c.conn.QueryRowContext(ctx, "PRAGMA "+ask.pragma).Scan(ask.into); err != nil {
			return s, err
		}
	}
	s.shrinks = mode != 0
	return s, nil
}
