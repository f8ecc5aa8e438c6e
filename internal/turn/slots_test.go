package turn

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Now()

func at(ms float64) time.Time { return start.Add(milliseconds(ms)) }

func TestWhenAWriteIsChecked(t *testing.T) {
	alone := Schedule{Known: true, Machines: 1, Now: 1000, Slot: 10, Period: 1}
	for _, test := range []struct {
		name     string
		schedule Schedule
		later    time.Duration
		checked  bool
	}{
		{"alone", alone, 0, false},
		{"alone, a while ago", alone, trustFew, true},
		{"one of two", Schedule{Known: true, Machines: 2, Now: 1000, Slot: 10, Period: 1}, 0, false},
		{"one of three", Schedule{Known: true, Machines: 3, Now: 1000, Slot: 10, Period: 1}, 0, true},
		{"unknown", Schedule{Machines: 1, Now: 1000, Slot: 10, Period: 1}, 0, true},
		{"not understood", Schedule{Known: true, Machines: 1}, 0, true},
	} {
		var s Slots
		if !s.Checked(start) || s.Restricted() || s.Wait(start) != 0 {
			t.Errorf("%s: before the first answer: checked %v, restricted %v, wait %v", test.name, s.Checked(start), s.Restricted(), s.Wait(start))
		}
		before := start.Add(-calm)
		s.Learn(test.schedule, before, before)
		if !s.Checked(before) {
			t.Errorf("%s: not checked as soon as few are known", test.name)
		}
		s.Learn(test.schedule, start, start)
		if now := start.Add(test.later); s.Checked(now) != test.checked || s.Wait(now) != 0 {
			t.Errorf("%s: checked %v, wait %v", test.name, s.Checked(now), s.Wait(now))
		}
	}
}

func TestAnnouncedWriteIsWaitedFor(t *testing.T) {
	var s Slots
	s.Learn(Schedule{Known: true, Machines: 2, Now: 1000, Slot: 10, Period: 1, Until: 1200}, start, start)
	if wait := s.Wait(at(50)); wait < 140*time.Millisecond || wait > 160*time.Millisecond {
		t.Errorf("waits %v for a write that lasts 150 ms more", wait)
	}
}

func TestStaleScheduleIsNotBelieved(t *testing.T) {
	var s Slots
	s.Learn(Schedule{Known: true, Machines: 9, Now: 1000, Slot: 160, Period: 9, Place: 8}, start, start)
	if !s.Restricted() {
		t.Error("not restricted")
	}
	if wait := s.Wait(at(2001)); wait != 0 {
		t.Errorf("waits %v", wait)
	}
}

// Whatever the clocks say and however long the way is, a request arrives in a slot of its
// machine, and soon.
func TestRequestsArriveInTheirSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Slots
		skew := rapid.Int64Range(-1e9, 1e9).Draw(t, "skew") + 2e9 // server's clock less the own one
		way := rapid.Float64Range(0, 100).Draw(t, "way")
		slot := rapid.SampledFrom([]int64{10, 20, 40, 80, 160}).Draw(t, "slot")
		period := rapid.Int64Range(2, 40).Draw(t, "period")
		place := rapid.Int64Range(0, period-1).Draw(t, "place")
		early := func() float64 { return rapid.Float64Range(0, 0.1*float64(slot)).Draw(t, "early") }
		now := 0.0
		for range rapid.IntRange(1, 30).Draw(t, "requests before") {
			now += rapid.Float64Range(0, 500).Draw(t, "pause")
			arrived := now + way - min(early(), way)
			answered := Schedule{Known: true, Machines: 50, Now: int64(arrived) + skew, Slot: slot, Period: period, Place: place}
			s.Learn(answered, at(now), at(arrived+way))
			now = arrived + way
		}
		sent := now + float64(s.Wait(at(now)))/1e6
		if cycle := float64(period+2) * float64(slot); sent-now > cycle {
			t.Errorf("waits %v ms of a cycle of %v", sent-now, cycle)
		}
		arrives := sent + way - min(early(), way) + float64(skew)
		if n := int64(arrives) / slot; n%period != place {
			t.Errorf("arrives at %v, in slot %d of %d: %d instead of %d", arrives, n, period, n%period, place)
		}
	})
}

func TestNewcomersSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		var s Slots
		s.Learn(Schedule{Machines: 20, Now: 1000, Slot: 10, Period: 2, Place: 1}, start, start)
		wait := s.Wait(start)
		if wait < 0 || wait > 2*(newcomerSlots+1)*10*time.Millisecond {
			t.Fatalf("waits %v", wait)
		}
		seen[wait.Round(time.Millisecond)] = true
		if first := FirstWait(); first < 0 || first >= maxFirstWait {
			t.Fatalf("waits %v before the first write", first)
		}
	}
	if len(seen) < newcomerSlots/2 {
		t.Errorf("newcomers wait %v", seen)
	}
}
