package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
)

func TestEpisodesRoundTrip(t *testing.T) {
	t.Parallel()
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
			if hits, err := s.searchHits(t.Context(), q, nil); err != nil || len(hits) != want {
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
		if n := number(t, s, "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM tags)"); n != 0 {
			t.Errorf("%d rows are left behind", n)
		}
		checkIndex(t, s)
		_, err = s.Episode(t.Context(), e.ID)
		wants(t, err, ErrNotFound, e.ID.String())
		wants(t, s.DeleteEpisode(t.Context(), e.ID), ErrNotFound, e.ID.String())
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

func TestBadEpisodesAreRefusedByField(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		huge := strings.Repeat("x", 10<<20)
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
			"steps[1]: takes 10485":                     {Description: "x", Steps: []Step{{Tool: "a"}, {Tool: "b", Result: &Result{Kind: ResultOutput, Text: huge}}}},
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
	s := newStore(slow, &Options{Compression: Compression{DisableDictionaries: true}}, nil, false)
	t.Cleanup(s.indexer.close)
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

func TestDamagedRowsAreNamed(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "x", Steps: []Step{{Tool: "a"}}}
	for _, sql := range []string{
		"UPDATE episodes SET payload = x'01'", "UPDATE episodes SET payload = x'7f00'", "UPDATE episodes SET payload = x''",
		"UPDATE runs SET payload = x'01'", "UPDATE runs SET payload = x'015b5d'", "UPDATE runs SET place = place + 1", "DELETE FROM runs",
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
