package cache

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

var (
	schedules = flag.Int("cache.schedules", 0, "random schedules to run; 0: as many as the test run is long")
	seed      = flag.Uint64("cache.seed", 0, "seed of the first random schedule")
)

// TestRandomSchedules lets callers read, this and other processes write, requests
// fail and the database be replaced, and asks an oracle that knows all versions:
//
//   - a value was right at a moment not earlier than PollInterval before the call;
//     PollInterval + StaleIfError if it is flagged, 60 s without a feed
//   - Result.Age is no less than how long the value has been wrong
//   - who calls after a write of this process is not given what was before it
//   - the equations of Stats hold, and memory is bounded
//   - nothing runs after Close
func TestRandomSchedules(t *testing.T) {
	var sum Stats
	count := cmp.Or(*schedules, testkit.Effort(300, 2000, 20_000))
	for i := range count {
		n := *seed + uint64(i)
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("repeat with -cache.seed=%d -cache.schedules=1", n)
				}
			}()
			newSchedule(t, n).run(&sum)
		})
	}
	t.Logf("%+v", sum)
	for what, n := range map[string]uint64{
		"hits": sum.Hits, "stale": sum.StaleServed, "shared": sum.Shared, "late": sum.Late,
		"superseded": sum.Superseded, "failures": sum.LoadFailures, "cancelled": sum.Cancelled, "poll failures": sum.PollFailures,
		"evicted": sum.Evicted, "expired": sum.Expired, "local": sum.InvalidatedLocal, "remote": sum.InvalidatedRemote,
		"replaced": sum.Replaced, "cleared": sum.Cleared,
	} {
		if n == 0 && count >= 2000 {
			t.Errorf("no schedule had this: %s", what)
		}
	}
}

type schedule struct {
	t    *testing.T
	r    *rand.Rand
	w    *world
	c    *testCache
	opts Options
	keys []string
	wg   sync.WaitGroup

	mu  sync.Mutex
	own map[string]int64 // by key, its last change that this process knows to be its own
}

func newSchedule(t *testing.T, n uint64) *schedule {
	r := rand.New(rand.NewPCG(n, 7))
	s := &schedule{t: t, r: r, keys: []string{everything, "a", "b", "c", "d", "e", "f"}, own: map[string]int64{}}
	s.opts = Options{MaxBytes: minMaxBytes}
	switch r.IntN(4) {
	case 0:
		s.opts.PollEveryHit = true
	case 1:
		s.opts.PollInterval = time.Duration(1 + r.IntN(int(20*time.Second)))
	}
	if r.IntN(3) == 0 {
		s.opts.DisableStale = true
	}
	s.opts.PollTimeout = time.Duration(1 + r.IntN(int(5*time.Second)))
	if r.IntN(2) == 0 { // otherwise nothing may live for longer than 5 min
		s.opts.MinTTL = time.Duration(int(readStep) + r.IntN(int(time.Hour-readStep)))
	}

	s.w = newWorld(0)
	slow := r.IntN(3) == 0
	ways := rand.New(rand.NewPCG(n, 8))
	s.w.way = func() time.Duration {
		if slow && ways.IntN(4) == 0 {
			return time.Duration(ways.IntN(int(10 * time.Second)))
		}
		return time.Duration(ways.IntN(int(100 * time.Millisecond)))
	}
	s.w.cost = 1 + r.IntN(minMaxBytes/4)
	poll := s.w.poll
	if r.IntN(8) == 0 {
		poll = nil
	}
	s.c = open(t, s.w.load, poll, s.opts)
	jitters := rand.New(rand.NewPCG(n, 9))
	s.c.rand = jitters.Float64 // only called with the cache's lock held
	s.opts = s.c.opts
	return s
}

func (s *schedule) run(sum *Stats) {
	for range 30 + s.r.IntN(90) {
		s.step()
		if s.r.IntN(8) == 0 {
			synctest.Wait()
		}
		if b := s.c.Stats().Bytes; b > s.opts.MaxBytes+int64(s.w.cost+overhead) {
			s.t.Fatalf("%d bytes", b)
		}
	}
	s.w.set(func() { s.w.err, s.w.hang = nil, false })
	s.wg.Wait()
	synctest.Wait()
	checkLaws(s.t, s.c)
	sum.add(s.c.Stats())
}

