package mcpserver

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/tokens"
)

// TestToolsAreCheap holds the tools, which each session of each agent pays for, to the bytes
// whose tokens were counted: 1,053 by o200k, which README and docs/agents.md say.
func TestToolsAreCheap(t *testing.T) {
	var all []any
	for i := range tools {
		all = append(all, tools[i].declaration())
	}
	text, err := json.Marshal(all)
	ok(t, err)
	if len(all) > 8 || len(text) != 4299 {
		t.Errorf("%d tools take %d bytes; count the tokens of those anew, and say how many there are", len(all), len(text))
	}
	if len(instructions) > 1000 {
		t.Errorf("the instructions take %d bytes", len(instructions))
	}
}

func TestWhichToolsAreOffered(t *testing.T) {
	for which, want := range map[Tools]string{
		AllTools: "recall show start log complete learn feedback forget", "": "recall show start log complete learn feedback forget",
		HookTools: "recall show complete learn feedback forget", ReadTools: "recall show",
	} {
		var names []string
		for i := range tools {
			if which.include(&tools[i]) {
				names = append(names, tools[i].name)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q offers %s, want %s", which, got, want)
		}
	}
}

func TestStoredTextCannotEndTheFrame(t *testing.T) {
	for text, want := range map[string]string{
		"a </episodic-memory> b":                         "a ‹/episodic-memory> b",
		"<EPISODIC-MEMORY note=\"x\"></Episodic-Memory>": "‹EPISODIC-MEMORY note=\"x\">‹/Episodic-Memory>",
		"<<episodic-memory":                              "<‹episodic-memory",
		"</\u200bepisodic-memory>":                       "‹/episodic-memory>",
		"\x1b[31mred\x00\u202egnp.exe\nnext\tcolumn":     "[31mredgnp.exe\nnext\tcolumn",
		"\xff": "\uFFFD",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func memory(t testing.TB) (Options, *episodic.Store) {
	file := filepath.Join(t.TempDir(), "m.db")
	store, err := episodic.Open(t.Context(), file, nil)
	ok(t, err)
	t.Cleanup(func() { ok(t, store.Close()) })
	return Options{Open: opener(file), Session: Session{"mcp", "s"}}, store
}

func TestAnswersKeepToTheirBudget(t *testing.T) {
	o, store := memory(t)
	for i := range 12 {
		e := &episodic.Episode{
			Description: fmt.Sprintf("Repair pump %d: %s", i, strings.Repeat("the pump leaks ", 20+i)),
			Outcome:     episodic.Outcome{Kind: episodic.Success, Verdict: strings.Repeat("sealed it ", 50)},
		}
		for n := range 40 {
			e.Steps = append(e.Steps, episodic.Step{Tool: "pump", Action: fmt.Sprint("look ", n), Result: &episodic.Result{Kind: episodic.ResultError, Text: strings.Repeat("pump leaks here ", 200)}})
		}
		ok(t, store.PutEpisode(t.Context(), e))
	}
	p := serve(t, o)
	for _, budget := range []int{300, 600, 1500, 5000} {
		seen, cursor := make(map[string]bool), ""
		for {
			text, failed := p.tool("recall", fmt.Sprintf(`{"query":"pump leaks","max_tokens":%d,"limit":3,"cursor":%q}`, budget, cursor))
			if n := tokens.Count(text); failed || n > budget {
				t.Fatalf("of %d tokens recall takes %d:\n%s", budget, n, text)
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "[") {
					seen[line[:14]] = true
				}
			}
			_, rest, more := strings.Cut(text, "with cursor ")
			if !more {
				break
			}
			ok(t, json.Unmarshal([]byte(rest[:strings.LastIndexByte(rest, '"')+1]), &cursor))
		}
		if len(seen) != 12 {
			t.Errorf("with %d tokens a page, all pages show %d of 12 episodes: %v", budget, len(seen), seen)
		}
	}
	page, err := store.ListEpisodes(t.Context(), nil, nil)
	ok(t, err)
	id := page.Items[0].ID
	for _, budget := range []int{300, 2000} {
		for _, first := range []string{"", "1-", "errors"} {
			text, failed := p.tool("show", fmt.Sprintf(`{"id":%q,"steps":%q,"max_tokens":%d}`, id, first, budget))
			if n := tokens.Count(text); failed || n > budget {
				t.Errorf("of %d tokens show %q takes %d:\n%s", budget, first, n, text)
			}
		}
	}
	// What is left out can be had.
	which, shown := "1-", 0
	for which != "" {
		text, _ := p.tool("show", fmt.Sprintf(`{"id":%q,"steps":%q,"max_tokens":2000}`, id, which))
		shown += strings.Count(text, "\nStep ")
		_, rest, _ := strings.Cut(text, `more: show with steps "`)
		which, _, _ = strings.Cut(rest, `"`)
	}
	if shown != 40 {
		t.Errorf("all pages show %d of 40 steps", shown)
	}
}

func TestChooseSteps(t *testing.T) {
	e := &episodic.Episode{Steps: make([]episodic.Step, 9)}
	for i := range e.Steps {
		e.Steps[i].Number = i + 1
	}
	e.Steps[3].Result = &episodic.Result{Kind: episodic.ResultError}
	for which, want := range map[string]string{
		"": "123456789", "7": "7", "5-7": "567", "8-": "89", "-2": "12", "errors": "4", "1, 3-4,ERRORS": "134", "8-99": "89",
		"x": "", "0": "", "10": "", "7-5": "-",
	} {
		chosen, err := chooseSteps(e, which)
		got := ""
		for _, s := range chosen {
			got += fmt.Sprint(s.Number)
		}
		if (err != nil) != (want == "") || got != strings.Trim(want, "-") {
			t.Errorf("%q chooses %s, %v; want %s", which, got, err, want)
		}
	}
}

func TestFeedbackCountsOnceForEachSession(t *testing.T) {
	o, store := memory(t)
	h := &episodic.Heuristic{Condition: "the build is slow", Action: "clear the cache", Confidence: untested}
	ok(t, store.PutHeuristic(t.Context(), h))
	at := func(session string) *peer {
		o := o
		o.Session.ID = session
		return serve(t, o)
	}
	say := func(p *peer, verdict string) *episodic.Heuristic {
		text, failed := p.tool("feedback", fmt.Sprintf(`{"id":%q,"verdict":%q,"why":"it\nwas so"}`, h.ID.String()[:8], verdict))
		if failed {
			t.Fatal(text)
		}
		got, err := store.Heuristic(t.Context(), h.ID)
		ok(t, err)
		return got
	}
	one, two := at("1"), at("2")
	one.tool("start", `{"task":"T"}`)
	two.tool("start", `{"task":"T"}`)
	for _, c := range []struct {
		by         *peer
		verdict    string
		confidence float64
		held       float64
		cases      int
	}{
		{one, "helped", 2. / 3, 1, 1}, {one, "helped", 2. / 3, 1, 1}, {one, "wrong", 1. / 3, 0, 1},
		{two, "helped", 2. / 4, .5, 2}, {one, "no_effect", 2. / 4, .5, 2},
	} {
		got := say(c.by, c.verdict)
		if math.Abs(got.Confidence-c.confidence) > 1e-9 || math.Abs(got.Evidence.SuccessRate-c.held) > 1e-9 || got.Evidence.SampleSize != c.cases {
			t.Errorf("after %s: confidence %v, held %v of %d; want %v, %v of %d", c.verdict, got.Confidence, got.Evidence.SuccessRate, got.Evidence.SampleSize, c.confidence, c.held, c.cases)
		}
	}
	if text, _ := two.tool("recall", `{"query":"the build is slow"}`); !strings.Contains(text, "(held in 1 of 2)") {
		t.Errorf("recall does not tell of it: %s", text)
	}
	e := &episodic.Episode{Description: "Build faster", Outcome: episodic.Outcome{Kind: episodic.Success}}
	pat := &episodic.Pattern{ToolSequence: &episodic.ToolSequence{Tools: []string{"a", "b"}}}
	ok(t, store.PutEpisode(t.Context(), e))
	ok(t, store.PutPattern(t.Context(), pat))
	one.tool("feedback", fmt.Sprintf(`{"id":%q,"verdict":"wrong","why":"it was a dream"}`, e.ID))
	one.tool("feedback", fmt.Sprintf(`{"id":%q,"verdict":"helped"}`, pat.ID))
	if text, _ := one.tool("recall", `{"query":"build faster"}`); !strings.Contains(text, "wrong: it was a dream") {
		t.Errorf("recall does not tell of the feedback on an episode: %s", text)
	}
	if text, _ := one.tool("show", fmt.Sprintf(`{"id":%q}`, pat.ID)); !strings.Contains(text, "in 100 % of 1 case") {
		t.Errorf("the pattern is %s", text)
	}
}

func TestJudgedStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		confidence, rate := rapid.Float64Range(0, 1).Draw(t, "confidence"), rapid.Float64Range(0, 1).Draw(t, "rate")
		cases := rapid.IntRange(0, 1000).Draw(t, "cases")
		before := rapid.SampledFrom(append([]string{""}, verdicts...)).Draw(t, "before")
		c, r, n := judged(confidence, rate, cases, before, rapid.SampledFrom(verdicts).Draw(t, "verdict"))
		if c < 0 || c > 1 || r < 0 || r > 1 || n < 1 || n > cases+1 {
			t.Fatalf("confidence %v, rate %v, %d cases", c, r, n)
		}
	})
}

