package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestChangesByOthersAreSeenAfterPollInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a", "c")
		get(t, c, everything, 2)
		w.write("a")
		time.Sleep(5*time.Second - rtt) // since the last look began
		get(t, c, "a", 1)
		expect(t, "polls", w.polls, 0)
		time.Sleep(time.Millisecond)
		get(t, c, "a", 3)
		get(t, c, everything, 3)
		get(t, c, "c", 2)
		s := c.Stats()
		expect(t, "polls", w.polls, 1)
		expect(t, "loads", w.loads, 5)
		expect(t, "remote", s.InvalidatedRemote, 2)
		expect(t, "hits", s.Hits, 2)
	})
}

// Of two loads that begin before anything is known of the clock, neither look
// tells what has changed between them.
func TestFirstLooksBesideEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a", "c", "e")
		c := open(t, w.load, w.poll, Options{})
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "a", 1) }) // as of rtt/2
		time.Sleep(rtt * 3 / 4)
		w.write("a")
		wg.Go(func() { get(t, c, "c", 2) }) // as of rtt*5/4
		wg.Wait()
		time.Sleep(4 * time.Second)
		get(t, c, "e", 3) // looks at the clock for all
		time.Sleep(4 * time.Second)
		get(t, c, "a", 4)
		expect(t, "polls", w.polls, 0)
	})
}

// Any round trip may look at the clock, and so spare the poll.
func TestAnyRequestMayReadTheFeed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a", "c")
		time.Sleep(4 * time.Second)
		w.write("a")
		begun := begin(c)
		expect(t, "since", begun.since, 2)
		apply(c, begun, w.feed(begun.since))
		get(t, c, "a", 3)
		time.Sleep(4 * time.Second)
		get(t, c, "c", 2)
		expect(t, "polls", w.polls, 0)

		// A look that comes late takes nothing back.
		apply(c, begun, Feed[string]{Seq: 2, Changes: []Change[string]{{"c", 2}, {"never loaded", 2}}})
		get(t, c, "a", 3)
		expect(t, "loads", w.loads, 3)
		expect(t, "since", begin(c).since, 3)
	})
}

func TestPollsAreShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a", "c")
		time.Sleep(6 * time.Second)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() { get(t, c, []string{"a", "c"}[i%2], int64(1+i%2)) })
		}
		impatient, cancel := context.WithTimeout(t.Context(), rtt/4)
		defer cancel()
		wg.Go(func() {
			if _, err := c.Get(impatient, "a"); err != context.DeadlineExceeded {
				t.Error(err)
			}
		})
		wg.Wait()
		expect(t, "polls", w.polls, 1)
		expect(t, "loads", w.loads, 2)

		// Nobody waits any more: the poll ends, and has not failed.
		time.Sleep(6 * time.Second)
		impatient, cancel = context.WithTimeout(t.Context(), rtt/4)
		defer cancel()
		if _, err := c.Get(impatient, "a"); err != context.DeadlineExceeded {
			t.Error(err)
		}
		synctest.Wait()
		expect(t, "ended", w.ended, 1)
		expect(t, "failures", c.Stats().PollFailures, 0)
		get(t, c, "a", 1)
		expect(t, "polls", w.polls, 3)
	})
}

// A poll or a load that others began PollInterval before a call says nothing of
// the time that the caller may rely on.
func TestWhatBeganTooEarlyIsRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a", "c")
		c := open(t, w.load, w.poll, Options{PollInterval: time.Second, PollTimeout: 4 * time.Second})
		get(t, c, "a", 1)
		time.Sleep(2 * time.Second)
		var wg sync.WaitGroup
		w.set(func() { w.way = func() time.Duration { return 1500 * time.Millisecond } })
		wg.Go(func() { get(t, c, "a", 1) }) // its poll is on the server at 1.5 s
		wg.Go(func() { get(t, c, "c", 2) }) // so is its load
		time.Sleep(2 * time.Second)
		w.write("a", "c")
		time.Sleep(500 * time.Millisecond)
		wg.Go(func() { get(t, c, "a", 3) })
		wg.Go(func() { get(t, c, "c", 4) })
		wg.Wait()
		expect(t, "loads", w.loads, 4)
		expect(t, "late", c.Stats().Late, 1)
	})
}

