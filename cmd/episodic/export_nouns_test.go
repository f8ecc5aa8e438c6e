package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// oddTexts are texts that an encoder or a separator may take for something else.
var oddTexts = []string{
	"plain", " spaces around ", "line\nline\r\n\ttab", "\x00\x01\x1f\x7f", "\u2028\u2029\ufeff\ufffd", "<b>&amp;</b>", `"quoted" \ back\\slash`,
	"κόσμε 数据库 🧪 e\u0301", `{"json":[1,2]}`, "null", "0", "-", "''; DROP TABLE episodes --", strings.Repeat("long ", 3000),
}

// oddParameters are JSON texts that must stay byte for byte.
var oddParameters = []episodic.JSON{
	"", `{}`, `{"b":1,"a":{"z":null,"y":[]}}`, `{ "spaced" :  1.50 }`, `{"n":123456789012345678901234567890,"e":1e400,"m":-0}`, `"text"`, `[]`, `null`, `"\u00e9\/"`, `{"a":1,"a":2}`,
}

// oddTimes are times in whole microseconds.
var oddTimes = []time.Time{
	time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Unix(0, 0).UTC(),
	time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(1582, 10, 4, 0, 0, 0, 0, time.UTC),
}

// pickers choose odd values.
type pickers struct{ *rand.Rand }

func pick[T any](p pickers, list []T) T { return list[p.IntN(len(list))] }

func (p pickers) texts() (list []string) {
	for range p.IntN(3) {
		list = append(list, pick(p, oddTexts[:len(oddTexts)-1]))
	}
	return list
}

func (p pickers) metadata() (m map[string]string) {
	for range p.IntN(3) {
		if m == nil {
			m = make(map[string]string)
		}
		m[pick(p, oddTexts[:len(oddTexts)-1])] = pick(p, append(oddTexts, ""))
	}
	return m
}

func (p pickers) steps(n int) (steps []episodic.Step) {
	for range n {
		s := episodic.Step{Time: pick(p, oddTimes), Tool: pick(p, oddTexts[:13]), Action: pick(p, oddTexts), Parameters: pick(p, oddParameters), Metadata: p.metadata()}
		if p.IntN(3) > 0 {
			s.Result = &episodic.Result{Kind: pick(p, []episodic.ResultKind{episodic.ResultOutput, episodic.ResultError, episodic.ResultTimeout}), Text: pick(p, append(oddTexts, ""))}
		}
		s.Latency = pick(p, []time.Duration{0, 1, time.Millisecond, 123_456_789, math.MaxInt64})
		s.Tokens = pick(p, []int{0, 1, math.MaxInt32, math.MaxInt64})
		steps = append(steps, s)
	}
	return steps
}

func (p pickers) outcome(kind episodic.OutcomeKind) episodic.Outcome {
	o := episodic.Outcome{Kind: kind}
	switch kind {
	case episodic.Success:
		o.Verdict, o.Artifacts = pick(p, oddTexts), p.texts()
	case episodic.PartialSuccess:
		o.Verdict, o.Completed, o.Failed = pick(p, oddTexts), p.texts(), p.texts()
	case episodic.Failure:
		o.Reason, o.Details = pick(p, oddTexts), pick(p, oddTexts)
	case episodic.Abstained:
		o.Reason, o.Signals = pick(p, oddTexts), p.texts()
	}
	return o
}

func (p pickers) episode(i int, pattern episodic.ID) *episodic.Episode {
	e := &episodic.Episode{
		Description: fmt.Sprintf("%s %d", pick(p, oddTexts), i), TaskType: pick(p, []episodic.TaskType{"", episodic.TaskDebugging, "my own"}),
		Context:  episodic.Context{Domain: pick(p, []string{"", "shop", "ä ö"}), Language: pick(p, []string{"", "go"}), Framework: pick(p, []string{"", "net/http"}), Complexity: pick(p, []episodic.Complexity{"", "moderate"})},
		Start:    pick(p, oddTimes),
		Steps:    p.steps(p.IntN(4)),
		Metadata: p.metadata(),
		Scope:    pick(p, []episodic.Scope{{}, {Project: "shop"}, {Project: "shop", User: "ann", Agent: "fixer"}}),
	}
	for _, tag := range []string{"flaky", "ci", "<&>", "数"} {
		if p.IntN(3) == 0 {
			e.Context.Tags = append(e.Context.Tags, tag)
		}
	}
	if p.IntN(3) > 0 {
		e.End = e.Start
		e.Outcome = p.outcome(pick(p, []episodic.OutcomeKind{"", episodic.Success, episodic.PartialSuccess, episodic.Failure, episodic.Abstained}))
		e.Reward = pick(p, []*episodic.Reward{nil, {}, {Total: -1e300}, {Total: 1.0 / 3, Components: map[string]float64{"b": 1e-300, "a": 1e21}}})
		e.Reflection = episodic.Reflection{Successes: p.texts(), Improvements: p.texts(), Insights: p.texts()}
		if len(e.Steps) > 0 && p.IntN(2) == 0 {
			e.AppliedPatterns = []episodic.AppliedPattern{{PatternID: pattern, Step: 1, Effect: episodic.Helped, Note: pick(p, oddTexts)}}
		}
	}
	return e
}

