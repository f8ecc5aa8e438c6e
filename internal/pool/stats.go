package pool

import (
	"context"
	"errors"
	"sort"
	"time"
)

// CloseReason says why the pool closed a connection.
type CloseReason uint8

// The reasons for closing a connection.
const (
	ClosedBroken       CloseReason = iota // its lease was released with an error
	ClosedDied                            // it was found dead while idle or when released
	ClosedPingFailed                      // a ping failed or timed out
	ClosedSlowPing                        // its ping took longer than a dial while a caller waited
	ClosedMaxLifetime                     // MaxLifetime was reached
	ClosedRetired                         // Retire was called
	ClosedShrunk                          // utilisation stayed under ScaleDownAt
	ClosedOverload                        // the server was overloaded
	ClosedIdleShutdown                    // no lease for IdleShutdown
	ClosedLeaked                          // its lease became unreachable without Release
	ClosedPoolClosed                      // the pool was closed while it was not in use
	ClosedForced                          // the pool was closed and stopped waiting for its lease
	ClosedAbandoned                       // its lease was released because the caller gave up
	ClosedDiscarded                       // its lease was given back with Discard

	// CloseReasons is the number of reasons.
	CloseReasons = iota
)

var closeReasons = [CloseReasons]string{"broken", "died", "ping_failed", "slow_ping", "max_lifetime", "retired", "shrunk", "overload", "idle_shutdown", "leaked", "pool_closed", "force_closed", "abandoned", "discarded"}

// String returns the reason in snake case.
func (r CloseReason) String() string { return closeReasons[r] }

// StaleReason says why a connection could not be reused without validation or
// replacement.
type StaleReason uint8

// The reasons for a stale connection.
const (
	StaleDied         StaleReason = iota // it was found dead
	StalePingFailed                      // a ping failed or timed out
	StaleMaxLifetime                     // MaxLifetime was reached
	StaleRetired                         // Retire was called
	StaleIdle                            // not known to be alive since StaleAfter, a suspend of the machine or an ErrNoResponse
	StaleNetworkReset                    // a network reset happened since it was last alive

	// StaleReasons is the number of reasons.
	StaleReasons = iota
)

var staleReasons = [StaleReasons]string{"died", "ping_failed", "max_lifetime", "retired", "idle", "network_reset"}

// String returns the reason in snake case.
func (r StaleReason) String() string { return staleReasons[r] }

// histogramBounds are the upper bounds of all buckets of a Histogram but the last.
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

// Histogram is a histogram of durations.
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

// Stats is a snapshot of a pool's gauges and counters. In every snapshot
//
//	Opened   == Closed + Open
//	Dials    == Opened + DialFailures + Dialing
//	Open     == Idle + InUse + Pinging
//	Calls    == Acquired + Timeouts + Cancelled + QueueFull + DialErrors + PoolClosed + Waiting
//	Acquired == Returned + ReleasedUnused + Leaked + ForceClosed + InUse
//	PingsSent == PingTimes.Count + PingsFailed + PingsCancelled + Pinging
type Stats struct {
	// Gauges.

	Open        int           // connections
	Idle        int           // of Open, not in use
	InUse       int           // of Open, acquired
	Pinging     int           // of Open, being pinged
	Dialing     int           // dials in flight
	Waiting     int           // callers in the queue
	OldestWait  time.Duration // how long the first caller in the queue has waited
	Target      int           // desired number of connections
	Peak        int           // maximum of Open since the pool was created
	Asleep      bool          // after IdleShutdown, until the next Acquire or Warm
	Utilisation float64       // connections acquired / open over the last second, 0 to 1
	BusyMax     float64       // mean of connections acquired in the busiest of the last 30 seconds
	ServiceTime time.Duration // moving average of the time from Acquire to Release
	DialTime    time.Duration // moving average of successful dials
	PingTime    time.Duration // moving average of successful pings

	// Counters of calls of Acquire and TryAcquire.

	Calls          uint64    // calls, except those whose context was done before and failed calls of TryAcquire
	Acquired       uint64    // connections acquired
	Waits          uint64    // calls that had to wait, whatever their result
	WaitTimes      Histogram // duration of waits that have ended, whatever their result
	Timeouts       uint64    // calls whose deadline passed while they waited
	Cancelled      uint64    // calls whose context was cancelled while they waited
	QueueFull      uint64    // calls that failed because MaxWaiters callers were waiting
	DialErrors     uint64    // calls that failed because a dial failed
	PoolClosed     uint64    // calls that failed because the pool was closed
	Returned       uint64    // leases released after use
	ReleasedUnused uint64    // leases released unused, and connections whose caller's context was done on delivery
	Leaked         uint64    // leases that became unreachable without Release
	ForceClosed    uint64    // leases whose connection was closed because Close stopped waiting

	// FirstUseFailures counts leases released with an error other than
	// context.Canceled on a connection that had been idle and was considered
	// healthy. Keep-alive exists to prevent these.
	FirstUseFailures uint64

	// Counters of connections.

	Dials        uint64               // dials started
	DialFailures uint64               // dials that failed
	DialTimes    Histogram            // duration of dials, including failed ones
	Opened       uint64               // connections opened
	Closed       uint64               // connections closed or being closed
	ClosedBy     [CloseReasons]uint64 // connections closed, by reason

	PingsSent      uint64    // pings sent
	PingsFailed    uint64    // pings that failed or timed out
	PingTimeouts   uint64    // pings that timed out
	PingsCancelled uint64    // pings cancelled by Close or because a caller waited
	PingTimes      Histogram // duration of successful pings

	Stale     [StaleReasons]uint64 // connections found stale, by reason
	Refreshes uint64               // connections dialled to replace one that expired or was lost
	Resets    uint64               // network resets: two connection failures within a second

	// Counters of sizing decisions.

	GrownOnDemand      uint64 // dials started because the queue would outlast a dial
	GrownOnUtilisation uint64 // dials started because utilisation reached ScaleUpAt
	Shrunk             uint64 // connections closed because utilisation stayed under ScaleDownAt
	Overloads          uint64 // calls of Overloaded

	ConnTime time.Duration // sum of the time that connections were open
	BusyTime time.Duration // sum of the time that connections were acquired
}

// Stats returns a snapshot of the gauges and counters.
func (p *Pool[C]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	p.load.advance(now)
	s := p.count
	s.Open, s.Idle, s.InUse, s.Pinging = p.load.open, len(p.idle), p.load.inUse, p.pinging
	s.Dialing, s.Waiting, s.OldestWait = p.dialing, p.waiters.len, p.waiters.oldest(now)
	s.Target, s.Asleep = p.target, p.asleep
	s.Utilisation = p.load.util
	_, s.BusyMax, _ = p.load.last()
	s.ServiceTime, s.DialTime, s.PingTime = time.Duration(p.serviceTime), time.Duration(p.dialTime), time.Duration(p.pingTime)
	s.ConnTime, s.BusyTime = p.load.connTime, p.load.busyTime
	return s
}

// SizeEvents returns the last changes of the pool's size, oldest first. There are at
// most SizeEvents.
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

// countFailedWait counts a wait that ended with the caller's context.
func (s *Stats) countFailedWait(err error, wait time.Duration) {
	if errors.Is(err, context.DeadlineExceeded) {
		s.Timeouts++
	} else {
		s.Cancelled++
	}
	s.WaitTimes.add(wait)
}
