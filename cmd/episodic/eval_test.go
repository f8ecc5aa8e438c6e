package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/eval"
)

// An invented dataset of two collections. Both have a document about kilns, of which the second is
// the shorter.
const (
	evalDocuments = `{"document": {"collection": "clay", "id": "kiln", "time": "2026-01-31T09:30:00Z", "title": "Repair the kiln in the workshop", "tags": ["workshop"], "parts": [{"id": "kiln.1", "actor": "sh", "text": "look at the fuse", "parameters": {"n": 1}, "result": "burnt"}, {"actor": "sh", "text": "replace the fuse"}]}}
{"document": {"collection": "clay", "id": "glaze", "title": "Mix a green glaze", "parts": [{"id": "glaze.1", "text": "weigh copper"}]}}
{"document": {"collection": "clay", "id": "wheel", "title": "Oil the wheel"}}
{"document": {"collection": "glass", "id": "kiln", "title": "Kiln"}}
`
	evalQuestions = `{"question": {"collection": "clay", "id": "q1", "type": "what", "text": "kiln", "relevant": ["kiln"]}}
{"question": {"collection": "clay", "id": "q2", "type": "what", "text": "copper", "relevant": ["glaze", "wheel"]}}
{"question": {"collection": "clay", "id": "q3", "type": "who", "text": "kiln fuse", "relevant": ["glaze"]}}
{"question": {"collection": "clay", "id": "q4", "type": "why", "text": "glaze", "relevant": ["wheel"], "exclude": ["glaze"]}}
{"question": {"collection": "glass", "id": "q5", "type": "what", "text": "kiln", "relevant": ["kiln"]}}
`
)

// evalBytes is what show --json prints of the documents.
const evalBytes = 1016

// evalJSON returns the result of a run without what differs from run to run, which is
// checked here.
func evalJSON(t *testing.T, out string) evalResult {
	t.Helper()
	r := decode[evalResult](t, out)
	if r.LoadSeconds <= 0 || r.FileBytes < 4096 || r.All.P50 <= 0 || r.All.P99 < r.All.P50 {
		t.Errorf("%v s to load, %d bytes, %v ms and %v ms for a search", r.LoadSeconds, r.FileBytes, r.All.P50, r.All.P99)
	}
	r.LoadSeconds, r.FileBytes = 0, 0
	r.All.P50, r.All.P99 = 0, 0
	for i := range r.Types {
		r.Types[i].P50, r.Types[i].P99 = 0, 0
	}
	return r
}

// scores are those of questions whose recall at 5, 10 and 20 is the same.
func scores(recall, mrr, ndcg float64) eval.Scores {
	return eval.Scores{Recall5: recall, Recall10: recall, Recall20: recall, MRR: mrr, NDCG10: ndcg}
}

func TestEvalMeasures(t *testing.T) {
	c := newCLI(t)
	t.Setenv("TMPDIR", t.TempDir())
	text := evalDocuments + evalQuestions
	file := c.file("my.jsonl", text)
	sum := sha256.Sum256([]byte(text))
	half := 1 / (1 + 0.6309297535714575) // of two relevant ones the first is found, at once: 1/(1 + 1/log2(3))
	want := evalResult{
		Format: "jsonl", Sources: []eval.Source{{Name: "my.jsonl", SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(text))}},
		Level: "episode", Memories: 2, Documents: 4, Parts: 3, DataBytes: evalBytes,
		Types: []eval.Row{
			{Type: "what", Questions: 3, Scores: scores(2.5/3, 1, (2+half)/3)},
			{Type: "who", Questions: 1},
			{Type: "why", Questions: 1},
		},
		All: eval.Row{Questions: 5, Scores: scores(0.5, 0.6, (2+half)/5)},
	}
	got := evalJSON(t, c.ok("eval", "jsonl", file, "--json"))
	if show(got) != show(want) {
		t.Errorf("the result is\n%s, want\n%s", show(got), show(want))
	}

	table := c.ok("eval", "jsonl", file)
	pattern := regexp.MustCompile(`^jsonl       my\.jsonl, 1 kB, SHA-256 ` + want.Sources[0].SHA256 + `
documents   4 documents with 3 parts, in 2 memories; loaded in [0-9.]+ s
files       [0-9]+ kB, [0-9.]+ of the 1 kB that the documents take as JSON
questions   5 questions
level       episode

      questions    R@5   R@10   R@20    MRR  nDCG@10   p50 ms   p99 ms
what          3  0\.833  0\.833  0\.833  1\.000    0\.871  +[0-9.]+  +[0-9.]+
who           1  0\.000  0\.000  0\.000  0\.000    0\.000  +[0-9.]+  +[0-9.]+
why           1  0\.000  0\.000  0\.000  0\.000    0\.000  +[0-9.]+  +[0-9.]+
all           5  0\.500  0\.500  0\.500  0\.600    0\.523  +[0-9.]+  +[0-9.]+
$`)
	if !pattern.MatchString(table) {
		t.Errorf("the table is\n%s", table)
	}
	nothingLeft(t)
	c.fails(exitFailure, "nothing has been stored there yet", "list") // the user's memory was left alone
}

