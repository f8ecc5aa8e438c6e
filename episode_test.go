package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestEpisodesRoundTrip(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		rapid.Check(t, func(rt *rapid.T) {
			e := anyEpisode.Draw(rt, "episode")
			want := *e
			if err := s.PutEpisode(t.Context(), e); err != nil {
				rt.Fatal(err)
			}
			same(rt, *e, want)
			got, err := s.Episode(t.Context(), e.ID)
			if err != nil {
				rt.Fatal(err)
			}
			same(rt, got, e)

			page, err := s.ListEpisodes(t.Context(), &EpisodeFilter{From: e.Start, To: e.Start.Add(time.Microsecond)}, &Paging{Limit: maxLimit})
			if err != nil {
				rt.Fatal(err)
			}
			head := *e
			head.Steps = nil
			for _, listed := range page.Items {
				if listed.ID == e.ID {
					same(rt, listed, &head)
					return
				}
			}
			rt.Fatal("it is not listed")
		})
	})
}

func TestEpisodeDocumentsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEpisode.Draw(t, "episode")
		doc, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var got Episode
		if err := json.Unmarshal(doc, &got); err != nil {
			t.Fatal(err)
		}
		same(t, &got, e)
	})
}

func TestParametersMayBeAnyJSON(t *testing.T) {
	for doc, want := range map[string]string{
		`{"parameters": "{\"a\": 1}"}`: `{"a": 1}`,
		`{"parameters": {"a": 1}}`:     `{"a": 1}`,
		`{"parameters": [1, 2]}`:       `[1, 2]`,
		`{"parameters": null}`:         "",
		`{"tool": "x"}`:                "",
	} {
		var s Step
		if err := json.Unmarshal([]byte(doc), &s); err != nil || string(s.Parameters) != want {
			t.Errorf("%s: parameters %q, %v; want %q", doc, s.Parameters, err, want)
		}
	}
}

func TestStoringFillsInWhatIsMissing(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "x", Context: Context{Tags: []string{"a", "b", "a"}}, Outcome: Outcome{Kind: Success}}
	before := time.Now().Add(-time.Millisecond)
	ok(t, s.PutEpisode(t.Context(), e))
	if e.ID.IsZero() || e.TaskType != TaskOther || e.Start.Before(before) || e.End.Before(e.Start) {
		t.Errorf("stored %+v", e)
	}
	got, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	if fmt.Sprint(got.Context.Tags) != "[a b]" {
		t.Errorf("tags %v: a repetition should be dropped", got.Context.Tags)
	}
}

func TestPutReplacesTheWholeEpisode(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "the old zebra", Context: Context{Tags: []string{"old"}}, Steps: []Step{{Tool: "giraffe"}, {Tool: "b"}}}
		other := &Episode{Description: "other"}
		ok(t, s.PutEpisode(t.Context(), e))
		ok(t, s.PutEpisode(t.Context(), other))
		ok(t, s.PutRelation(t.Context(), &Relation{From: e.ID, Type: Follows, To: other.ID}))
		ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: []float32{1}}))

		e2 := &Episode{ID: e.ID, Description: "the new pony", Context: Context{Tags: []string{"new"}}, Steps: []Step{{Tool: "c"}}}
		ok(t, s.PutEpisode(t.Context(), e2))
		got, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		if got.Description != "the new pony" || fmt.Sprint(got.Context.Tags) != "[new]" || len(got.Steps) != 1 || got.Steps[0].Tool != "c" {
			t.Errorf("read back %+v", got)
		}
		for q, want := range map[string]int{"zebra": 0, "giraffe": 0, "old": 0, "pony": 1, "new": 1} {
			if hits, err := s.Search(t.Context(), q, nil); err != nil || len(hits) != want {
				t.Errorf("search %q: %d hits, %v; want %d", q, len(hits), err, want)
			}
		}
		counts, err := s.Counts(t.Context())
		if want := (Counts{Episodes: 2, Steps: 1, Relations: 1, Embeddings: 1, Tags: 1}); err != nil || counts != want {
			t.Errorf("counts %+v, %v; want %+v", counts, err, want)
		}
	})
}

