package episodic

import (
	"context"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
)

type freshKey struct{}

type readInfoKey struct{}

// WithFresh returns a context for reads that must not miss anything committed
// before they are called, whoever wrote it. Such a read asks the database whether
// what is cached is still current, or loads it, and is never served stale: it
// fails if the server cannot be reached. A replica may still lag behind its
// primary. Without a cache every read is fresh.
func WithFresh(ctx context.Context) context.Context {
	return context.WithValue(ctx, freshKey{}, true)
}

// ReadInfo says how a read was served.
type ReadInfo struct {
	// Stale is nil if the result is as new as Cache.PollInterval promises. Otherwise
	// it is why the server could not be polled, and the result may be older by up to
	// Cache.StaleIfError.
	Stale error
	// Age bounds the staleness of the result: it is how long ago the request began
	// that last showed it to be current.
	Age time.Duration
	// Cached says that the result comes from memory, not from a request of this read
	// or one that it waited for.
	Cached bool
}

// WithReadInfo returns a context for a read that says in info how it was served.
// The read writes *info before it returns, and only if it succeeds or finds
// nothing (ErrNotFound). Reads that the cache serves are Episode, Pattern,
// Heuristic, their lists, and Search. Like a trace of net/http/httptrace the
// context belongs to one call: two calls at a time would write the same info.
func WithReadInfo(ctx context.Context, info *ReadInfo) context.Context {
	return context.WithValue(ctx, readInfoKey{}, info)
}

// tellReadInfo fills in the ReadInfo of ctx, if there is one.
func tellReadInfo[V any](ctx context.Context, r cache.Result[V]) {
	if info, ok := ctx.Value(readInfoKey{}).(*ReadInfo); ok && info != nil {
		*info = ReadInfo{Stale: r.Stale, Age: r.Age, Cached: r.Cached}
	}
}
