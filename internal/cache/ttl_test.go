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
		"new":                                  {State{}, 0, 5 * min},
		"missing":                              {State{Missing: true, ReadInterval: s}, 0, 30 * s},
		"missing, read":                        {State{Missing: true, ReadInterval: s, TTL: 30 * s}, 20 * s, 30 * s},
		"read every 20 s":                      {State{ReadInterval: 20 * s, LastChange: -hour}, 0, 100 * s},
		"read every second: MinTTL":            {State{ReadInterval: s, LastChange: -hour}, 0, min},
		"read every 20 min: MaxTTL":            {State{ReadInterval: 20 * min, LastChange: -9 * hour}, 0, hour},
		"a read adds to what has passed":       {State{ReadInterval: 20 * s, Read: true, TTL: 100 * s, LastChange: -hour}, 90 * s, 190 * s},
		"a read never shortens":                {State{ReadInterval: s, Read: true, TTL: 5 * min, LastChange: -hour}, 10 * s, 5 * min},
		"nor lengthens beyond MaxTTL":          {State{ReadInterval: 10 * min, Read: true, TTL: 50 * min, LastChange: -2 * hour}, 50 * min, hour},
		"unread: half of the last grant":       {State{Unread: true, Grant: 8 * min, ReadInterval: 96 * s}, 0, 4 * min},
		"unread: at least MinTTL":              {State{Unread: true, Grant: 90 * s}, 0, min},
		"unread before, read now":              {State{Unread: true, Grant: 5 * min, Read: true, ReadInterval: 30 * s, TTL: min}, 30 * s, 180 * s},
		"changes every 10 min":                 {State{ReadInterval: min, ChangeInterval: 10 * min}, 0, 210 * s},
		"changed every 10 min, long ago":       {State{ReadInterval: min, ChangeInterval: 10 * min, LastChange: -20 * min}, 0, 5 * min},
		"changes every minute: MinTTL":         {State{ReadInterval: min, ChangeInterval: min}, 0, min},
		"never changed, known for 20 min":      {State{ReadInterval: 5 * min, LastChange: -20 * min}, 0, 10 * min},
		"never changed, known for 2 min: base": {State{ReadInterval: 5 * min, LastChange: -2 * min}, 0, 5 * min},
	} {
		if got := NextTTL(defaults, test.state, test.now); got != test.want {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}

func TestRefreshAfter(t *testing.T) {
	const s, min, hour = time.Second, time.Minute, time.Hour
	for name, test := range map[string]struct {
		state State
		want  time.Duration
	}{
		"hot":                     {State{ReadInterval: s, LastChange: -2 * hour}, 48 * min},
		"hot, known for short":    {State{ReadInterval: s}, 4 * min},
		"hot, changes":            {State{ReadInterval: s, ChangeInterval: 10 * min}, 168 * s},
		"read three times a life": {State{ReadInterval: 100 * s}, 0},
		"a little more than that": {State{ReadInterval: 99 * s}, 4 * min},
		"not known to be read":    {State{LastChange: -2 * hour}, 0},
		"missing":                 {State{ReadInterval: s, Missing: true}, 0},
	} {
		if got := RefreshAfter(defaults, test.state, 0); got != test.want {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}

func TestLoadsLearn(t *testing.T) {
	const min = time.Minute
	s := State{}.Load(defaults, 0, 7, false)
	if want := (State{Version: 7, TTL: 5 * min, Grant: 5 * min}); s != want {
		t.Errorf("first load: %+v", s)
	}
	s = s.Load(defaults, 10*min, 7, false)
	if s.TTL != 5*min/2 || s.ChangeInterval != 0 || s.LastChange != 0 {
		t.Errorf("back unread: %+v", s)
	}
	s = s.Load(defaults, 20*min, 7, false)
	if s.TTL != 5*min/2 {
		t.Errorf("back unread again: %+v", s)
	}
	s = s.Load(defaults, 30*min, 8, false)
	if s.ChangeInterval != 30*min || s.LastChange != 30*min {
		t.Errorf("first change: %+v", s)
	}
	s = s.Load(defaults, 40*min, 9, false)
	if s.ChangeInterval != 25*min || s.LastChange != 40*min {
		t.Errorf("second change: %+v", s)
	}
	s = s.Load(defaults, 50*min, 0, true)
	if s.TTL != defaults.NegativeTTL || s.ChangeInterval != 0 {
		t.Errorf("deleted: %+v", s)
	}
	s = s.Load(defaults, 60*min, 10, false)
	if s.TTL != 5*min || s.ChangeInterval != 0 || s.LastChange != 60*min {
		t.Errorf("there again: %+v", s)
	}
	s.LastRead = 80 * min // a read while the load was under way
	if s = s.Load(defaults, 79*min, 10, false); s.LastRead != 80*min {
		t.Errorf("read forgotten: %+v", s)
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

// A key that is read every t, and does not change, expires clamp(5 t) after its
// last read: "hot lives longer, cold shorter" as a theorem.
func TestSteadyReadsGetFiveIntervals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.Int64Range(int64(readStep), int64(defaults.BaseTTL)-1).Draw(t, "every"))
		grant := min(max(5*every, defaults.MinTTL), defaults.MaxTTL)
		s := State{}.Load(defaults, 0, 1, false)
		for now := every; now < 10*time.Hour; now += every {
			if now >= s.Loaded+s.TTL {
				s = s.Load(defaults, now, 1, false)
				if want := min(grant, limit(defaults, s, now)); s.TTL != want {
					t.Fatalf("loaded after %v: TTL %v, not %v", now, s.TTL, want)
				}
				continue
			}
			before := s
			s = s.Touch(defaults, now)
			want := min(limit(defaults, s, now), max(before.TTL, now-s.Loaded+grant))
			if s.ReadInterval != every || s.TTL != want {
				t.Fatalf("read after %v: TTL %v, not %v (%+v)", now, s.TTL, want, s)
			}
		}
	})
}

// A key that is read too seldom for that gets half of BaseTTL from its second
// load on.
func TestColdKeysAreKeptShorter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.Int64Range(int64(defaults.BaseTTL), int64(10*time.Hour)).Draw(t, "every"))
		s := State{}.Load(defaults, 0, 1, false)
		for i := range 10 {
			s = s.Load(defaults, time.Duration(i+1)*every, 1, false)
			if s.TTL != defaults.BaseTTL/2 {
				t.Fatalf("load %d: %+v", i+2, s)
			}
		}
	})
}

