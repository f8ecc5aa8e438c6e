package transcript

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const realData = "../../../shared/data"

// openReal opens a real file, or skips the test where it is absent.
func openReal(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(realData, name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no %s; it lies in ../shared/data, seen from the project", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// kept are all texts of an episode, each in a line of its own as JSON has it.
func kept(t *testing.T, run *Run) string {
	t.Helper()
	e := run.Episode
	texts := []string{e.Description, e.Outcome.Verdict, e.Outcome.Reason}
	for _, v := range e.Metadata {
		texts = append(texts, v)
	}
	for i := range e.Steps {
		s := &e.Steps[i]
		texts = append(texts, s.Action, string(s.Parameters))
		if s.Result != nil {
			texts = append(texts, s.Result.Text)
		}
		for _, v := range s.Metadata {
			texts = append(texts, v)
		}
	}
	return strings.Join(texts, "\n\x00\n")
}

// TestTauBench: all that was said, called and answered in a run of tau-bench is kept.
func TestTauBench(t *testing.T) {
	t.Parallel()
	const name = "tau-bench-airline.jsonl"
	type call struct {
		Function struct{ Name, Arguments string }
	}
	type record struct {
		Reward float64
		Traj   []struct {
			Role    string
			Content string
			Calls   []call `json:"tool_calls"`
		}
		Info struct{ Task struct{ Instruction string } }
	}
	dec := json.NewDecoder(openReal(t, name))
	runs, bytes, without := 0, 0, 0
	for run, err := range Read(openReal(t, name), name, &Options{System: true}) {
		if err != nil {
			t.Fatal(err)
		}
		var r record
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		runs++
		text := kept(t, run)
		has := func(what, want string) {
			t.Helper()
			bytes += len(want)
			if !strings.Contains(text, strings.TrimSpace(want)) {
				t.Errorf("line %d: %s is not kept: %.200q", run.Line, what, want)
			}
		}
		has("task", r.Info.Task.Instruction)
		calls := 0
		for _, m := range r.Traj {
			has("content of "+m.Role, m.Content)
			for _, c := range m.Calls {
				has("call", c.Function.Arguments)
				calls++
			}
		}
		done := 0
		for i := range run.Episode.Steps {
			if run.Episode.Steps[i].Tool != "" {
				done++
			}
		}
		if calls == 0 {
			without++
		}
		if done != calls || len(run.Episode.Steps) == 0 {
			t.Errorf("line %d: %d steps, %d of them calls, want %d calls", run.Line, len(run.Episode.Steps), done, calls)
		}
		if want := map[float64]string{0: "failure", 1: "success"}[r.Reward]; string(run.Episode.Outcome.Kind) != want {
			t.Errorf("line %d: outcome %q, want %q", run.Line, run.Episode.Outcome.Kind, want)
		}
		if len(run.Odd) > 0 {
			t.Errorf("line %d: odd %v", run.Line, run.Odd)
		}
	}
	if runs != 100 {
		t.Errorf("%d runs, want 100", runs)
	}
	t.Logf("%d bytes of text in %d runs, %d of them without a call", bytes, runs, without)
}

// TestSWERuns: all of the runs of a coding agent are kept.
func TestSWERuns(t *testing.T) {
	t.Parallel()
	const name = "swe-runs.jsonl.gz"
	in, done, err := plain(openReal(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	dec := json.NewDecoder(in)
	runs, steps := 0, 0
	for run, err := range Read(openReal(t, name), name, nil) {
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			ID, Repo, Task string
			Steps          []struct {
				Thought, Command, Result string
				Returncode               *int
			}
		}
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if runs++; runs == 20 { // of 500; all of them take seconds
			break
		}
		e := run.Episode
		if e.Metadata["id"] != r.ID || e.Metadata["repo"] != r.Repo || len(e.Steps) != len(r.Steps) || len(run.Left)+len(run.Odd) > 0 {
			t.Fatalf("%s: %v, %d steps, want %d; left %v, odd %v", r.ID, e.Metadata, len(e.Steps), len(r.Steps), run.Left, run.Odd)
		}
		text := kept(t, run)
		for i, s := range r.Steps {
			steps++
			kind := "output"
			if s.Returncode != nil && *s.Returncode != 0 {
				kind = "error"
			}
			got := e.Steps[i]
			if strings.TrimSpace(got.Action) != strings.TrimSpace(s.Thought) || got.Result == nil || got.Result.Text != s.Result || string(got.Result.Kind) != kind {
				t.Fatalf("%s: step %d is %+v, want %+v", r.ID, i+1, got, s)
			}
			var parameters struct{ Command string }
			if err := json.Unmarshal([]byte(got.Parameters), &parameters); err != nil || parameters.Command != s.Command {
				t.Fatalf("%s: step %d has the parameters %s, %v, want %q", r.ID, i+1, got.Parameters, err, s.Command)
			}
		}
		if !strings.Contains(text, strings.TrimSpace(r.Task)) {
			t.Errorf("%s: the task is not kept", r.ID)
		}
	}
	if runs != 20 || steps < 400 {
		t.Errorf("%d runs, %d steps", runs, steps)
	}
}
