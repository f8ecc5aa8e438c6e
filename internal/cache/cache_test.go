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

func TestNewChecksItsOptions(t *testing.T) {
	_, err := New[string, int](nil, Options{MinTTL: 1})
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
		if s.MeanTTL != 5*time.Minute || s.Mode.String() != "polling" {
			t.Errorf("%+v", s)
		}
	})
}

func TestStampedeIsOneLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a")
		c := open(t, w.load, w.poll, Options{})
		stampede := func(want int64) {
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() { get(t, c, "a", want) })
			}
			wg.Wait()
		}
		stampede(1)
		expect(t, "loads", w.loads, 1)
		expect(t, "shared", c.Stats().Shared, 63)
		w.write("b") // another key does not matter
		time.Sleep(6 * time.Second)
		stampede(1)
		expect(t, "loads", w.loads, 1)
		w.write("a")
		time.Sleep(6 * time.Second)
		stampede(3)
		expect(t, "polls", w.polls, 2)
		expect(t, "loads", w.loads, 2)
		expect(t, "remote", c.Stats().InvalidatedRemote, 1)
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
		expect(t, "cancelled", c.Stats().Cancelled, 1)

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
		expect(t, "superseded", c.Stats().Superseded, 1)
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
		expect(t, "superseded", st.Superseded, 1)
		expect(t, "stored", st.Stored, 1)
		expect(t, "hits", st.Hits, 1)

		c.Invalidate("a", "z")
		expect(t, "local", c.Stats().InvalidatedLocal, 1)
		expect(t, "entries", c.Stats().Entries, 0)
	})
}

// Any write of this process invalidates a search result, and a call after the
// write does not get what was found before it.
func TestInvalidateEndsListsAndSearches(t *testing.T) {
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
		expect(t, "local", c.Stats().InvalidatedLocal, 1)
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
		w.write("b")
		time.Sleep(6 * time.Second)
		w.write("a")
		get(t, c, "a", 2)
		expect(t, "loads", w.loads, 3)
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

// Whoever missed before another's load came back finds what that has brought.
func TestMissLooksAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a")
		late := func(want int64) {
			t.Helper()
			r, err := c.load(t.Context(), read[string, int64]{key: "a", load: c.from("a"), begun: c.clock.now(), maxAge: c.maxAge()})
			if err != nil || r.Value != want {
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
		start := time.Now()
		c.Close()
		wg.Wait()
		if time.Since(start) > 0 {
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
		expect(t, "superseded", c.Stats().Superseded, 1)
	})
}

func TestHitsAllocateNothing(t *testing.T) {
	type key struct{ kind, text string }
	for name, poll := range map[string]Poll[key]{
		"polling": func(context.Context, int64) (Feed[key], error) { return Feed[key]{}, nil }, "ttl-only": nil,
	} {
		c, err := New[key, any](poll, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, k := context.WithoutCancel(t.Context()), key{"episode", "1"}
		load := func(context.Context, int64) (Loaded[key, any], error) { return Loaded[key, any]{Value: &k}, nil }
		if _, err := c.Get(ctx, k, load); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := c.Get(ctx, k, load); err != nil {
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

func TestHotEntriesLiveLonger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(0)
		w.write("a", "c")
		c := open(t, w.load, w.poll, Options{})
		get(t, c, "a", 1) // never read again: BaseTTL
		time.Sleep(5*time.Minute - time.Second)
		expect(t, "expired", c.Stats().Expired, 0)
		time.Sleep(3 * time.Second)
		expect(t, "expired", c.Stats().Expired, 1)
		// Read every 20 s for two hours: MaxTTL ends it once an hour.
		for range 360 {
			get(t, c, "c", 2)
			time.Sleep(20 * time.Second)
		}
		expect(t, "misses", c.Stats().Misses, 3)
		time.Sleep(4 * time.Minute) // of the third entry
		expect(t, "entries", c.Stats().Entries, 0)
		if mean := c.Stats().MeanTTL; mean < 40*time.Minute {
			t.Errorf("mean TTL %v", mean)
		}
	})
}

type tokenKey struct{}

// Loads and polls see the values of the context of the caller who began them, and
// not its end.
func TestContextValuesReachLoadsAndPolls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a")
		var seen []any
		note := func(ctx context.Context) {
			if _, limited := ctx.Deadline(); limited {
				seen = append(seen, "deadline")
			}
			seen = append(seen, ctx.Value(tokenKey{}))
		}
		c := open(t, func(ctx context.Context, key string, since int64) (Loaded[string, int64], error) {
			note(ctx)
			return w.load(ctx, key, since)
		}, func(ctx context.Context, since int64) (Feed[string], error) {
			note(ctx) // with PollTimeout
			return w.poll(ctx, since)
		}, Options{})
		for _, token := range []string{"one", "two"} {
			ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), tokenKey{}, token), time.Second)
			if _, err := c.Get(ctx, "a"); err != nil {
				t.Error(err)
			}
			cancel()
			time.Sleep(6 * time.Second)
		}
		if got := fmt.Sprint(seen); got != "[one deadline two]" {
			t.Error(got)
		}
	})
}

func TestGetFresh(t *testing.T) {
	for _, polling := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			w := newWorld(rtt / 2)
			w.write("a")
			poll := w.poll
			if !polling {
				poll = nil
			}
			c := open(t, w.load, poll, Options{})
			fresh := func(least int64) (cached bool) {
				t.Helper()
				r, err := c.GetFresh(t.Context(), "a", c.from("a"))
				if err != nil || r.Value < least || r.Age > rtt || r.Stale != nil {
					t.Errorf("%+v, %v", r, err)
				}
				return r.Cached
			}
			get(t, c, "a", 1)
			if fresh(1) != polling {
				t.Error("an entry that a poll proves current is loaded, or none does")
			}
			w.write("a")
			get(t, c, "a", 1)
			var wg sync.WaitGroup
			wg.Go(func() { fresh(2) })
			time.Sleep(rtt * 3 / 4) // too late for that one's request
			w.write("a")
			wg.Go(func() { fresh(3) })
			wg.Wait()
			get(t, c, "a", 3)

			// It is not served what may be outdated.
			w.set(func() { w.err = errDown })
			time.Sleep(6 * time.Second)
			for range 2 {
				if _, err := c.GetFresh(t.Context(), "a", c.from("a")); err != errDown {
					t.Error(err)
				}
			}
			if r := get(t, c, "a", 3); polling != errors.Is(r.Stale, errDown) {
				t.Error(r.Stale)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := c.GetFresh(ctx, "a", c.from("a")); err != context.Canceled {
				t.Error(err)
			}
		})
	}
}

func TestResultTellsItsAge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a")
		for _, poll := range []Poll[string]{w.poll, nil} {
			c := open(t, w.load, poll, Options{})
			if r := get(t, c, "a", 1); r.Cached || r.Age != rtt {
				t.Errorf("%+v", r)
			}
			time.Sleep(2 * time.Second)
			if r := get(t, c, "a", 1); !r.Cached || r.Age != 2*time.Second+rtt {
				t.Errorf("%+v", r)
			}
		}
	})
}
