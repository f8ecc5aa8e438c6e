package turn

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Schedule is when a machine may write, as the server said at Now. Its times are
// milliseconds of the server's clock, which is divided into slots: the machine's are
// those whose number leaves Place when it is divided by Period.
type Schedule struct {
	Known    bool  // the server counts this machine
	Machines int64 // how many it counts
	Active   int64 // how many of them wrote a moment ago
	Now      int64
	Slot     int64 // length of a slot
	Period   int64
	Place    int64
	Until    int64 // another machine has announced a long write, which lasts until then
}

const (
	// fewMachines need no slots: three writers do no harm, and one more may come before
	// the schedule is read again.
	fewMachines = 2
	// A schedule is believed for staleAfter; that there are few, for trustFew, and only when
	// there have been few for calm: machines are often started together.
	staleAfter = 2 * time.Second
	trustFew   = 500 * time.Millisecond
	calm       = time.Second
	// Newcomers spread their first writes over so many of their slots, and before over this time.
	newcomerSlots = 8
	maxFirstWait  = 160 * time.Millisecond
	offsets       = 15
	// lastPart is the part of a slot after whose end nothing is sent: what comes late
	// would take the turn of the next machine.
	lastPart = 0.7
)

// Slots says when a machine may send a write, and whether it must ask the server to check
// that. A machine that the server does not know, or one of few, need not wait.
// It is used by one goroutine.
type Slots struct {
	schedule Schedule
	seen     time.Time // when the schedule came; zero: never
	few      time.Time // since when all that came said that there are few; zero: the last did not
	start    time.Time // own clock, which is monotonic
	// offsets are those of the last requests: the server's clock when the request was
	// carried out, less the own one when it was sent. So they include the way there.
	offsets []float64
}

// Checked reports whether a write must ask the server whether it is its turn.
func (s *Slots) Checked(now time.Time) bool {
	return !s.schedule.Known || s.few.IsZero() || s.seen.Sub(s.few) < calm || now.Sub(s.seen) >= trustFew
}

// Known reports whether the server counts this machine, as far as is known here.
func (s *Slots) Known() bool { return s.schedule.Known }

// Enter notes that the server counts this machine from now on, Forget that it no longer does.
func (s *Slots) Enter() { s.schedule.Known = true }

// Forget is the contrary of Enter.
func (s *Slots) Forget() { s.schedule.Known = false }

// Slot returns the length of a slot, in milliseconds.
func (s *Slots) Slot() int64 { return max(s.schedule.Slot, 10) }

// Alone reports whether no other machine had written a moment before a write was last
// checked, and that is not overdue.
func (s *Slots) Alone(now time.Time) bool {
	return s.schedule.Known && s.schedule.Active <= 1 && now.Sub(s.seen) < 2*trustFew
}

// Restricted reports whether the machine may write in its slots only.
func (s *Slots) Restricted() bool { return !s.seen.IsZero() && s.schedule.Period > 1 }

// Learn takes the schedule that came with the answer to a request.
func (s *Slots) Learn(schedule Schedule, sent, now time.Time) {
	if s.start.IsZero() {
		s.start = sent
	}
	if schedule.Slot <= 0 || schedule.Period <= 0 {
		return // of a server that we do not understand
	}
	s.schedule, s.seen = schedule, now
	switch {
	case !schedule.Known || schedule.Machines > fewMachines:
		s.few = time.Time{}
	case s.few.IsZero():
		s.few = now
	}
	if len(s.offsets) == offsets {
		s.offsets = s.offsets[1:]
	}
	s.offsets = append(s.offsets, float64(schedule.Now)+0.5-s.own(sent))
}

// own is the own clock, in milliseconds.
func (s *Slots) own(t time.Time) float64 { return float64(t.Sub(s.start)) / 1e6 }

// Wait returns how long a request is to be held back, so that it arrives within a slot
// of this machine.
func (s *Slots) Wait(now time.Time) time.Duration {
	if s.seen.IsZero() || now.Sub(s.seen) > staleAfter || s.schedule.Period == 1 && s.schedule.Until <= s.schedule.Now {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.offsets))
	offset := sorted[len(sorted)/3]
	slot := float64(s.schedule.Slot)
	// Some arrive earlier than is expected, by as much as the offsets show and half a
	// millisecond: the server's clock has no parts of one.
	aim := min(0.15*slot+offset-sorted[0], 0.4*slot)
	arrival := s.own(now) + offset
	earliest := arrival
	if s.schedule.Until > s.schedule.Now {
		earliest = max(arrival, float64(s.schedule.Until)+aim)
	}
	n := int64(earliest / slot)
	if n%s.schedule.Period != s.schedule.Place || earliest-float64(n)*slot >= slot*lastPart {
		n++
		n += (s.schedule.Place - n%s.schedule.Period + s.schedule.Period) % s.schedule.Period
		if !s.schedule.Known {
			n += s.schedule.Period * rand.Int64N(newcomerSlots)
		}
	}
	return milliseconds(max(earliest, float64(n)*slot+aim) - arrival)
}

// FirstWait is how long a machine that may be unknown waits before its first write: when
// many are started at once, none of them can know of the others.
func FirstWait() time.Duration { return rand.N(maxFirstWait) }

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
