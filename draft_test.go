package episodic

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Completing what this Store has started and nobody else has touched asks nothing.
func TestCompletingTakesOneRoundTrip(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		// Looking for dictionaries would be a read besides.
		s, other := open(t, target, &Options{Compression: Compression{Dictionaries: Off}}), open(t, target, nil)
		for _, tt := range []struct {
			name     string
			between  func(ID)
			reads    uint64
			tools    string
			metadata string
		}{
			{"own", func(ID) {}, 0, "abcd", "s"},
			{"appended by another", func(id ID) {
				_, err := other.AppendSteps(t.Context(), id, Step{Tool: "x"})
				ok(t, err)
			}, 1, "abcdx", "s"},
			{"appended by both", func(id ID) {
				_, err := other.AppendSteps(t.Context(), id, Step{Tool: "x"})
				ok(t, err)
				_, err = s.AppendSteps(t.Context(), id, Step{Tool: "y"})
				ok(t, err)
			}, 1, "abcdxy", "s"},
			{"put by another", func(id ID) {
				ok(t, other.PutEpisode(t.Context(), &Episode{ID: id, Description: "x", Steps: []Step{{Tool: "z"}}}))
			}, 1, "z", ""},
			{"forgotten", func(ID) { s.drafts.grow(maxDrafts + 1) }, 1, "abcd", "s"},
		} {
			e := &Episode{Description: "x", Context: Context{Tags: []string{"t"}}, Steps: []Step{{Tool: "a"}}, Metadata: map[string]string{"by": "s"}}
			ok(t, s.Start(t.Context(), e))
			for _, tool := range []string{"b", "c", "d"} {
				step := []Step{{Tool: tool}}
				_, err := s.AppendSteps(t.Context(), e.ID, step...)
				ok(t, err)
				step[0].Tool = "changed by its owner"
			}
			tt.between(e.ID)
			before := s.Stats().Reads
			ok(t, s.Complete(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}, Reward: &Reward{Total: 1}}))
			if n := s.Stats().Reads - before; n != tt.reads {
				t.Errorf("%s: %d reads to complete, want %d", tt.name, n, tt.reads)
			}
			got, err := other.Episode(t.Context(), e.ID)
			ok(t, err)
			var tools strings.Builder
			for _, step := range got.Steps {
				tools.WriteString(step.Tool)
			}
			if got.Running() || tools.String() != tt.tools || got.Metadata["by"] != tt.metadata || got.Reward == nil || (tt.metadata == "s") != slices.Equal(got.Context.Tags, []string{"t"}) {
				t.Errorf("%s: completed as %+v", tt.name, got)
			}
			if n := number(t, s, fmt.Sprintf("SELECT count(*) FROM runs JOIN episodes ON seq = episode WHERE hex(id) = '%X'", e.ID.bytes())); n != 1 {
				t.Errorf("%s: the steps lie in %d rows", tt.name, n)
			}
			if s.drafts.bytes != 0 || len(s.drafts.byID) != 0 {
				t.Errorf("%s: %d bytes of %d drafts are left", tt.name, s.drafts.bytes, len(s.drafts.byID))
			}
		}
	})
}

func TestCompletingKeepsASingleRun(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		s, other := open(t, target, nil), open(t, target, nil)
		for _, by := range []*Store{s, other} { // who knows what was recorded, and who has to read it
			e := &Episode{Description: "x"}
			ok(t, s.Start(t.Context(), e))
			_, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "a"}, Step{Tool: "b"})
			ok(t, err)
			ok(t, by.Complete(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
			if got, err := other.Episode(t.Context(), e.ID); err != nil || len(got.Steps) != 2 || got.Steps[1].Tool != "b" || got.Running() {
				t.Errorf("completed as %+v, %v", got, err)
			}
		}
	})
}

func TestDraftsAreCounted(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "x"}
	for range 3 {
		ok(t, s.Start(t.Context(), e))
		ok(t, s.DeleteEpisode(t.Context(), e.ID))
	}
	if d := &s.drafts; len(d.byID) != 1 || d.bytes != d.byID[e.ID].bytes || d.bytes < headCost {
		t.Errorf("%d drafts of %d bytes", len(d.byID), d.bytes)
	}
}