// putNouns stores n episodes in every state that they can be in, and what belongs to them.
func putNouns(t *testing.T, s *episodic.Store, n int) {
	t.Helper()
	p, ctx := pickers{rand.New(rand.NewPCG(15, 7))}, t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var patterns []*episodic.Pattern
	for _, pattern := range []episodic.Pattern{
		{ToolSequence: &episodic.ToolSequence{Tools: []string{"grep", "edit"}, MeanLatency: 1}},
		{DecisionPoint: &episodic.DecisionPoint{Condition: oddTexts[3], Action: oddTexts[5], Successes: 3, MeanLatency: 123_456_789}},
		{ErrorRecovery: &episodic.ErrorRecovery{Error: oddTexts[2], Steps: oddTexts[:3]}},
		{ContextPattern: &episodic.ContextPattern{Features: oddTexts[4:6], Approach: oddTexts[6]}},
	} {
		pattern.Description, pattern.SuccessRate, pattern.Occurrences = pick(p, oddTexts), 1.0/3, 7
		pattern.Metadata, pattern.Created, pattern.Context.Tags = p.metadata(), pick(p, oddTimes), []string{"flaky"}
		do(s.PutPattern(ctx, &pattern))
		patterns = append(patterns, &pattern)
	}
	var all []*episodic.Episode
	for i := range n {
		all = append(all, p.episode(i, patterns[i%len(patterns)].ID))
	}
	for from := 0; from < n; from += 500 {
		_, err := s.AddEpisodes(ctx, all[from:min(n, from+500)]...)
		do(err)
	}
	for i, e := range all {
		switch {
		case i%10 == 1: // a running one that goes on, and one that is completed
			run := &episodic.Episode{Description: fmt.Sprintf("running %d", i), Start: pick(p, oddTimes[:3])}
			do(s.PutEpisode(ctx, run))
			_, err := s.AppendSteps(ctx, run.ID, p.steps(2)...)
			do(err)
			_, err = s.AppendSteps(ctx, run.ID, p.steps(1)...)
			do(err)
			if i%20 == 1 {
				done := episodic.Completion{Outcome: p.outcome(episodic.Failure), End: oddTimes[0]}
				do(s.CompleteEpisode(ctx, run.ID, done))
			}
		case i%10 == 2: // revised
			e.Metadata, e.Steps = map[string]string{"revised": "twice"}, append(e.Steps, p.steps(1)...)
			e.StepCount = len(e.Steps)
			do(s.PutEpisode(ctx, e))
		case i%10 == 3:
			do(s.AddTags(ctx, e.ID, "added later"))
			do(s.RemoveTags(ctx, e.ID, "ci"))
		case i%10 == 4:
			do(s.PutHeuristic(ctx, &episodic.Heuristic{
				Condition: pick(p, oddTexts), Action: pick(p, oddTexts), Confidence: p.Float64(), Metadata: p.metadata(), Created: pick(p, oddTimes),
				Evidence: episodic.Evidence{Episodes: []episodic.ID{e.ID}, SuccessRate: 0.1, SampleSize: i},
			}))
		case i%10 == 5:
			do(s.PutRelation(ctx, &episodic.Relation{From: e.ID, Type: episodic.Follows, To: all[i-1].ID, Reason: pick(p, oddTexts), Priority: 3, By: "test", Metadata: p.metadata()}))
			do(s.PutRelation(ctx, &episodic.Relation{From: e.ID, Type: episodic.RelatedTo, To: all[0].ID, Created: pick(p, oddTimes)}))
		case i%10 == 6:
			do(s.PutEmbedding(ctx, &episodic.Embedding{Kind: episodic.ItemEpisode, Item: e.ID, Model: "m <1>", Vector: []float32{p.Float32(), -1e-7, 0, 3e4}}))
		case i%10 == 7:
			do(s.DeleteEpisode(ctx, e.ID))
		}
	}
	do(s.DeletePattern(ctx, patterns[0].ID))
	do(s.PutEmbedding(ctx, &episodic.Embedding{Kind: episodic.ItemPattern, Item: patterns[1].ID, Model: "m <1>", Vector: []float32{1, 2, 3, 4}}))
}

// Export, import into an empty memory and export give the same bytes, whatever is stored.
func TestExportKeepsEveryNoun(t *testing.T) {
	n := testkit.Effort(30, 40, 2000)
	c := newCLI(t)
	c.env["EPISODIC_REPLICA"] = "0"
	putNouns(t, c.store(), n)
	text, _ := c.exports("--embeddings")
	for _, begin := range []string{`{"id":`, `{"pattern":{`, `{"heuristic":{`, `{"relation":{`, `{"embedding":{`} {
		if !strings.Contains(text, "\n"+begin) {
			t.Errorf("no line of the export begins with %s", begin)
		}
	}
	path := c.file("export.jsonl", text)
	memories := map[string]map[string]string{
		"a file":                   {"EPISODIC_DB": filepath.Join(c.home, "copy.db")},
		"a server":                 {"EPISODIC_DB": hranatest.Start(t).URL(), "EPISODIC_REPLICA": "0"},
		"a server, with a replica": {"EPISODIC_DB": hranatest.Start(t).URL()},
	}
	if url := os.Getenv("EPISODIC_TEST_SERVER"); url != "" {
		memories = map[string]map[string]string{url: {"EPISODIC_DB": url, "EPISODIC_REPLICA": os.Getenv("EPISODIC_REPLICA")}}
	}
	for name, env := range memories {
		other := *c
		other.env = env
		other.env[liveDirEnv] = c.env[liveDirEnv]
		if got := other.run("import", path); got.code != exitOK || got.stderr != "" {
			t.Fatalf("%s: import: %.3000s", name, fmt.Sprint(got))
		}
		again, _ := other.exports("--embeddings")
		if again == text {
			continue
		}
		was, is := strings.Split(text, "\n"), strings.Split(again, "\n")
		for i := range min(len(was), len(is)) {
			if was[i] != is[i] {
				t.Errorf("%s: %d lines became %d; line %d was\n%.2000s\nand is\n%.2000s", name, len(was), len(is), i+1, was[i], is[i])
				break
			}
		}
	}
}
