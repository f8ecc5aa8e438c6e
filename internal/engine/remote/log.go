package remote

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/episodic-memory/episodic/internal/engine"
)

// failure is one that the breaker counted.
type failure struct {
	err   *engine.Error
	cause string // for the log
}

// loggable describes the failure of a request without what the server said, which
// may repeat what it was sent.
func (e *Engine) loggable(err error) string {
	if err == nil {
		return "database is locked"
	}
	if h := refusalIn(err); h != nil {
		return fmt.Sprintf("HTTP %d", h.Status)
	}
	return e.requestError(err).Error()
}

// logRetry logs that a call is sent again after err, nil if the database was
// locked.
func (e *Engine) logRetry(ctx context.Context, c *call, attempt int, err error) {
	if e.log.Enabled(ctx, slog.LevelDebug) {
		e.log.DebugContext(ctx, "request is sent again", "attempt", attempt, "write", c.write, "cause", e.loggable(err))
	}
}

// logBreakerOpen logs that requests are rejected until the server is back.
func (e *Engine) logBreakerOpen() {
	cause := ""
	if last := e.lastFailure.Load(); last != nil {
		cause = last.cause
	}
	e.log.Warn("server does not answer, requests are held back", "failures", breakerCalls, "cause", cause)
}

// streamLost counts a stream that the server or the network ended.
func (e *Engine) streamLost(ctx context.Context, cause string) {
	e.streams.lost.Add(1)
	e.log.DebugContext(ctx, "stream was lost", "cause", cause)
}
