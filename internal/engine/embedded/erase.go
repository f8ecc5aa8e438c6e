package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Erased is what Erase has seen of a file that it has written anew.
type Erased struct {
	Pages int64 // of the file, each of which was read
	Bytes int64 // of the file
	Freed int64 // bytes that the file became shorter by
}

// eraseTries is how often a file is written anew because others have written to it before it
// could be read.
const eraseTries = 3

// Erase writes the file anew, so that it holds what its tables and indexes hold and nothing
// else, and empties its log. It then reads every page of the file, while nobody can write: a byte
// that belongs to no row is an error. What others write afterwards is not looked at. It
// takes up to twice the space of the file for the time being, writers wait, and an error
// leaves all rows as they were. Errors: KindBusy if others read the file for too long;
// KindFull; KindReplaced; KindReadOnly; KindCorrupt.
func (e *Engine) Erase(ctx context.Context) (done Erased, err error) {
	// Nothing is written, but the file is mended if its log was removed.
	if _, err := e.lane.Do(ctx, nil, false); err != nil {
		return done, err
	}
	err = e.apart(ctx, func(ctx context.Context, c *conn) (err error) {
		done, err = e.erase(ctx, c)
		return err
	})
	return done, err
}

func (e *Engine) erase(ctx context.Context, c *conn) (Erased, error) {
	before, err := c.space(ctx)
	if err == nil && !e.cfg.Disposable {
		err = e.place.look() // c has opened the file by its path
	}
	if err != nil {
		return Erased{}, err
	}
	defer e.takeTurn(ctx)()
	for try := 1; ; try++ {
		if err := c.vacuum(ctx); err != nil {
			// What failed has made the log long, perhaps as long as the disk could hold.
			return Erased{}, errors.Join(err, e.checkpoint(context.WithoutCancel(ctx), c))
		}
		if err := e.emptied(ctx, c); err != nil {
			return Erased{}, err
		}
		done, err := e.survey(ctx, c)
		if errors.Is(err, errRemnant) && try < eraseTries {
			continue
		}
		done.Freed = (before.pages - done.Pages) * before.size
		return done, err
	}
}

// emptied writes the log into the file and empties it, as soon as nobody reads what was
// there before.
func (e *Engine) emptied(ctx context.Context, c *conn) error {
	if err := c.exec(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", tryTimeout.Milliseconds())); err != nil {
		return err
	}
	giveUp := time.Now().Add(e.patience)
	for {
		var r engine.Result
		err := c.run(ctx, engine.Stmt{SQL: "PRAGMA wal_checkpoint(TRUNCATE)"}, &r)
		if err == nil && r.Rows[0][0] == int64(0) {
			return nil
		}
		if err != nil && engine.KindOf(classify(err, -1)) != engine.KindBusy {
			return err
		}
		if time.Now().After(giveUp) {
			return e.busy(&engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.New("others read what the file held before, and so its log still holds it")})
		}
		select {
		case <-time.After(tryTimeout):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// survey reads all pages while nobody can write. Errors: errRemnant, also if others have
// written since the log was emptied.
func (e *Engine) survey(ctx context.Context, c *conn) (done Erased, err error) {
	err = c.exec(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", busyTimeout.Milliseconds()))
	if err == nil {
		err = c.exec(ctx, "BEGIN IMMEDIATE")
	}
	if err != nil {
		return done, err
	}
	defer c.abandon(ctx)
	s, err := c.space(ctx)
	if err != nil {
		return done, err
	}
	file, err := os.Stat(e.place.path)
	if err != nil {
		return done, err
	}
	log, err := ifThere(e.place.real + logSuffix)
	switch {
	case err != nil:
		return done, err
	case log != nil && log.Size() > 0:
		return done, fmt.Errorf("%w: others have written to the log meanwhile", errRemnant)
	case file.Size() != s.pages*s.size:
		return done, fmt.Errorf("%w: the file has %d bytes, and %d pages of %d", errRemnant, file.Size(), s.pages, s.size)
	}
	if err := newSurvey(c, s).all(ctx); err != nil {
		return done, err
	}
	if !e.cfg.Disposable {
		if err := e.place.look(); err != nil {
			return done, err
		}
	}
	return Erased{Pages: s.pages, Bytes: file.Size()}, nil
}
