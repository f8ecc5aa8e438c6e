package cache

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var defaults = Options{}.WithDefaults()

func TestNextTTL(t *testing.T) {
	const s, min, hour = time.Second, time.Minute, time.Hour
	for name, test := range map[string]struct {
		state State
		now   time.Duration
		want  time.Duration
	}{
		"new":                            {State{}, 0, 5 * min},
		"missing":                        {State{Missing: true, ReadInterval: s, TTL: 30 * s}, 20 * s, 30 * s},
		"read every 20 s":                {State{ReadInterval: 20 * s}, 0, 100 * s},
		"read every second: MinTTL":      {State{ReadInterval: s}, 0, min},
		"read every 20 min: MaxTTL":      {State{ReadInterval: 20 * min}, 0, hour},
		"a read adds to what has passed": {State{ReadInterval: 20 * s, TTL: 100 * s}, 90 * s, 190 * s},
		"a read never shortens":          {State{ReadInterval: s, TTL: 5 * min}, 10 * s, 5 * min},
		"nor lengthens beyond MaxTTL":    {State{ReadInterval: 10 * min, TTL: 50 * min}, 50 * min, hour},
	} {
		if got := NextTTL(defaults, test.state, test.now); got != test.want {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}

func TestReadIntervalIsAWeightedAverage(t *testing.T) {
	s := State{}.Load(defaults, 0, false)
	for _, read := range []struct{ at, want time.Duration }{
		{readStep - 1, 0}, {40 * time.Second, 40 * time.Second}, {40*time.Second + readStep - 1, 40 * time.Second}, {44 * time.Second, 31 * time.Second},
	} {
		if s = s.Touch(defaults, read.at); s.ReadInterval != read.want {
			t.Errorf("after a read at %v: %+v", read.at, s)
		}
	}
}

func TestJitterStaysWithinMaxTTL(t *testing.T) {
	const min = time.Minute
	for _, test := range []struct {
		jitter    float64
		ttl, want time.Duration
	}{
		{0.1, 30 * min, 33 * min}, {-0.1, 30 * min, 27 * min}, {0, time.Hour, time.Hour},
		{0.1, time.Hour, 54 * min}, {-0.1, time.Hour, 54 * min}, {0.1, 50 * min, 54 * min},
	} {
		e := &entry[int]{jitter: test.jitter}
		if got := e.jittered(&defaults, test.ttl); got != test.want {
			t.Errorf("%v by %v: %v, not %v", test.ttl, test.jitter, got, test.want)
		}
	}
}

// An entry that is read every t expires clamp(5 t) after its last read, but not
// before BaseTTL nor after MaxTTL is over.
func TestSteadyReadsGetFiveIntervals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.Int64Range(int64(readStep), int64(defaults.BaseTTL)-1).Draw(t, "every"))
		grant := min(max(5*every, defaults.MinTTL), defaults.MaxTTL)
		s := State{}.Load(defaults, 0, false)
		for now := every; now < s.TTL; now += every {
			s = s.Touch(defaults, now)
			if want := min(defaults.MaxTTL, max(defaults.BaseTTL, now+grant)); s.ReadInterval != every || s.TTL != want {
				t.Fatalf("read after %v: not %v: %+v", now, want, s)
			}
		}
		if s.TTL != defaults.MaxTTL {
			t.Fatalf("read to the end: %+v", s)
		}
	})
}

func TestReadsNeverShorten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jitter := &entry[int]{jitter: rapid.Float64Range(-maxJitter, maxJitter).Draw(t, "jitter")}
		missing := rapid.Bool().Draw(t, "missing")
		s := State{}.Load(defaults, 0, missing)
		least := defaults.BaseTTL
		if missing {
			least = defaults.NegativeTTL
		}
		for now := time.Duration(0); now < s.TTL; now += time.Duration(rapid.Int64Range(1, int64(20*time.Minute)).Draw(t, "gap")) {
			before := s
			s = s.Touch(defaults, now)
			if s.TTL < max(before.TTL, least) || s.TTL > defaults.MaxTTL || missing && s.TTL != least {
				t.Fatalf("a read at %v made %+v of %+v", now, s, before)
			}
			got, was := jitter.jittered(&defaults, s.TTL), jitter.jittered(&defaults, before.TTL)
			if got < was || got > defaults.MaxTTL || got < scale(s.TTL, 0.899) || got > scale(s.TTL, 1.101) {
				t.Fatalf("TTL %v, jittered %v after %v", s.TTL, got, was)
			}
		}
	})
}