func TestDeleteTakesEverythingWithIt(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		other := &Episode{Description: "other"}
		ok(t, s.PutEpisode(t.Context(), other))
		empty, err := s.Counts(t.Context())
		ok(t, err)

		e := &Episode{Description: "zebra", Context: Context{Tags: []string{"a", "b"}}}
		ok(t, s.StartEpisode(t.Context(), e))
		for range 3 {
			_, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "x"})
			ok(t, err)
		}
		ok(t, s.PutRelation(t.Context(), &Relation{From: e.ID, Type: Follows, To: other.ID}))
		ok(t, s.PutRelation(t.Context(), &Relation{From: other.ID, Type: RelatedTo, To: e.ID}))
		ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: []float32{1}}))
		ok(t, s.DeleteEpisode(t.Context(), e.ID))

		if counts, err := s.Counts(t.Context()); err != nil || counts != empty {
			t.Errorf("after deleting: %+v, %v; want %+v", counts, err, empty)
		}
		if n := number(t, s, "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM tags) + (SELECT count(*) FROM search) - 1"); n != 0 {
			t.Errorf("%d rows are left behind", n)
		}
		_, err = s.Episode(t.Context(), e.ID)
		wants(t, err, ErrNotFound, e.ID.String())
		wants(t, s.DeleteEpisode(t.Context(), e.ID), ErrNotFound, e.ID.String())
	})
}

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
		if hits, err := s.Search(t.Context(), "numbered", nil); err != nil || len(hits) != 1 {
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
			if hits, err := s.Search(t.Context(), q, nil); err != nil || len(hits) != 1 {
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
		a, err := newAppend(s.payloads, e.ID, []byte("a key"), []Step{{Tool: "zebra"}, {Tool: "b"}}, time.Now())
		ok(t, err)
		for range 3 {
			if first, err := s.append(t.Context(), a); err != nil || first != 1 {
				t.Fatalf("first is %d, %v", first, err)
			}
			if _, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "other"}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Episode(t.Context(), e.ID)
		if err != nil || len(got.Steps) != 5 {
			t.Errorf("%d steps, %v; want 5", len(got.Steps), err)
		}
		if n := number(t, s, "SELECT length(steps) - length(replace(steps, 'zebra', '')) FROM search"); n != 5 {
			t.Errorf("the words of the append are indexed %d times, want once", n/5)
		}
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

func TestAddEpisodesAddsWhatIsNew(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		var all []*Episode
		for i := range 30 {
			all = append(all, &Episode{ID: NewID(), Description: fmt.Sprint("episode ", i), Steps: []Step{{Tool: "a"}}})
		}
		for _, tt := range []struct {
			episodes []*Episode
			want     int
		}{{all[:10], 10}, {all[5:20], 10}, {all[:20], 0}, {nil, 0}, {[]*Episode{all[20], all[20]}, 1}} {
			if n, err := s.AddEpisodes(t.Context(), tt.episodes...); err != nil || n != tt.want {
				t.Errorf("added %d, %v; want %d", n, err, tt.want)
			}
		}
		changed := *all[0]
		changed.Description = "changed"
		if n, err := s.AddEpisodes(t.Context(), &changed); err != nil || n != 0 {
			t.Errorf("added %d, %v", n, err)
		}
		if got, err := s.Episode(t.Context(), all[0].ID); err != nil || got.Description != "episode 0" {
			t.Errorf("a stored episode became %v, %v", got, err)
		}
		bad := &Episode{ID: NewID()}
		_, err := s.AddEpisodes(t.Context(), all[25], bad)
		wants(t, err, ErrInvalid, "episode 2 of 2: description: is empty")
		if counts, err := s.Counts(t.Context()); err != nil || counts.Episodes != 21 || counts.Steps != 21 {
			t.Errorf("%+v, %v", counts, err)
		}

		// Racing importers of the same episodes.
		var wg sync.WaitGroup
		var mu sync.Mutex
		added := 0
		for range 6 {
			wg.Go(func() {
				own := make([]*Episode, len(all)) // storing fills in fields
				for i, e := range all {
					e := *e
					own[i] = &e
				}
				n, err := s.AddEpisodes(t.Context(), own...)
				if err != nil {
					t.Errorf("add: %v", err)
				}
				mu.Lock()
				added += n
				mu.Unlock()
			})
		}
		wg.Wait()
		if added != 9 {
			t.Errorf("racing importers added %d, want 9", added)
		}
	})
}

