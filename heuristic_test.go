package episodic

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var anyHeuristic = rapid.Custom(func(t *rapid.T) *Heuristic {
	return &Heuristic{
		ID: anyID.Draw(t, "id"), Condition: someText.Draw(t, "condition"), Action: someText.Draw(t, "action"),
		Confidence: rapid.Float64Range(0, 1).Draw(t, "confidence"),
		Evidence: Evidence{
			Episodes:    list(rapid.SliceOfN(anyID, 0, 3).Draw(t, "episodes")),
			SuccessRate: rapid.Float64Range(0, 1).Draw(t, "success rate"), SampleSize: rapid.IntRange(0, 1<<40).Draw(t, "sample"),
		},
		Metadata: metadata(t), Created: anyTime.Draw(t, "created"), Updated: anyTime.Draw(t, "updated"),
		Scope: anyScope.Draw(t, "scope"),
	}
})

func TestHeuristicsRoundTrip(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		rapid.Check(t, func(rt *rapid.T) {
			h := anyHeuristic.Draw(rt, "heuristic")
			if err := s.PutHeuristic(t.Context(), h); err != nil {
				rt.Fatal(err)
			}
			got, err := s.Heuristic(t.Context(), h.ID)
			if err != nil {
				rt.Fatal(err)
			}
			same(rt, got, h)
		})
	})
}

func TestHeuristicsAreListedReplacedAndDeleted(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		var all []*Heuristic
		for i := range 6 {
			h := &Heuristic{Condition: fmt.Sprint(i), Action: "a", Confidence: float64(i) / 6, Created: time.Unix(int64(i), 0)}
			ok(t, s.PutHeuristic(t.Context(), h))
			all = append(all, h)
		}
		page, err := s.ListHeuristics(t.Context(), &HeuristicFilter{MinConfidence: 0.3}, &Paging{Limit: 2})
		ok(t, err)
		next, err := s.ListHeuristics(t.Context(), &HeuristicFilter{MinConfidence: 0.3}, &Paging{Limit: 2, Cursor: page.Next})
		ok(t, err)
		var got string
		for _, h := range append(page.Items, next.Items...) {
			got += h.Condition
		}
		if got != "5432" || next.Next != "" {
			t.Errorf("listed %s, next %q", got, next.Next)
		}
		all[0].Action = "b"
		ok(t, s.PutHeuristic(t.Context(), all[0]))
		if h, err := s.Heuristic(t.Context(), all[0].ID); err != nil || h.Action != "b" {
			t.Errorf("replaced: %+v, %v", h, err)
		}
		ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemHeuristic, Item: all[0].ID, Model: "m", Vector: []float32{1}}))
		ok(t, s.DeleteHeuristic(t.Context(), all[0].ID))
		wants(t, s.DeleteHeuristic(t.Context(), all[0].ID), ErrNotFound, "delete heuristic")
		if c, err := s.Counts(t.Context()); err != nil || c.Heuristics != 5 || c.Embeddings != 0 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestBadHeuristicsAreRefusedByField(t *testing.T) {
	s := onFile(t)
	for field, h := range map[string]*Heuristic{
		"condition": {Action: "a"}, "action": {Condition: "c"}, "confidence": {Condition: "c", Action: "a", Confidence: -0.1},
		"evidence.sample_size": {Condition: "c", Action: "a", Evidence: Evidence{SampleSize: -1}},
	} {
		wants(t, s.PutHeuristic(t.Context(), h), ErrInvalid, field)
	}
}
