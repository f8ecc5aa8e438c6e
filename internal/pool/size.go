package pool

import (
	"fmt"
	"math"
	"time"
)

// The figures of the sizing rule that are no options. They were chosen by
// simulation over six traces; bench/ runs the same function again.
const (
	aheadLoad     = 0.7             // growth ahead aims at this utilisation
	shrinkLoad    = 0.8             // shrinking leaves at most this one
	overloadShare = 0.7             // what a server that calls itself overloaded leaves of the size
	growthRest    = 2 * time.Second // no shrinking for this long after a growth
	overloadRest  = 5 * time.Second // no growth for this long after an overload

	// SizeTick is the time between two decisions with SizeState.Tick set.
	SizeTick = time.Second
	// SizeWindow is the number of ticks over which SizeState.BusyMax looks back.
	SizeWindow = 30
)

// SizeState is all that decides about the size of a pool.
type SizeState struct {
	Min, Max               int     // from Options
	ScaleUpAt, ScaleDownAt float64 // from Options

	Open    int // connections
	Dialing int // dials under way
	Away    int // connections that are out for a ping, and so can be lent to nobody
	Waiting int // callers in the queue

	// MaxDials bounds Dialing. The pool lowers it at the start, after a network
	// reset and while it waits after a failed dial.
	MaxDials int

	OldestWait time.Duration // of the first caller in the queue
	Service    time.Duration // how long a lease lasts, on average; 0 is unknown
	DialTime   time.Duration // how long a dial takes, on average; 0 is unknown

	SinceGrowth   time.Duration // time since the last growth
	SinceOverload time.Duration // time since the last overload

	// Overload says that the server has just called itself overloaded.
	Overload bool

	// Tick says that a second has gone by; Busy and BusyMax are only read then.
	Tick    bool
	Busy    float64 // connections lent during the last tick, weighted by time
	BusyMax float64 // the largest Busy of the last SizeWindow ticks
	Window  int     // ticks that BusyMax looks back over, at most SizeWindow
}

// SizeReason says why the size of a pool changes.
type SizeReason uint8

// The reasons of a Decision.
const (
	SizeKept     SizeReason = iota // nothing changes
	SizeDemand                     // the queue would outlast a dial
	SizeAhead                      // utilisation reached ScaleUpAt
	SizeShrunk                     // utilisation stayed under ScaleDownAt
	SizeOverload                   // the server called itself overloaded
	SizeRefilled                   // the pool was below Min
	SizeAsleep                     // nobody needed a connection for IdleShutdown
)

var sizeReasons = [...]string{"kept", "demand", "ahead", "shrunk", "overload", "refilled", "asleep"}

// String returns the reason as one word.
func (r SizeReason) String() string { return sizeReasons[r] }

// Decision is what is to be done about the size of a pool.
type Decision struct {
	Reason SizeReason
	Dial   int // dials to start now
	Close  int // connections to close, idle ones now and others as they return
	// Elided says that somebody waits, a dial would be allowed, and none was
	// decided on because the queue is expected to move sooner.
	Elided bool
	// Recheck is the time after which the answer would be another without any
	// event; 0 if it would not.
	Recheck time.Duration
}

// Decide is the sizing rule. It is a function of the state alone, so that the
// pool and the simulator cannot drift apart. The pool asks it when a caller
// begins to wait, when a connection returns to waiting callers, when a dial
// ends, and every SizeTick. Latency alone never shrinks a pool: a server that
// is slow for another reason would lose its callers.
func Decide(s SizeState) Decision {
	size := s.Open + s.Dialing
	if s.Overload {
		target := max(s.Min, int(overloadShare*float64(s.Open)))
		return Decision{Reason: SizeOverload, Close: max(0, s.Open-target)}
	}
	d := demand(s)
	if d.Dial > 0 || !s.Tick || size == 0 {
		return d
	}
	if s.Busy/float64(size) >= s.ScaleUpAt {
		want := min(s.Max, int(math.Ceil(s.Busy/aheadLoad)))
		if n := min(want-size, s.MaxDials-s.Dialing); n > 0 && s.SinceOverload >= overloadRest {
			d.Reason, d.Dial = SizeAhead, n
		}
		return d
	}
	keep := max(s.Min, int(math.Ceil(s.BusyMax/shrinkLoad)))
	if s.BusyMax/float64(size) <= s.ScaleDownAt && size > keep &&
		s.Window >= SizeWindow && s.SinceGrowth >= growthRest {
		d.Reason, d.Close = SizeShrunk, 1
	}
	return d
}