func (s *schedule) step() {
	r := s.r
	switch k := r.IntN(100); {
	case k < 40:
		for range 1 + r.IntN(4) {
			s.read(s.anyKey())
		}
	case k < 41: // a hot key
		key := s.anyKey()
		for range r.IntN(100) {
			time.Sleep(time.Second + time.Duration(r.IntN(int(time.Second))))
			s.read(key)
		}
	case k < 50:
		s.w.write(s.someKey())
	case k < 58:
		s.writeOwn(s.someKey())
	case k < 64:
		s.observe()
	case k < 66:
		s.w.set(func() { s.w.err = errDown })
	case k < 68:
		s.w.set(func() { s.w.hang = true })
	case k < 74:
		s.w.set(func() { s.w.err, s.w.hang = nil, false })
	case k < 75:
		s.w.set(func() { s.w.all = !s.w.all })
	case k < 76: // as if the database had been another one for a moment
		if begun := begin(s.c); begun.since > 0 {
			apply(s.c, begun, Feed[string]{})
		}
	case k < 90:
		time.Sleep(time.Duration(r.IntN(int(200 * time.Millisecond))))
	case k < 98:
		time.Sleep(time.Duration(r.IntN(int(8 * time.Second))))
	default:
		time.Sleep(time.Duration(r.IntN(int(6 * time.Minute))))
	}
}

// someKey returns a key, but not everything.
func (s *schedule) someKey() string { return s.keys[1+s.r.IntN(len(s.keys)-1)] }

func (s *schedule) anyKey() string { return s.keys[s.r.IntN(len(s.keys))] }

func (s *schedule) read(key string) {
	ctx, cancel := context.WithCancel(s.t.Context())
	if s.r.IntN(3) == 0 {
		ctx, cancel = context.WithTimeout(s.t.Context(), time.Duration(s.r.IntN(int(300*time.Millisecond))))
	}
	fresh := s.r.IntN(6) == 0
	s.wg.Go(func() {
		defer cancel()
		s.mu.Lock()
		own, begin := s.own[key], time.Now()
		s.mu.Unlock()
		get := s.c.Cache.Get
		if fresh {
			get = s.c.GetFresh
		}
		got, err := get(ctx, key, s.c.from(key))
		if err != nil {
			if !errors.Is(err, errDown) && err != ctx.Err() {
				s.t.Errorf("%s: %v", key, err)
			}
			return
		}
		bound := s.c.maxAge()
		switch {
		case fresh:
			bound = 0
			if got.Stale != nil || got.Age > time.Since(begin) {
				s.t.Errorf("%s: %+v is not fresh", key, got)
			}
		case got.Stale != nil && s.opts.DisableStale:
			s.t.Errorf("%s: %v", key, got.Stale)
		case got.Stale != nil:
			bound += s.opts.StaleIfError
		case s.c.Stats().Mode == ModeTTLOnly:
			bound = feedlessTTL
		}
		until, over := s.w.rightUntil(key, got.Value)
		if age := time.Since(until); over && age > got.Age {
			s.t.Errorf("%s: %d has been wrong for %v: %+v", key, got.Value, age, got)
		}
		if over && begin.Sub(until) > bound {
			s.t.Errorf("%s: %d had been wrong for %v (at most %v, stale: %v)", key, got.Value, begin.Sub(until), bound, got.Stale)
		}
		if got.Value < own {
			s.t.Errorf("%s: %d is older than the write %d of this process", key, got.Value, own)
		}
		if got.Found != (got.Value != 0) {
			s.t.Errorf("%s: %+v", key, got)
		}
	})
}

// writeOwn is a write of this process, whose answer may get lost.
func (s *schedule) writeOwn(key string) {
	s.wg.Go(func() {
		var seq int64
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		defer cancel()
		s.w.request(ctx, func() {
			s.w.change(key)
			seq = s.w.seq
		})
		s.c.Invalidate(key)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, k := range []string{key, everything} {
			s.own[k] = max(s.own[k], seq)
		}
	})
}

// observe is a round trip for something else.
func (s *schedule) observe() {
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		defer cancel()
		begun := begin(s.c)
		var f Feed[string]
		if s.w.request(ctx, func() { f = s.w.feed(begun.since) }) == nil {
			apply(s.c, begun, f)
		}
	})
}

// add adds the counters of another cache.
func (s *Stats) add(o Stats) {
	for _, p := range []struct {
		sum *uint64
		n   uint64
	}{
		{&s.Hits, o.Hits}, {&s.StaleServed, o.StaleServed}, {&s.Misses, o.Misses}, {&s.Shared, o.Shared}, {&s.Late, o.Late},
		{&s.Loads, o.Loads}, {&s.Stored, o.Stored}, {&s.Superseded, o.Superseded},
		{&s.LoadFailures, o.LoadFailures}, {&s.Cancelled, o.Cancelled}, {&s.Polls, o.Polls}, {&s.PollFailures, o.PollFailures},
		{&s.Evicted, o.Evicted}, {&s.Expired, o.Expired}, {&s.InvalidatedLocal, o.InvalidatedLocal},
		{&s.InvalidatedRemote, o.InvalidatedRemote}, {&s.Replaced, o.Replaced}, {&s.Cleared, o.Cleared},
	} {
		*p.sum += p.n
	}
}
