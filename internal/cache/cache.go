// Package cache is a read-through cache that is validated against a change feed
// in the database.
//
//	Get ──> entry? ──> feed polled within PollInterval? ──> no change known? ──> hit
//	          │no              │no: one shared poll               │no
//	          └────────────────┴──────────> load <────────────────┘
//	                          one for all callers of a key; reads the feed too
//
// The feed numbers the changes of the database and names the key of each. A load
// reads the feed and the value in one snapshot, so every entry has the number of
// the last change that it includes. An entry is valid as long as no later change
// of its key is known; a list or a search result (Loaded.AnyChange) as long as no
// later change at all is known. A hit after PollInterval without a read of the
// feed waits for a poll. So a hit reflects the database at some time not earlier
// than PollInterval before the call of Get, whoever writes.
//
// How long an entry is kept matters for memory alone, and is decided by one pure
// function, NextTTL. Only a cache without a feed relies on the TTL to bound the
// staleness of its answers: it is then at most 60 s.
//
// Values are shared: Get hands out what was loaded, and nobody may change it.
// The cache knows no SQL and no protocol: it is given functions that load and
// poll. It keeps no goroutine but the one of the store (otter), and those of
// loads and polls under way; Close waits for all.
package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// ErrClosed says that the cache was closed before or during a call.
var ErrClosed = errors.New("cache is closed")

// Load loads the value of a key. It must read the feed for changes after since in
// the same snapshot as the value, and before it, unless the cache has no feed.
//
// It runs on a goroutine of the cache, or with Options.LoadInCaller on that of the
// caller who begins it. Its context carries the values of that caller's context,
// and neither its cancellation nor its deadline: it ends when nobody waits for the load
// any more, or with Close. Load must return soon after that.
type Load[K comparable, V any] func(ctx context.Context, since int64) (Loaded[K, V], error)

// Poll reads the feed for changes after since. Its context is like that of a
// Load; with Options.PollEveryHit it is the caller's.
type Poll[K comparable] func(ctx context.Context, since int64) (Feed[K], error)

// Loaded is the result of a load.
type Loaded[K comparable, V any] struct {
	Value V
	// Missing says that the key has no value, which is remembered for
	// Options.NegativeTTL.
	Missing bool
	// Size is the memory that Value and the key take beyond their fixed size, in
	// bytes.
	Size int
	// AnyChange says that any change may make Value wrong, not only those of its
	// key: it is a list or a search result.
	AnyChange bool
	// Feed is what the feed told in the snapshot that Value is from. It is not used
	// by a cache without a feed.
	Feed Feed[K]
}

// Result is an answer of Get.
type Result[V any] struct {
	Value V    // shared: it must not be changed
	Found bool // false: the key has no value
	// Cached says that Value was not loaded by this call or while it waited.
	Cached bool
	// Stale is nil if the answer is as new as the package promises. Otherwise it is
	// why the feed could not be polled, and the answer was right at some time within
	// PollInterval + StaleIfError before the call.
	Stale error
	// Age is how long ago the request began that last proved Value right.
	Age time.Duration
}

// Cache is a cache of values of type V under keys of type K. Its methods may be
// called concurrently. It must be closed.
type Cache[K comparable, V any] struct {
	// fixed at creation
	poll   Poll[K] // nil: there is no feed
	opts   Options // with defaults
	store  *otter.Cache[K, *entry[V]]
	clock  *clock
	rand   func() float64  // 0 to 1
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	owned  sync.WaitGroup // loads and polls

	feed    feedState
	writes  atomic.Uint64 // calls of Invalidate
	hits    atomic.Uint64
	removed [otter.CauseExpiration + 1]atomic.Uint64 // entries by cause
	bytes   atomic.Int64                             // weight of all entries
	granted atomic.Int64                             // sum of the TTLs of all entries, removed ones included

	// mu guards everything below, and writes to feed. Loads and polls are never
	// called with it held, nor is anything waited for. The store is changed only with
	// it held, except by expiry and eviction.
	mu       sync.Mutex
	flights  map[K]*flight[K, V] // loads that callers may still join
	polling  *flight[K, V]
	pollErr  error         // of the last poll that failed
	nextPoll time.Duration // no poll before
	closed   bool
	count    Stats // of its gauges only Loading
}

// pollPause is the time after a failed poll in which hits do not wait for
// another: a server that recovers is noticed within a second.
const pollPause = 400 * time.Millisecond

// New returns an empty cache that polls with poll; nil means that there is no
// feed. The error is an *OptionError.
func New[K comparable, V any](poll Poll[K], opts Options) (*Cache[K, V], error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	c := &Cache[K, V]{poll: poll, opts: opts.WithDefaults(), clock: newClock(), rand: rand.Float64, flights: map[K]*flight[K, V]{}}
	if poll == nil {
		c.opts = c.opts.WithoutFeed()
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.feed.polled.Store(int64(never))
	store, err := otter.New(&otter.Options[K, *entry[V]]{
		MaximumWeight:    uint64(c.opts.MaxBytes),
		Weigher:          func(_ K, e *entry[V]) uint32 { return e.weight },
		ExpiryCalculator: expiry[K, V]{c},
		OnAtomicDeletion: func(d otter.DeletionEvent[K, *entry[V]]) {
			d.Value.superseded.Store(true)
			c.bytes.Add(-int64(d.Value.weight))
			c.removed[d.Cause].Add(1)
		},
		// Maintenance takes microseconds, and is over when the call is.
		Executor: func(f func()) { f() },
		Clock:    c.clock,
	})
	if err != nil {
		return nil, err
	}
	c.store = store
	return c, nil
}

// Get returns the value of key: the cached one if it is valid, else what load
// finds. Callers who miss the same key share one load, its context and its error.
// It goes on as long as one of them waits.
//
// The answer reflects the database at some time not earlier than PollInterval
// before the call, unless Result.Stale is set; without a feed not earlier than
// 60 s.
//
// The error is that of load, ErrClosed, or ctx's.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load Load[K, V]) (Result[V], error) {
	if err := ctx.Err(); err != nil {
		return Result[V]{}, err
	}
	found, ok := c.store.GetEntry(key)
	now := time.Duration(found.SnapshotAtNano)
	polled := c.feed.lastPolled()
	if ok && (c.poll == nil || polled >= now-c.maxAge()) && c.valid(found.Value) {
		return c.hit(found.Value, now, polled, nil), nil
	}
	return c.getSlowly(ctx, read[K, V]{key: key, load: load, begun: c.clock.now(), maxAge: c.maxAge()}, found.Value)
}