func TestPollBeforeEveryHit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, 0, Options{PollEveryHit: true}, "a", "c")
		for want := int64(3); want < 10; want++ {
			time.Sleep(time.Millisecond)
			w.write("a")
			get(t, c, "a", want)
			time.Sleep(time.Millisecond)
			get(t, c, "c", 2)
		}
		expect(t, "polls", w.polls, 14)
		expect(t, "hits", c.Stats().Hits, 7)

		w.set(func() { w.err = errDown })
		time.Sleep(time.Millisecond)
		if r := get(t, c, "c", 2); !errors.Is(r.Stale, errDown) {
			t.Error(r.Stale)
		}
		w.set(func() { w.err, w.hang = nil, true })
		time.Sleep(pollPause)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(impatient, "c"); err != context.DeadlineExceeded {
			t.Error(err)
		}
		expect(t, "poll failures", c.Stats().PollFailures, 1)
	})
}

func TestServerDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{MinTTL: time.Hour}, "a")
		w.set(func() { w.err = errDown })
		down := time.Now()
		time.Sleep(6 * time.Second)
		stale := func(took time.Duration) {
			t.Helper()
			begin := time.Now()
			r := get(t, c, "a", 1)
			if !errors.Is(r.Stale, errDown) || r.Stale.Error() != "poll the change feed: server is down" || time.Since(begin) != took {
				t.Fatal(r.Stale, time.Since(begin))
			}
		}
		stale(rtt)
		stale(0) // it does not ask again at once
		time.Sleep(pollPause)
		stale(rtt)
		if _, err := c.Get(t.Context(), "b"); err != errDown {
			t.Error(err)
		}
		s := c.Stats()
		expect(t, "stale", s.StaleServed, 3)
		expect(t, "poll failures", s.PollFailures, 2)

		// A server that is back is noticed within the pause.
		w.write("a")
		w.set(func() { w.err = nil })
		time.Sleep(pollPause)
		if r := get(t, c, "a", 2); r.Stale != nil {
			t.Error(r.Stale)
		}

		// Down for longer than StaleIfError: only a load could help.
		w.set(func() { w.err = errDown })
		time.Sleep(5*time.Minute + 5*time.Second - rtt)
		if r := get(t, c, "a", 2); r.Stale == nil {
			t.Error("not flagged")
		}
		time.Sleep(time.Second)
		if _, err := c.Get(t.Context(), "a"); err != errDown {
			t.Error(err, time.Since(down))
		}
		w.set(func() { w.err = nil })
		time.Sleep(pollPause)
		get(t, c, "a", 2)
		expect(t, "entries kept", c.Stats().Entries, 1)
	})
}

func TestStaleIfErrorCanBeForbidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{DisableStale: true}, "a")
		w.set(func() { w.err = errDown })
		time.Sleep(6 * time.Second)
		if _, err := c.Get(t.Context(), "a"); err != errDown {
			t.Error(err)
		}
	})
}

func TestPollTimeoutIsNotThatOfTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a")
		w.set(func() { w.hang = true })
		time.Sleep(6 * time.Second)
		begin := time.Now()
		r := get(t, c, "a", 1)
		if r.Stale == nil || errors.Is(r.Stale, context.DeadlineExceeded) || time.Since(begin) != 2*time.Second {
			t.Error(r.Stale, time.Since(begin))
		}
	})
}

// A restored database counts from a lower number: what was known of the clock
// says nothing any more.
func TestRestoredDatabase(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(rtt / 2)
		w.write("a", "c", "a", "a", "a")
		c := open(t, w.load, w.poll, Options{})
		get(t, c, "a", 5)
		get(t, c, "c", 2)
		w.restore(2)
		old := begin(c)
		time.Sleep(6 * time.Second)
		get(t, c, "c", 2) // by a poll
		get(t, c, "a", 0)
		expect(t, "loads", w.loads, 4)
		expect(t, "cleared", c.Stats().Cleared, 2)
		expect(t, "since", begin(c).since, 2)
		apply(c, old, Feed[string]{Seq: 5}) // from before
		expect(t, "since", begin(c).since, 2)
		w.write("a")
		time.Sleep(6 * time.Second)
		get(t, c, "a", 3)

		w.restore(1)
		get(t, c, "e", 0) // by a load, which itself is from another time
		expect(t, "superseded", c.Stats().Superseded, 1)
		expect(t, "entries", c.Stats().Entries, 0)
	})
}