// demand decides about dials for those who wait. By Little's law a dial is worth
// it only if the queue outlives it.
func demand(s SizeState) Decision {
	service := s.Service
	if service == 0 {
		service = s.DialTime
	}
	var d Decision
	for s.Waiting > s.Dialing && s.Open+s.Dialing < s.Max {
		if s.SinceOverload < overloadRest && s.Open+s.Dialing >= s.Min {
			d.Recheck = overloadRest - s.SinceOverload
			return d
		}
		if s.Dialing >= s.MaxDials {
			return d
		}
		size := s.Open + s.Dialing
		queue := time.Duration(float64(s.Waiting) * float64(service) / float64(max(1, size)))
		switch {
		case size == 0, s.DialTime == 0: // nothing to wait for, nothing known
		case s.Dialing < s.Away: // a ping must not make anybody wait longer than a dial
		case queue > s.DialTime, s.OldestWait > s.DialTime:
		default:
			d.Elided = d.Dial == 0
			d.Recheck = s.DialTime - s.OldestWait + 1
			return d
		}
		d.Reason = SizeDemand
		d.Dial++
		s.Dialing++
	}
	return d
}

// SizeEvent is a decision that changed something, and what it was made on.
type SizeEvent struct {
	At     time.Time
	Reason SizeReason
	From   int // connections and dials under way before
	To     int // and after; those to be closed on return are taken off already
	State  SizeState
}

// String returns the event as a line for people.
func (e SizeEvent) String() string {
	return fmt.Sprintf("%s %s %d -> %d (waiting %d for %v, service %v, dial %v, busy %.2f, at most %.2f in %d s)",
		e.At.Format(time.RFC3339), e.Reason, e.From, e.To, e.State.Waiting, e.State.OldestWait,
		e.State.Service, e.State.DialTime, e.State.Busy, e.State.BusyMax, e.State.Window)
}

// SizeEvents is the number of events that a pool remembers.
const SizeEvents = 64

// load measures how many connections are lent, weighted by time. The pool's lock
// guards it.
type load struct {
	open, inUse int

	at       time.Duration // until when the sums below are counted
	connTime time.Duration // sum over all connections of the time they were open
	busyTime time.Duration // of the time they were lent

	tickAt, tickConn, tickBusy time.Duration // at, connTime and busyTime at the last tick

	busy  [SizeWindow]float64 // ring of the last ticks
	ticks int                 // ticks so far
	util  float64             // of the last tick
}

// upTo counts until now. It must be called before open or inUse change.
func (l *load) upTo(now time.Duration) {
	dt := now - l.at
	l.connTime += dt * time.Duration(l.open)
	l.busyTime += dt * time.Duration(l.inUse)
	l.at = now
}

// tick ends a tick at now.
func (l *load) tick(now time.Duration) {
	l.upTo(now)
	busy, conn := l.busyTime-l.tickBusy, l.connTime-l.tickConn
	l.busy[l.ticks%SizeWindow] = float64(busy) / float64(max(1, now-l.tickAt))
	l.ticks++
	l.util = 0
	if conn > 0 {
		l.util = float64(busy) / float64(conn)
	}
	l.restart(now)
}

// restart begins a tick at now without ending one.
func (l *load) restart(now time.Duration) {
	l.upTo(now)
	l.tickAt, l.tickConn, l.tickBusy = now, l.connTime, l.busyTime
}

// last returns Busy, BusyMax and Window of a SizeState.
func (l *load) last() (busy, busyMax float64, window int) {
	if l.ticks == 0 {
		return 0, 0, 0
	}
	window = min(l.ticks, SizeWindow)
	for _, b := range l.busy[:window] {
		busyMax = max(busyMax, b)
	}
	return l.busy[(l.ticks-1)%SizeWindow], busyMax, window
}

// average is an exponentially weighted mean of durations; 0 is none yet.
type average time.Duration

func (a *average) add(d time.Duration, weight float64) {
	if *a == 0 {
		*a = average(max(1, d))
		return
	}
	*a = max(1, *a+average(float64(average(d)-*a)*weight))
}