// GetFresh is Get for a caller who must not miss what was committed before the
// call: it returns what was loaded after the call began, or an entry that a poll
// begun after the call has proved valid. It never returns a stale answer.
func (c *Cache[K, V]) GetFresh(ctx context.Context, key K, load Load[K, V]) (Result[V], error) {
	if err := ctx.Err(); err != nil {
		return Result[V]{}, err
	}
	r := read[K, V]{key: key, load: load, begun: c.clock.now(), fresh: true}
	if c.poll == nil {
		return c.load(ctx, r)
	}
	found, _ := c.store.GetEntry(key)
	return c.getSlowly(ctx, r, found.Value)
}

// read is a call of Get.
type read[K comparable, V any] struct {
	key    K
	load   Load[K, V]
	begun  time.Duration
	maxAge time.Duration // before begun: an older poll or load does not do
	fresh  bool
}

func (r *read[K, V]) oldest() time.Duration { return r.begun - r.maxAge }

// maxAge is how long a poll is relied on.
func (c *Cache[K, V]) maxAge() time.Duration {
	if c.opts.PollEveryHit {
		return 0
	}
	return c.opts.PollInterval
}

// getSlowly is Get when there is no entry that can be served at once. e may be
// nil.
func (c *Cache[K, V]) getSlowly(ctx context.Context, r read[K, V], e *entry[V]) (Result[V], error) {
	var stale error
	if e != nil && c.valid(e) {
		var err error
		if stale, err = c.pollSince(ctx, r.oldest()); err != nil {
			return Result[V]{}, err
		}
	}
	polled := c.feed.lastPolled()
	switch {
	case e == nil:
	case !c.valid(e):
		c.drop(r.key, e)
	case stale == nil, !r.fresh && c.mayServeStale(r, polled, stale):
		return c.hit(e, c.clock.now(), polled, stale), nil
	}
	return c.load(ctx, r)
}

// mayServeStale reports whether an entry may be served although a poll has failed.
func (c *Cache[K, V]) mayServeStale(r read[K, V], polled time.Duration, err error) bool {
	return !c.opts.DisableStale && c.unreachable(err) && polled >= r.oldest()-c.opts.StaleIfError
}

// hit hands e out, which was valid after polled.
func (c *Cache[K, V]) hit(e *entry[V], now, polled time.Duration, stale error) Result[V] {
	c.hits.Add(1)
	if stale != nil {
		c.mu.Lock()
		c.count.StaleServed++
		c.mu.Unlock()
	}
	return e.result(true, stale, max(0, now-max(e.loaded, polled)))
}

// valid reports that no change is known that makes e wrong. What it
// relies on is at least as new as lastPolled was before the call.
func (c *Cache[K, V]) valid(e *entry[V]) bool {
	return !e.superseded.Load() && e.epoch == c.feed.epoch.Load() && e.seq >= c.feed.floor.Load() &&
		(!e.anyChange || e.seq >= c.feed.seq.Load() && e.writes == c.writes.Load())
}

// drop removes e, which is not valid.
func (c *Cache[K, V]) drop(key K, e *entry[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remove(key, e) {
		if e.anyChange && e.writes != c.writes.Load() {
			c.count.InvalidatedLocal++
		} else {
			c.count.InvalidatedRemote++
		}
	}
}

// remove removes e unless another entry has taken its place. The lock is held.
func (c *Cache[K, V]) remove(key K, e *entry[V]) (removed bool) {
	e.superseded.Store(true)
	c.store.ComputeIfPresent(key, func(now *entry[V]) (*entry[V], otter.ComputeOp) {
		if now != e {
			return now, otter.CancelOp
		}
		removed = true
		return nil, otter.InvalidateOp
	})
	return removed
}

// Invalidate says that this process may have changed the values of keys. It must
// be called after the change and before anybody is told of it. From then on Get
// returns nothing that was loaded before the call for these keys, and no value
// with AnyChange that was.
func (c *Cache[K, V]) Invalidate(keys ...K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes.Add(1)
	for _, key := range keys {
		if f := c.flights[key]; f != nil {
			c.detach(f)
			f.outdated = true
		}
		if found, ok := c.store.GetEntryQuietly(key); ok && c.remove(key, found.Value) {
			c.count.InvalidatedLocal++
		}
	}
}

// Close ends loads and polls under way, whose callers get ErrClosed, and waits for
// them. When it returns nothing of the cache runs any more.
func (c *Cache[K, V]) Close() {
	c.mu.Lock()
	c.closed = true
	c.store.InvalidateAll()
	c.mu.Unlock()
	c.cancel()
	c.owned.Wait()
	if c.store.StopAllGoroutines() {
		c.clock.stop()
	}
}
