package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const rtt = 40 * time.Millisecond

func TestNewChecksItsArguments(t *testing.T) {
	if _, err := New(Source[string, int]{}, Options{}); err == nil || err.Error() != "cache source lacks Load" {
		t.Error(err)
	}
	load := func(context.Context, string, int64) (Loaded[int], error) { return Loaded[int]{}, nil }
	_, err := New(Source[string, int]{Load: load}, Options{MinTTL: 1})
	if bad := (*OptionError)(nil); !errors.As(err, &bad) || bad.Field != "MinTTL" {
		t.Error(err)
	}
}

func TestHitsAndMisses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a")
		c := open(t, w.load, w.poll, Options{})
		for _, want := range []time.Duration{rtt, 0, 0} {
			begin := time.Now()
			get(t, c, "a", 1)
			if took := time.Since(begin); took != want {
				t.Errorf("took %v, not %v", took, want)
			}
		}
		s := c.Stats()
		expect(t, "hits", s.Hits, 2)
		expect(t, "misses", s.Misses, 1)
		expect(t, "stored", s.Stored, 1)
		expect(t, "bytes", s.Bytes, 100+overhead)
		if s.MeanTTL != 5*time.Minute || s.Mode.String() != "clock" {
			t.Errorf("%+v", s)
		}
	})
}

func TestStampedeIsOneLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a")
		c := open(t, w.load, w.poll, Options{})
		stampede := func() {
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() { get(t, c, "a", 1) })
			}
			wg.Wait()
		}
		stampede()
		expect(t, "loads", w.loads, 1)
		expect(t, "shared", c.Stats().Shared, 63)
		w.write("b") // of the same group
		time.Sleep(6 * time.Second)
		stampede()
		expect(t, "polls", w.polls, 1)
		expect(t, "loads", w.loads, 2)
		expect(t, "foreign", c.Stats().InvalidatedRemote, 1)
		c.drop("a", &entry[int64]{}) // one that has been replaced meanwhile
		expect(t, "entries", c.Stats().Entries, 1)
	})
}

func TestWaitersFollowTheirOwnContexts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(time.Second)
		w.write("a")
		c := open(t, w.load, w.poll, Options{})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { // its load
			if _, err := c.Get(impatient, "a"); err != context.DeadlineExceeded {
				t.Error(err)
			}
		})
		synctest.Wait()
		wg.Go(func() { get(t, c, "a", 1) })
		wg.Wait()
		expect(t, "loads", w.loads, 1)

		// When the last one has gone the load ends, and is joined by nobody.
		impatient, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 {
			wg.Go(func() {
				if _, err := c.Get(impatient, "c"); err != context.DeadlineExceeded {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.write("c")
		get(t, c, "c", 2)
		expect(t, "loads", w.loads, 3)
		expect(t, "ended", w.ended, 1)
		expect(t, "abandoned", c.Stats().Cancelled, 1)

		over, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(over, "a"); err != context.Canceled {
			t.Error(err)
		}
	})
}

// stubborn is a source whose loads end when they are told to, whatever their
// context says.
type stubborn struct {
	begun chan *stubbornLoad
}

type stubbornLoad struct {
	ctx context.Context
	end chan Loaded[string, int64]
}

func (s stubborn) load(ctx context.Context, _ string, _ int64) (Loaded[string, int64], error) {
	l := &stubbornLoad{ctx, make(chan Loaded[string, int64])}
	s.begun <- l
	return <-l.end, nil
}

func TestAbandonedLoadIsNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := stubborn{make(chan *stubbornLoad)}
		c := open(t, s.load, nil, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := c.Get(ctx, "a")
			gone <- err
		}()
		old := <-s.begun
		cancel()
		if err := <-gone; err != context.Canceled || old.ctx.Err() == nil {
			t.Fatal(err, old.ctx.Err())
		}
		go func() { (<-s.begun).end <- Loaded[string, int64]{Value: 2} }()
		get(t, c, "a", 2)
		old.end <- Loaded[string, int64]{Value: 1}
		synctest.Wait()
		get(t, c, "a", 2)
		expect(t, "discarded", c.Stats().Superseded, 1)
	})
}

