package episodic

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// testdata/schema4.db.gz is a file that an older version has written, with schema
// version 4 and a trained dictionary: it holds content4.

// written4 is what upgrade4.db holds: every noun, with every field that there was.
type written4 struct {
	episodes   []*Episode
	patterns   []*Pattern
	heuristics []*Heuristic
	relations  []*Relation
	embeddings []*Embedding
}

func content4() (c written4) {
	id := func(n byte) ID { return ID{1, 0x92, 14: 7, 15: n, 6: 0x70, 8: 0x80} }
	at := func(n int) time.Time { return time.UnixMicro(1_700_000_000_000_001 + int64(n)*60_000_000).UTC() }
	words := strings.Repeat("the flight was cancelled, the customer asks for another one; ", 20)
	whole := &Episode{
		ID: id(1), TaskType: "debugging", Description: "Fix the race in the pool: 修复竞争", Start: at(0), End: at(9), StepCount: 3,
		Context:         Context{Domain: "web", Language: "go", Framework: "net/http", Complexity: "complex", Tags: []string{"race", "東京 tower", "Go"}},
		Outcome:         Outcome{Kind: Success, Verdict: "it holds", Artifacts: []string{"pool.go"}},
		Reward:          &Reward{Total: 0.75, Components: map[string]float64{"speed": 0.5, "care": 1}},
		Reflection:      Reflection{Successes: []string{"small steps"}, Improvements: []string{"read first"}, Insights: []string{"the lock was held while dialling"}},
		AppliedPatterns: []AppliedPattern{{PatternID: id(21), Step: 2, Effect: Helped, Note: "at once"}},
		Metadata:        map[string]string{"agent": "a", "run": "7"},
		Steps: []Step{
			{Number: 1, Time: at(1), Tool: "grep", Action: "look for the lock", Parameters: `{"pattern": "mu\\.Lock", "n": 12345678901234567890}`, Result: &Result{Kind: ResultOutput, Text: words}, Latency: 1_234_567, Tokens: 12, Metadata: map[string]string{"k": "v"}},
			{Number: 2, Time: at(2), Tool: "go test", Action: "run", Result: &Result{Kind: ResultError, Text: "DATA RACE\r\n\x1b[1m" + words}, Latency: 3_000_000_000},
			{Number: 3, Time: at(3), Tool: "edit", Result: &Result{Kind: ResultTimeout}},
		},
	}
	running := &Episode{ID: id(2), TaskType: "other", Description: "still running", Start: at(10), StepCount: 2, Context: Context{Domain: "cli", Tags: []string{"race"}},
		Steps: []Step{{Number: 1, Time: at(11), Tool: "a", Action: "one"}, {Number: 2, Time: at(12), Tool: "b", Action: "two", Result: &Result{Kind: ResultOutput, Text: words + words}}}}
	c.episodes = append(c.episodes, whole, running)
	for n := range byte(25) { // enough to train a dictionary, which the last ones use
		c.episodes = append(c.episodes, &Episode{
			ID: id(30 + n), TaskType: "other", Description: fmt.Sprintf("task %d: %s", n, words), Start: at(20 + int(n)), End: at(50), StepCount: 1, Outcome: Outcome{Kind: Failure, Reason: "no seats"},
			Steps: []Step{{Number: 1, Time: at(21), Tool: "search", Parameters: JSON(fmt.Sprintf(`{"flight":"HAT%03d","date":"2024-05-%02d"}`, n*7, n+1)), Result: &Result{Kind: ResultOutput, Text: fmt.Sprintf(`{"seats":%d,"status":"available","prices":{"economy":%d}} %s`, n, int(n)*13, words)}}},
		})
	}
	pattern := func(n byte) *Pattern {
		return &Pattern{ID: id(20 + n), Description: "seen often", Context: Context{Domain: "web", Tags: []string{"t"}}, SuccessRate: 0.5, Occurrences: int(n) + 1, Evidence: []ID{id(1)}, Metadata: map[string]string{"m": words}, Created: at(60 + int(n)), Updated: at(61 + int(n))}
	}
	for n, set := range []func(*Pattern){
		func(p *Pattern) {
			p.ToolSequence = &ToolSequence{Tools: []string{"grep", "edit"}, MeanLatency: 1_500_001}
		},
		func(p *Pattern) {
			p.DecisionPoint = &DecisionPoint{Condition: "tests fail", Action: "read them", Successes: 3, Failures: 1, MeanLatency: 7}
		},
		func(p *Pattern) { p.ErrorRecovery = &ErrorRecovery{Error: "EOF", Steps: []string{"wait", "again"}} },
		func(p *Pattern) {
			p.ContextPattern = &ContextPattern{Features: []string{"monorepo"}, Approach: "narrow"}
		},
	} {
		p := pattern(byte(n))
		set(p)
		c.patterns = append(c.patterns, p)
	}
	c.heuristics = []*Heuristic{{ID: id(26), Condition: "the build fails", Action: "read the first error", Confidence: 0.9, Evidence: Evidence{Episodes: []ID{id(1)}, SuccessRate: 0.8, SampleSize: 5}, Metadata: map[string]string{"m": words}, Created: at(70), Updated: at(71)}}
	c.relations = []*Relation{
		{From: id(1), Type: DependsOn, To: id(2), Reason: words, Priority: 7, By: "me", Metadata: map[string]string{"a": "b"}, Created: at(80)},
		{From: id(30), Type: RelatedTo, To: id(1), Created: at(81)},
	}
	c.embeddings = []*Embedding{
		{Kind: ItemEpisode, Item: id(1), Model: "m", Vector: []float32{0.5, -0.25, 1}},
		{Kind: ItemPattern, Item: id(20), Model: "n", Vector: []float32{1.5, 2}},
	}
	return c
}

