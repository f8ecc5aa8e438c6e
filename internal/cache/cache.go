// Package cache keeps values that were loaded from a database, for as long as
// they are likely to be read again and certain to be right enough.
//
//	Get ──> entry? ──> looked at the clock lately? ──> nothing of its group changed? ──> hit
//	          │no              │no: one shared poll               │no
//	          └────────────────┴──────────> load <────────────────┘
//	                          one for all callers of a key; looks at the clock too
//
// The database has a clock: a number that grows with every change, and for each
// of some groups of keys the number of the last change in it. A load reads the
// clock before the value, in one snapshot, so every entry knows the clock it is
// from; it is valid as long as no later change of its group is known. Every
// round trip may look at the clock. A hit after PollInterval without a look
// waits for a poll. So a hit reflects the database at some moment not earlier
// than PollInterval before the call of Get, whoever writes.
//
// How long an entry is kept is for the memory's sake alone, and decided by one
// pure function, NextTTL. Only where the clock cannot be used it is what bounds
// the age of an answer, and is then at most 60 s.
//
// Values are shared: Get hands out what was loaded, and nobody may change it.
// The cache knows no SQL and no protocol: it is given functions to load and to
// poll. It does not look into values and keeps no goroutine but the one of the
// store (otter), and those of loads and polls under way; Close waits for all.
package cache

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// ErrClosed says that the cache was closed before or during a call.
var ErrClosed = errors.New("cache is closed")

// Source is where a cache has its values from. Its functions are called from
// goroutines of the cache (but see Options.PollInterval), with a context of its
// own, and must return soon after that is done: when nobody waits for them any
// more, or the cache is closed.
type Source[K comparable, V any] struct {
	// Load loads the value of a key. Required. Unless the cache goes without the
	// clock it must look at the clock, for changes after since, before it reads
	// the value and in the same snapshot.
	Load func(ctx context.Context, key K, since int64) (Loaded[V], error)
	// Poll looks at the clock for changes after since. Without it the cache goes
	// without the clock.
	Poll func(ctx context.Context, since int64) (Look, error)
}

// Loaded is what a load found.
type Loaded[V any] struct {
	Value V
	// Missing says that the key has no value, which is remembered for a short
	// time.
	Missing bool
	// Cost is the memory that Value takes, in bytes.
	Cost int
	// Group is the group of the clock that every change of the value shows in, or
	// Everything.
	Group int
	// Version tells values apart: another one means that the value has changed
	// since the last load.
	Version uint64
	// Look is the clock as of the snapshot that Value is from. Without the clock it
	// is not used.
	Look Look
}

// Result is an answer of Get.
type Result[V any] struct {
	Value V    // shared: it must not be changed
	Found bool // false: the key has no value
	// Stale is nil if the answer is as new as the package promises. Otherwise the
	// clock could not be looked at for this reason, and the answer is what was
	// right within PollInterval + StaleIfError before the call.
	Stale error
}

// Cache is a cache of values of type V under keys of type K. Its methods may be
// called concurrently. It must be closed.
type Cache[K comparable, V any] struct {
	// fixed at creation
	source Source[K, V]
	opts   Options // with defaults; Clockless without the clock
	store  *otter.Cache[K, *entry[V]]
	watch  *watch
	seed   maphash.Seed
	rand   func() float64  // 0 to 1
	ctx    context.Context // of loads and polls; ends with Close
	cancel context.CancelFunc
	owned  sync.WaitGroup // loads and polls

	clock   clock
	writes  atomic.Uint64 // calls of Invalidate
	hits    atomic.Uint64
	gone    departed
	bytes   atomic.Int64 // weight of all entries
	granted atomic.Int64 // sum of the TTLs of all entries, those that have gone included

	// mu guards everything below, and writes to clock. Load and Poll are never called
	// with it held, nor is anything waited for. The store is changed only with it
	// held, but for what expires and what is evicted.
	mu      sync.Mutex
	flights map[K]*flight[K, V] // loads that callers may still join
	poll    *flight[K, V]
	pollErr error         // of the last poll that failed
	pollAt  time.Duration // no poll before that moment
	memory  memory
	closed  bool
	count   Stats // of its gauges only Loading
}

// pollPause is the time after a failed poll in which hits do not wait for
// another: within a second of its return a server is noticed.
const pollPause = 400 * time.Millisecond