// A load reads the value, then the value is changed by this process, then the
// load comes back: who asked before the change may get the old value, but it is
// not kept.
func TestLoadBegunBeforeInvalidateIsNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := stubborn{make(chan *stubbornLoad)}
		c := open(t, s.load, nil, Options{})
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "a", 1) })
		old := <-s.begun
		c.Invalidate("b") // another key does not matter
		wg.Go(func() { get(t, c, "a", 1) })
		synctest.Wait()
		c.Invalidate("a")
		wg.Go(func() { get(t, c, "a", 2) }) // it does not join the old load
		young := <-s.begun
		old.end <- Loaded[string, int64]{Value: 1}
		synctest.Wait()
		wg.Go(func() { get(t, c, "a", 2) })
		synctest.Wait()
		young.end <- Loaded[string, int64]{Value: 2}
		wg.Wait()
		get(t, c, "a", 2)
		st := c.Stats()
		expect(t, "discarded", st.Superseded, 1)
		expect(t, "stored", st.Stored, 1)
		expect(t, "hits", st.Hits, 1)

		c.Invalidate("a", "z")
		expect(t, "own", c.Stats().InvalidatedLocal, 1)
		expect(t, "entries", c.Stats().Entries, 0)
	})
}

// The result of a search is made wrong by any write of this process, and one who
// calls after the write does not get what was found before it.
func TestInvalidateEndsWhatDependsOnEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := stubborn{make(chan *stubbornLoad)}
		c := open(t, s.load, nil, Options{})
		result := func(v int64) Loaded[string, int64] { return Loaded[string, int64]{Value: v, AnyChange: true} }
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "search", 1) })
		old := <-s.begun
		c.Invalidate("a")
		wg.Go(func() { get(t, c, "search", 2) }) // it joins, and then waits for another
		synctest.Wait()
		old.end <- result(1)
		young := <-s.begun
		young.end <- result(2)
		wg.Wait()
		get(t, c, "search", 2)
		expect(t, "late", c.Stats().Late, 1)
		c.Invalidate("a")
		wg.Go(func() { get(t, c, "search", 3) })
		(<-s.begun).end <- result(3)
		wg.Wait()
		expect(t, "own", c.Stats().InvalidatedLocal, 1)
	})
}

func TestMissingIsRemembered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(0)
		c := open(t, w.load, w.poll, Options{})
		get(t, c, "a", 0)
		time.Sleep(29 * time.Second)
		get(t, c, "a", 0)
		expect(t, "loads", w.loads, 1)
		time.Sleep(2 * time.Second)
		get(t, c, "a", 0)
		expect(t, "loads", w.loads, 2)
		w.write("b") // the clock tells of what comes into being, too
		time.Sleep(6 * time.Second)
		w.write("a")
		get(t, c, "a", 2)
		expect(t, "loads", w.loads, 3)
	})
}

func TestHotLivesLongerColdShorter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(0)
		w.write("a", "c", "e")
		c := open(t, w.load, w.poll, Options{})
		// Never read again: BaseTTL, then half of it.
		for _, ttl := range []time.Duration{5 * time.Minute, 150 * time.Second} {
			get(t, c, "a", 1)
			expired := c.Stats().Expired
			time.Sleep(ttl - time.Second)
			expect(t, "expired", c.Stats().Expired, expired)
			time.Sleep(3 * time.Second)
			expect(t, "expired", c.Stats().Expired, expired+1)
		}
		// Read every 20 s for two hours: loaded in the background as long as it was
		// known for a short time only, then once in 48 minutes, and no caller waits.
		get(t, c, "c", 2)
		loads := w.loads
		for range 360 {
			time.Sleep(20 * time.Second)
			get(t, c, "c", 2)
		}
		s := c.Stats()
		expect(t, "misses", s.Misses, 3)
		expect(t, "loads", w.loads, loads+int(s.Refreshes))
		if s.Refreshes < 4 || s.Refreshes > 8 {
			t.Errorf("%d refreshes", s.Refreshes)
		}
		// The last read got it 100 s more.
		time.Sleep(98 * time.Second)
		expect(t, "entries", c.Stats().Entries, 1)
		time.Sleep(4 * time.Second)
		s = c.Stats()
		expect(t, "entries", s.Entries, 0)
		expect(t, "gone", s.TTLs.Count, s.Stored)
		if mean := s.TTLs.Sum / time.Duration(s.TTLs.Count); mean != s.MeanTTL || mean < 10*time.Minute {
			t.Errorf("mean TTL %v, of those gone %v", s.MeanTTL, mean)
		}
	})
}

