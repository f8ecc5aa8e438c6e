package remote

import (
	"context"
	"errors"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/pool"
)

// Reachable reports, as an error, that no connection to the server can be had: it is dialled
// once at most, and nothing is sent on it. So a server that is not there is told in the time
// of a dial, without the pauses and attempts of a call.
func (e *Engine) Reachable(ctx context.Context) error {
	l := e.pool.TryAcquire()
	if l == nil {
		var err error
		l, err = e.pool.Acquire(ctx)
		switch {
		case err == nil:
		case errors.Is(err, pool.ErrClosed):
			return engine.ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return e.requestError(&hrana.TransportError{Err: err})
		}
	}
	l.ReleaseUnused()
	return nil
}
