package pool

import (
	"fmt"
	"math"
	"time"
)

// Constants of the sizing rule, chosen by simulation over six traces. The simulator
// in bench/ runs the same function.
const (
	growthUtilisation = 0.7             // utilisation to reach by growing at ScaleUpAt
	shrinkUtilisation = 0.8             // highest utilisation, in the busiest second, to reach by shrinking
	overloadFactor    = 0.7             // factor on the number of connections after an overload
	shrinkDelay       = 2 * time.Second // no shrinking for this long after growth
	growthDelay       = 5 * time.Second // no growth for this long after an overload

	// SizeTick is the interval between decisions with SizeState.Tick set.
	SizeTick = time.Second
	// SizeWindow is the number of ticks that SizeState.BusyMax covers.
	SizeWindow = 30
)

// SizeState is the input of Decide.
type SizeState struct {
	Min, Max               int     // from Options
	ScaleUpAt, ScaleDownAt float64 // from Options

	Open    int // connections
	Dialing int // dials in flight
	Pinging int // connections being pinged, which cannot be acquired
	Waiting int // callers in the queue

	// MaxDials bounds Dialing. The pool lowers it until it has first been filled,
	// after a network reset and while it backs off after a failed dial.
	MaxDials int

	OldestWait  time.Duration // how long the first caller in the queue has waited
	ServiceTime time.Duration // mean time from Acquire to Release; 0 if unknown
	DialTime    time.Duration // mean duration of a dial; 0 if unknown

	SinceGrowth   time.Duration // time since the last growth
	SinceOverload time.Duration // time since the last overload

	// Overload says that the server has just reported an overload.
	Overload bool

	// Tick says that SizeTick has passed. Busy, BusyMax and Window are only used then.
	Tick    bool
	Busy    float64 // connections acquired during the last tick, time-weighted mean
	BusyMax float64 // the largest Busy of the last SizeWindow ticks
	Window  int     // ticks that BusyMax covers, at most SizeWindow
}

// SizeReason says why the number of connections changes.
type SizeReason uint8

// The reasons of a Decision.
const (
	SizeUnchanged      SizeReason = iota // no change
	SizeDemand                           // the queue would outlast a dial
	SizeUtilisation                      // utilisation reached ScaleUpAt
	SizeLowUtilisation                   // utilisation stayed under ScaleDownAt
	SizeOverload                         // the server reported an overload
	SizeBelowMin                         // fewer than Min connections were open
	SizeIdleShutdown                     // no lease for IdleShutdown
)

var sizeReasons = [...]string{"unchanged", "demand", "utilisation", "low_utilisation", "overload", "below_min", "idle_shutdown"}

// String returns the reason in snake case.
func (r SizeReason) String() string { return sizeReasons[r] }

// Decision is the output of Decide.
type Decision struct {
	Reason SizeReason
	Dial   int // dials to start now
	Close  int // connections to close: idle ones now, others when released
	// Recheck is the time after which the decision changes without an event; 0 if it
	// does not.
	Recheck time.Duration
}

// Decide is the sizing rule. It depends on nothing but s, so that the pool and the
// simulator share it. The pool calls it after every event and every SizeTick. High
// latency alone never shrinks the pool: a server that is slow for another reason than
// load would then lose throughput as well.
func Decide(s SizeState) Decision {
	size := s.Open + s.Dialing
	if s.Overload {
		target := max(s.Min, int(overloadFactor*float64(s.Open)))
		return Decision{Reason: SizeOverload, Close: max(0, s.Open-target)}
	}
	d := demand(s)
	if d.Dial > 0 || !s.Tick || size == 0 {
		return d
	}
	if s.Busy/float64(size) >= s.ScaleUpAt {
		want := min(s.Max, int(math.Ceil(s.Busy/growthUtilisation)))
		if n := min(want-size, s.MaxDials-s.Dialing); n > 0 && s.SinceOverload >= growthDelay {
			d.Reason, d.Dial = SizeUtilisation, n
		}
		return d
	}
	keep := max(s.Min, int(math.Ceil(s.BusyMax/shrinkUtilisation)))
	if s.BusyMax/float64(size) <= s.ScaleDownAt && size > keep &&
		s.Window >= SizeWindow && s.SinceGrowth >= shrinkDelay {
		d.Reason, d.Close = SizeLowUtilisation, 1
	}
	return d
}