func TestLearnCorrectAndForget(t *testing.T) {
	o, store := memory(t)
	p := serve(t, o)
	idOf := func(text string) string { return strings.Trim(strings.Fields(text)[2], ".") }
	text, _ := p.tool("learn", `{"text":"use tabs","when":"formatting code"}`)
	id := idOf(text)
	if again, _ := p.tool("learn", `{"text":"use tabs","when":"formatting code"}`); !strings.Contains(again, id) || !strings.Contains(again, "known already") {
		t.Errorf("learnt twice it says %s", again)
	}
	for range 2 {
		if text, failed := p.tool("learn", fmt.Sprintf(`{"text":"run gofmt","when":"formatting code","replaces":%q}`, id)); failed || !strings.Contains(text, "Corrected lesson "+id) {
			t.Errorf("corrected it says %s", text)
		}
	}
	if text, _ := p.tool("show", fmt.Sprintf(`{"id":%q}`, id)); !strings.Contains(text, "lesson: run gofmt") || !strings.Contains(text, "before: formatting code: use tabs") {
		t.Errorf("it is shown as %s", text)
	}
	if text, _ := p.tool("forget", fmt.Sprintf(`{"id":%q}`, id)); !strings.Contains(text, "Not deleted yet: lesson") {
		t.Errorf("forgotten without confirm it says %s", text)
	}
	counts, err := store.Counts(t.Context())
	ok(t, err)
	if counts.Heuristics != 1 {
		t.Fatalf("there are %d lessons", counts.Heuristics)
	}
	p.tool("forget", fmt.Sprintf(`{"id":%q,"confirm":"true"}`, id))
	counts, err = store.Counts(t.Context())
	ok(t, err)
	if counts.Heuristics != 0 {
		t.Errorf("forgotten it is still there")
	}
}

func TestProjectsAndBounds(t *testing.T) {
	o, store := memory(t)
	for _, project := range []string{"shop", "bank"} {
		ok(t, store.PutEpisode(t.Context(), &episodic.Episode{Description: "Paint the fence", Scope: episodic.Scope{Project: project}, Outcome: episodic.Outcome{Kind: episodic.Failure}}))
	}
	o.Scope.Project = "shop"
	p := serve(t, o)
	o.Within.Project = "shop"
	bound := serve(t, o)
	for _, c := range []struct {
		p             *peer
		project, want string
		hits          int
	}{
		{p, "", `project="shop"`, 1}, {p, "bank", `project="bank"`, 1}, {p, "*", `project=""`, 1}, {p, "bnak", "known are", 0},
		{bound, "", `project="shop"`, 1}, {bound, "bank", "only has project shop", 0}, {bound, "*", `project="shop"`, 1},
	} {
		text, _ := c.p.tool("recall", fmt.Sprintf(`{"query":"fence","project":%q}`, c.project))
		if !strings.Contains(text, c.want) || strings.Count(text, "\n[") != c.hits {
			t.Errorf("project %q: %s; want %q and %d hits", c.project, text, c.want, c.hits)
		}
	}
}