func TestRefreshThatFailsLeavesTheEntry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(0)
		w.write("a")
		c := open(t, w.load, nil, Options{}) // TTLs up to a minute
		get(t, c, "a", 1)
		w.set(func() { w.err = errDown })
		for range 58 {
			time.Sleep(time.Second)
			get(t, c, "a", 1)
		}
		s := c.Stats()
		expect(t, "refreshes", s.Refreshes, 1)
		expect(t, "failures", s.LoadFailures, 1)
		time.Sleep(3 * time.Second)
		if _, err := c.Get(t.Context(), "a"); err != errDown {
			t.Error(err)
		}
	})
}

func TestRefreshIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(time.Second)
		w.write("a")
		c := open(t, w.load, nil, Options{})
		get(t, c, "a", 1)
		w.write("a")
		begin := time.Now()
		for time.Since(begin) < 44*time.Second {
			time.Sleep(time.Second)
			get(t, c, "a", 1)
		}
		for time.Since(begin) < 50*time.Second { // refreshed in these seconds
			time.Sleep(time.Second)
			now := time.Now()
			if _, err := c.Get(t.Context(), "a"); err != nil || time.Since(now) > 0 {
				t.Fatal(err, time.Since(now))
			}
		}
		get(t, c, "a", 2)
		expect(t, "misses", c.Stats().Misses, 1)
		expect(t, "replaced", c.Stats().Replaced, 1)
	})
}

func TestLoadFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a")
		w.err = errDown
		c := open(t, w.load, w.poll, Options{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := c.Get(t.Context(), "a"); err != errDown {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		expect(t, "loads", w.loads, 1)
		expect(t, "failures", c.Stats().LoadFailures, 1)
		w.set(func() { w.err = nil })
		get(t, c, "a", 1)
	})
}

// A TTL counts from when the load began, which may be over when it ends.
func TestSlowLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(10 * time.Second)
		c := open(t, w.load, nil, Options{})
		begin := c.clock.now()
		get(t, c, "a", 0)
		e, _ := c.store.GetEntryQuietly("a")
		if e.Value.loaded != begin || e.ExpiresAfter() != 10*time.Second {
			t.Errorf("loaded %v, expires after %v", e.Value.loaded, e.ExpiresAfter())
		}

		// Without the clock a load that began less than a minute ago is good enough.
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "b", 0) })
		time.Sleep(15 * time.Second)
		get(t, c, "b", 0)
		expect(t, "loads", w.loads, 2)

		w.set(func() { w.way = func() time.Duration { return 20 * time.Second } })
		get(t, c, "c", 0)
		time.Sleep(time.Nanosecond)
		get(t, c, "c", 0)
		expect(t, "loads", w.loads, 4)
	})
}

func TestReadOfAReplacedEntryIsNotNoted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, c := loaded(t, 0, Options{}, "a")
		old, _ := c.store.GetEntryQuietly("a")
		time.Sleep(time.Minute)
		c.Invalidate("a")
		get(t, c, "a", 1)
		time.Sleep(time.Minute)
		before := old.Value.state.State
		c.touch(old.Value, c.clock.now())
		if after := old.Value.state.State; after != before {
			t.Errorf("%+v, not %+v", after, before)
		}
	})
}

// Whoever missed before another's load came back finds what that has brought.
func TestMissLooksAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a")
		late := func(want int64) {
			t.Helper()
			if r, err := c.load(t.Context(), "a", c.clock.now()); err != nil || r.Value != want {
				t.Error(r, err)
			}
		}
		late(1)
		expect(t, "loads", w.loads, 1)
		w.write("a")
		begun := begin(c)
		apply(c, begun, w.feed(begun.since))
		late(2)
		expect(t, "loads", w.loads, 2)
	})
}

func TestOneLoadAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := stubborn{make(chan *stubbornLoad, 2)}
		c := open(t, s.load, nil, Options{})
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "a", 1) })
		l := <-s.begun
		c.refresh("a")
		synctest.Wait()
		expect(t, "loads", c.Stats().Loads, 1)
		l.end <- Loaded[string, int64]{Value: 1}
		wg.Wait()
	})
}

