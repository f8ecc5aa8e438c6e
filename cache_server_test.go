package episodic

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// cut makes the server of l unreachable.
func cut(l *hranatest.Link) {
	l.Refuse(true)
	l.ResetAll()
}

func newLink(t testing.TB, to string) *hranatest.Link {
	t.Helper()
	l, err := hranatest.NewLink(to)
	ok(t, err)
	t.Cleanup(l.Close)
	return l
}

func TestCacheWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	link := newLink(t, server.URL())
	other := cachedStore(t, server.URL(), Cache{Disabled: true})
	known, unknown := &Episode{Description: "known", Context: Context{Domain: "old"}}, &Episode{Description: "unknown"}
	ok(t, other.PutEpisode(t.Context(), known))
	ok(t, other.PutEpisode(t.Context(), unknown))
	s, strict := cachedStore(t, link.URL(), Cache{}), cachedStore(t, link.URL(), Cache{DisableStale: true})
	for _, s := range []*Store{s, strict} {
		_, err := s.Episode(t.Context(), known.ID)
		ok(t, err)
	}
	const soon = 4 * time.Second // a poll and a load, of which each tries several times
	timed := func(s *Store, id ID) (*Episode, error) {
		start := time.Now()
		e, err := s.Episode(t.Context(), id)
		if took := time.Since(start); took > soon {
			t.Errorf("a read took %v: %v", took, err)
		}
		return e, err
	}

	cut(link)
	known.Context.Domain = "new"
	ok(t, other.PutEpisode(t.Context(), known))
	time.Sleep(shortPoll)
	rounds := uint64(testkit.Effort(2, 2, 5))
	for range rounds {
		if e, err := timed(s, known.ID); err != nil || e.Context.Domain != "old" {
			t.Errorf("what is known reads %+v, %v", e, err)
		}
		if _, err := timed(s, unknown.ID); !Retryable(err) {
			t.Errorf("what is not known: %v", err)
		}
		if _, err := timed(strict, known.ID); !Retryable(err) {
			t.Errorf("what is known, with DisableStale: %v", err)
		}
	}
	if c := s.Stats().Cache; c.StaleServed != rounds || c.PollFailures == 0 || c.LoadFailures == 0 || c.Hits < c.StaleServed {
		t.Errorf("%+v", c)
	}
	if c := strict.Stats().Cache; c.StaleServed != 0 || c.PollFailures == 0 {
		t.Errorf("with DisableStale: %+v", c)
	}

	link.Refuse(false)
	back := time.Now()
	for _, s := range []*Store{s, strict} {
		for {
			e, err := s.Episode(t.Context(), known.ID)
			_, otherErr := s.Episode(t.Context(), unknown.ID)
			if err == nil && otherErr == nil && e.Context.Domain == "new" {
				break
			}
			if time.Since(back) > 5*time.Second {
				t.Fatalf("still %+v, %v, %v", e, err, otherErr)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if took := time.Since(back); took > time.Second {
		t.Errorf("the server was noticed after %v", took)
	}
	before := s.Stats().Cache.StaleServed
	_, err := s.Episode(t.Context(), known.ID)
	ok(t, err)
	if n := s.Stats().Cache.StaleServed; n != before {
		t.Errorf("%d stale reads after the server came back", n-before)
	}
}

func TestCacheWithoutPolling(t *testing.T) {
	onFileAndServer(t, func(t *testing.T, target string) {
		s, other := cachedStore(t, target, Cache{DisablePolling: true}), cachedStore(t, target, Cache{})
		e := &Episode{Description: "x", Context: Context{Domain: "1"}}
		read := func(want string) {
			t.Helper()
			got, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
			page, err := s.ListEpisodes(t.Context(), nil, nil)
			ok(t, err)
			if got.Context.Domain != want || page.Items[0].Context.Domain != want {
				t.Errorf("reads %s, %s, want %s", got.Context.Domain, page.Items[0].Context.Domain, want)
			}
		}
		ok(t, s.PutEpisode(t.Context(), e))
		read("1")
		e.Context.Domain = "2"
		ok(t, other.PutEpisode(t.Context(), e))
		read("1")
		e.Context.Domain = "3"
		ok(t, s.PutEpisode(t.Context(), e))
		read("3")
		if c := s.Stats().Cache; c.Mode != "ttl_only" || c.Polls != 0 || c.Hits != 2 || c.Loads != 4 || c.MeanTTL > 66*time.Second {
			t.Errorf("%+v", c)
		}
		if c := other.Stats().Cache; c.Mode != "polling" {
			t.Errorf("%+v", c)
		}
	})
}

func TestCacheStampede(t *testing.T) {
	server := hranatest.Start(t)
	link := newLink(t, server.URL())
	s, e := cachedStore(t, link.URL(), Cache{}), tenSteps()
	ok(t, cachedStore(t, server.URL(), Cache{Disabled: true}).PutEpisode(t.Context(), e))
	link.SetRTT(100 * time.Millisecond)
	const callers = 64
	before := s.Stats()
	var wg sync.WaitGroup
	var got [callers]*Episode
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = s.Episode(t.Context(), e.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after := s.Stats()
	if n, c := after.Requests-before.Requests, after.Cache; n != 1 || c.Loads != 1 || c.Misses != callers || c.SharedLoads != callers-1 {
		t.Errorf("%d requests, %+v", n, c)
	}
	for i, e := range got[1:] {
		if s := shared(got[i], e); s != nil || !reflect.DeepEqual(got[0], e) {
			t.Fatalf("callers share %q, or read something else", s)
		}
	}
}

// A database that is restored to what it was loses changes, and its feed goes
// back. What is cached must not outlive that.
func TestCacheOfARestoredDatabase(t *testing.T) {
	t.Parallel()
	onEveryCached(t, func(t *testing.T, s, other *Store, lag time.Duration) {
		e := &Episode{Description: "x", Context: Context{Domain: "old"}}
		p := &Pattern{ToolSequence: &ToolSequence{Tools: []string{"x"}}}
		ok(t, s.PutEpisode(t.Context(), e))
		old := number(t, other, "SELECT max(n) FROM feed")
		r, err := other.engine.Query(t.Context(), stmt("SELECT payload FROM episodes"))
		ok(t, err)
		backup := r[0].Rows[0][0]
		e.Context.Domain = "new"
		for range 5 {
			ok(t, other.PutEpisode(t.Context(), e))
		}
		ok(t, other.PutPattern(t.Context(), p))
		read := func() string {
			got, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
			page, err := s.ListEpisodes(t.Context(), nil, nil)
			ok(t, err)
			hits, err := s.searchHits(t.Context(), "x", nil)
			ok(t, err)
			_, err = s.Pattern(t.Context(), p.ID)
			return fmt.Sprintf("%s %s %s %v", got.Context.Domain, page.Items[0].Context.Domain, hits[0].Episode.Context.Domain, err == nil)
		}
		shows(t, "what is new", lag, func() bool { return read() == "new new new true" })
		for range 3 {
			sql(t, other,
				stmt("UPDATE episodes SET domain='old', payload=?", backup), stmt("DELETE FROM patterns"),
				stmt("DELETE FROM feed WHERE n > ?", old), stmt("UPDATE feed_state SET forgotten = 0"))
			shows(t, "what was restored", lag, func() bool { return read() == "old old old false" })
			e.Context.Domain, e.Revision, p.Revision = "new", 0, 0
			ok(t, other.PutEpisode(t.Context(), e))
			ok(t, other.PutPattern(t.Context(), p))
			shows(t, "what came after", lag, func() bool { return read() == "new new new true" })
		}
	})
}

func TestCacheIsClosedWithLoadsUnderWay(t *testing.T) {
	server := hranatest.Start(t)
	link := newLink(t, server.URL())
	e := &Episode{Description: "x"}
	ok(t, cachedStore(t, server.URL(), Cache{Disabled: true}).PutEpisode(t.Context(), e))
	s := cachedStore(t, link.URL(), Cache{})
	_, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	time.Sleep(shortPoll) // the next read polls
	link.SetRTT(time.Second)
	var wg sync.WaitGroup
	reads := []func() error{
		func() error { _, err := s.Episode(t.Context(), e.ID); return err },
		func() error { _, err := s.Episode(t.Context(), NewID()); return err },
		func() error { _, err := s.Pattern(t.Context(), NewID()); return err },
		func() error { _, err := s.Heuristic(t.Context(), NewID()); return err },
		func() error { _, err := s.ListEpisodes(t.Context(), nil, nil); return err },
		func() error { _, err := s.ListPatterns(t.Context(), nil, nil); return err },
		func() error { _, err := s.ListHeuristics(t.Context(), nil, nil); return err },
		func() error { _, err := s.Search(t.Context(), "x", nil); return err },
	}
	for i, read := range reads {
		wg.Go(func() {
			if err := read(); !errors.Is(err, ErrClosed) {
				t.Errorf("read %d under way: %v", i, err)
			}
		})
	}
	waitUntil(t, "loads", func() bool {
		c := s.Stats().Cache
		return c.Loads == uint64(len(reads)) && c.Polls == 1
	})
	start := time.Now()
	ok(t, s.Close())
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("Close took %v", took)
	}
	wg.Wait()
	for i, read := range reads {
		if err := read(); !errors.Is(err, ErrClosed) {
			t.Errorf("read %d after Close: %v", i, err)
		}
	}
}
