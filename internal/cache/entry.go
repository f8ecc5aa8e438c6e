package cache

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// overhead is the memory that an entry takes beside its value, in bytes: itself,
// its node in the store and its share of the store's table.
const overhead = 400

// maxJitter is the most that a TTL is lengthened or shortened by, as a fraction,
// so that entries loaded together do not expire together.
const maxJitter = 0.1

// entry is a loaded value.
type entry[V any] struct {
	// fixed
	value     V
	missing   bool
	anyChange bool
	seq       int64  // the last change that value includes
	epoch     uint64 // feedState.epoch when its load began
	writes    uint64 // Cache.writes when its load began
	weight    uint32
	jitter    float64 // -maxJitter to maxJitter
	loaded    time.Duration

	// superseded is set when a change of the key after seq becomes known, and when the
	// entry leaves the store: who still holds it would not be told of changes.
	superseded atomic.Bool

	mu       sync.Mutex // guards state; no other lock is taken with it held
	state    State
	deadline atomic.Int64
	touched  atomic.Int64 // a read within readStep after it is not noted
}

// entryOf returns what a load has brought, as an entry that has no TTL yet.
func (c *Cache[K, V]) entryOf(f *flight[K, V], l Loaded[K, V]) *entry[V] {
	e := &entry[V]{
		value: l.Value, missing: l.Missing, anyChange: l.AnyChange, seq: l.Feed.Seq, epoch: f.begun.epoch, writes: f.writes,
		weight: uint32(min(math.MaxUint32, overhead+max(0, l.Size))),
		jitter: (2*c.rand() - 1) * maxJitter, loaded: f.begun.at,
	}
	e.superseded.Store(f.changed > e.seq)
	return e
}

func (e *entry[V]) result(cached bool, stale error, age time.Duration) Result[V] {
	return Result[V]{Value: e.value, Found: !e.missing, Cached: cached, Stale: stale, Age: age}
}

// keep stores e, which a load of key has just brought. The lock is held.
func (c *Cache[K, V]) keep(key K, e *entry[V]) {
	e.setState(&c.opts, State{}.Load(c.opts, e.loaded, e.missing), e.loaded)
	c.granted.Add(int64(e.ttl()))
	c.count.Stored++
	c.bytes.Add(int64(e.weight))
	c.store.Set(key, e)
}

// touch notes a read of e.
func (c *Cache[K, V]) touch(e *entry[V], now time.Duration) {
	if !e.mu.TryLock() {
		return // another read is being noted
	}
	defer e.mu.Unlock()
	before := e.ttl()
	e.setState(&c.opts, e.state.Touch(c.opts, now), now)
	c.granted.Add(int64(e.ttl() - before))
}

// setState sets the state after a load or a read at now.
func (e *entry[V]) setState(o *Options, s State, now time.Duration) {
	e.state = s
	e.touched.Store(int64(now))
	e.deadline.Store(int64(e.loaded + e.jittered(o, s.TTL)))
}

// jittered never exceeds MaxTTL, and grows with ttl.
func (e *entry[V]) jittered(o *Options, ttl time.Duration) time.Duration {
	return min(ttl+scale(ttl, e.jitter), o.MaxTTL-scale(o.MaxTTL, math.Abs(e.jitter)))
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// ttl returns how long the entry may live.
func (e *entry[V]) ttl() time.Duration { return time.Duration(e.deadline.Load()) - e.loaded }

// expiry tells the store how long entries are to live. It must not call the
// store.
type expiry[K comparable, V any] struct{ c *Cache[K, V] }

func (x expiry[K, V]) ExpireAfterCreate(s otter.Entry[K, *entry[V]]) time.Duration {
	left := time.Duration(s.Value.deadline.Load() - s.SnapshotAtNano)
	return max(1, left) // 0 would mean no change
}

func (x expiry[K, V]) ExpireAfterUpdate(s otter.Entry[K, *entry[V]], _ *entry[V]) time.Duration {
	return x.ExpireAfterCreate(s)
}

func (x expiry[K, V]) ExpireAfterRead(s otter.Entry[K, *entry[V]]) time.Duration {
	if s.SnapshotAtNano-s.Value.touched.Load() >= int64(readStep) {
		x.c.touch(s.Value, time.Duration(s.SnapshotAtNano))
	}
	return time.Duration(s.Value.deadline.Load() - s.SnapshotAtNano)
}