func TestGroupThatDoesNotExist(t *testing.T) {
	for _, group := range []int{-2, 1024} {
		bubble(t, func(t *testing.T) {
			c := open(t, Source[string, int64]{Load: func(context.Context, string, int64) (Loaded[string, int64], error) {
				return Loaded[string, int64]{Group: group}, nil
			}}, Options{})
			want := fmt.Sprintf("load into cache: there is no group %d, they are 1024", group)
			if _, err := c.Get(t.Context(), "a"); err == nil || err.Error() != want {
				t.Error(err)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(0)
		w.cost = 1000
		c := open(t, w.load, w.poll, Options{MaxBytes: 100_000})
		const fit = 100_000 / (1000 + overhead)
		for i := range 20_000 {
			get(t, c, fmt.Sprintf("k%d", i), 0)
			if s := c.Stats(); s.Bytes > 100_000+1000+overhead {
				t.Fatalf("%+v", s)
			}
		}
		s := c.Stats()
		if s.Entries < fit-1 || s.Entries > fit || s.Bytes != int64(s.Entries*(1000+overhead)) {
			t.Errorf("%+v", s)
		}
		if n := len(c.memory.young) + len(c.memory.old); n > 2*minRemembered || n < minRemembered {
			t.Errorf("%d keys remembered", n)
		}
		checkLaws(t, c)
		w.set(func() { w.cost = 1 << 40 })
		get(t, c, "k0", 0) // served, and not kept
		if s := c.Stats(); s.Bytes > 100_000 {
			t.Errorf("%+v", s)
		}
	})
}

func TestJitter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(0)
		c := open(t, w.load, w.poll, Options{})
		for _, test := range []struct{ random, ttl float64 }{{0, 27}, {0.5, 30}, {1, 33}} {
			c.rand = func() float64 { return test.random }
			key := fmt.Sprintf("k%v", test.random)
			get(t, c, key, 0)
			e, _ := c.store.GetEntryQuietly(key)
			if got := e.Value.ttl().Seconds(); got < test.ttl-0.001 || got > test.ttl+0.001 {
				t.Errorf("%v s, not %v", got, test.ttl)
			}
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, c := loaded(t, time.Second, Options{}, "a")
		time.Sleep(6 * time.Second)
		var wg sync.WaitGroup
		for _, key := range []string{"a", "b"} { // a waits for a poll, b for a load
			wg.Go(func() {
				if _, err := c.Get(t.Context(), key); err != ErrClosed {
					t.Error(key, err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		c.Close()
		wg.Wait()
		if time.Since(begin) > 0 {
			t.Error("Close waited")
		}
		for _, key := range []string{"a", "b"} {
			if _, err := c.Get(t.Context(), key); err != ErrClosed {
				t.Error(key, err)
			}
		}
		c.Invalidate("a")
		apply(c, begin(c), Feed[string]{})
		c.Close()
	})
}

func TestCloseWaitsForLoads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := stubborn{make(chan *stubbornLoad)}
		c := open(t, s.load, nil, Options{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Get(t.Context(), "a"); err != ErrClosed {
				t.Error(err)
			}
		})
		l := <-s.begun
		closed := false
		wg.Go(func() {
			c.Close()
			closed = true
		})
		synctest.Wait()
		if closed || l.ctx.Err() == nil {
			t.Error(closed, l.ctx.Err())
		}
		l.end <- Loaded[string, int64]{Value: 1}
		wg.Wait()
		expect(t, "entries", c.Stats().Entries, 0)
		expect(t, "discarded", c.Stats().Superseded, 1)
	})
}

func TestHitsAllocateNothing(t *testing.T) {
	type key struct{ kind, text string }
	for name, poll := range map[string]func(context.Context, int64) (Look, error){
		"clock": func(context.Context, int64) (Look, error) { return Feed[string]{}, nil }, "ttl-only": nil,
	} {
		c, err := New(Source[key, any]{Poll: poll, Load: func(_ context.Context, k key, _ int64) (Loaded[any], error) {
			return Loaded[any]{Value: &k}, nil
		}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, k := context.WithoutCancel(t.Context()), key{"episode", "1"}
		if _, err := c.Get(ctx, k); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := c.Get(ctx, k); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if s := c.Stats(); s.Hits != 1001 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