func nothingLeft(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "episodic-eval-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v, %v", left, err)
	}
}

// show is a value with floats as tests compare them.
func show(r evalResult) string {
	round := func(r *eval.Row) string {
		return fmt.Sprintf("%s %d %.9f %.9f %.9f %.9f %.9f", r.Type, r.Questions, r.Recall5, r.Recall10, r.Recall20, r.MRR, r.NDCG10)
	}
	lines := []string{}
	for i := range r.Types {
		lines = append(lines, round(&r.Types[i]))
	}
	lines = append(lines, round(&r.All))
	r.Types, r.All = nil, eval.Row{}
	return fmt.Sprintf("%+v\n%s", r, strings.Join(lines, "\n"))
}

func TestEvalSharedMemoryHoldsAllCollections(t *testing.T) {
	c := newCLI(t)
	file := c.file("my.jsonl", evalDocuments+evalQuestions)
	got := evalJSON(t, c.ok("eval", "jsonl", file, "--shared", "--json"))
	// The kiln of the other collection comes first.
	what := got.Types[0]
	if mrr := fmt.Sprintf("%.9f", what.MRR); got.Memories != 1 || got.Documents != 4 || mrr != "0.833333333" {
		t.Errorf("%d memories of %d documents, %+v", got.Memories, got.Documents, what)
	}
}

func TestEvalReadsPublicFormats(t *testing.T) {
	c := newCLI(t)
	for _, tt := range []struct {
		format string
		files  []string
		row    eval.Row
		left   int
		miss   int
	}{
		{"locomo", []string{`[{"sample_id": "c", "conversation": {
			"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": [{"speaker": "Mira", "dia_id": "D1:1", "text": "I have a kiln"}],
			"session_2_date_time": "1:56 pm on 9 May, 2023", "session_2": [{"speaker": "Tom", "dia_id": "D2:1", "text": "", "blip_caption": "a boat"}]},
			"qa": [{"question": "Where is the boat?", "category": 4, "evidence": ["D2:1", "D7:7"]}, {"question": "kiln", "category": 5, "evidence": ["D1:1"]}]}]`},
			eval.Row{Questions: 1, Scores: scores(0.5, 1, 1/(1+0.6309297535714575))}, 1, 1},
		{"longmemeval", []string{`[{"question_id": "q", "question_type": "t", "question": "Which tea?", "haystack_session_ids": ["a", "b"],
			"haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 02:21"], "haystack_sessions": [[{"role": "user", "content": "coffee"}], [{"role": "user", "content": "mint tea", "has_answer": true}]],
			"answer_session_ids": ["b"]}, {"question_id": "r_abs"}]`}, eval.Row{Questions: 1, Scores: scores(1, 1, 1)}, 1, 0},
		{"swe", []string{`{"id": "1", "task": "Crash of parse_list\nIt panics.", "steps": [{"thought": "Look", "command": "grep", "result": "none"}]}
			{"id": "2", "task": "parse_list hangs"}
			{"id": "3", "task": "Slow"}`, `[{"id": "2", "title": "parse_list hangs", "relevant": ["1"]}, {"id": "3", "title": "Slow", "relevant": ["1"]}]`},
			eval.Row{Questions: 2, Scores: scores(0.5, 0.5, 0.5)}, 0, 0},
	} {
		args := []string{"eval", "--json", "--level", "episode", tt.format}
		for i, text := range tt.files {
			args = append(args, c.file(fmt.Sprintf("%s.%d", tt.format, i), text))
		}
		got := evalJSON(t, c.ok(args...))
		if show(evalResult{All: got.All}) != show(evalResult{All: tt.row}) || got.LeftOut != tt.left || got.Missing != tt.miss || len(got.Sources) != len(tt.files) {
			t.Errorf("%s: %+v", tt.format, got)
		}
	}
	out := c.ok("eval", "locomo", filepath.Join(c.home, "locomo.0"), "--level", "episode")
	if !strings.Contains(out, "\nquestions   1 question; 1 left out: no evidence at this level; evidence that does not exist, 1 piece, counts as not found\n") {
		t.Errorf("the table is\n%s", out)
	}
}