// New returns an empty cache of what source gives. The error is an
// *OptionError, or says that Load is missing.
func New[K comparable, V any](source Source[K, V], opts Options) (*Cache[K, V], error) {
	if source.Load == nil {
		return nil, errors.New("cache source lacks Load")
	}
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	c := &Cache[K, V]{
		source: source, opts: opts.WithDefaults(), watch: newWatch(), seed: maphash.MakeSeed(), rand: rand.Float64,
		flights: map[K]*flight[K, V]{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if source.Poll == nil {
		c.opts = c.opts.Clockless()
	}
	c.clock.init(c.opts, source.Poll != nil)
	store, err := otter.New(&otter.Options[K, *entry[V]]{
		MaximumWeight:    uint64(c.opts.MaxBytes),
		Weigher:          func(_ K, e *entry[V]) uint32 { return e.weight },
		ExpiryCalculator: expiry[K, V]{c},
		OnAtomicDeletion: func(d otter.DeletionEvent[K, *entry[V]]) {
			c.bytes.Add(-int64(d.Value.weight))
			c.gone.add(d.Cause, d.Value.ttl())
		},
		// What is to be done beside a call takes microseconds, and is so over when the call is.
		Executor: func(f func()) { f() },
		Clock:    c.watch,
	})
	if err != nil {
		return nil, err
	}
	c.store = store
	return c, nil
}

// Get returns the value of key: the cached one if it is valid, else what Load
// finds. Callers who miss the same key share one load. It goes on as long as one
// of them waits.
//
// The answer reflects the database at some moment not earlier than PollInterval
// before the call, unless Result.Stale says otherwise; without the clock not
// earlier than 60 s.
//
// The error is that of Load, ErrClosed, or ctx's.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (Result[V], error) {
	if err := ctx.Err(); err != nil {
		return Result[V]{}, err
	}
	found, ok := c.store.GetEntry(key)
	now := time.Duration(found.SnapshotAtNano)
	if ok && c.clock.lookedSince(now-c.clock.interval) && c.valid(found.Value) {
		return c.hit(key, found.Value, now, nil), nil
	}
	return c.getSlowly(ctx, key, found.Value)
}

// getSlowly is Get when there is no entry that can be served at once. e may be
// nil.
func (c *Cache[K, V]) getSlowly(ctx context.Context, key K, e *entry[V]) (Result[V], error) {
	start := c.watch.now()
	var stale error
	if e != nil && c.valid(e) {
		var err error
		if stale, err = c.look(ctx, start); err != nil {
			return Result[V]{}, err
		}
	}
	switch {
	case e == nil:
	case !c.valid(e):
		c.drop(key, e)
	case stale == nil, c.opts.StaleIfError > 0 && c.clock.lookedSince(start-c.clock.interval-c.opts.StaleIfError):
		return c.hit(key, e, start, stale), nil
	}
	return c.load(ctx, key, start)
}

// hit hands e out.
func (c *Cache[K, V]) hit(key K, e *entry[V], now time.Duration, stale error) Result[V] {
	c.hits.Add(1)
	if stale != nil {
		c.mu.Lock()
		c.count.StaleServed++
		c.mu.Unlock()
	} else if at := e.refreshAt.Load(); at != 0 && int64(now) >= at && e.refreshed.CompareAndSwap(false, true) {
		c.refresh(key)
	}
	return e.result(stale)
}

// valid reports that nothing is known that made e wrong. What it is based on is
// at least as new as the last look of which lookedSince told before.
func (c *Cache[K, V]) valid(e *entry[V]) bool {
	return !c.outwritten(e) && c.clock.unchanged(e.group, e.epoch, e.seq)
}

// outwritten reports that a write of this process may have made e wrong, though
// not one of its key.
func (c *Cache[K, V]) outwritten(e *entry[V]) bool {
	return e.group == Everything && e.writes != c.writes.Load()
}

// drop removes e, which is not valid.
func (c *Cache[K, V]) drop(key K, e *entry[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store.ComputeIfPresent(key, func(old *entry[V]) (*entry[V], otter.ComputeOp) {
		switch {
		case old != e:
			return old, otter.CancelOp
		case c.outwritten(e):
			c.count.InvalidatedOwn++
		default:
			c.count.InvalidatedForeign++
		}
		return nil, otter.InvalidateOp
	})
}

// Invalidate says that the values of keys may have changed by the hand of this
// process. It must be called after the change and before anybody is told of it.
// From then on Get returns nothing that was loaded before the call, for these
// keys and for all of the group Everything.
func (c *Cache[K, V]) Invalidate(keys ...K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes.Add(1)
	for _, key := range keys {
		if f := c.flights[key]; f != nil {
			c.detach(f)
			f.outdated = true
		}
		if _, ok := c.store.Invalidate(key); ok {
			c.count.InvalidatedOwn++
		}
	}
}

// Close ends what is under way, whose callers get ErrClosed, and waits for it.
// When it returns nothing of the cache runs any more.
func (c *Cache[K, V]) Close() {
	c.mu.Lock()
	c.closed = true
	c.store.InvalidateAll()
	c.mu.Unlock()
	c.cancel()
	c.owned.Wait()
	if c.store.StopAllGoroutines() {
		c.watch.stop()
	}
}

func (c *Cache[K, V]) hash(key K) uint64 { return maphash.Comparable(c.seed, key) }
