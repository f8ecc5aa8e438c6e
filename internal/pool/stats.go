package pool

import (
	"context"
	"errors"
	"sort"
	"time"
)

// CloseReason says why the pool let go of a connection.
type CloseReason uint8

// The reasons for closing a connection.
const (
	ClosedBroken    CloseReason = iota // its lease was released with an error
	ClosedDied                         // it said that it died
	ClosedPing                         // it failed a ping
	ClosedSlowPing                     // callers waited for longer than a dial takes while it was out for a ping
	ClosedAge                          // MaxLifetime
	ClosedShrunk                       // too many, by the sizing rule
	ClosedOverload                     // too many, as the server said
	ClosedAsleep                       // IdleShutdown
	ClosedReclaimed                    // its lease was dropped without Release
	ClosedPool                         // Close
	ClosedAborted                      // Close did not wait for its lease any longer

	// CloseReasons is the number of reasons.
	CloseReasons = iota
)

var closeReasons = [CloseReasons]string{"broken", "died", "ping", "slow_ping", "age", "shrunk", "overload", "asleep", "reclaimed", "pool", "aborted"}

// String returns the reason as one word.
func (r CloseReason) String() string { return closeReasons[r] }

// StaleReason says how the pool noticed that a connection is not to be lent as
// it is.
type StaleReason uint8

// The ways to notice a stale connection.
const (
	StaleDied       StaleReason = iota // it said so
	StalePing                          // it failed a ping
	StaleAge                           // MaxLifetime
	StaleIdle                          // silent for StaleAfter, or the machine slept
	StaleGeneration                    // the network was reset

	// StaleReasons is the number of reasons.
	StaleReasons = iota
)

var staleReasons = [StaleReasons]string{"died", "ping", "age", "idle", "generation"}

// String returns the reason as one word.
func (r StaleReason) String() string { return staleReasons[r] }

// histogramBounds are the upper bounds of a Histogram's buckets but the last.
var histogramBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// HistogramBounds returns the upper bounds, inclusive, of all buckets of a
// Histogram but the last, which has none.
func HistogramBounds() []time.Duration { return append([]time.Duration(nil), histogramBounds[:]...) }

// Histogram counts durations.
type Histogram struct {
	Buckets [len(histogramBounds) + 1]uint64 // not cumulative; see HistogramBounds
	Count   uint64
	Sum     time.Duration
}

func (h *Histogram) add(d time.Duration) {
	h.Buckets[sort.Search(len(histogramBounds), func(i int) bool { return d <= histogramBounds[i] })]++
	h.Count++
	h.Sum += d
}

// Stats is what a pool counted, as of one moment. At every moment
//
//	Opened   == Closed + Open
//	Dials    == Opened + DialFailures + Dialing
//	Open     == Idle + InUse + Away
//	Calls    == Acquired + Timeouts + Cancelled + Rejected + DialErrors + Refused + Waiting
//	Acquired == Returned + Abandoned + Reclaimed + Aborted + InUse
//	PingsSent == PingTimes.Count + PingsFailed + PingsCut + Away
type Stats struct {
	// The state of this moment.

	Open        int           // connections
	Idle        int           // of these, with the pool
	InUse       int           // lent
	Away        int           // out for a ping
	Dialing     int           // dials under way
	Waiting     int           // callers in the queue
	OldestWait  time.Duration // how long the first of them has waited
	Target      int           // the size that the pool steers at
	Peak        int           // the largest Open so far
	Asleep      bool          // after IdleShutdown, until the next Acquire
	Utilisation float64       // connections lent / open during the last second, 0 to 1
	BusyMax     float64       // connections lent during the busiest second of the last 30
	Service     time.Duration // how long a lease lasts, on average over the last ones
	DialTime    time.Duration // how long a dial takes, on average over the last ones
	PingTime    time.Duration // how long a ping takes, on average over the last ones

	// What callers got. They only grow, as all below.

	Calls      uint64    // of Acquire, less those whose context was over before they began
	Acquired   uint64    // connections given to callers
	Waits      uint64    // calls that had to wait, whatever their end
	WaitTimes  Histogram // of calls that had to wait, whatever their end; less those that wait still
	Timeouts   uint64    // calls that waited to their deadline
	Cancelled  uint64    // calls that were cancelled while they waited
	Rejected   uint64    // calls refused because MaxWaiters waited
	DialErrors uint64    // calls ended by a failed dial
	Refused    uint64    // calls ended by Close
	Returned   uint64    // leases that were released
	Abandoned  uint64    // connections given to a caller who gave them back unused, or had just given up; the next one got them
	Reclaimed  uint64    // leases that were dropped without Release, found by the garbage collector
	Aborted    uint64    // leases that Close did not wait for any longer

	// FirstUseFailures counts leases released with an error, but for
	// context.Canceled, whose connection had been idle and was called healthy: what
	// keep-alive is there to prevent.
	FirstUseFailures uint64

	// What was done with connections.

	Dials         uint64
	DialFailures  uint64
	DialTimes     Histogram // of dials that have ended, failed ones included
	Opened        uint64
	Closed        uint64 // those that are being closed included
	ClosedBy      [CloseReasons]uint64
	CloseFailures uint64 // connections whose Close gave an error

	PingsSent    uint64
	PingsFailed  uint64    // answered with an error or not in time
	PingTimeouts uint64    // of these, not in time
	PingsCut     uint64    // given up because of Close or callers that waited
	PingTimes    Histogram // of pings that succeeded

	Stale           [StaleReasons]uint64 // connections found stale, by reason
	Refreshes       uint64               // connections replaced by a new one before or because they went stale
	RefreshFailures uint64               // of such dials, failed
	Resets          uint64               // times the network was taken to have failed

	// What was decided about the size.

	UpsDemand uint64 // dials because the queue would have outlasted them
	UpsAhead  uint64 // dials because utilisation reached ScaleUpAt
	Downs     uint64 // connections closed because utilisation stayed under ScaleDownAt
	Overloads uint64 // calls of Overloaded
	Elided    uint64 // callers for whom no dial was started because the queue was expected to move sooner

	ConnTime time.Duration // sum over all connections of the time they were open
	BusyTime time.Duration // of the time they were lent
}

// Stats returns what the pool counted, as of one moment.
func (p *Pool[C]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	p.load.upTo(now)
	s := p.count
	s.Open, s.Idle, s.InUse, s.Away = p.load.open, len(p.idle), p.load.inUse, p.away
	s.Dialing, s.Waiting, s.OldestWait = p.dialing, p.waiters.len, p.waiters.oldest(now)
	s.Target, s.Asleep = p.target, p.asleep
	s.Utilisation = p.load.util
	_, s.BusyMax, _ = p.load.last()
	s.Service, s.DialTime, s.PingTime = time.Duration(p.service), time.Duration(p.dialTime), time.Duration(p.pingTime)
	s.ConnTime, s.BusyTime = p.load.connTime, p.load.busyTime
	return s
}

// SizeEvents returns the last changes of the pool's size, at most SizeEvents,
// the oldest first.
func (p *Pool[C]) SizeEvents() []SizeEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(p.eventCount, SizeEvents)
	events := make([]SizeEvent, 0, n)
	for i := p.eventCount - n; i < p.eventCount; i++ {
		events = append(events, p.events[i%SizeEvents])
	}
	return events
}

// countFailedWait counts the end of a wait by the caller's context.
func (s *Stats) countFailedWait(err error, wait time.Duration) {
	if errors.Is(err, context.DeadlineExceeded) {
		s.Timeouts++
	} else {
		s.Cancelled++
	}
	s.WaitTimes.add(wait)
}
