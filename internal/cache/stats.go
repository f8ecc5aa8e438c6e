package cache

import (
	"sort"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Mode says how a cache notices that others write.
type Mode uint8

// The modes of a cache.
const (
	ModeClock   Mode = iota // by the clock of the database
	ModeTTLOnly             // not at all: no entry is older than 60 s
)

var modes = [...]string{"clock", "ttl_only"}

// String returns the mode as one word.
func (m Mode) String() string { return modes[m] }

// ttlBounds are the upper bounds of a Histogram's buckets but the last.
var ttlBounds = [...]time.Duration{
	30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	20 * time.Minute, 30 * time.Minute, 45 * time.Minute, time.Hour,
}

// TTLBounds returns the upper bounds, inclusive, of all buckets of a Histogram
// but the last, which has none.
func TTLBounds() []time.Duration { return append([]time.Duration(nil), ttlBounds[:]...) }

// Histogram counts TTLs.
type Histogram struct {
	Buckets [len(ttlBounds) + 1]uint64 // not cumulative; see TTLBounds
	Count   uint64
	Sum     time.Duration
}

// Stats is what a cache counted, as of one moment. At every moment
//
//	Loads         == Stored + Discarded + LoadFailures + Abandoned + Loading
//	Misses + Late == Loads - Refreshes + Shared
//
// and when nothing is under way
//
//	Stored        == Entries + TTLs.Count
//	TTLs.Count    == Evicted + Expired + InvalidatedOwn + InvalidatedForeign + Replaced + Cleared
type Stats struct {
	// The state of this moment.

	Mode    Mode
	Entries int   // those that have expired but were not removed yet included
	Bytes   int64 // what they cost
	Loading int   // loads under way

	// What callers got. They only grow, as all below but MeanTTL.

	Hits        uint64 // calls that were served an entry
	StaleServed uint64 // of these, flagged by Result.Stale
	Misses      uint64 // calls that needed a load
	Shared      uint64 // times that one waited for a load that was under way
	Late        uint64 // of these, in vain: the load had begun too early to be right for sure

	// What was asked of the Source.

	Loads        uint64
	Refreshes    uint64 // of these, in the background
	Stored       uint64 // loads whose value became an entry
	Discarded    uint64 // loads whose value was known to be outdated when it came
	LoadFailures uint64
	Abandoned    uint64 // loads that were ended because nobody waited any more, or by Close
	Polls        uint64
	PollFailures uint64

	// How entries went.

	Evicted            uint64 // for want of memory
	Expired            uint64
	InvalidatedOwn     uint64 // by Invalidate
	InvalidatedForeign uint64 // because the clock showed a change, when they were read next
	Replaced           uint64 // by a newer load
	Cleared            uint64 // with all others: another database, or Close

	// MeanTTL is how long an entry was allowed to live, on average over all, what
	// reads added included.
	MeanTTL time.Duration
	// TTLs counts the entries that have gone by how long they had been allowed to
	// live.
	TTLs Histogram
}

// Stats returns what the cache counted, as of one moment.
func (c *Cache[K, V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.count
	s.Hits = c.hits.Load()
	if !c.clock.used {
		s.Mode = ModeTTLOnly
	}
	s.Entries, s.Bytes = c.store.EstimatedSize(), c.bytes.Load()
	if s.Stored > 0 {
		s.MeanTTL = time.Duration(c.granted.Load() / int64(s.Stored))
	}
	c.gone.addTo(&s)
	return s
}

// departed counts how entries went. Nothing guards it: the store may tell of it
// with any of its locks held.
type departed struct {
	causes  [otter.CauseExpiration + 1]atomic.Uint64
	buckets [len(ttlBounds) + 1]atomic.Uint64
	ttls    atomic.Int64
}

func (d *departed) add(cause otter.DeletionCause, ttl time.Duration) {
	d.causes[cause].Add(1)
	d.buckets[sort.Search(len(ttlBounds), func(i int) bool { return ttl <= ttlBounds[i] })].Add(1)
	d.ttls.Add(int64(ttl))
}

func (d *departed) addTo(s *Stats) {
	s.Evicted = d.causes[otter.CauseOverflow].Load()
	s.Expired = d.causes[otter.CauseExpiration].Load()
	s.Replaced = d.causes[otter.CauseReplacement].Load()
	// Entries are removed by hand only with the lock of the cache held, as it is now.
	s.Cleared = d.causes[otter.CauseInvalidation].Load() - s.InvalidatedOwn - s.InvalidatedForeign
	for i := range d.buckets {
		s.TTLs.Buckets[i] = d.buckets[i].Load()
		s.TTLs.Count += s.TTLs.Buckets[i]
	}
	s.TTLs.Sum = time.Duration(d.ttls.Load())
}
