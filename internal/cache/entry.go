package cache

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// overhead is what an entry costs beside its value: itself, its node in the
// store and its share of the memory of keys, which outnumber the entries.
const overhead = 768

// maxJitter is the most that a TTL is lengthened or shortened by, in parts of it,
// so that entries loaded together do not expire together.
const maxJitter = 0.1

// entry is a loaded value. What it is does not change, only how long it may stay.
type entry[V any] struct {
	value   V
	missing bool
	group   int
	seq     int64  // of the clock when it was loaded
	epoch   uint64 // of the clock when its load began
	writes  uint64 // Cache.writes when its load began
	weight  uint32
	jitter  float64 // -maxJitter to maxJitter
	loaded  time.Duration
	state   *keyState

	deadline  atomic.Int64
	refreshAt atomic.Int64 // 0 is never
	refreshed atomic.Bool  // that was tried; an entry is refreshed once
	touched   atomic.Int64 // a read before readStep has gone by since is not noted
}

// keyState is what is remembered of a key, with an entry or without.
type keyState struct {
	mu sync.Mutex // guards State; it is held for no other lock
	State
}

// entryOf returns what l has brought, an entry but for its state and its times.
func (c *Cache[K, V]) entryOf(f *flight[K, V], l Loaded[V]) *entry[V] {
	return &entry[V]{
		value: l.Value, missing: l.Missing, group: l.Group, seq: l.Look.Seq, epoch: f.begun.epoch, writes: f.writes,
		weight: uint32(min(math.MaxUint32, overhead+max(0, l.Cost))),
		jitter: (2*c.rand() - 1) * maxJitter, loaded: f.begun.at,
	}
}

func (e *entry[V]) result(stale error) Result[V] {
	return Result[V]{Value: e.value, Found: !e.missing, Stale: stale}
}

// settle takes over what the rule says of s, by a load or a read at now.
func (e *entry[V]) settle(rule *Options, s State, now time.Duration) {
	e.touched.Store(int64(now))
	e.deadline.Store(int64(e.loaded + e.jittered(rule, s.TTL)))
	refreshAt := int64(0)
	if after := RefreshAfter(*rule, s, now); after > 0 {
		refreshAt = int64(e.loaded + e.jittered(rule, after))
	}
	e.refreshAt.Store(refreshAt)
}

// jittered never exceeds MaxTTL, and grows with ttl.
func (e *entry[V]) jittered(rule *Options, ttl time.Duration) time.Duration {
	return min(ttl+part(ttl, e.jitter), rule.MaxTTL-part(rule.MaxTTL, math.Abs(e.jitter)))
}

// ttl returns how long the entry has been allowed to live.
func (e *entry[V]) ttl() time.Duration { return time.Duration(e.deadline.Load()) - e.loaded }

// keep stores e, which a load of key has just brought.
func (c *Cache[K, V]) keep(key K, e *entry[V], version uint64) {
	e.state = c.memory.of(c.hash(key), max(minRemembered, remembered*c.store.EstimatedSize()))
	e.state.mu.Lock()
	e.state.State = e.state.Load(c.opts, e.loaded, version, e.missing)
	e.settle(&c.opts, e.state.State, e.loaded)
	e.state.mu.Unlock()
	c.granted.Add(int64(e.ttl()))
	c.count.Stored++
	c.bytes.Add(int64(e.weight))
	c.store.Set(key, e)
}

// touch notes a read of e.
func (c *Cache[K, V]) touch(e *entry[V], now time.Duration) {
	s := e.state
	if !s.mu.TryLock() {
		return // another read is being noted
	}
	defer s.mu.Unlock()
	if s.Loaded != e.loaded {
		return // there is a newer entry
	}
	before := e.ttl()
	s.State = s.Touch(c.opts, now)
	e.settle(&c.opts, s.State, now)
	c.granted.Add(int64(e.ttl() - before))
}

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

// A generation of memory holds remembered times as many keys as there are
// entries, about 100 bytes each, and at least minRemembered. With half as many,
// keys that come back after long are taken for new ones.
const (
	remembered    = 4
	minRemembered = 1024
)

// memory holds what is known of the keys that were loaded last: two generations,
// of which the older is forgotten when the younger is full. Keys are told apart
// by a hash of 64 bits: should two ever have the same, their TTLs are mixed up,
// and nothing else.
type memory struct {
	young, old map[uint64]*keyState
}

// of returns the state of a key, which is now the youngest, of limit in a
// generation.
func (m *memory) of(hash uint64, limit int) *keyState {
	if s := m.young[hash]; s != nil {
		return s
	}
	s := m.old[hash]
	if s == nil {
		s = &keyState{}
	}
	if m.young == nil || len(m.young) >= limit {
		m.old, m.young = m.young, map[uint64]*keyState{}
	}
	m.young[hash] = s
	return s
}