func TestWithoutFeedNoEntryIsOlderThanAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(time.Second)
		w.write("a")
		c := open(t, w.load, nil, Options{})
		if mode := c.Stats().Mode.String(); mode != "ttl_only" {
			t.Error(mode)
		}
		for _, random := range []float64{0, 0.5, 1} {
			c.rand = func() float64 { return random }
			c.Invalidate("a")
			begin := time.Now()
			get(t, c, "a", w.seq)
			w.write("a")
			for {
				time.Sleep(5 * time.Second)
				if r, err := c.Get(t.Context(), "a"); err != nil {
					t.Fatal(err)
				} else if r.Value == w.seq {
					break
				}
			}
			// The read that saw it began within the minute.
			if age := time.Since(begin); age > time.Minute+7*time.Second || age < 40*time.Second {
				t.Errorf("seen after %v", age)
			}
		}
		expect(t, "polls", w.polls, 0)
	})
}

// A look, a poll or a load that began before another database took the place of
// this one says nothing.
func TestRestoredDuringRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(time.Second)
		w.write("a", "c")
		c := open(t, w.load, w.poll, Options{})
		get(t, c, "a", 1)
		time.Sleep(6 * time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "a", 1) }) // polls, then has to load
		wg.Go(func() { get(t, c, "c", 2) })
		begun := begin(c)
		time.Sleep(time.Second / 2)
		apply(c, begun, Feed[string]{})
		apply(c, begun, Feed[string]{Seq: 100})
		expect(t, "since", begin(c).since, 0)
		wg.Wait()
		expect(t, "since", begin(c).since, 2)
		expect(t, "superseded", c.Stats().Superseded, 1)
		get(t, c, "c", 2)
		expect(t, "loads", w.loads, 4)
	})
}

func TestTimeGoesOnWhileTheMachineSleeps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, 0, Options{}, "a")
		before := c.clock.now()
		c.clock.ahead.Add(-int64(time.Minute)) // as if the wall clock had gone on
		if slept := c.clock.now() - before; slept != time.Minute {
			t.Error(slept)
		}
		get(t, c, "a", 1)
		expect(t, "polls", w.polls, 1)
		c.clock.ahead.Add(int64(time.Hour)) // as if it had been set back
		if back := c.clock.now() - before; back != time.Minute {
			t.Error(back)
		}
		get(t, c, "a", 1)
		expect(t, "polls", w.polls, 1)
	})
}

func changeOf(key string, seq int64) []Change[string] {
	return []Change[string]{{Key: key, Seq: seq}}
}

// A call finds an entry, and before it asks when the feed was read last a poll
// shows a change of the key: it must see that.
func TestChangeBetweenLookupAndCheck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, c := loaded(t, rtt/2, Options{}, "a")
		found, _ := c.store.GetEntry("a")
		time.Sleep(6 * time.Second)
		apply(c, begin(c), Feed[string]{Seq: 2, Changes: changeOf("a", 2)})
		if c.feed.lastPolled() < c.clock.now() || c.valid(found.Value) {
			t.Error("the entry is still valid")
		}
		expect(t, "entries", c.Stats().Entries, 0)
	})
}

// Nor may it be served an entry that has left the store, where the change would not
// find it.
func TestChangeOfAnEntryThatHasLeft(t *testing.T) {
	for name, leave := range map[string]func(c *testCache){
		"evicted": func(c *testCache) { c.store.SetMaximum(0) },
		"expired": func(*testCache) { time.Sleep(5*time.Minute + time.Nanosecond) },
		"replaced": func(c *testCache) {
			c.count.Loads++
			c.count.Misses++
			c.keep("a", &entry[int64]{seq: 2})
		},
	} {
		bubble(t, func(t *testing.T) {
			_, c := loaded(t, 0, Options{}, "a")
			found, _ := c.store.GetEntry("a")
			leave(c)
			apply(c, begin(c), Feed[string]{Seq: 2, Changes: changeOf("a", 2)})
			if c.valid(found.Value) {
				t.Errorf("%s: the entry is still valid", name)
			}
			c.store.SetMaximum(uint64(c.opts.MaxBytes))
		})
	}
}

