package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// Exports of what has changed, made one after the other while others write, miss nothing: a
// memory that has imported them is the same in the end.
func TestExportsOfChangesMissNothing(t *testing.T) {
	c := newCLI(t)
	s := c.store()
	writes := testkit.Effort(30, 60, 2000)
	written := make(chan error)
	go func() {
		defer close(written)
		var all []*episodic.Episode
		for i := range writes {
			e := &episodic.Episode{Description: fmt.Sprintf("task %d", i), Steps: []episodic.Step{{Action: "a"}}}
			errs := []error{s.PutEpisode(t.Context(), e)}
			all = append(all, e)
			switch of := all[i/2]; i % 6 {
			case 1:
				errs = append(errs, s.DeleteEpisode(t.Context(), e.ID))
				all[i] = all[i-1]
			case 2:
				errs = append(errs, s.AddTags(t.Context(), of.ID, fmt.Sprintf("tag %d", i)))
			case 3:
				run := &episodic.Episode{Description: "running"}
				errs = append(errs, s.PutEpisode(t.Context(), run))
				_, err := s.AppendSteps(t.Context(), run.ID, episodic.Step{Action: "b"})
				errs = append(errs, err, s.CompleteEpisode(t.Context(), run.ID, episodic.Completion{Outcome: episodic.Outcome{Kind: episodic.Success}}))
			case 4:
				errs = append(errs, s.PutHeuristic(t.Context(), &episodic.Heuristic{Condition: "c", Action: fmt.Sprint(i), Confidence: 0.5}))
			case 5:
				p := &episodic.Pattern{ToolSequence: &episodic.ToolSequence{Tools: []string{"x"}}}
				errs = append(errs, s.PutPattern(t.Context(), p))
				p.Occurrences = i
				errs = append(errs, s.PutPattern(t.Context(), p))
			}
			for _, err := range errs {
				if err != nil {
					written <- err
					return
				}
			}
		}
	}()

	other := *c
	other.env = map[string]string{"EPISODIC_DB": filepath.Join(c.home, "copy.db"), liveDirEnv: c.env[liveDirEnv]}
	var last int64
	for i, more := 0, true; more; i++ {
		select {
		case err := <-written: // once more after the last write
			if more = false; err != nil {
				t.Fatal(err)
			}
		default:
		}
		var text string
		text, last = c.exports("--since", strconv.FormatInt(last, 10))
		other.ok("import", c.file(fmt.Sprintf("%d.jsonl", i), text))
	}
	lines := func(text string) []string { return slices.Sorted(strings.Lines(text)) }
	want, _ := c.exports()
	got, _ := other.exports()
	if w, g := lines(want), lines(got); !slices.Equal(w, g) {
		for _, line := range w {
			if !slices.Contains(g, line) {
				t.Errorf("missing: %s", line)
			}
		}
		for _, line := range g {
			if !slices.Contains(w, line) {
				t.Errorf("too much: %s", line)
			}
		}
	}
}
