package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/tokens"
)

// program is the path of episodic, built of this source.
var program string

func TestMain(m *testing.M) {
	if os.Getenv("EPISODIC_AGENTS") == "" {
		os.Exit(m.Run()) // the tests say what they need
	}
	dir, err := os.MkdirTemp("", "agenttest")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "episodic")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/episodic-memory/episodic/cmd/episodic").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// each runs a test with each agent program.
func each(t *testing.T, test func(t *testing.T, a *Agent, h *Home, m *Model)) {
	for _, a := range Agents {
		t.Run(a.Name, func(t *testing.T) {
			Part(t, a.file)
			test(t, a, NewHome(t, program), NewModel(t))
		})
	}
}

const (
	task    = "Please find out why the payment test of the shop fails at noon"
	again   = "The payment test of the shop fails again, at noon"
	lesson  = "use the fake clock in tests of payments"
	summary = "The payment test now has a fake clock"
)

// calls is a turn in which tools are called.
func calls(calls ...Call) Turn { return Turn{Calls: calls} }

var done = Turn{Text: summary + "."}

func TestAnEpisodeThroughTools(t *testing.T) {
	each(t, func(t *testing.T, a *Agent, h *Home, m *Model) {
		a.SetUp(t, h, m, "--no-hooks")
		a.Session(t, h, m, task,
			calls(a.Tool("start", object{"task": task})),
			calls(a.Tool("log", object{"steps": []any{object{"tool": "go", "input": "test ./pay", "result": "FAIL: it is noon", "failed": true}}})),
			calls(a.Tool("complete", object{"outcome": "success", "summary": summary})),
			calls(a.Tool("learn", object{"text": lesson, "when": "a payment test fails at certain times"})),
			done)
		e := one(t, h)
		if e.Description != task || e.Scope.Project != Project || e.Outcome.Kind != episodic.Success || len(e.Steps) != 1 || !failed(e.Steps[0]) {
			t.Errorf("the episode is %s", show(e))
		}

		requests := a.Session(t, h, m, again, calls(a.Tool("recall", object{"query": again})), done)
		answer := requests[1].Frames()
		if len(answer) != 1 || !strings.Contains(answer[0], lesson) || !strings.Contains(answer[0], summary) {
			t.Errorf("the second session recalls %q in %s", answer, requests[1].Prompt)
		}
	})
}

func TestAnEpisodeThroughHooks(t *testing.T) {
	each(t, func(t *testing.T, a *Agent, h *Home, m *Model) {
		a.SetUp(t, h, m)
		file := filepath.Join(h.Folder, "clock.txt")
		a.Session(t, h, m, task,
			calls(a.Shell("echo it is noon")),
			calls(a.Shell("echo no such shop >&2; exit 3")),
			calls(a.Write(file, "twelve")),
			done)
		e := one(t, h)
		if !strings.Contains(e.Description, task) || e.Scope.Project != Project || e.Outcome.Kind != "" || e.Running() != a.Endless {
			t.Errorf("the episode is %s", show(e))
		}
		if len(e.Steps) != 3 || failed(e.Steps[0]) || !failed(e.Steps[1]) || failed(e.Steps[2]) ||
			!strings.Contains(e.Steps[0].Result.Text, "it is noon") || !strings.Contains(e.Steps[1].Result.Text, "no such shop") {
			t.Errorf("the steps are %s", show(e))
		}

		first := a.Session(t, h, m, again, done)[0]
		told(t, first, task)
		for complaint := range strings.Lines(h.Complaints(t)) {
			// On a busy machine a hook gives up, and loses nothing.
			if !strings.Contains(complaint, "given up after") {
				t.Errorf("a hook complains: %s", complaint)
			}
		}
	})
}

// What hooks record and what the model says of it by tools is one episode.
func TestAnEpisodeThroughHooksAndTools(t *testing.T) {
	each(t, func(t *testing.T, a *Agent, h *Home, m *Model) {
		a.SetUp(t, h, m)
		a.Session(t, h, m, task,
			calls(a.Tool("recall", object{"query": task})),
			calls(a.Shell("echo it is noon")),
			calls(a.Tool("complete", object{"outcome": "success", "summary": summary})),
			calls(a.Tool("learn", object{"text": lesson, "when": "a payment test fails at certain times"})),
			done)
		e := one(t, h)
		if !strings.Contains(e.Description, task) || e.Outcome.Kind != episodic.Success || e.Running() {
			t.Errorf("the episode is %s", show(e))
		}
		if n := strings.Count(show(e), `echo it is noon`); n != 1 {
			t.Errorf("the command is recorded %d times: %s", n, show(e))
		}

		first := a.Session(t, h, m, again, done)[0]
		told(t, first, lesson, summary)
	})
}

// one is the only episode.
func one(t *testing.T, h *Home) *episodic.Episode {
	t.Helper()
	episodes := h.Episodes(t)
	if len(episodes) != 1 {
		for _, e := range episodes {
			t.Log(show(e))
		}
		t.Fatalf("there are %d episodes; hooks say %s", len(episodes), h.Complaints(t))
	}
	return episodes[0]
}

// told checks that a model was told something of the memory, in frames, and not too much.
func told(t *testing.T, r *Request, what ...string) {
	t.Helper()
	frames := strings.Join(r.Frames(), "\n")
	for _, w := range what {
		if !strings.Contains(frames, w) {
			t.Errorf("the model is not told %q:\n%s", w, frames)
		}
	}
	const most = 700 // 400 at the start, and 300 with the prompt
	if n := tokens.Count(frames); n > most {
		t.Errorf("the model is told %d tokens:\n%s", n, frames)
	}
}

func failed(s episodic.Step) bool { return s.Result != nil && s.Result.Kind == episodic.ResultError }

func show(e *episodic.Episode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q of %v, running %v, %+v, %v", e.ID, e.Description, e.Scope, e.Running(), e.Outcome, e.Metadata)
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "\n  %d %s %s", s.Number, s.Tool, s.Parameters)
		if s.Result != nil {
			fmt.Fprintf(&b, " -> %s %q", s.Result.Kind, s.Result.Text)
		}
	}
	return b.String()
}