func TestEvalOfSteps(t *testing.T) {
	c := newCLI(t)
	kiln, _, _ := strings.Cut(evalDocuments, "\n")
	file := c.file("parts.jsonl", kiln+`{"question": {"collection": "clay", "text": "burnt fuse", "relevant": ["kiln.1"]}}`)
	if got := evalJSON(t, c.ok("eval", "jsonl", file, "--json")); got.Level != "step" || got.All.MRR != 1 {
		t.Errorf("the result is %+v", got)
	}
	if got := evalJSON(t, c.ok("eval", "jsonl", file, "--json", "--level", "episode")); got.Level != "episode" || got.All.MRR != 1 {
		t.Errorf("the result is %+v", got)
	}
	documents := c.file("documents.jsonl", evalDocuments+evalQuestions)
	c.fails(exitFailure, "names a part of a document; use --level episode", "eval", "jsonl", documents, "--level", "step")
}

func TestEvalWithAModel(t *testing.T) {
	spec, down := embeddingServer(t)
	c := newCLI(t)
	file := c.file("data.jsonl", evalDocuments+evalQuestions)
	r := evalJSON(t, c.ok("eval", "jsonl", file, "--model", spec, "--json"))
	if r.Model != "pets" || r.Without != 0 || r.All.Questions == 0 {
		t.Errorf("%+v", r)
	}
	if out := c.ok("eval", "jsonl", file, "--model", spec); !strings.Contains(out, "\nmodel       pets\n") {
		t.Errorf("%s", out)
	}
	*down = true
	c.fails(exitFailure, "400", "eval", "jsonl", file, "--model", spec)
}

func TestEvalKeepsMemories(t *testing.T) {
	c := newCLI(t)
	file := c.file("my.jsonl", evalDocuments+evalQuestions)
	dir := filepath.Join(c.home, "kept")
	if out := c.ok("eval", "jsonl", file, "--keep", dir); !strings.HasSuffix(out, "\nkept in "+dir+"\n") {
		t.Errorf("eval printed %s", out)
	}
	var clay listOutput
	var bytes int
	for _, memory := range []struct {
		name     string
		episodes int
	}{{"002-glass.db", 1}, {"001-clay.db", 3}} {
		path := filepath.Join(dir, memory.name)
		clay = decode[listOutput](t, c.ok("list", "--json", "--db", path))
		if len(clay.Episodes) != memory.episodes {
			t.Errorf("%s holds %d episodes", memory.name, len(clay.Episodes))
		}
		for _, e := range clay.Episodes {
			bytes += len(c.ok("show", "--json", "--db", path, e.ID.String())) - 1
		}
	}
	if bytes != evalBytes {
		t.Errorf("the documents take %d bytes as JSON", bytes)
	}
	kiln := c.ok("show", "--db", filepath.Join(dir, "001-clay.db"), clay.Episodes[0].ID.String())
	for _, want := range []string{"Repair the kiln in the workshop", "2026-01-31 09:30:00 UTC", "workshop", "sh", "look at the fuse", `{"n": 1}`, "burnt", "replace the fuse"} {
		if !strings.Contains(kiln, want) {
			t.Errorf("the kept episode lacks %q: %s", want, kiln)
		}
	}
	c.fails(exitUsage, "is not empty", "eval", "jsonl", file, "--keep", dir)
}

func TestEvalRefusesWrongCommandLinesAndFiles(t *testing.T) {
	c := newCLI(t)
	file := c.file("my.jsonl", evalDocuments+evalQuestions)
	for _, args := range [][]string{
		{"eval", "csv", file},
		{"eval", "swe", file},
		{"eval", "jsonl", file, file},
		{"eval", "jsonl", file, "--level", "turn"},
		{"--db", filepath.Join(c.home, "mine.db"), "eval", "jsonl", file},
		{"--project", "p", "eval", "jsonl", file},
		{"--user", "u", "eval", "jsonl", file},
	} {
		c.fails(exitUsage, "episodic: ", args...)
	}
	bad := c.file("bad.jsonl", evalDocuments+`{"question": {"text": 7}}`)
	c.fails(exitFailure, bad+":5: question.text holds a JSON number, want a string", "eval", "jsonl", bad)
	c.fails(exitFailure, "no such file", "eval", "jsonl", bad+".gz")
}

func TestEvalThatFailsLeavesNothing(t *testing.T) {
	c := newCLI(t)
	t.Setenv("TMPDIR", t.TempDir())
	// A Store refuses more than the format does.
	refused := c.file("refused.jsonl", `{"document": {"id": "d", "title": "T", "tags": ["`+strings.Repeat("x", 1001)+`"]}}
{"question": {"text": "t", "relevant": ["d"]}}`)
	c.fails(exitFailure, `documents "d" to "d" of refused.jsonl: `, "eval", "jsonl", refused)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.runContext(ctx, "eval", "jsonl", refused); got.code != exitFailure || !strings.Contains(got.stderr, "canceled") {
		t.Errorf("interrupted: exit code %d, stderr %q", got.code, got.stderr)
	}
	nothingLeft(t)
}
