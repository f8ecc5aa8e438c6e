package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

// decisiveCalls are those that all successful runs of a task made and no failed one did,
// found without the code under test: tools and arguments as Go prints them.
func decisiveCalls(t *testing.T, runs []airlineRun, task int) (decisive []string) {
	made, total := map[bool]map[string]int{true: {}, false: {}}, map[bool]int{}
	for _, r := range runs {
		if r.Task != task {
			continue
		}
		good, own := r.Reward >= 1, map[string]bool{}
		total[good]++
		for _, m := range r.Traj {
			for _, c := range m.ToolCalls {
				own[printedCall(t, c.Function.Name, c.Function.Arguments)] = true
			}
		}
		for c := range own {
			made[good][c]++
		}
	}
	for c, n := range made[true] {
		if total[false] > 0 && n == total[true] && made[false][c] == 0 {
			decisive = append(decisive, c)
		}
	}
	return decisive
}

func printedCall(t *testing.T, tool, arguments string) string {
	var v any
	if err := json.Unmarshal([]byte(arguments), &v); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(tool, v)
}

// paraphrased are tasks of the airline in other words.
var paraphrased = []string{
	"book a one-way economy flight from New York to Seattle on May 20 and pay with certificates",
	"move the return flight from Texas to Newark to later the same day",
	"downgrade all business class reservations to economy and say how much is saved",
	"change the return from Denver to Houston to the fastest connection",
	"upgrade New York to Chicago to economy, other passenger, three bags",
	"cheapest economy flight from ATL to PHL one day later",
	"customer wants totals of gift cards and certificates",
	"cancel the flights from MCO to CLT with a refund",
	"customer insists on refund of a basic economy ticket",
	"passenger complains about a delayed flight and wants compensation",
	"remove a passenger from a reservation",
	"change to a nonstop flight because a pet is sick",
}

// Of the tasks that some runs solved and others did not, a Brief names the call that made
// the difference; it is silent about tasks of other kinds, and never about its own.
func TestBriefOfRealRuns(t *testing.T) {
	runs, err := airlineRuns("../../shared/data")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	store, err := episodic.Open(t.Context(), filepath.Join(t.TempDir(), "m.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for i := range runs {
		if err := store.PutEpisode(t.Context(), runs[i].episode()); err != nil {
			t.Fatal(err)
		}
	}
	brief := func(task string) *episodic.Brief {
		b, err := store.Brief(t.Context(), task, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// names reports how many of some calls the text of a Brief names in full, as worked.
	names := func(b *episodic.Brief, calls []string) (n int) {
		text := b.Text()
		for _, task := range b.Tasks {
			for _, c := range task.Worked {
				if strings.HasSuffix(c.Arguments, "…") || !strings.Contains(text, strings.Join(strings.Fields(c.Tool+" "+c.Arguments), " ")) {
					continue
				}
				if slices.Contains(calls, printedCall(t, c.Tool, c.Arguments)) {
					n++
				}
			}
		}
		return n
	}
	tasks := make(map[int]*airlineRun)
	for i := range runs {
		if tasks[runs[i].Task] == nil {
			tasks[runs[i].Task] = &runs[i]
		}
	}
	asked, byInstruction, byMessage, silent := 0, 0, 0, 0
	for n, r := range tasks {
		message := ""
		for _, m := range r.Traj {
			if m.Role == "user" {
				message = m.Content
				break
			}
		}
		instructed, told := brief(r.Info.Task.Instruction), brief(message)
		for _, b := range []*episodic.Brief{instructed, told} {
			if b.Text() == "" {
				silent++
			}
		}
		if calls := decisiveCalls(t, runs, n); len(calls) > 0 {
			asked++
			byInstruction += min(1, names(instructed, calls))
			byMessage += min(1, names(told, calls))
			t.Logf("task %d: %d of %d decisive calls named for the instruction, %d for the first message", n, names(instructed, calls), len(calls), names(told, calls))
		}
	}
	for _, task := range paraphrased {
		if brief(task).Text() == "" {
			silent++
			t.Logf("silent: %s", task)
		}
	}
	t.Logf("a decisive call is named in %d of %d tasks for the instruction, in %d for the first message; silent for %d of %d airline tasks",
		byInstruction, asked, byMessage, silent, 2*len(tasks)+len(paraphrased))
	if 10*byInstruction < 6*asked || silent > 0 {
		t.Error("a decisive call is to be named in 6 of 10 tasks, and no airline task to be met with silence")
	}

	text, err := os.ReadFile("testdata/unrelated.txt")
	if err != nil {
		t.Fatal(err)
	}
	unrelated, quiet := strings.Split(strings.TrimSpace(string(text)), "\n"), 0
	for _, task := range unrelated {
		if b := brief(task); b.Text() == "" {
			quiet++
		} else {
			t.Logf("not silent: %s\n%s", task, b.Text())
		}
	}
	t.Logf("silent for %d of %d unrelated tasks", quiet, len(unrelated))
	if 10*quiet < 9*len(unrelated) {
		t.Error("9 of 10 unrelated tasks are to be met with silence")
	}
}
