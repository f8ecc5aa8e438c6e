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

// eraseTries is how often a file is read again because bytes were found that belong to
// nothing: the first time those that writing it anew has left, later those of others who write.
const eraseTries = 5

// Erase writes the file anew, so that it holds what its tables and indexes hold and nothing
// else, and empties its log. It then reads every page of the file, while nobody can write, until
// each byte belongs to a row, to what SQLite needs to find rows, or is zero. What others write
// afterwards is not looked at. It takes up to twice the space of the file for the time being,
// writers wait, and an error leaves all rows as they were. Errors: KindBusy if others read
// the file for too long, or write without waiting for their turn; KindFull; KindReplaced;
// KindReadOnly; KindCorrupt.
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
		now, err := c.space(ctx)
		if err != nil {
			return Erased{}, err
		}
		if try == 1 || now.free > 0 {
			if err := c.vacuum(ctx); err != nil {
				// What failed has made the log long, perhaps as long as the disk could hold.
				return Erased{}, errors.Join(err, e.checkpoint(context.WithoutCancel(ctx), c))
			}
		}
		if err := e.emptied(ctx, c); err != nil {
			return Erased{}, err
		}
		done, err := e.survey(ctx, c)
		switch {
		case err == nil:
			done.Freed = max(0, before.pages-done.Pages) * before.size // others may have written
			return done, nil
		case !errors.Is(err, errRemnant):
			return Erased{}, err
		case try == eraseTries:
			return Erased{}, &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: fmt.Errorf("others write all the time: %w", err)}
		}
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

// survey reads all pages while nobody can write, and overwrites what belongs to nothing.
// Errors: errRemnant if there was such, or others have written since the log was emptied.
func (e *Engine) survey(ctx context.Context, c *conn) (Erased, error) {
	err := c.exec(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", busyTimeout.Milliseconds()))
	if err == nil {
		err = c.exec(ctx, "BEGIN IMMEDIATE")
	}
	if err != nil {
		return Erased{}, err
	}
	done, err := e.look(ctx, c)
	if !errors.Is(err, errRemnant) {
		c.abandon(ctx)
		return done, err
	}
	if commitErr := c.exec(ctx, "COMMIT"); commitErr != nil {
		c.abandon(ctx)
		return Erased{}, commitErr
	}
	return Erased{}, err
}

// look is survey within its transaction.
func (e *Engine) look(ctx context.Context, c *conn) (Erased, error) {
	s, err := c.space(ctx)
	if err != nil {
		return Erased{}, err
	}
	if s.free > 0 {
		return Erased{}, fmt.Errorf("%w: others have deleted something meanwhile", errRemnant)
	}
	sv := newSurvey(c, s)
	if err := sv.all(ctx); err != nil {
		return Erased{}, err
	}
	if sv.remnants > 0 {
		return Erased{}, fmt.Errorf("%w, in %d pages", errRemnant, sv.remnants)
	}
	log, err := ifThere(e.place.real + logSuffix)
	if err != nil {
		return Erased{}, err
	}
	if log != nil && log.Size() > 0 {
		return Erased{}, fmt.Errorf("%w: others have written to the log meanwhile", errRemnant)
	}
	file, err := os.Stat(e.place.real)
	if err != nil {
		return Erased{}, err
	}
	if file.Size() != s.pages*s.size {
		return Erased{}, fmt.Errorf("%w: it has %d bytes, and %d pages of %d", errRemnant, file.Size(), s.pages, s.size)
	}
	if !e.cfg.Disposable {
		err = e.place.look()
	}
	return Erased{Pages: s.pages, Bytes: file.Size()}, err
}
