package transcript

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

// samples are where sample files of each format lie, with the right values beside them.
const samples = "../../../shared/data/transcripts"

// expected is what a sample must give.
type expected struct {
	Episodes json.RawMessage `json:"episodes"` // a text, where another sample says it
}

type expectedEpisode struct {
	Description string         `json:"description"`
	Steps       []expectedStep `json:"steps"`
	Start       time.Time      `json:"start"`
	StartUnix   float64        `json:"start_unix"`
	StartMs     int64          `json:"start_ms"`
	StartNs     int64          `json:"start_ns"`
	End         time.Time      `json:"end"`
	EndUnix     float64        `json:"end_unix"`
	EndMs       int64          `json:"end_ms"`
	EndNs       int64          `json:"end_ns"`
	Domain      string         `json:"domain"`
	Outcome     *episodic.Outcome
	Reward      *episodic.Reward
	Final       string            `json:"final_answer"`
	FinalBegins string            `json:"final_answer_begins"`
	Title       string            `json:"title"`
	Prompts     []string          `json:"prompts"`
	Images      int               `json:"images"`
	Tags        []string          `json:"tags"`
	Metadata    map[string]string `json:"metadata"`
}

type expectedStep struct {
	Tool       string           `json:"tool"`
	Action     string           `json:"action"`
	Parameters string           `json:"parameters"`
	Result     *episodic.Result `json:"result"`
	Time       time.Time        `json:"time"`
	TimeUnix   float64          `json:"time_unix"`
	TimeMs     int64            `json:"time_ms"`
	TimeNs     int64            `json:"time_ns"`
	Latency    time.Duration    `json:"latency_ns"`
	Tokens     int              `json:"tokens"`
}

// unixTime is the time of which a sample says one of these.
func unixTime(t time.Time, s float64, ms, ns int64) time.Time {
	switch {
	case s != 0:
		return time.UnixMicro(int64(math.Round(s * 1e6))).UTC()
	case ms != 0:
		return time.UnixMilli(ms).UTC()
	case ns != 0:
		return time.Unix(0, ns).UTC()
	}
	return t
}

// readSample reads all files below a folder, in the order of their names.
func readSample(t *testing.T, dir string, o *Options) (runs []*Run, problems []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "expected.json" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for run, err := range Read(f, path, o) {
			switch {
			case err != nil:
				problems = append(problems, fmt.Sprintf("%s: %v", d.Name(), err))
			default:
				runs = append(runs, run)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return runs, problems
}

func TestSamples(t *testing.T) {
	t.Parallel()
	dirs, err := os.ReadDir(samples)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no sample files; they lie in ../shared/data/transcripts, seen from the project")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		t.Run(d.Name(), func(t *testing.T) {
			t.Parallel()
			var want expected
			readJSON(t, filepath.Join(samples, d.Name(), "expected.json"), &want)
			runs, problems := readSample(t, filepath.Join(samples, d.Name()), nil)
			for _, p := range problems {
				t.Error(p)
			}
			runs = slices.DeleteFunc(runs, func(r *Run) bool { return r.Episode == nil })
			var episodes []expectedEpisode
			if want.Episodes[0] == '"' { // as chat.jsonl
				readJSON(t, filepath.Join(samples, "openai_chat", "expected.json"), &want)
			}
			if err := json.Unmarshal(want.Episodes, &episodes); err != nil {
				t.Fatal(err)
			}
			if d.Name() == "openai_messages_array" { // only the messages
				e := &episodes[0]
				e.Start, e.Metadata = time.Time{}, nil
			}
			// Files are read in the order of their names, which is not that of the expected.
			slices.SortStableFunc(runs, func(a, b *Run) int { return strings.Compare(a.Episode.Description, b.Episode.Description) })
			slices.SortStableFunc(episodes, func(a, b expectedEpisode) int { return strings.Compare(a.Description, b.Description) })
			if len(runs) != len(episodes) {
				t.Fatalf("%d episodes, want %d", len(runs), len(episodes))
			}
			for i := range runs {
				compare(t, runs[i], &episodes[i])
			}
		})
	}
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func compare(t *testing.T, run *Run, want *expectedEpisode) {
	t.Helper()
	e := run.Episode
	same := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %q, want %q", what, fmt.Sprint(got), fmt.Sprint(want))
		}
	}
	same("description", e.Description, want.Description)
	if at := unixTime(want.Start, want.StartUnix, want.StartMs, want.StartNs); !at.IsZero() {
		same("start", e.Start, at)
	}
	if at := unixTime(want.End, want.EndUnix, want.EndMs, want.EndNs); !at.IsZero() {
		same("end", e.End, at)
	}
	same("domain", e.Context.Domain, want.Domain)
	same("tags", e.Context.Tags, want.Tags)
	if want.Outcome != nil {
		same("outcome", e.Outcome.Kind, want.Outcome.Kind)
		if want.Outcome.Reason != "" {
			same("reason", e.Outcome.Reason, want.Outcome.Reason)
		}
		if want.Outcome.Verdict != "" {
			same("verdict", e.Outcome.Verdict, want.Outcome.Verdict)
		}
	}
	if want.Reward != nil {
		got, _ := json.Marshal(e.Reward)
		right, _ := json.Marshal(want.Reward)
		same("reward", string(got), string(right))
	}
	final := e.Outcome.Verdict + e.Outcome.Reason
	if want.Final != "" {
		same("final answer", final, strings.TrimSpace(want.Final))
	}
	if !strings.HasPrefix(final, want.FinalBegins) {
		t.Errorf("the final answer is %q", final)
	}
	same("title", e.Metadata[MetaTitle], want.Title)
	if want.Prompts != nil {
		same("prompts", prompts(e), want.Prompts)
	}
	same("images", run.Left["image"], want.Images)
	for _, key := range slices.Sorted(maps.Keys(want.Metadata)) {
		same("metadata "+key, e.Metadata[key], want.Metadata[key])
	}
	if len(e.Steps) != len(want.Steps) {
		t.Errorf("%d steps, want %d: %+v", len(e.Steps), len(want.Steps), e.Steps)
		return
	}
	for i := range e.Steps {
		compareStep(t, i, &e.Steps[i], &want.Steps[i])
	}
}

func compareStep(t *testing.T, i int, got *episodic.Step, want *expectedStep) {
	t.Helper()
	same := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("step %d: %s is %q, want %q", i+1, what, fmt.Sprint(got), fmt.Sprint(want))
		}
	}
	same("tool", got.Tool, want.Tool)
	same("action", got.Action, want.Action)
	same("parameters", spelt(string(got.Parameters)), spelt(want.Parameters))
	result := func(r *episodic.Result) string {
		if r == nil {
			return "none"
		}
		return string(r.Kind) + " " + r.Text
	}
	same("result", result(got.Result), result(want.Result))
	if at := unixTime(want.Time, want.TimeUnix, want.TimeMs, want.TimeNs); !at.IsZero() {
		same("time", got.Time, at)
	}
	same("latency", got.Latency, want.Latency)
	if want.Tokens != 0 {
		same("tokens", got.Tokens, want.Tokens)
	}
}

// spelt is JSON in one spelling.
func spelt(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// prompts are all that people said in a run.
func prompts(e *episodic.Episode) []string {
	list := []string{e.Description}
	for i := range e.Steps {
		if p := e.Steps[i].Metadata[MetaPrompt]; p != "" {
			list = append(list, p)
		}
	}
	if p := e.Metadata[MetaLastPrompt]; p != "" {
		list = append(list, p)
	}
	return list
}