func TestListFiltersAndPages(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var all []*Episode
		for i := range 60 {
			e := &Episode{
				Description: fmt.Sprint(i), TaskType: TaskType([]string{"debugging", "testing"}[i%2]), Start: start.Add(time.Duration(i/2) * time.Hour),
				Context: Context{Domain: []string{"a", "b", "c"}[i%3], Language: []string{"go", "rust"}[i/30]},
				Outcome: Outcome{Kind: []OutcomeKind{Success, Failure, Abstained, PartialSuccess}[i%4]},
			}
			for _, n := range []int{2, 3, 5} {
				if i%n == 0 {
					e.Context.Tags = append(e.Context.Tags, fmt.Sprint("by", n))
				}
			}
			all = append(all, e)
		}
		_, err := s.AddEpisodes(t.Context(), all...)
		ok(t, err)
		for _, tt := range []struct {
			filter EpisodeFilter
			keep   func(i int) bool
		}{
			{EpisodeFilter{}, func(int) bool { return true }},
			{EpisodeFilter{Domain: "b"}, func(i int) bool { return i%3 == 1 }},
			{EpisodeFilter{TaskType: "testing", Language: "rust"}, func(i int) bool { return i%2 == 1 && i >= 30 }},
			{EpisodeFilter{Outcome: Abstained}, func(i int) bool { return i%4 == 2 }},
			{EpisodeFilter{Tags: []string{"by2", "by3"}}, func(i int) bool { return i%6 == 0 }},
			{EpisodeFilter{Tags: []string{"by2", "by7"}}, func(int) bool { return false }},
			{EpisodeFilter{From: start.Add(3 * time.Hour), To: start.Add(6 * time.Hour)}, func(i int) bool { return i/2 >= 3 && i/2 < 6 }},
			{EpisodeFilter{Domain: "a", Tags: []string{"by5"}, Outcome: Success}, func(i int) bool { return i%3 == 0 && i%5 == 0 && i%4 == 0 }},
		} {
			var want []string
			for i := 59; i >= 0; i-- {
				if tt.keep(i) {
					want = append(want, fmt.Sprint(i))
				}
			}
			for _, limit := range []int{0, 1, 7, 60} {
				var got []string
				f, p := tt.filter, Paging{Limit: limit}
				for pages := 0; ; pages++ {
					page, err := s.ListEpisodes(t.Context(), &f, &p)
					ok(t, err)
					for _, e := range page.Items {
						got = append(got, e.Description)
					}
					if p.Cursor = page.Next; p.Cursor == "" {
						break
					}
					if len(page.Items) == 0 || pages > 60 {
						t.Fatalf("%+v: pages go on and on", tt.filter)
					}
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%+v: got %v, want %v", f, got, want)
				}
			}
		}
	})
}

func TestFiltersRefuseNonsense(t *testing.T) {
	s := onFile(t)
	for field, f := range map[string]*EpisodeFilter{
		"outcome": {Outcome: "good"}, "domain": {Domain: "\xff"}, "state": {State: "asleep"},
		"tags: are 1001": {Tags: manyNames(1001)},
	} {
		_, err := s.ListEpisodes(t.Context(), f, nil)
		wants(t, err, ErrInvalid, field)
	}
	for field, p := range map[string]*Paging{
		"limit": {Limit: -1}, "limit: is 1001": {Limit: 1001}, "cursor": {Cursor: "zzz"},
		"does not come from": {Cursor: cursorOf([]any{int64(1), "x"})}, "an earlier page": {Cursor: cursorOf([]any{int64(1), nil})},
	} {
		_, err := s.ListEpisodes(t.Context(), nil, p)
		wants(t, err, ErrInvalid, field)
	}
	if page, err := s.ListEpisodes(t.Context(), &EpisodeFilter{Tags: manyNames(1000)}, nil); err != nil || len(page.Items) != 0 {
		t.Errorf("a filter of 1,000 tags: %v, %v", page, err)
	}
}

