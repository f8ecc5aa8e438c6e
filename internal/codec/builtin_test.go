package codec_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/codec"
)

var writeBuiltin = flag.Bool("builtin", false, "write the built-in dictionary anew to dict-new.bin")

// author writes payloads as a Store does, out of the texts of testdata/builtin.txt.
type author struct {
	*rand.Rand
	texts map[string][]string // by section
}

func newAuthor(t testing.TB, seed uint64) *author {
	t.Helper()
	file, err := os.ReadFile("testdata/builtin.txt")
	ok(t, err)
	a := &author{Rand: rand.New(rand.NewPCG(seed, 0)), texts: make(map[string][]string)}
	section := ""
	for line := range strings.Lines(string(file)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" || strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") && !strings.Contains(line, " "):
			section = strings.Trim(line, "[]")
		default:
			line = strings.NewReplacer(`\n`, "\n", `\r`, "\r").Replace(line)
			a.texts[section] = append(a.texts[section], line)
		}
	}
	return a
}

// text returns a text of a section.
func (a *author) text(section string) string {
	list := a.texts[section]
	s := list[a.IntN(len(list))]
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, rest, found := strings.Cut(after, "}")
		switch {
		case found && name == "n":
			fmt.Fprint(&b, a.IntN(100))
		case found && name == "d":
			fmt.Fprint(&b, 1+a.IntN(9))
		case found && name == "year":
			fmt.Fprint(&b, 1900+a.IntN(126))
		case found && a.texts[name] != nil:
			b.WriteString(a.text(name))
		default:
			b.WriteByte('{')
			rest = after
		}
		s = rest
	}
}

func (a *author) some(section string, most int) []string {
	var list []string
	for range a.IntN(most + 1) {
		list = append(list, a.text(section))
	}
	return list
}

func (a *author) id() (id episodic.ID) {
	for i := range id {
		id[i] = byte(a.IntN(256))
	}
	return id
}

func (a *author) often() bool { return a.IntN(4) > 0 }

// record is a JSON value such as tools answer with.
func (a *author) record(depth int) any {
	fields := make(map[string]any)
	for range 2 + a.IntN(6) {
		var v any
		switch a.IntN(8) {
		case 0, 1, 2:
			v = a.text("word")
		case 3:
			v = a.IntN(10000)
		case 4:
			v = a.IntN(2) == 0
		case 5:
			v = nil
		default:
			if depth > 0 {
				v = []any{a.record(depth - 1)}
				if a.often() {
					v = a.record(depth - 1)
				}
			}
		}
		fields[a.text("key")] = v
	}
	return fields
}

