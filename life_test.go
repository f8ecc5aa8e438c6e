package episodic

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestLifeOfAnEpisode(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "find the zebra", Metadata: map[string]string{"a": "1"}}
		ok(t, s.StartEpisode(t.Context(), e))
		wants(t, s.StartEpisode(t.Context(), e), ErrConflict, "stored already")

		for i, want := range []int{1, 3, 5} {
			first, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "grep"}, Step{Action: fmt.Sprint("looked ", i)})
			if err != nil || first != want {
				t.Errorf("append %d: first is %d, %v; want %d", i, first, err, want)
			}
		}
		if _, err := s.AppendSteps(t.Context(), e.ID, Step{Number: 7, Tool: "numbered"}); err != nil {
			t.Error(err)
		}
		_, err := s.AppendSteps(t.Context(), e.ID, Step{Number: 7, Tool: "numbered"})
		wants(t, err, ErrConflict, "next step is number 8, not 7")
		_, err = s.AppendSteps(t.Context(), NewID(), Step{Tool: "x"})
		wants(t, err, ErrNotFound, "")
		_, err = s.AppendSteps(t.Context(), e.ID)
		wants(t, err, ErrInvalid, "steps: is empty")

		running, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		if !running.Running() || len(running.Steps) != 7 || running.Steps[6].Tool != "numbered" || running.Steps[3].Action != "looked 1" {
			t.Errorf("running: %+v", running)
		}
		if hits, err := s.searchHits(t.Context(), "numbered", nil); err != nil || len(hits) != 1 {
			t.Errorf("steps of a running episode: %d hits, %v", len(hits), err)
		}

		done := Completion{
			Outcome: Outcome{Kind: Success, Verdict: "it was a pony"}, Reward: &Reward{Total: 0.5},
			Reflection: Reflection{Insights: []string{"stripes"}}, Metadata: map[string]string{"b": "2"},
			AppliedPatterns: []AppliedPattern{{PatternID: NewID(), Effect: Helped}},
		}
		wants(t, s.CompleteEpisode(t.Context(), e.ID, Completion{}), ErrInvalid, "outcome.kind")
		wants(t, s.CompleteEpisode(t.Context(), NewID(), done), ErrNotFound, "")
		early := done
		early.End = e.Start.Add(-time.Hour)
		wants(t, s.CompleteEpisode(t.Context(), e.ID, early), ErrInvalid, "end: lies before start")
		ok(t, s.CompleteEpisode(t.Context(), e.ID, done))
		ok(t, s.CompleteEpisode(t.Context(), e.ID, done))
		wants(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Failure}}), ErrConflict, "ended already, as success")
		_, err = s.AppendSteps(t.Context(), e.ID, Step{Tool: "late"})
		wants(t, err, ErrConflict, "has ended")

		got, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		want := *running
		want.End, want.Outcome, want.Reward, want.Reflection = got.End, done.Outcome, done.Reward, done.Reflection
		want.Revision = got.Revision
		want.AppliedPatterns, want.Metadata = done.AppliedPatterns, map[string]string{"a": "1", "b": "2"}
		if got.Running() || !reflect.DeepEqual(got, &want) {
			t.Errorf("completed:\n%+v\nwant\n%+v", got, &want)
		}
		if n := number(t, s, "SELECT count(*) FROM runs"); n != 1 {
			t.Errorf("the steps lie in %d rows after completing, want 1", n)
		}
		for _, q := range []string{"pony", "zebra", "grep", "numbered"} {
			if hits, err := s.searchHits(t.Context(), q, nil); err != nil || len(hits) != 1 {
				t.Errorf("search %q: %d hits, %v", q, len(hits), err)
			}
		}
	})
}

func TestStartRefusesEndedEpisodes(t *testing.T) {
	s := onFile(t)
	wants(t, s.StartEpisode(t.Context(), &Episode{Description: "x", End: time.Now()}), ErrInvalid, "end: is set")
	wants(t, s.StartEpisode(t.Context(), &Episode{Description: "x", Outcome: Outcome{Kind: Success}}), ErrInvalid, "outcome: is set")
}