// anyhow returns a copy that replaces whatever is stored.
func anyhow(e *Episode) *Episode {
	c := *e
	c.Revision = 0
	return &c
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("t", i)
	}
	return names
}

func TestResolveEpisode(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, id := range []string{"0198aaaa-0000-7000-8000-000000000001", "0198aaab-0000-7000-8000-000000000002", "f0000000-0000-7000-8000-000000000003"} {
			parsed, err := ParseID(id)
			ok(t, err)
			ok(t, s.PutEpisode(t.Context(), &Episode{ID: parsed, Description: id}))
		}
		for prefix, want := range map[string]string{
			"f":                                    "f0000000-0000-7000-8000-000000000003",
			"0198AAAA":                             "0198aaaa-0000-7000-8000-000000000001",
			"0198aaab-0000":                        "0198aaab-0000-7000-8000-000000000002",
			"0198aaab-0000-7000-8000-000000000002": "0198aaab-0000-7000-8000-000000000002",
		} {
			if id, err := s.ResolveEpisode(t.Context(), prefix); err != nil || id.String() != want {
				t.Errorf("%s: %v, %v; want %s", prefix, id, err, want)
			}
		}
		for prefix, want := range map[string]error{"e": ErrNotFound, "0198": ErrInvalid, "": ErrInvalid, "xyz": ErrInvalid, "0198aaaa-0000-7000-8000-0000000000011": ErrInvalid} {
			if id, err := s.ResolveEpisode(t.Context(), prefix); !errors.Is(err, want) {
				t.Errorf("%q: %v, %v; want %v", prefix, id, err, want)
			}
		}
	})
}

func TestBadEpisodesAreRefusedByField(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		huge := strings.Repeat("x", 100<<20)
		for field, e := range map[string]*Episode{
			"description: is empty":                     {},
			"description: is not valid UTF-8 at byte 2": {Description: "ab\xff"},
			"context.domain":                            {Description: "x", Context: Context{Domain: "a\x00b"}},
			"context.tags[1]: is empty":                 {Description: "x", Context: Context{Tags: []string{"a", " "}}},
			"context.complexity":                        {Description: "x", Context: Context{Complexity: "hard"}},
			"end: lies before start":                    {Description: "x", Start: time.Unix(10, 0), End: time.Unix(9, 0)},
			"start: lies in the first microsecond":      {Description: "x", Start: time.Time{}.Add(400)},
			"start: has the year":                       {Description: "x", Start: time.Unix(1<<40, 0)},
			"steps[1].latency_ms: is negative":          {Description: "x", Steps: []Step{{Tool: "a"}, {Tool: "b", Latency: -1}}},
			"steps[0].tokens":                           {Description: "x", Steps: []Step{{Tool: "a", Tokens: -1}}},
			"steps[0].tool: is empty":                   {Description: "x", Steps: []Step{{}}},
			"steps[0].parameters: is not JSON":          {Description: "x", Steps: []Step{{Tool: "a", Parameters: "{"}}},
			"steps[0].result.kind":                      {Description: "x", Steps: []Step{{Tool: "a", Result: &Result{}}}},
			"steps[0].result.text: is not valid":        {Description: "x", Steps: []Step{{Tool: "a", Result: &Result{Kind: ResultOutput, Text: "\xc3"}}}},
			"steps[1]: takes 104857":                    {Description: "x", Steps: []Step{{Tool: "a"}, {Tool: "b", Result: &Result{Kind: ResultOutput, Text: huge}}}},
			"steps[1].number: is 1":                     {Description: "x", Steps: []Step{{Tool: "a"}, {Tool: "b", Number: 1}}},
			"step_count: is 3":                          {Description: "x", StepCount: 3},
			"outcome.kind":                              {Description: "x", Outcome: Outcome{Kind: "great"}},
			"outcome.reason: does not belong":           {Description: "x", Outcome: Outcome{Kind: Success, Reason: "r"}},
			"reward.total":                              {Description: "x", Reward: &Reward{Total: math.NaN()}},
			"reward.components.c":                       {Description: "x", Reward: &Reward{Components: map[string]float64{"c": math.Inf(1)}}},
			"applied_patterns[0].pattern_id":            {Description: "x", AppliedPatterns: []AppliedPattern{{Effect: Helped}}},
			"metadata.k":                                {Description: "x", Metadata: map[string]string{"k": "\xff"}},
			"episode: takes":                            {Description: huge},
		} {
			err := s.PutEpisode(t.Context(), e)
			wants(t, err, ErrInvalid, field)
			if ie, ok := errors.AsType[*InvalidError](err); !ok || !strings.HasPrefix(field, ie.Field) {
				t.Errorf("%s: blamed field is %+v", field, ie)
			}
		}
		if counts, err := s.Counts(t.Context()); err != nil || counts != (Counts{}) {
			t.Errorf("something was stored: %+v, %v", counts, err)
		}
	})
}

