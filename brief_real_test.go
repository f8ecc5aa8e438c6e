package episodic

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// airlineRun is a run of tau-bench's airline agent.
type airlineRun struct {
	Task   int     `json:"task_id"`
	Trial  int     `json:"trial"`
	Reward float64 `json:"reward"`
	Info   struct {
		Task struct {
			Instruction string `json:"instruction"`
		} `json:"task"`
	} `json:"info"`
	Traj []struct {
		Role      string `json:"role"`
		Content   string `json:"content"`
		ToolCalls []struct {
			Function struct{ Name, Arguments string } `json:"function"`
		} `json:"tool_calls"`
	} `json:"traj"`
}

// airlineRuns reads the real runs, which are no part of the repository.
func airlineRuns(t testing.TB) (runs []airlineRun) {
	folder := cmp.Or(os.Getenv("EPISODIC_DATA"), "../shared/data")
	f, err := os.Open(filepath.Join(folder, "tau-bench-airline.jsonl"))
	if err != nil {
		t.Skipf("real runs are measured only where EPISODIC_DATA has them: %v", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 10<<20)
	for lines.Scan() {
		var r airlineRun
		ok(t, json.Unmarshal(lines.Bytes(), &r))
		runs = append(runs, r)
	}
	ok(t, lines.Err())
	return runs
}

// episode is what the agent would have recorded.
func (r *airlineRun) episode() *Episode {
	start := time.Date(2026, 1, 1+r.Task, r.Trial, 0, 0, 0, time.UTC)
	e := &Episode{Description: r.Info.Task.Instruction, Context: Context{Domain: "airline"}, Start: start, End: start.Add(time.Minute), Reward: &Reward{Total: r.Reward}}
	last := ""
	for _, m := range r.Traj {
		if m.Role == "tool" {
			s := &e.Steps[len(e.Steps)-1]
			s.Result = &Result{Kind: ResultOutput, Text: m.Content}
			if strings.HasPrefix(m.Content, "Error") {
				s.Result.Kind = ResultError
			}
		}
		if m.Role == "assistant" && m.Content != "" {
			last = m.Content
		}
		for _, c := range m.ToolCalls {
			e.Steps = append(e.Steps, Step{Tool: c.Function.Name, Action: m.Content, Parameters: JSON(c.Function.Arguments)})
		}
	}
	e.Outcome = Outcome{Kind: Failure, Reason: last}
	if r.Reward >= 1 {
		e.Outcome = Outcome{Kind: Success, Verdict: last}
	}
	return e
}

func (r *airlineRun) firstMessage() string {
	for _, m := range r.Traj {
		if m.Role == "user" {
			return m.Content
		}
	}
	return ""
}

// decisiveCalls are those of all successful runs of a task and of no failed one, found
// without the code under test. Each is a tool and arguments as a Go value, printed.
func decisiveCalls(t testing.TB, runs []airlineRun, task int) (decisive []string) {
	count := map[bool]map[string]int{true: {}, false: {}}
	total := map[bool]int{}
	for _, r := range runs {
		if r.Task != task {
			continue
		}
		good := r.Reward >= 1
		total[good]++
		mine := map[string]bool{}
		for _, m := range r.Traj {
			for _, c := range m.ToolCalls {
				mine[decodedCall(t, c.Function.Name, c.Function.Arguments)] = true
			}
		}
		for c := range mine {
			count[good][c]++
		}
	}
	for c, n := range count[true] {
		if total[false] > 0 && n == total[true] && count[false][c] == 0 {
			decisive = append(decisive, c)
		}
	}
	slices.Sort(decisive)
	return decisive
}

func decodedCall(t testing.TB, tool, arguments string) string {
	var v any
	ok(t, json.Unmarshal([]byte(arguments), &v))
	return fmt.Sprint(tool, v)
}

func TestBriefOnRealRuns(t *testing.T) {
	runs := airlineRuns(t)
	s := onFile(t)
	for i := range runs {
		ok(t, s.PutEpisode(t.Context(), runs[i].episode()))
	}
	first := func(task int) *airlineRun {
		return &runs[slices.IndexFunc(runs, func(r airlineRun) bool { return r.Task == task })]
	}
	for task := range 25 {
		r := first(task)
		for _, q := range []string{r.Info.Task.Instruction, r.firstMessage()} {
			b, err := s.Brief(t.Context(), q, nil)
			ok(t, err)
			fit, same := 0.0, false
			if len(b.Tasks) > 0 {
				fit = b.Tasks[0].Fit
				same = strings.HasPrefix(oneLine(r.Info.Task.Instruction), strings.TrimSuffix(b.Tasks[0].Description, "…"))
			}
			named, all := 0, decisiveCalls(t, runs, task)
			for _, c := range all {
				for _, bt := range b.Tasks {
					if slices.ContainsFunc(bt.Worked, func(k Call) bool {
						return !strings.HasSuffix(k.Arguments, "…") && decodedCall(t, k.Tool, k.Arguments) == c
					}) {
						named++
						break
					}
				}
			}
			t.Logf("task %d fit %.2f same %v tasks %d named %d of %d tokens %d", task, fit, same, len(b.Tasks), named, len(all), countTokens(b.Text()))
			if os.Getenv("SHOW") != "" {
				t.Log("\n" + b.Text())
			}
		}
	}
	text, err := os.ReadFile("testdata/unrelated.txt")
	ok(t, err)
	silent := 0
	for q := range strings.Lines(string(text)) {
		b, err := s.Brief(t.Context(), q, nil)
		ok(t, err)
		if b.Text() == "" {
			silent++
		} else {
			t.Logf("not silent: %.2f %s\n%.300s", b.Tasks[0].Fit, q, b.Text())
		}
	}
	t.Log("silent", silent)
}
