package episodic

import (
	"context"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

const sqlFetchAgain = `INSERT INTO passed_over VALUES(?) ON CONFLICT DO NOTHING`

// Discard gives up a queued write that the server has refused, by its QueuedWrite.Number: it
// is deleted from the outbox, and later writes of its item, which were held back, go on. What
// it has changed in the replica is undone when the item is next fetched. Errors: ErrNotFound
// if no such write is queued; ErrConflict if the server has not refused it: such a write
// goes on by itself.
func (s *Store) Discard(ctx context.Context, number int64) (err error) {
	ctx, end := s.trace(ctx, "Discard")
	defer func() { end(err) }()
	if err = s.check(ctx, true, ""); err == nil && s.queue == nil {
		err = ErrNotFound
	}
	if err == nil {
		err = s.queue.discard(ctx, number)
	}
	return failed(err, "discard queued write %d", number)
}

func (q *writeQueue) discard(ctx context.Context, n int64) error {
	op, found, err := q.box.One(ctx, n)
	switch {
	case err != nil:
		return err
	case !found:
		return ErrNotFound
	}
	// Before it is gone from the outbox, so that it is not forgotten if this process ends.
	if q.here != nil {
		if _, err := q.here.engine.Repeatable(ctx, engine.Stmt{SQL: sqlFetchAgain, Args: []any{op.Item[:]}}); err != nil {
			return err
		}
	}
	dropped, err := q.box.Drop(ctx, n)
	if err != nil {
		return err
	}
	if !dropped {
		return fmt.Errorf("%w: the server has not refused it", ErrConflict)
	}
	if err := q.unpin(ctx); err != nil {
		return err
	}
	q.kick(false)
	q.pull() // the item
	return nil
}