// What an engine that lost the answer would do.
func TestRepeatedAppendIsStoredOnce(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "x"}
		ok(t, s.StartEpisode(t.Context(), e))
		o := &appendSteps{ID: e.ID, Key: []byte("a key"), Steps: []Step{{Tool: "zebra"}, {Tool: "b"}}, Now: time.Now()}
		for range 3 {
			if err := s.carryOut(t.Context(), o); err != nil || o.first != 1 {
				t.Fatalf("first is %d, %v", o.first, err)
			}
			if _, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "other"}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Episode(t.Context(), e.ID)
		if err != nil || len(got.Steps) != 5 {
			t.Errorf("%d steps, %v; want 5", len(got.Steps), err)
		}
		checkIndex(t, s)
	})
}

func TestConcurrentAppendsGetDifferentNumbers(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "x"}
		ok(t, s.StartEpisode(t.Context(), e))
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 10 {
					tool := fmt.Sprint(w, "-", i)
					first, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: tool}, Step{Tool: tool})
					if err != nil {
						t.Errorf("append: %v", err)
						return
					}
					got, err := s.Episode(t.Context(), e.ID)
					if err != nil || got.Steps[first-1].Tool != tool || got.Steps[first].Tool != tool {
						t.Errorf("step %d is not the one appended (%v)", first, err)
					}
				}
			})
		}
		wg.Wait()
		ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
		got, err := s.Episode(t.Context(), e.ID)
		if err != nil || len(got.Steps) != 160 {
			t.Errorf("%d steps, %v; want 160", len(got.Steps), err)
		}
	})
}

func TestCompleteDoesNotOverwriteWhatItHasNotRead(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "old", Steps: []Step{{Tool: "a"}, {Tool: "b"}}}
		ok(t, s.PutEpisode(t.Context(), e))
		read, rec, err := s.loadSome(t.Context(), s.engine, e.ID, readAtOnce)
		ok(t, err)
		done := &Completion{Outcome: Outcome{Kind: Success}}
		done.applyTo(read)
		ok(t, read.prepare(time.Now()))
		w, err := s.concludedRow(read, newRevision())
		ok(t, err)
		ok(t, s.PutEpisode(t.Context(), &Episode{ID: e.ID, Description: "old", Steps: []Step{{Tool: "c"}, {Tool: "d"}}}))
		r, err := s.engine.Batch(t.Context(), w.complete(rec)...)
		ok(t, err)
		if r[0].Affected != 0 {
			t.Error("an episode was completed that is not the one that was read")
		}
		got, err := s.Episode(t.Context(), e.ID)
		if err != nil || !got.Running() || got.Steps[0].Tool != "c" {
			t.Errorf("%+v, %v", got, err)
		}
		ok(t, s.CompleteEpisode(t.Context(), e.ID, *done))
	})
}

func TestCompleteWithAStartInTheFuture(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "another machine's clock", Start: time.Now().Add(time.Hour)}
	ok(t, s.StartEpisode(t.Context(), e))
	ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
	if got, err := s.Episode(t.Context(), e.ID); err != nil || !got.End.Equal(got.Start) {
		t.Errorf("ended %v, started %v, %v", got.End, got.Start, err)
	}
}

