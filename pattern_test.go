package episodic

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var anyPattern = rapid.Custom(func(t *rapid.T) *Pattern {
	p := &Pattern{
		ID: anyID.Draw(t, "id"), Description: anyText.Draw(t, "description"), Context: anyContext.Draw(t, "context"),
		SuccessRate: rapid.Float64Range(0, 1).Draw(t, "success rate"), Occurrences: rapid.IntRange(0, math.MaxInt).Draw(t, "occurrences"),
		Evidence: list(rapid.SliceOfN(anyID, 0, 3).Draw(t, "evidence")), Metadata: metadata(t),
		Created: anyTime.Draw(t, "created"), Updated: anyTime.Draw(t, "updated"),
	}
	some := rapid.SliceOfN(anyText, 1, 3)
	latency := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "latency"))
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		p.ToolSequence = &ToolSequence{some.Draw(t, "tools"), latency}
	case 1:
		p.DecisionPoint = &DecisionPoint{someText.Draw(t, "condition"), someText.Draw(t, "action"), rapid.IntRange(0, 99).Draw(t, "successes"), rapid.IntRange(0, 99).Draw(t, "failures"), latency}
	case 2:
		p.ErrorRecovery = &ErrorRecovery{someText.Draw(t, "error"), some.Draw(t, "steps")}
	case 3:
		p.ContextPattern = &ContextPattern{some.Draw(t, "features"), someText.Draw(t, "approach")}
	}
	p.Scope = anyScope.Draw(t, "scope")
	return p
})

func TestPatternsRoundTrip(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		rapid.Check(t, func(rt *rapid.T) {
			p := anyPattern.Draw(rt, "pattern")
			want := *p
			if err := s.PutPattern(t.Context(), p); err != nil {
				rt.Fatal(err)
			}
			same(rt, *p, want)
			got, err := s.Pattern(t.Context(), p.ID)
			if err != nil {
				rt.Fatal(err)
			}
			same(rt, got, p)
		})
	})
}

func TestPatternsAreListedReplacedAndDeleted(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		var all []*Pattern
		for i := range 12 {
			p := &Pattern{Context: Context{Domain: []string{"a", "b"}[i%2]}, SuccessRate: float64(i) / 12, Description: fmt.Sprint(i), Created: time.Unix(int64(i), 0)}
			if i%3 == 0 {
				p.ErrorRecovery = &ErrorRecovery{"timeout", []string{"retry"}}
			} else {
				p.ToolSequence = &ToolSequence{Tools: []string{"grep", "edit"}}
			}
			ok(t, s.PutPattern(t.Context(), p))
			all = append(all, p)
		}
		for _, tt := range []struct {
			f    PatternFilter
			want string
		}{
			{PatternFilter{}, "11 10 9 8 7 6 5 4 3 2 1 0 "},
			{PatternFilter{Kind: KindErrorRecovery}, "9 6 3 0 "},
			{PatternFilter{Domain: "b", MinSuccessRate: 0.5}, "11 9 7 "},
		} {
			for _, limit := range []int{0, 2} {
				got := ""
				f := tt.f
				for p := (Paging{Limit: limit}); ; {
					page, err := s.ListPatterns(t.Context(), &f, &p)
					ok(t, err)
					for _, p := range page.Items {
						got += p.Description + " "
					}
					if p.Cursor = page.Next; p.Cursor == "" {
						break
					}
				}
				if got != tt.want {
					t.Errorf("%+v: %s, want %s", f, got, tt.want)
				}
			}
		}
		all[3].Description = "new"
		ok(t, s.PutPattern(t.Context(), all[3]))
		if got, err := s.Pattern(t.Context(), all[3].ID); err != nil || got.Description != "new" {
			t.Errorf("replaced: %+v, %v", got, err)
		}
		ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemPattern, Item: all[3].ID, Model: "m", Vector: []float32{1}}))
		ok(t, s.DeletePattern(t.Context(), all[3].ID))
		wants(t, s.DeletePattern(t.Context(), all[3].ID), ErrNotFound, all[3].ID.String())
		_, err := s.Pattern(t.Context(), all[3].ID)
		wants(t, err, ErrNotFound, all[3].ID.String())
		if c, err := s.Counts(t.Context()); err != nil || c.Patterns != 11 || c.Embeddings != 0 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestBadPatternsAreRefusedByField(t *testing.T) {
	s := onFile(t)
	tools := &ToolSequence{Tools: []string{"a"}}
	for field, p := range map[string]*Pattern{
		"pattern: needs exactly one":    {},
		"pattern":                       {ToolSequence: tools, ErrorRecovery: &ErrorRecovery{"e", []string{"s"}}},
		"tool_sequence.tools":           {ToolSequence: &ToolSequence{}},
		"tool_sequence.mean_latency_ms": {ToolSequence: &ToolSequence{Tools: []string{"a"}, MeanLatency: -1}},
		"decision_point.condition":      {DecisionPoint: &DecisionPoint{Action: "a"}},
		"error_recovery.steps":          {ErrorRecovery: &ErrorRecovery{Error: "e"}},
		"context_pattern.features[0]":   {ContextPattern: &ContextPattern{Features: []string{"\xff"}, Approach: "a"}},
		"success_rate":                  {ToolSequence: tools, SuccessRate: 1.1},
		"success_rate: is NaN":          {ToolSequence: tools, SuccessRate: math.NaN()},
		"occurrences":                   {ToolSequence: tools, Occurrences: -1},
	} {
		wants(t, s.PutPattern(t.Context(), p), ErrInvalid, field)
	}
	_, err := s.ListPatterns(t.Context(), &PatternFilter{Kind: "x"}, nil)
	wants(t, err, ErrInvalid, "kind")
}