// spaced is JSON as most languages but Go write it.
func spaced(doc []byte) string {
	var b strings.Builder
	quoted := false
	for i, c := range doc {
		if c == '"' && (i == 0 || doc[i-1] != '\\') {
			quoted = !quoted
		}
		b.WriteByte(c)
		if !quoted && (c == ':' || c == ',') {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func (a *author) step(t testing.TB) episodic.Step {
	s := episodic.Step{
		Time: time.UnixMicro(1767225600e6 + a.Int64N(3e13)).UTC(), Tool: a.text("tool"),
		Result: &episodic.Result{Kind: episodic.ResultOutput},
	}
	if a.often() {
		s.Action = strings.Join(a.some("say", 2), " ")
	}
	if a.often() {
		s.Latency, s.Tokens = time.Duration(a.Int64N(1e11)), a.IntN(3000)
	}
	switch a.IntN(5) {
	case 0:
		s.Parameters = episodic.JSON(encode(t, map[string]any{"command": a.text("shell")}))
	case 1:
		s.Parameters = episodic.JSON(encode(t, map[string]any{"path": a.text("file")}))
	case 2:
		s.Parameters = episodic.JSON(encode(t, map[string]any{"query": a.text("part")}))
	case 3:
		s.Parameters = episodic.JSON(spaced(encode(t, a.record(0))))
	default:
		s.Parameters = episodic.JSON(encode(t, a.record(0)))
	}
	switch a.IntN(6) {
	case 0:
		s.Result = &episodic.Result{Kind: episodic.ResultError, Text: a.text("error")}
	case 1, 2:
		s.Result.Text = spaced(encode(t, a.record(2)))
	case 3:
		s.Result.Text = string(encode(t, a.record(2)))
	default:
		s.Result.Text = a.text("output")
	}
	return s
}

// head is the payload of an episode's row; see docs/formats.md.
type head struct {
	Description     string                    `json:"description"`
	Framework       string                    `json:"framework,omitempty"`
	Complexity      episodic.Complexity       `json:"complexity,omitempty"`
	Outcome         episodic.Outcome          `json:"outcome,omitzero"`
	Reward          *episodic.Reward          `json:"reward,omitempty"`
	Reflection      episodic.Reflection       `json:"reflection,omitzero"`
	AppliedPatterns []episodic.AppliedPattern `json:"applied_patterns,omitempty"`
	Metadata        map[string]string         `json:"metadata,omitempty"`
}

func (a *author) head() head {
	h := head{Description: a.text("task"), Metadata: a.metadata()}
	if a.often() {
		h.Complexity = []episodic.Complexity{episodic.Simple, episodic.Moderate, episodic.Complex}[a.IntN(3)]
	}
	if !a.often() {
		h.Framework = a.text("framework")
	}
	switch a.IntN(5) {
	case 0:
		h.Outcome = episodic.Outcome{Kind: episodic.Failure, Reason: a.text("verdict"), Details: a.text("error")}
	case 1:
		h.Outcome = episodic.Outcome{Kind: episodic.PartialSuccess, Verdict: a.text("verdict"), Completed: a.some("task", 2), Failed: a.some("task", 2)}
	case 2:
		h.Outcome = episodic.Outcome{Kind: episodic.Abstained, Reason: a.text("verdict"), StoppedAtStep: a.IntN(9), Signals: a.some("symptom", 2)}
	default:
		h.Outcome = episodic.Outcome{Kind: episodic.Success, Verdict: a.text("verdict"), Artifacts: a.some("file", 2)}
	}
	if a.often() {
		h.Reward = &episodic.Reward{Total: float64(a.IntN(3)) / 2}
		if a.often() {
			h.Reward.Components = map[string]float64{"tests": 1, "efficiency": a.Float64(), "quality": 0.5}
		}
	}
	if a.often() {
		h.Reflection = episodic.Reflection{Successes: a.some("insight", 2), Improvements: a.some("insight", 2), Insights: a.some("insight", 2)}
	}
	for range a.IntN(3) {
		effect := []episodic.Effect{episodic.Helped, episodic.NoEffect, episodic.Hindered, episodic.EffectPending}[a.IntN(4)]
		h.AppliedPatterns = append(h.AppliedPatterns, episodic.AppliedPattern{PatternID: a.id(), Step: a.IntN(9), Effect: effect})
	}
	return h
}

func (a *author) metadata() map[string]string {
	m := make(map[string]string)
	for range a.IntN(4) {
		m[a.text("metakey")] = a.text("metaword")
	}
	return m
}

func (a *author) context() episodic.Context {
	return episodic.Context{Domain: a.text("domain"), Language: a.text("language"), Framework: a.text("framework"), Complexity: episodic.Moderate, Tags: a.some("tag", 3)}
}

func (a *author) pattern() episodic.Pattern {
	p := episodic.Pattern{
		Description: a.text("insight"), Context: a.context(), SuccessRate: float64(a.IntN(100)) / 100, Occurrences: a.IntN(20),
		Evidence: []episodic.ID{a.id()}, Metadata: a.metadata(),
	}
	switch a.IntN(4) {
	case 0:
		p.ToolSequence = &episodic.ToolSequence{Tools: append(a.some("tool", 3), a.text("tool")), MeanLatency: time.Duration(a.Int64N(1e10))}
	case 1:
		p.DecisionPoint = &episodic.DecisionPoint{Condition: a.text("symptom"), Action: a.text("insight"), Successes: a.IntN(9), Failures: a.IntN(9)}
	case 2:
		p.ErrorRecovery = &episodic.ErrorRecovery{Error: a.text("error"), Steps: append(a.some("say", 2), a.text("insight"))}
	default:
		p.ContextPattern = &episodic.ContextPattern{Features: append(a.some("tag", 2), a.text("language")), Approach: a.text("insight")}
	}
	return p
}

func (a *author) heuristic() episodic.Heuristic {
	return episodic.Heuristic{
		Condition: a.text("symptom"), Action: a.text("insight"), Confidence: float64(a.IntN(100)) / 100,
		Evidence: episodic.Evidence{Episodes: []episodic.ID{a.id()}, SuccessRate: 0.5, SampleSize: a.IntN(30)}, Metadata: a.metadata(),
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	ok(t, enc.Encode(v))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// episodes returns the payloads of n episodes and, now and then, of what is
// learnt from them. Each is a group of its own.
func (a *author) episodes(t testing.TB, n int) []codec.Sample {
	var list []codec.Sample
	for i := range n {
		add := func(v any) { list = append(list, codec.Sample{Group: fmt.Sprintf("%05d", i), Data: encode(t, v)}) }
		add(a.head())
		var steps []episodic.Step
		for range 1 + a.IntN(8) {
			steps = append(steps, a.step(t))
		}
		add(steps)
		if i%8 == 0 {
			add(a.pattern())
			add(a.heuristic())
		}
	}
	return list
}

// TestMakeBuiltin made dict0.bin. What it makes next gets another file and id.
func TestMakeBuiltin(t *testing.T) {
	if !*writeBuiltin {
		t.Skip("only with -builtin")
	}
	d, err := codec.Train(context.Background(), newAuthor(t, 1).episodes(t, 1500), codec.TrainOptions{ID: 1, Size: 32 << 10})
	ok(t, err)
	ok(t, os.WriteFile("dict-new.bin", d.Bytes(), 0o644))
}

func TestBuiltin(t *testing.T) {
	const forever = "f4ee0e971c5eb3dd18345ba725bdae51879e8f9c3c9668b8b395108327662089"
	if got := fmt.Sprintf("%x", sha256.Sum256(codec.Builtin().Bytes())); got != forever {
		t.Errorf("the built-in dictionary has changed: its sum is %s", got)
	}
	samples := newAuthor(t, 2).episodes(t, 20)
	with, without := ratio(t, codec.Options{Dictionary: codec.Builtin()}, samples), ratio(t, codec.Options{}, samples)
	if with > without/2 {
		t.Errorf("episodes shrink to %.3f with the dictionary, to %.3f without", with, without)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
