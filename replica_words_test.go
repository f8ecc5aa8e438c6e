package episodic

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/replica"
)

// ofFile returns a Store that takes a file for a server, and has a replica of it.
func ofFile(t *testing.T, server *Store) *Store {
	t.Helper()
	r, _, err := openReplicaFile(t.Context(), filepath.Join(t.TempDir(), "replica.db"), "a file", &Options{}, Scope{})
	ok(t, err)
	r.interval = time.Nanosecond
	pull, err := replica.New(replica.Config{Server: server.engine, Local: r.inner.engine, Path: r.path, Words: r.inner.words})
	ok(t, err)
	r.pull = pull
	t.Cleanup(func() { ok(t, r.close()) })
	s := *server
	s.replica, s.cache, s.borrowed = r, nil, true
	return &s
}

// awaited waits until a replica has what was written, and leaves the index to the pull.
func awaited(t *testing.T, s *Store) {
	t.Helper()
	begun := time.Now()
	for {
		st, err := s.replica.pull.Await(t.Context(), begun)
		ok(t, err)
		if st.Complete && !st.AsOf.Before(begun) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestPulledItemsAreIndexed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := onFile(t)
	put := &Episode{Description: "whole episode", Context: Context{Tags: []string{"cellar"}}, Steps: []Step{{Action: "alpha"}, {Action: "beta"}}}
	ok(t, server.PutEpisode(ctx, put))
	s := ofFile(t, server)
	here := s.replica.inner
	running := &Episode{Description: "running episode"}
	one := &Episode{Description: "one run"} // whose run is kept when it ends
	step := func(name string, change func() error, waiting int64, words ...string) {
		t.Helper()
		ok(t, change())
		awaited(t, s)
		if n := number(t, here, "SELECT count(*) FROM index_waiting"); n > waiting {
			t.Errorf("%s: %d are waiting", name, n)
		}
		ok(t, here.keepIndex(ctx, false))
		for _, word := range words {
			found, err := here.Search(ctx, word, nil)
			if ok(t, err); len(found.Hits) != 1 || found.Waiting != 0 {
				t.Errorf("%s: %q finds %+v", name, word, found)
			}
		}
	}
	appending := func(e *Episode, text string) func() error {
		return func() error {
			_, err := server.AppendSteps(ctx, e.ID, Step{Action: text}, Step{Action: "and " + text})
			return err
		}
	}
	step("filled", func() error { return nil }, 0, "cellar", "alpha", "beta")
	step("started", func() error { return server.StartEpisode(ctx, running) }, 0, "running")
	step("appended", appending(running, "gamma"), 0, "gamma", "running")
	step("appended again", appending(running, "delta"), 0, "gamma", "delta")
	step("tagged", func() error { return server.AddTags(ctx, running.ID, "epsilon") }, 1, "epsilon", "gamma")
	step("tagged and appended", func() error {
		if err := server.AddTags(ctx, running.ID, "zeta"); err != nil {
			return err
		}
		return appending(running, "eta")()
	}, 1, "zeta", "eta", "gamma")
	end := Completion{Outcome: Outcome{Kind: Success, Verdict: "theta"}}
	step("folded", func() error { return server.CompleteEpisode(ctx, running.ID, end) }, 0, "theta", "gamma", "eta")
	step("one run", func() error {
		if err := server.StartEpisode(ctx, one); err != nil {
			return err
		}
		return appending(one, "iota")()
	}, 0, "iota")
	end.Outcome.Verdict = "kappa"
	step("ended", func() error { return server.CompleteEpisode(ctx, one.ID, end) }, 0, "kappa", "iota")
	put.Steps[1].Action, put.Revision = "lambda", 0
	step("replaced", func() error { return server.PutEpisode(ctx, put) }, 0, "lambda", "alpha")
	found, err := here.Search(ctx, "beta", nil)
	if ok(t, err); len(found.Hits) != 0 {
		t.Errorf("what was replaced is found: %+v", found.Hits)
	}
	step("deleted", func() error { return server.DeleteEpisode(ctx, one.ID) }, 0)
	if found, err = here.Search(ctx, "iota", nil); err != nil || len(found.Hits) != 0 {
		t.Errorf("what was deleted is found: %+v, %v", found, err)
	}
	step("lessons", func() error {
		if err := server.PutPattern(ctx, &Pattern{Description: "mu", ContextPattern: &ContextPattern{Features: []string{"f"}, Approach: "x"}}); err != nil {
			return err
		}
		return server.PutHeuristic(ctx, &Heuristic{Condition: "nu nu", Action: "xi"})
	}, 0)
	if n := number(t, here, "SELECT count(*) FROM index_units WHERE place < 0"); n == 0 {
		t.Error("patterns and heuristics are not indexed")
	}
}

// TestPulledIndexIsTheWholeOne compares what is found by what pulls have indexed with what is
// found when all is indexed anew.
func TestPulledIndexIsTheWholeOne(t *testing.T) {
	t.Parallel()
	server := onFile(t)
	s := ofFile(t, server)
	here := s.replica.inner
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &changes{rand: rand.New(rand.NewPCG(seed, 0))}
	for range 40 {
		for range c.rand.IntN(6) {
			c.change(t, server)
		}
		awaited(t, s)
		c.compareReads(t, s, server)
	}
	// Scores may differ a little: what was concluded of an episode is a document of its own
	// if it came later than the rest.
	search := func() [][]string {
		ok(t, here.keepIndex(t.Context(), true))
		var all [][]string
		for _, q := range []string{"valve", "turn the valve", "running", "tag", "leaks"} {
			for _, o := range []SearchOptions{{Limit: 1000, EachRun: true, Explain: true}, {Limit: 1000, Steps: true, Explain: true}} {
				found, err := here.Search(t.Context(), q, &o)
				ok(t, err)
				hits := []string{fmt.Sprint(found.Waiting, " are waiting")}
				for _, h := range found.Hits {
					hit := h.Episode.ID.String()
					if o.Steps {
						hit += fmt.Sprint(" step ", h.Steps[0].Number)
					}
					hits = append(hits, hit)
				}
				slices.Sort(hits)
				all = append(all, hits)
			}
		}
		return all
	}
	pulled := search()
	if len(pulled[0]) == 1 {
		t.Fatal("nothing is found")
	}
	ok(t, here.Reindex(t.Context()))
	for i, anew := range search() {
		if !slices.Equal(pulled[i], anew) {
			t.Errorf("search %d finds\n%q\nand anew\n%q", i, pulled[i], anew)
		}
	}
}