// reads compares everything in the Store with what it should hold.
func (c *written4) reads(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	like := func(got, want any) {
		t.Helper()
		if !reflect.DeepEqual(withoutRevision(got), withoutRevision(want)) {
			t.Errorf("read back\n%#v\nwritten\n%#v", got, want)
		}
	}
	for _, want := range c.episodes {
		got, err := s.Episode(ctx, want.ID)
		ok(t, err)
		like(got, want)
	}
	for _, want := range c.patterns {
		got, err := s.Pattern(ctx, want.ID)
		ok(t, err)
		like(got, want)
	}
	for _, want := range c.heuristics {
		got, err := s.Heuristic(ctx, want.ID)
		ok(t, err)
		like(got, want)
	}
	for _, want := range c.relations {
		got, err := collect(s.Relations(ctx, want.From, &RelationFilter{Direction: Outgoing}))
		ok(t, err)
		like(got, []*Relation{want})
	}
	for _, want := range c.embeddings {
		got, err := collect(s.Embeddings(ctx, want.Kind, want.Item))
		ok(t, err)
		like(got, []*Embedding{want})
	}
	counts, err := s.Counts(ctx)
	ok(t, err)
	if counts.Episodes != int64(len(c.episodes)) || counts.Patterns != 4 || counts.Heuristics != 1 || counts.Relations != 2 || counts.Embeddings != 2 {
		t.Errorf("counts are %+v", counts)
	}
}

// unpack4 writes the file of the older version.
func unpack4(t *testing.T, path string) {
	t.Helper()
	packed, err := os.Open("testdata/schema4.db.gz")
	ok(t, err)
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	ok(t, err)
	db, err := io.ReadAll(unpacked)
	ok(t, err)
	ok(t, os.WriteFile(path, db, 0o600))
}

func TestFilesOfSchemaFourReadTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	unpack4(t, path)
	c, ctx := content4(), t.Context()
	s := open(t, path, nil)
	c.reads(t, s)
	before, err := s.Search(ctx, "修复竞争", nil)
	if err != nil || before.Waiting < len(c.episodes)-1 {
		t.Errorf("%d items wait for the index, %v", before.Waiting, err)
	}
	ok(t, s.keepIndex(ctx, false))
	checkIndex(t, s)
	hits, err := s.searchHits(ctx, "修复竞争", nil)
	ok(t, err)
	running, err := s.ListEpisodes(ctx, &EpisodeFilter{State: StateRunning}, nil)
	ok(t, err)
	if len(hits) != 1 || hits[0].Episode.ID != c.episodes[0].ID || len(running.Items) != 1 || running.Items[0].ID != c.episodes[1].ID {
		t.Errorf("found %d episodes, %d are running", len(hits), len(running.Items))
	}
	changes, err := collect(s.Changes(ctx, 0))
	ok(t, err)
	if want := len(c.episodes) + 4 + 1 + 2 + 2; len(changes) != want {
		t.Errorf("the feed tells of %d changes, want %d", len(changes), want)
	}

	// What is read can be put, and completed, and compressed again.
	for _, want := range c.episodes[2:10] {
		got, err := s.Episode(ctx, want.ID)
		ok(t, err)
		ok(t, s.PutEpisode(ctx, got))
	}
	_, err = s.Compact(ctx, nil)
	ok(t, err)
	ok(t, s.DeleteEpisode(ctx, c.episodes[26].ID))
	ok(t, s.PutEpisode(ctx, c.episodes[26]))
	c.reads(t, open(t, path, nil))
}
