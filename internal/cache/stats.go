package cache

import (
	"time"

	"github.com/maypok86/otter/v2"
)

// Mode says how a cache notices changes by other processes.
type Mode uint8

// The modes of a cache.
const (
	ModePolling Mode = iota // by polling the change feed
	ModeTTLOnly             // not at all: no entry is older than 60 s
)

var modes = [...]string{"polling", "ttl_only"}

// String returns the mode as one word.
func (m Mode) String() string { return modes[m] }

// Stats are the counters of a cache, all read at one time. Always
//
//	Loads         == Stored + Superseded + LoadFailures + Cancelled + Loading
//	Misses + Late == Loads + Shared
//	Stored        == Entries + Evicted + Expired + InvalidatedLocal + InvalidatedRemote + Replaced + Cleared
//
// the last of them when no call is under way.
type Stats struct {
	// Gauges.

	Mode    Mode
	Entries int   // those that have expired but were not removed yet included
	Bytes   int64 // the memory that they take
	Loading int   // loads under way

	// Calls.

	Hits        uint64 // calls that were served an entry
	StaleServed uint64 // hits with Result.Stale
	Misses      uint64 // calls that needed a load
	Shared      uint64 // waits for a load that another call began
	Late        uint64 // loads or waits after a shared load that had begun too early for the caller

	// Requests.

	Loads        uint64
	Stored       uint64 // loads whose value became an entry
	Superseded   uint64 // loads whose value was known to be outdated when it arrived
	LoadFailures uint64 // loads that returned an error to a caller
	Cancelled    uint64 // loads cancelled because nobody waited any more, or by Close
	Polls        uint64 // reads of the feed besides those of loads
	PollFailures uint64

	// Removals of entries, by cause.

	Evicted           uint64 // memory was needed
	Expired           uint64 // the TTL was over
	InvalidatedLocal  uint64 // Invalidate
	InvalidatedRemote uint64 // the feed showed a change
	Replaced          uint64 // a newer load
	Cleared           uint64 // the database was replaced or refused, or Close

	// MeanTTL is the average TTL of all entries, removed ones included, with what
	// reads have added.
	MeanTTL time.Duration
}

// Stats returns the counters.
func (c *Cache[K, V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.count
	s.Hits = c.hits.Load()
	if c.poll == nil {
		s.Mode = ModeTTLOnly
	}
	s.Entries, s.Bytes = c.store.EstimatedSize(), c.bytes.Load()
	if s.Stored > 0 {
		s.MeanTTL = time.Duration(c.granted.Load() / int64(s.Stored))
	}
	s.Evicted = c.removed[otter.CauseOverflow].Load()
	s.Expired = c.removed[otter.CauseExpiration].Load()
	s.Replaced = c.removed[otter.CauseReplacement].Load()
	// Only calls with the lock held remove entries for another cause.
	s.Cleared = c.removed[otter.CauseInvalidation].Load() - s.InvalidatedLocal - s.InvalidatedRemote
	return s
}