func TestReadsNeverShorten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, version := time.Duration(0), uint64(1)
		jitter := &entry[int]{jitter: rapid.Float64Range(-maxJitter, maxJitter).Draw(t, "jitter")}
		s := State{}.Load(defaults, now, version, false)
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now += time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "gap"))
			if rapid.Bool().Draw(t, "changed") {
				version++
			}
			before := s
			if now >= s.Loaded+s.TTL || rapid.IntRange(0, 9).Draw(t, "refresh") == 0 {
				missing := rapid.IntRange(0, 9).Draw(t, "missing") == 0
				s = s.Load(defaults, now, version, missing)
			} else {
				s = s.Touch(defaults, now)
				if s.TTL < before.TTL || jitter.jittered(&defaults, s.TTL) < jitter.jittered(&defaults, before.TTL) {
					t.Fatalf("a read at %v shortened %+v to %+v", now, before, s)
				}
			}
			least := defaults.MinTTL
			if s.Missing {
				least = defaults.NegativeTTL
			}
			if s.TTL < least || s.TTL > defaults.MaxTTL {
				t.Fatalf("at %v: %+v", now, s)
			}
			if j := jitter.jittered(&defaults, s.TTL); j < part(least, 0.9) || j > defaults.MaxTTL || j < part(s.TTL, 0.899) || j > part(s.TTL, 1.101) {
				t.Fatalf("TTL %v, jittered %v", s.TTL, j)
			}
			if s.ChangeInterval > 0 && s.TTL > max(defaults.MinTTL, part(max(s.ChangeInterval, now-s.LastChange), changeShare)) {
				t.Fatalf("at %v: too long for something that changes: %+v", now, s)
			}
		}
	})
}