// A value comes back whose snapshot is older than a change that a poll has shown
// meanwhile: it is not kept, nor served to who asked after the poll.
func TestChangeDuringALoad(t *testing.T) {
	for _, test := range []struct {
		changed string
		seq     int64
		kept    bool
	}{{"a", 5, false}, {"a", 4, true}, {"b", 5, true}, {everything, 5, true}} {
		bubble(t, func(t *testing.T) {
			s := stubborn{make(chan *stubbornLoad)}
			c := open(t, s.load, func(context.Context, int64) (Feed[string], error) { return Feed[string]{Seq: 5}, nil }, Options{})
			apply(c, begin(c), Feed[string]{Seq: 3})
			var wg sync.WaitGroup
			wg.Go(func() { get(t, c, "a", 1) })
			l := <-s.begun
			apply(c, begin(c), Feed[string]{Seq: 5, Changes: changeOf(test.changed, test.seq)})
			if !test.kept {
				wg.Go(func() { get(t, c, "a", 2) }) // joins, and then loads anew
				synctest.Wait()
			}
			l.end <- Loaded[string, int64]{Value: 1, Feed: Feed[string]{Seq: 4}}
			if !test.kept {
				(<-s.begun).end <- Loaded[string, int64]{Value: 2, Feed: Feed[string]{Seq: 5}}
			}
			wg.Wait()
			stats := c.Stats()
			expect(t, "superseded", stats.Superseded == 1, !test.kept)
			expect(t, "entries", stats.Entries, 1)
		})
	}
}

// Reads of the feed that overlap are applied in another order than they began.
func TestFeedReadsOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a", "c")
		early, late := begin(c), begin(c)
		w.write("a") // 3
		shown := w.feed(early.since)
		w.write("a", "c") // 4, 5
		apply(c, late, w.feed(late.since))
		get(t, c, "a", 4)
		apply(c, early, shown) // 3 is in what was loaded
		expect(t, "entries", c.Stats().Entries, 1)
		get(t, c, "a", 4)
		get(t, c, "c", 5)
		expect(t, "loads", w.loads, 4)
		expect(t, "remote", c.Stats().InvalidatedRemote, 2)
	})
}

// More changes than the feed lists invalidate everything loaded before them.
func TestTooManyChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a", "c")
		w.set(func() { w.all = true })
		w.write("a")
		time.Sleep(6 * time.Second)
		get(t, c, "a", 3)
		get(t, c, "c", 2)
		expect(t, "loads", w.loads, 4)
		time.Sleep(6 * time.Second)
		get(t, c, "a", 3)
		get(t, c, "c", 2)
		expect(t, "loads", w.loads, 4)
	})
}

// StaleIfError is for a server that cannot be reached, not for one that refuses.
func TestStaleOnlyWhileUnreachable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := loaded(t, rtt/2, Options{}, "a")
		refused := errors.New("401")
		w.set(func() { w.err = refused })
		time.Sleep(6 * time.Second)
		for range 2 { // the second during the pause
			if _, err := c.Get(t.Context(), "a"); err != refused {
				t.Error(err)
			}
		}
		expect(t, "stale", c.Stats().StaleServed, 0)
		w.set(func() { w.err = errDown })
		time.Sleep(pollPause)
		if r := get(t, c, "a", 1); r.Stale == nil || !r.Cached || r.Age < 6*time.Second {
			t.Errorf("%+v", r)
		}
	})
}

// Whoever may not read any more is served nothing, however fresh.
func TestRefusalEndsEverything(t *testing.T) {
	for name, refuse := range map[string]func(*testing.T, *testCache) error{
		"of a poll": func(t *testing.T, c *testCache) error {
			_, err := c.GetFresh(t.Context(), "a", c.from("a"))
			return err
		},
		"of a load": func(t *testing.T, c *testCache) error { _, err := c.Get(t.Context(), "b"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, c := loaded(t, rtt/2, Options{}, "a")
				w.set(func() { w.err = errRefused })
				if err := refuse(t, c); err != errRefused {
					t.Error(err)
				}
				expect(t, "entries", c.Stats().Entries, 0)
				if _, err := c.Get(t.Context(), "a"); err != errRefused {
					t.Errorf("within PollInterval: %v", err)
				}
				w.set(func() { w.err = errDown })
				if _, err := c.Get(t.Context(), "a"); err != errDown {
					t.Errorf("while the server is down: %v", err)
				}
				w.set(func() { w.err = nil })
				time.Sleep(pollPause)
				get(t, c, "a", 1)
			})
		})
	}
	t.Run("without a feed", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(rtt / 2)
			w.write("a")
			c := open(t, w.load, nil, Options{})
			get(t, c, "a", 1)
			w.set(func() { w.err = errRefused })
			if _, err := c.Get(t.Context(), "b"); err != errRefused {
				t.Error(err)
			}
			if _, err := c.Get(t.Context(), "a"); err != errRefused {
				t.Error(err)
			}
		})
	})
}
