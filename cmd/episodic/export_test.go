package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// withAllNouns is a command line whose memory has something of everything.
func withAllNouns(t *testing.T) *cli {
	t.Helper()
	c := newCLI(t)
	c.ok("import", c.file("samples.jsonl", samples))
	s, ctx := c.store(), t.Context()
	var all []*episodic.Episode
	for e, err := range s.Episodes(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	p := &episodic.Pattern{ToolSequence: &episodic.ToolSequence{Tools: []string{"grep", "edit"}}, Description: "look, then change"}
	h := &episodic.Heuristic{Condition: "a test is flaky", Action: "look for sleeps", Confidence: 0.5}
	for _, err := range []error{
		s.PutPattern(ctx, p), s.PutHeuristic(ctx, h),
		s.PutRelation(ctx, &episodic.Relation{From: all[0].ID, Type: episodic.Follows, To: all[1].ID, Reason: "it went on", Priority: 3}),
		s.PutRelation(ctx, &episodic.Relation{From: all[2].ID, Type: episodic.ParentOf, To: all[0].ID}),
		s.PutEmbedding(ctx, &episodic.Embedding{Kind: episodic.ItemEpisode, Item: all[0].ID, Model: "m", Vector: []float32{0.1, -2}}),
		s.PutEmbedding(ctx, &episodic.Embedding{Kind: episodic.ItemHeuristic, Item: h.ID, Model: "m", Vector: []float32{1e-7, 3}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// exports runs an export, and returns what it wrote and the change that it goes up to.
func (c *cli) exports(args ...string) (text string, last int64) {
	c.t.Helper()
	got := c.run(append([]string{"export"}, args...)...)
	_, since, found := strings.Cut(strings.TrimSpace(got.stderr), "export --since ")
	last, err := strconv.ParseInt(since, 10, 64)
	if got.code != exitOK || !found || err != nil {
		c.t.Fatalf("export: %+v", got)
	}
	return got.stdout, last
}

// TestExportIsTheMemory: importing an export gives the same memory, which exports the same.
func TestExportIsTheMemory(t *testing.T) {
	c := withAllNouns(t)
	text, last := c.exports("--embeddings")
	if n := strings.Count(text, "\n"); n != 16 {
		t.Errorf("%d lines, want 10 episodes, a pattern, a heuristic, 2 relations and 2 embeddings", n)
	}
	for _, db := range []string{filepath.Join(c.home, "copy.db"), hranatest.Start(t).URL()} {
		other := *c
		other.env = map[string]string{"EPISODIC_DB": db, liveDirEnv: c.env[liveDirEnv]}
		path := c.file("export.jsonl", text)
		if out := other.ok("import", path); !strings.HasPrefix(out, "imported 10 episodes") {
			t.Errorf("import printed %q", out)
		}
		if again, _ := other.exports("--embeddings"); again != text {
			t.Errorf("%s: exported again it is\n%s\nwant\n%s", db, again, text)
		}
		if out := other.ok("import", path); !strings.HasPrefix(out, "imported 0 episodes, 0 steps; 16 were already there; 0 bad lines\n") {
			t.Errorf("importing again printed %q", out)
		}
	}

	// What has changed since, deletions too.
	listed := decode[listOutput](t, c.ok("list", "--json")).Episodes
	c.ok("delete", listed[9].ID.String())
	c.put(&episodic.Episode{Description: "a new one"})
	changes, _ := c.exports("--since", strconv.FormatInt(last, 10))
	if strings.Count(changes, "\n") != 2 || !strings.Contains(changes, `"a new one"`) || !strings.Contains(changes, `{"deleted":{"kind":"episode","id":"`+listed[9].ID.String()+`"}}`) {
		t.Errorf("changes are\n%s", changes)
	}
	other := *c
	other.env = map[string]string{"EPISODIC_DB": filepath.Join(c.home, "copy.db"), liveDirEnv: c.env[liveDirEnv]}
	other.ok("import", c.file("changes.jsonl", changes))
	now, _ := c.exports()
	if then, _ := other.exports(); len(then) != len(now) {
		t.Errorf("after the changes it is\n%s\nwant\n%s", then, now)
	}
}

func TestExportToAFile(t *testing.T) {
	c := withAllNouns(t)
	path := filepath.Join(c.home, "out.jsonl")
	if got := c.run("export", "-o", path); got.code != exitOK || got.stdout != "" || !strings.HasPrefix(got.stderr, "exported 10 episodes, 1 pattern, 1 heuristic, 2 relations; ") {
		t.Errorf("export: %+v", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
		t.Errorf("%v, %v", info, err)
	}
	c.fails(exitFailure, "file exists", "export", "-o", path)
	c.fails(exitUsage, "--since: is negative", "export", "--since=-1")
}

// TestExportedChats: exported transcripts are what import reads, and keep what was done.
func TestExportedChats(t *testing.T) {
	c := newCLI(t)
	e := &episodic.Episode{Description: "weigh it", Metadata: map[string]string{"last_prompt": "thanks"}, Steps: []episodic.Step{
		{Tool: "scale", Action: "I weigh it", Parameters: `{"unit":"kg"}`, Result: &episodic.Result{Kind: episodic.ResultError, Text: "no battery"}},
		{Action: "Shall I go on?"},
		{Tool: "run", Parameters: `"x"`, Metadata: map[string]string{"prompt": "yes"}, Result: &episodic.Result{Kind: episodic.ResultOutput, Text: "7"}},
	}, Outcome: episodic.Outcome{Kind: episodic.Success, Verdict: "7 kg"}}
	c.put(e)
	for _, format := range []string{"openai", "anthropic"} {
		text, _ := c.exports("--format", format)
		if !json.Valid([]byte(text)) {
			t.Fatalf("%s: %s", format, text)
		}
		other := *c
		other.env = map[string]string{"EPISODIC_DB": filepath.Join(c.home, format+".db"), liveDirEnv: c.env[liveDirEnv]}
		other.ok("import", c.file(format+".jsonl", text))
		var got *episodic.Episode
		for listed, err := range other.store().Episodes(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			if got, err = other.store().Episode(t.Context(), listed.ID); err != nil {
				t.Fatal(err)
			}
		}
		if got == nil || got.Description != "weigh it" || len(got.Steps) != 3 || got.Steps[0].Action != "I weigh it" || got.Steps[0].Result.Text != "no battery" ||
			got.Steps[2].Metadata["prompt"] != "yes" || got.Outcome.Verdict != "7 kg" || got.Metadata["last_prompt"] != "thanks" || got.Outcome.Kind != episodic.Success {
			t.Errorf("%s: %s gives %+v", format, text, got)
		}
	}
	text, _ := c.exports("--format", "markdown", "--outcome", "success")
	for _, part := range []string{"# weigh it\n", "> weigh it\n", "## 1. scale\n\nI weigh it\n", "```json\n{\"unit\":\"kg\"}\n```", "error:\n\n```\nno battery\n```", "> yes\n", "## Result\n\n7 kg\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("markdown lacks %q:\n%s", part, text)
		}
	}
	if text, _ := c.exports("--outcome", "failure"); text != "" {
		t.Errorf("failures are %s", text)
	}
}