// demand decides on dials for waiting callers. A dial pays only if the queue, whose
// duration follows from Little's law, outlasts it.
func demand(s SizeState) Decision {
	service := s.ServiceTime
	if service == 0 {
		service = s.DialTime
	}
	var d Decision
	for s.Waiting > s.Dialing && s.Open+s.Dialing < s.Max {
		if s.SinceOverload < growthDelay && s.Open+s.Dialing >= s.Min {
			d.Recheck = growthDelay - s.SinceOverload
			return d
		}
		if s.Dialing >= s.MaxDials {
			return d
		}
		size := s.Open + s.Dialing
		queue := time.Duration(float64(s.Waiting) * float64(service) / float64(max(1, size)))
		switch {
		case size == 0, s.DialTime == 0: // nothing to wait for, nothing known
		case s.Dialing < s.Pinging: // a ping must not make anybody wait longer than a dial
		case queue > s.DialTime, s.OldestWait > s.DialTime:
		default:
			d.Recheck = s.DialTime - s.OldestWait + 1
			return d
		}
		d.Reason = SizeDemand
		d.Dial++
		s.Dialing++
	}
	return d
}

// SizeEvent is a change of the number of connections and the state that led to it.
type SizeEvent struct {
	At     time.Time
	Reason SizeReason
	From   int // connections and dials in flight before
	To     int // and after, without those to be closed when released
	State  SizeState
}

// String returns the event as one line of text.
func (e SizeEvent) String() string {
	return fmt.Sprintf("%s %s %d -> %d (waiting %d for %v, service %v, dial %v, busy %.2f, at most %.2f in %d s)",
		e.At.Format(time.RFC3339), e.Reason, e.From, e.To, e.State.Waiting, e.State.OldestWait,
		e.State.ServiceTime, e.State.DialTime, e.State.Busy, e.State.BusyMax, e.State.Window)
}

// SizeEvents is the number of events that a pool keeps.
const SizeEvents = 64

// load measures the time-weighted numbers of open and acquired connections. The
// pool's lock guards it.
type load struct {
	open, inUse int

	at       time.Duration // up to when the sums below are counted
	connTime time.Duration // sum of the time that connections were open
	busyTime time.Duration // sum of the time that connections were acquired

	tickAt, tickConn, tickBusy time.Duration // at, connTime and busyTime at the last tick

	busy  [SizeWindow]float64 // ring buffer of the last ticks
	ticks int                 // total
	util  float64             // of the last tick
}

// advance counts up to now. It must be called before open or inUse changes.
func (l *load) advance(now time.Duration) {
	dt := now - l.at
	l.connTime += dt * time.Duration(l.open)
	l.busyTime += dt * time.Duration(l.inUse)
	l.at = now
}

// tick ends a tick at now.
func (l *load) tick(now time.Duration) {
	l.advance(now)
	busy, conn := l.busyTime-l.tickBusy, l.connTime-l.tickConn
	l.busy[l.ticks%SizeWindow] = float64(busy) / float64(max(1, now-l.tickAt))
	l.ticks++
	l.util = 0
	if conn > 0 {
		l.util = float64(busy) / float64(conn)
	}
	l.restart(now)
}

// restart discards the current tick and begins one at now.
func (l *load) restart(now time.Duration) {
	l.advance(now)
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

// average is an exponentially weighted moving average of durations; 0 means no sample.
type average time.Duration

func (a *average) add(d time.Duration, weight float64) {
	if *a == 0 {
		*a = average(max(1, d))
		return
	}
	*a = max(1, *a+average(float64(average(d)-*a)*weight))
}