func TestCompletingAgain(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "x", Metadata: map[string]string{"a": "1"}}
	ok(t, s.StartEpisode(t.Context(), e))
	first := Completion{
		Outcome: Outcome{Kind: Success, Artifacts: []string{}}, Reward: &Reward{Total: 1}, Metadata: map[string]string{"b": "2"},
		AppliedPatterns: []AppliedPattern{{PatternID: NewID(), Effect: Helped}}, Reflection: Reflection{Insights: []string{"i"}},
	}
	ok(t, s.CompleteEpisode(t.Context(), e.ID, first))
	ok(t, s.CompleteEpisode(t.Context(), e.ID, first))
	ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: first.Outcome}))
	for name, change := range map[string]func(c *Completion){
		"outcome":    func(c *Completion) { c.Outcome.Verdict = "v" },
		"end":        func(c *Completion) { c.End = time.Now().Add(time.Hour) },
		"reward":     func(c *Completion) { c.Reward = &Reward{Total: 2} },
		"reflection": func(c *Completion) { c.Reflection.Insights = []string{"j"} },
		"metadata":   func(c *Completion) { c.Metadata = map[string]string{"b": "3"} },
		"applied":    func(c *Completion) { c.AppliedPatterns = []AppliedPattern{{PatternID: NewID(), Effect: Helped}} },
	} {
		again := first
		change(&again)
		if err := s.CompleteEpisode(t.Context(), e.ID, again); !errors.Is(err, ErrConflict) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// The server does what it is told, and its answers are lost.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	s := open(t, proxy.URL(), nil)
	e, other := &Episode{Description: "x"}, &Episode{Description: "y"}
	ok(t, s.StartEpisode(t.Context(), e))
	ok(t, s.StartEpisode(t.Context(), other))
	const all = 3 // tries
	for _, tt := range []struct {
		name    string
		lost    int // answers
		unknown bool
		write   func(ctx context.Context) error
	}{
		{"append", 2, false, func(ctx context.Context) error {
			first, err := s.AppendSteps(ctx, e.ID, Step{Tool: "a"})
			if err == nil && first != 1 {
				t.Errorf("first is %d", first)
			}
			return err
		}},
		{"put new", all, false, func(ctx context.Context) error { return s.PutEpisode(ctx, &Episode{Description: "new"}) }},
		{"put what was read", 2, false, func(ctx context.Context) error { return s.PutEpisode(ctx, other) }},
		{"put what was read", all, false, func(ctx context.Context) error { return s.PutEpisode(ctx, other) }},
		{"put anyhow", 2, false, func(ctx context.Context) error { return s.PutEpisode(ctx, anyhow(other)) }},
		{"put anyhow", all, true, func(ctx context.Context) error { return s.PutEpisode(ctx, anyhow(other)) }},
		{"start", all, false, func(ctx context.Context) error { return s.StartEpisode(ctx, &Episode{Description: "started"}) }},
		{"add", 1, false, func(ctx context.Context) error {
			n, err := s.AddEpisodes(ctx, e, &Episode{Description: "added"}, &Episode{Description: "added too"})
			if err == nil && n != 2 {
				t.Errorf("%d were added", n)
			}
			return err
		}},
		{"tag", 2, false, func(ctx context.Context) error { return s.AddTags(ctx, e.ID, "t") }},
		{"pattern", 2, false, func(ctx context.Context) error {
			return s.PutPattern(ctx, &Pattern{ToolSequence: &ToolSequence{Tools: []string{"a"}}})
		}},
		{"heuristic", 2, false, func(ctx context.Context) error { return s.PutHeuristic(ctx, &Heuristic{Condition: "c", Action: "a"}) }},
		{"embedding", 2, false, func(ctx context.Context) error {
			return s.PutEmbedding(ctx, &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: []float32{1}})
		}},
		{"relation", 2, false, func(ctx context.Context) error {
			return s.PutRelation(ctx, &Relation{From: e.ID, Type: Follows, To: other.ID})
		}},
		{"complete", 1, false, func(ctx context.Context) error {
			return s.CompleteEpisode(ctx, e.ID, Completion{Outcome: Outcome{Kind: Success}})
		}},
		// A second time would find nothing, and could not tell why.
		{"delete", 1, true, func(ctx context.Context) error { return s.DeleteEpisode(ctx, other.ID) }},
	} {
		for range 30 { // calm, so that no breaker opens
			_, err := s.Counts(t.Context())
			ok(t, err)
		}
		faults := slices.Repeat([]hranatest.Fault{hranatest.CutAnswer}, tt.lost)
		if tt.name == "complete" {
			faults = append([]hranatest.Fault{hranatest.Pass}, faults...) // it reads first
		}
		proxy.Next(faults...)
		switch err := tt.write(t.Context()); {
		case !tt.unknown && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.unknown:
			wants(t, err, ErrUnknownOutcome, "")
			if Retryable(err) {
				t.Errorf("%s: an unknown outcome is called retryable", tt.name)
			}
		}
	}
	if c, err := s.Counts(t.Context()); err != nil || c != (Counts{Episodes: 5, Steps: 1, Patterns: 1, Heuristics: 1, Embeddings: 1, Tags: 1}) {
		t.Errorf("%+v, %v", c, err)
	}
	wants(t, s.DeleteEpisode(t.Context(), other.ID), ErrNotFound, "")
}
