package episodic

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/tokens"
)

func TestNormalJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"b": 1, "a": [2, {"d":null,"c":true}]}`: `{"a":[2,{"c":true,"d":null}],"b":1}`,
		`{"q":"a  b<c>"}`:                         `{"q":"a  b<c>"}`,
		` 1.50 `:                                  `1.50`,
		`12345678901234567890`:                    `12345678901234567890`,
		`"\u00e9"`:                                `"é"`,
		`{}`:                                      `{}`,
		``:                                        ``,
		`{"a":`:                                   `{"a":`,
	} {
		if got := normalJSON(text); got != want {
			t.Errorf("normalJSON(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzNormalJSON(f *testing.F) {
	for _, text := range []string{`{"b":1,"a":[1.0,"x"]}`, `[]`, `{"a":{"b":{}}}`, `"\ud800"`, `1e400`, `{"a":1,"a":2}`, `1 2`, "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal := normalJSON(text)
		if again := normalJSON(normal); again != normal {
			t.Errorf("%q becomes %q, and that %q", text, normal, again)
		}
		if json.Valid([]byte(text)) && !json.Valid([]byte(normal)) {
			t.Errorf("%q becomes %q, which is no JSON", text, normal)
		}
	})
}

// ran is a run whose calls are written "tool arguments", and end with "!" if they failed.
func ran(outcome OutcomeKind, calls ...string) *Episode {
	e := &Episode{Outcome: Outcome{Kind: outcome}}
	for i, c := range calls {
		text, failed := strings.CutSuffix(c, "!")
		tool, arguments, _ := strings.Cut(text, " ")
		s := Step{Number: i + 1, Tool: tool, Parameters: JSON(arguments), Result: &Result{Kind: ResultOutput}}
		if failed {
			s.Result.Kind = ResultError
		}
		e.Steps = append(e.Steps, s)
	}
	return e
}

func TestCompareRuns(t *testing.T) {
	for name, c := range map[string]struct {
		runs           []*Episode
		worked, failed []string // with the step and the number of runs
	}{
		"nothing": {},
		"key order and white space do not matter": {
			runs:   []*Episode{ran(Success, `book {"a":1,"b":2}`, `pay {"x": 1}`), ran(Success, `pay {"x":1}`, `book { "b":2, "a":1 }`), ran(Failure, `book {"a":1,"b":3}`)},
			worked: []string{`pay {"x":1} 2 2`, `book {"a":1,"b":2} 1 2`},
			failed: []string{`book {"a":1,"b":3} 1 1`},
		},
		"what a failed run did too made no difference": {
			runs:   []*Episode{ran(Success, `look {}`, `act {}`), ran(Failure, `look {}`)},
			worked: []string{`act {} 2 1`},
		},
		"what one successful run did without was not needed": {
			runs: []*Episode{ran(Success, `a {}`, `b {}`), ran(Success, `b {}`), ran(Abstained, `b {}`)},
		},
		"calls that failed are the last, what most failed runs did is the first": {
			runs:   []*Episode{ran(Success, `a {}`, `b {}!`), ran(Failure, `x {}`, `y {}!`), ran(Failure, `y {}!`, `z {}`)},
			worked: []string{`a {} 1 1`, `b {} 2 1`},
			failed: []string{`y {} 2 2`, `z {} 2 1`, `x {} 1 1`},
		},
		"without a success only errors went wrong": {
			runs:   []*Episode{ran(Failure, `a {}`, `b {}!`), ran(Failure, `a {}`)},
			failed: []string{`b {} 2 1`},
		},
		"a repeated call counts once, where it was made last": {
			runs:   []*Episode{ran(Success, `a {}`, `b {}`, `a {}`), ran(Failure)},
			worked: []string{`a {} 3 1`, `b {} 2 1`},
		},
		"runs that were not judged, or half succeeded, are not compared": {
			runs:   []*Episode{ran("", `a {}`), ran(PartialSuccess, `b {}`), ran(Success, `a {}`, `b {}`)},
			worked: []string{`b {} 2 1`, `a {} 1 1`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var runs []ranRun
			for _, e := range c.runs {
				runs = append(runs, ranRun{e, callsOf(e)})
			}
			written := func(calls []Call) (list []string) {
				for _, k := range calls {
					list = append(list, fmt.Sprint(k.Tool, " ", k.Arguments, " ", k.Step, " ", k.Runs))
				}
				return list
			}
			worked, failed := compareRuns(runs)
			if got := written(worked); !reflect.DeepEqual(got, c.worked) {
				t.Errorf("worked %q, want %q", got, c.worked)
			}
			if got := written(failed); !reflect.DeepEqual(got, c.failed) {
				t.Errorf("failed %q, want %q", got, c.failed)
			}
		})
	}
}

var anyCalls = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Call {
	return Call{
		Tool: anyText.Draw(t, "tool"), Arguments: strings.Repeat(anyText.Draw(t, "arguments"), rapid.IntRange(1, 40).Draw(t, "times")), Episode: anyID.Draw(t, "episode"),
		Start: anyTime.Draw(t, "start"), Step: rapid.IntRange(1, 1000).Draw(t, "step"), Runs: rapid.IntRange(1, 9).Draw(t, "runs"),
		Result: rapid.SampledFrom([]ResultKind{"", ResultOutput, ResultError}).Draw(t, "result"),
	}
}), 0, maxCalls)

var anyBrief = rapid.Custom(func(t *rapid.T) *Brief {
	b := &Brief{}
	for range rapid.IntRange(0, briefTasks).Draw(t, "tasks") {
		x := BriefTask{
			Description: oneLine(strings.Repeat(someText.Draw(t, "description"), rapid.IntRange(1, 40).Draw(t, "times"))), Fit: 0.5,
			Worked: anyCalls.Draw(t, "worked"), Failed: anyCalls.Draw(t, "failed"),
		}
		for range rapid.IntRange(1, briefNamed).Draw(t, "runs") {
			x.Runs = append(x.Runs, Alike{ID: anyID.Draw(t, "run"), Outcome: rapid.SampledFrom([]OutcomeKind{"", Success, PartialSuccess}).Draw(t, "outcome"), Start: anyTime.Draw(t, "start")})
		}
		x.Total = rapid.IntRange(len(x.Runs), 1_000_000).Draw(t, "total")
		x.Successes = rapid.IntRange(0, x.Total).Draw(t, "successes")
		x.Failures = x.Total - x.Successes
		x.Compared = rapid.IntRange(0, x.Total).Draw(t, "compared")
		if rapid.Bool().Draw(t, "result") {
			x.Result = &RunResult{Episode: x.Runs[0].ID, Text: anyText.Draw(t, "said")}
		}
		if calls := anyCalls.Draw(t, "next"); len(calls) > 0 {
			x.Match = &StepMatch{Episode: anyID.Draw(t, "of"), StepHit: StepHit{Number: 3, Tool: anyText.Draw(t, "matched"), Snippet: anyText.Draw(t, "snippet")}, Next: &calls[0]}
		}
		b.Tasks = append(b.Tasks, x)
	}
	for range rapid.IntRange(0, briefLessons).Draw(t, "lessons") {
		b.Lessons = append(b.Lessons, Lesson{Kind: LessonHeuristic, ID: anyID.Draw(t, "id"), Time: anyTime.Draw(t, "time"), Text: strings.Repeat(anyText.Draw(t, "text"), rapid.IntRange(1, 40).Draw(t, "times"))})
	}
	return b
})

func TestBriefKeepsToItsBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := anyBrief.Draw(t, "brief")
		budget := rapid.IntRange(leastBudget, 2000).Draw(t, "budget")
		b := all.within(budget)
		text := b.Text()
		if n := tokens.Count(text); n > budget {
			t.Fatalf("%d tokens, more than %d:\n%s", n, budget, text)
		}
		if !utf8.ValidString(text) {
			t.Fatalf("%q is no UTF-8", text)
		}
		if empty := len(all.Tasks)+len(all.Lessons) == 0; empty != (text == "") {
			t.Fatalf("of %d tasks and %d lessons: %q", len(all.Tasks), len(all.Lessons), text)
		}
		if again := all.within(budget); !reflect.DeepEqual(again, b) {
			t.Fatal("it is cut in two ways")
		}
		for _, line := range strings.Split(text, "\n") {
			if strings.ContainsFunc(line, func(r rune) bool { return r == '\r' || r == '\v' || r == '\u2028' || r == '\u0085' }) {
				t.Fatalf("%q is several lines", line)
			}
		}
	})
}

func day(n int) time.Time { return time.Date(2026, 3, n, 9, 0, 0, 0, time.UTC) }

// deployments are four runs of a task, one of a task like it, and one of another.
func deployments() []*Episode {
	run := func(n int, description string, outcome Outcome, steps ...Step) *Episode {
		return &Episode{ID: ID{15: byte(n), 0: byte(n)}, Description: description, Start: day(n), End: day(n).Add(time.Hour), Outcome: outcome, Steps: steps}
	}
	step := func(tool, parameters, result string) Step {
		s := Step{Tool: tool, Parameters: JSON(parameters), Result: &Result{Kind: ResultOutput, Text: result}}
		if strings.HasPrefix(result, "error") {
			s.Result.Kind = ResultError
		}
		return s
	}
	const task = "Deploy the billing service to the staging cluster"
	good, bad := Outcome{Kind: Success, Verdict: "billing answers"}, Outcome{Kind: Failure, Reason: "pods never became ready"}
	list := []*Episode{
		run(1, task, bad, step("build", `{"image":"billing"}`, "done"), step("apply", `{"file":"billing.yaml"}`, "error: quota exceeded in namespace staging"), step("delete", `{"pod":"old"}`, "gone")),
		run(2, task, good, step("build", `{"image": "billing"}`, "done"), step("migrate", `{"to":42,"database":"billing"}`, "ok"), step("apply", `{"file":"billing.yaml"}`, "ready")),
		run(3, task+".", good, step("migrate", `{"database":"billing", "to":42}`, "ok"), step("apply", `{"file":"billing.yaml"}`, "ready")),
		run(4, task, bad, step("delete", `{"pod":"old"}`, "gone"), step("apply", `{"file":"billing.yaml"}`, "timed out")),
		run(5, "Deploy the search service to the staging cluster", Outcome{Kind: Success}, step("apply", `{"file":"search.yaml"}`, "ready")),
		run(6, "Bake a cake", Outcome{Kind: Success}, step("oven", `{"degrees":180}`, "golden")),
	}
	list[1].Reflection = Reflection{Insights: []string{"migrate before you apply"}, Improvements: []string{"watch the quota"}}
	return list
}

func TestBrief(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, e := range deployments() {
			ok(t, s.PutEpisode(t.Context(), e))
		}
		running := &Episode{Description: "Deploy the billing service to the staging cluster"}
		ok(t, s.StartEpisode(t.Context(), running))
		ok(t, s.PutHeuristic(t.Context(), &Heuristic{ID: ID{0: 7}, Created: day(7), Condition: "deploying to the staging cluster", Action: "free the quota first"}))
		ok(t, s.PutHeuristic(t.Context(), &Heuristic{ID: ID{0: 8}, Created: day(8), Condition: "baking bread", Action: "let the dough rest"}))
		ok(t, s.PutPattern(t.Context(), &Pattern{ID: ID{0: 9}, Created: day(9), ErrorRecovery: &ErrorRecovery{Error: "quota exceeded in namespace", Steps: []string{"delete old pods", "apply again"}}}))

		b, err := s.Brief(t.Context(), "deploy billing service to staging cluster", nil)
		ok(t, err)
		const want = `Tried before: Deploy the billing service to the staging cluster
2 of 4 succeeded: 2026-03-04 04000000-0000 failure, 2026-03-03 03000000-0000 success, 2026-03-02 02000000-0000 success, 2026-03-01 01000000-0000 failure
2026-03-03 03000000-0000 said: billing answers
Successful runs did, and no failed one:
- migrate {"database":"billing","to":42} (2026-03-03 03000000-0000 step 1)
Failed runs did, and no successful one:
- delete {"pod":"old"} (2026-03-04 04000000-0000 step 1 in 2 runs)
Tried before: Deploy the search service to the staging cluster
1 of 1 succeeded: 2026-03-05 05000000-0000 success
Successful runs did:
- apply {"file":"search.yaml"} (2026-03-05 05000000-0000 step 1)
Lessons:
- 2026-03-07 07000000-0000 heuristic: deploying to the staging cluster: free the quota first
- 2026-03-02 02000000-0000 insight: migrate before you apply
- 2026-03-02 02000000-0000 improvement: watch the quota
`
		// Engines rank runs that fit as well as one another differently, and so either
		// spelling of the task may be the one that is shown.
		if got := strings.Replace(b.Text(), "cluster.\n", "cluster\n", 1); got != want {
			t.Errorf("the text is\n%s\nwant\n%s", got, want)
		}
		var again Brief
		text, err := json.Marshal(b)
		ok(t, err)
		ok(t, json.Unmarshal(text, &again))
		if again.Text() != b.Text() {
			t.Errorf("from JSON the text is\n%s", again.Text())
		}

		b, err = s.Brief(t.Context(), "error: quota exceeded in namespace staging", nil)
		ok(t, err)
		if len(b.Tasks) == 0 || b.Tasks[0].Match == nil {
			t.Fatalf("an error that was met before is not told of:\n%s", b.Text())
		}
		if m := b.Tasks[0].Match; m.Episode != (ID{15: 1, 0: 1}) || m.Number != 2 || m.StepHit.Result != ResultError || m.Next == nil || m.Next.Tool != "delete" {
			t.Errorf("it is step %d of %v, then %+v", m.Number, m.Episode, m.Next)
		}
		if len(b.Lessons) == 0 || b.Lessons[0].Kind != LessonPattern || b.Lessons[0].Text != "quota exceeded in namespace: delete old pods; apply again" {
			t.Errorf("lessons are %+v", b.Lessons)
		}

		for _, task := range []string{"", "the", "what was this about", "paint a fence", "prune the apple trees in February", "???"} {
			b, err := s.Brief(t.Context(), task, nil)
			ok(t, err)
			if b.Text() != "" || len(b.Tasks)+len(b.Lessons) > 0 {
				t.Errorf("for %q there is\n%s", task, b.Text())
			}
		}
		b, err = s.Brief(t.Context(), "deploy billing service to staging cluster", &BriefOptions{Filter: EpisodeFilter{State: StateRunning}})
		ok(t, err)
		if len(b.Tasks) != 1 || b.Tasks[0].Runs[0].ID != running.ID {
			t.Errorf("of running episodes there is\n%s", b.Text())
		}
	})
}

func TestBriefKeepsToItsScope(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		one, err := s.Scoped(Scope{Project: "one"})
		ok(t, err)
		other, err := s.Scoped(Scope{Project: "other"})
		ok(t, err)
		ok(t, one.PutEpisode(t.Context(), &Episode{Description: "rotate the signing keys", Outcome: Outcome{Kind: Success}}))
		ok(t, one.PutHeuristic(t.Context(), &Heuristic{Condition: "rotate signing keys", Action: "keep the old one for a day"}))
		ok(t, one.PutPattern(t.Context(), &Pattern{Context: Context{Domain: "auth"}, ToolSequence: &ToolSequence{Tools: []string{"rotate signing keys"}}}))
		for _, c := range []struct {
			in             *Store
			filter         EpisodeFilter
			tasks, lessons int
		}{
			{one, EpisodeFilter{}, 1, 2},
			{s, EpisodeFilter{}, 1, 2},
			{other, EpisodeFilter{}, 0, 0},
			{s, EpisodeFilter{Scope: Scope{Project: "other"}}, 0, 0},
			{s, EpisodeFilter{Domain: "shop"}, 0, 1},
			{s, EpisodeFilter{Domain: "auth"}, 0, 2},
		} {
			b, err := c.in.Brief(t.Context(), "rotate the signing keys", &BriefOptions{Filter: c.filter})
			ok(t, err)
			if len(b.Tasks) != c.tasks || len(b.Lessons) != c.lessons {
				t.Errorf("%+v in %+v: %d tasks and %d lessons, want %d and %d", c.filter, c.in.Scope(), len(b.Tasks), len(b.Lessons), c.tasks, c.lessons)
			}
		}
		for range 2 * maxCandidates {
			ok(t, other.PutHeuristic(t.Context(), &Heuristic{Condition: "rotate the signing keys", Action: "ask first"}))
		}
		b, err := one.Brief(t.Context(), "rotate the signing keys", nil)
		ok(t, err)
		if len(b.Lessons) != 2 {
			t.Errorf("beside many heuristics of another project %d lessons are found", len(b.Lessons))
		}
		_, err = one.Brief(t.Context(), "rotate", &BriefOptions{Filter: EpisodeFilter{Scope: Scope{Project: "other"}}})
		wants(t, err, ErrInvalid, "narrowed")
	})
}

// A server that has no words of steps finds tasks by their heads, and then compares their steps.
func TestBriefOfAServerWithoutStepsInItsIndex(t *testing.T) {
	s := open(t, hranatest.Start(t).URL(), nil)
	for _, e := range deployments() {
		ok(t, s.PutEpisode(t.Context(), e))
	}
	b, err := s.Brief(t.Context(), "deploy billing", nil)
	ok(t, err)
	if len(b.Tasks) == 0 || len(b.Tasks[0].Worked) != 1 || b.Tasks[0].Worked[0].Tool != "migrate" {
		t.Errorf("there is\n%s", b.Text())
	}
}

// Calls fill the ReadInfo of a context that belongs to one read; a Brief reads much at a time.
func TestBriefLeavesReadInfoAlone(t *testing.T) {
	s := onFile(t)
	for _, e := range deployments() {
		ok(t, s.PutEpisode(t.Context(), e))
	}
	info := ReadInfo{Age: -1}
	_, err := s.Brief(WithReadInfo(t.Context(), &info), "deploy billing", nil)
	ok(t, err)
	if info.Age != -1 {
		t.Errorf("it became %+v", info)
	}
}

func TestBriefRefusesNonsense(t *testing.T) {
	s := onFile(t)
	for _, budget := range []int{-1, 1, leastBudget - 1, mostBudget + 1} {
		_, err := s.Brief(t.Context(), "task", &BriefOptions{Budget: budget})
		wants(t, err, ErrInvalid, "budget")
	}
	_, err := s.Brief(t.Context(), "task", &BriefOptions{Filter: EpisodeFilter{Outcome: "great"}})
	wants(t, err, ErrInvalid, "outcome")
}

// Words weigh much the same in a memory of a few episodes as in a large one, so that what is
// good enough is so in both.
func TestFitDoesNotDependOnTheSizeOfTheMemory(t *testing.T) {
	s := onFile(t)
	fit := func() float64 {
		b, err := s.Brief(t.Context(), "deploy billing with helm charts", nil)
		ok(t, err)
		if len(b.Tasks) == 0 {
			return 0
		}
		return b.Tasks[0].Fit
	}
	for _, e := range deployments() {
		ok(t, s.PutEpisode(t.Context(), e))
	}
	before := fit()
	var more []*Episode
	for i := range 500 {
		more = append(more, &Episode{Description: fmt.Sprintf("Count the sheep of farm %d", i), Outcome: Outcome{Kind: Success}})
	}
	_, err := s.AddEpisodes(t.Context(), more...)
	ok(t, err)
	if after := fit(); before < taskFit || after < before-0.1 || after > before+0.1 {
		t.Errorf("the fit is %.2f among 6 episodes, and %.2f among 506", before, after)
	}
}

// A number with full stops is another token on a server, and weighs the same.
func TestVersionsAreWeighed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "go 1.26.8 fails"}))
		q := index.Parse("1.26.8 1.99.9")
		asked, _, err := s.weigh(t.Context(), &q, &EpisodeFilter{}, new(damages))
		ok(t, err)
		weights := make(map[string]float64)
		for i, term := range asked.query.Terms {
			weights[term.Tokens[0]] = asked.weights[i]
		}
		if w := weights["1.26.8"]; w == 0 || w >= weights["1.99.9"] {
			t.Errorf("the weights are %v", weights)
		}
	})
}