// Steps of 20 MB go over what one row and one answer may hold.
func TestLargeEpisodes(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		big := strings.Repeat("0123456789abcde\n", 250_000) // 4 MB
		e := &Episode{Description: "large", Outcome: Outcome{Kind: Success}}
		for i := range 5 {
			e.Steps = append(e.Steps, Step{Tool: fmt.Sprint("t", i), Result: &Result{Kind: ResultOutput, Text: big}}, Step{Tool: "small"})
		}
		ok(t, s.PutEpisode(t.Context(), e))
		got, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		if len(got.Steps) != 10 || got.Steps[8].Result.Text != big || got.Steps[8].Number != 9 || got.Steps[9].Tool != "small" {
			t.Errorf("read back %d steps", len(got.Steps))
		}

		running := &Episode{Description: "growing"}
		ok(t, s.StartEpisode(t.Context(), running))
		for _, step := range e.Steps {
			if _, err := s.AppendSteps(t.Context(), running.ID, step); err != nil {
				t.Fatal(err)
			}
		}
		ok(t, s.CompleteEpisode(t.Context(), running.ID, Completion{Outcome: Outcome{Kind: Success}}))
		got, err = s.Episode(t.Context(), running.ID)
		ok(t, err)
		if len(got.Steps) != 10 || got.Steps[8].Result.Text != big || got.Outcome.Kind != Success {
			t.Errorf("read back %d steps, outcome %s", len(got.Steps), got.Outcome.Kind)
		}

		// Heads that together exceed one answer come on shorter pages.
		for range 4 {
			ok(t, s.PutEpisode(t.Context(), &Episode{Description: big}))
		}
		var n int
		for _, err := range s.Episodes(t.Context(), nil) {
			ok(t, err)
			n++
		}
		if n != 6 {
			t.Errorf("listed %d episodes, want 6", n)
		}
	})
}

func TestDamagedRowsAreNamed(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "x", Steps: []Step{{Tool: "a"}}}
	for _, sql := range []string{
		"UPDATE episodes SET payload = x'01'", "UPDATE episodes SET payload = x'7f00'", "UPDATE episodes SET payload = x''",
		"UPDATE runs SET payload = x'01'", "UPDATE runs SET payload = x'015b5d'", "UPDATE runs SET first = 2", "DELETE FROM runs",
	} {
		ok(t, s.PutEpisode(t.Context(), e))
		_, err := s.engine.Batch(t.Context(), stmt(sql))
		ok(t, err)
		_, err = s.Episode(t.Context(), e.ID)
		wants(t, err, ErrCorrupt, e.ID.String())
	}
}

// Whatever was accepted can be read, completed, listed and found, also where a
// server bounds its answers.
func TestWhatIsStoredCanBeRead(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, tt := range []struct{ head, steps, size int }{
			{0, 5, 2_000_000}, {0, 3, 3_900_000}, {0, 2, 4_400_000}, {4_000_000, 2, 3_900_000}, {4_400_000, 1, 4_400_000}, {4_400_000, 4, 1_300_000},
		} {
			e := &Episode{Description: "zebra " + strings.Repeat("y", tt.head)}
			for range tt.steps {
				e.Steps = append(e.Steps, Step{Tool: "a", Result: &Result{Kind: ResultOutput, Text: strings.Repeat("x", tt.size)}})
			}
			ok(t, s.PutEpisode(t.Context(), e))
			if got, err := s.Episode(t.Context(), e.ID); err != nil || len(got.Steps) != tt.steps {
				t.Errorf("%+v: %v", tt, err)
			}
			if err := s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}); err != nil {
				t.Errorf("%+v: %v", tt, err)
			}
			if got, err := s.Episode(t.Context(), e.ID); err != nil || len(got.Steps) != tt.steps || got.Running() {
				t.Errorf("%+v, completed: %v", tt, err)
			}
		}
		hits, err := s.Search(t.Context(), "zebra", nil)
		if err != nil || len(hits) != 6 {
			t.Errorf("found %d, %v", len(hits), err)
		}
		seen := make(map[ID]bool)
		for _, h := range hits {
			seen[h.Episode.ID] = true
		}
		if len(seen) != 6 {
			t.Errorf("found %d different episodes, want 6", len(seen))
		}
	})
}

// slowEngine keeps the statements of a write whose caller does not wait.
type slowEngine struct {
	engine.Engine
	stmts []engine.Stmt
}

func (e *slowEngine) Repeatable(_ context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	e.stmts = stmts
	return nil, &engine.Error{Kind: engine.KindUnknownOutcome, Stmt: -1, Err: context.DeadlineExceeded}
}

func (e *slowEngine) Query(context.Context, ...engine.Stmt) ([]engine.Result, error) {
	return nil, errors.New("not now")
}

func TestCallersMayReuseTheirStructs(t *testing.T) {
	slow := &slowEngine{}
	s := newStore(slow, &Options{Compression: Compression{DisableDictionaries: true}})
	e := &Episode{Description: "x", Steps: []Step{{Tool: "a"}}, Context: Context{Tags: []string{"t"}}}
	p := &Pattern{ToolSequence: &ToolSequence{Tools: []string{"a"}}}
	h := &Heuristic{Condition: "c", Action: "a"}
	r := &Relation{From: NewID(), Type: Follows, To: NewID()}
	v := &Embedding{Kind: ItemEpisode, Item: NewID(), Model: "m", Vector: []float32{1, 2}}
	for name, put := range map[string]func() error{
		"episode":   func() error { return s.PutEpisode(t.Context(), e) },
		"start":     func() error { return s.StartEpisode(t.Context(), &Episode{ID: e.ID, Description: "x"}) },
		"pattern":   func() error { return s.PutPattern(t.Context(), p) },
		"heuristic": func() error { return s.PutHeuristic(t.Context(), h) },
		"relation":  func() error { return s.PutRelation(t.Context(), r) },
		"embedding": func() error { return s.PutEmbedding(t.Context(), v) },
	} {
		wants(t, put(), ErrUnknownOutcome, "")
		before := fmt.Sprint(slow.stmts)
		e.ID[0], p.ID[0], h.ID[0], r.From[0], r.To[0], v.Item[0], v.Vector[0] = 1, 1, 1, 1, 1, 1, 9
		if after := fmt.Sprint(slow.stmts); after != before {
			t.Errorf("%s: changing the struct changes the write under way:\n%s\n%s", name, before, after)
		}
		e.ID, p.ID, h.ID, r.From, r.To, v.Item = NewID(), NewID(), NewID(), NewID(), NewID(), NewID()
	}
}

func TestCompleteDoesNotOverwriteWhatItHasNotRead(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "old", Steps: []Step{{Tool: "a"}, {Tool: "b"}}}
		ok(t, s.PutEpisode(t.Context(), e))
		read, rec, err := s.loadSome(t.Context(), s.engine, e.ID, readAtOnce)
		ok(t, err)
		done := &Completion{Outcome: Outcome{Kind: Success}}
		done.applyTo(read)
		w, err := newEpisodeRow(s.payloads, read)
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
