package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

const lineOne = `{"description":"one","steps":[{"action":"x"}]}`

func TestImportTellsBadLinesAndStoresTheRest(t *testing.T) {
	c := newCLI(t)
	path := c.file("mixed.jsonl", strings.Join([]string{
		lineOne,
		``,
		`not JSON`,
		`{"description":"two","contxt":{}}`,
		`{"description":"three","steps":[{"action":"a"},{"tol":"b"}]}`,
		`{"description":"bad ` + "\xff" + ` byte"}`,
		`{"description":""}`,
		`{"description":"four","outcome":{"kind":"great"}}`,
		`{"description":"five","context":{"domain":7}}`,
		`{"description":"six","start":"yesterday"}`,
		`{"messages":[{"role":"user","content":"hi"},{"role":"robot"}]}`,
		`{"description":"last"}`,
	}, "\n"))
	missing := filepath.Join(c.home, "missing.jsonl")
	got := c.run("import", missing, path)
	if got.code != exitFailure {
		t.Errorf("exit code %d, want %d", got.code, exitFailure)
	}
	if want := "imported 2 episodes, 1 step; 0 were already there; 9 bad lines\n1 file could not be read\n"; got.stdout != want {
		t.Errorf("stdout is %q, want %q", got.stdout, want)
	}
	var want []string
	for _, bad := range []struct {
		line  int
		words string
	}{
		{3, "not JSON"}, {4, "contxt: unknown field"}, {5, "steps[1].tol: unknown field"}, {6, "not valid UTF-8 at byte 21"}, {9, "context.domain: holds a number, want a string"},
		{10, `start: parsing time "yesterday"`}, {11, `messages[1].role: is "robot"`}, {7, "description: is empty"}, {8, "outcome.kind: is \"great\""},
	} {
		want = append(want, fmt.Sprintf("%s:%d: ", path, bad.line)+"\x00"+bad.words)
	}
	lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
	if len(lines) != 1+len(want) || !strings.HasPrefix(lines[0], "episodic: open "+missing) {
		t.Fatalf("stderr is\n%s", got.stderr)
	}
	for i, line := range lines[1:] {
		at, words, _ := strings.Cut(want[i], "\x00")
		if !strings.HasPrefix(line, at) || !strings.Contains(line, words) {
			t.Errorf("stderr has %q, want %q and %q", line, at, words)
		}
	}
	if n := len(decode[listOutput](t, c.ok("list", "--json")).Episodes); n != 2 {
		t.Errorf("%d episodes are stored, want 2", n)
	}
}

func TestImportTwiceAddsNothing(t *testing.T) {
	c := newCLI(t)
	own := `{"id":"0198c5f2-0000-7000-8000-000000000001","description":"with an id"}`
	transcript := `{"messages":[{"role":"user","content":"hello"}]}`
	path := c.file("a.jsonl", strings.Join([]string{lineOne, own, transcript}, "\n"))
	if out := c.ok("import", path); out != "imported 3 episodes, 1 step; 0 were already there; 0 bad lines\n" {
		t.Errorf("the first import printed %q", out)
	}
	// The same documents, otherwise laid out, and a new one among them.
	again := c.file("b.jsonl", "\ufeff[ "+strings.Join([]string{strings.ReplaceAll(lineOne, `:`, ` : `), own, `{"description":"new","steps":[{"action":"y"}]}`, transcript}, "\n,")+" ]")
	if out := c.ok("import", again); out != "imported 1 episode, 1 step; 3 were already there; 0 bad lines\n" {
		t.Errorf("the second import printed %q", out)
	}
	if _, err := c.store().ResolveEpisode(t.Context(), "0198c5f2"); err != nil {
		t.Errorf("the episode's own id: %v", err)
	}
}

func TestImportOfTheSameLineManyTimesAddsItOnce(t *testing.T) {
	c := newCLI(t)
	if out := c.ok("import", c.file("a.jsonl", strings.Repeat(lineOne+"\n", 250))); out != "imported 1 episode, 1 step; 249 were already there; 0 bad lines\n" {
		t.Errorf("import printed %q", out)
	}
}

func TestImportReadsArraysAndTellsTheirLines(t *testing.T) {
	c := newCLI(t)
	path := c.file("array.json", "\n [\n"+lineOne+",\n 5,\n\n"+`{"description":"two"}, {"description":"three",
"typo":1}`+"\n]\n")
	got := c.run("import", path)
	if got.code != exitFailure || got.stdout != "imported 2 episodes, 1 step; 0 were already there; 2 bad lines\n" {
		t.Errorf("import: %+v", got)
	}
	if want := []string{":4: is not a JSON object", ":6: typo: unknown field"}; strings.Count(got.stderr, "\n") != 2 ||
		!strings.Contains(got.stderr, path+want[0]) || !strings.Contains(got.stderr, path+want[1]) {
		t.Errorf("stderr is %q", got.stderr)
	}
	for name, text := range map[string]string{
		"cut":     "[\n" + lineOne + ",\n\n{\"descr",
		"broken":  "[\n" + lineOne + ",\n\n}]",
		"open":    "[\n" + lineOne + "\n\n",
		"follows": "[\n" + lineOne + "]\n{}",
	} {
		path := c.file(name, text)
		line, problem := 2, "the array cannot be read beyond here"
		if name == "follows" {
			line, problem = 3, "something follows"
		}
		got := c.fails(exitFailure, fmt.Sprintf("%s:%d: %s", path, line, problem), "import", path)
		if !strings.HasSuffix(got.stdout, "; 1 bad line\n") {
			t.Errorf("%s: stdout is %q", name, got.stdout)
		}
	}
}

func TestImportFromStdinAndSeveralFiles(t *testing.T) {
	c := newCLI(t)
	c.stdin = strings.NewReader(`{"description":"from stdin"}` + "\n")
	if out := c.ok("import", c.file("a.jsonl", lineOne), "-", c.file("b.jsonl", `{"description":"last"}`), c.file("empty.jsonl", "")); !strings.HasPrefix(out, "imported 3 episodes,") {
		t.Errorf("import printed %q", out)
	}
	c.stdin = strings.NewReader("nonsense")
	c.fails(exitFailure, "-:1: ", "import", "-")
}

func TestImportOfAFolderIsTold(t *testing.T) {
	c := newCLI(t)
	c.fails(exitFailure, c.home, "import", c.home)
}

func TestImportDomainAndTags(t *testing.T) {
	c := newCLI(t)
	path := c.file("a.jsonl", `{"description":"bare"}
{"description":"own","context":{"domain":"mine","tags":["t"]}}
{"messages":[{"role":"user","content":"chat"}]}`)
	c.ok("import", path, "--domain", "given", "--tag", "x,y", "--tag", "z")
	got := map[string]episodic.Context{}
	for _, e := range decode[listOutput](t, c.ok("list", "--json")).Episodes {
		got[e.Description] = e.Context
	}
	for description, want := range map[string]episodic.Context{
		"bare": {Domain: "given", Tags: []string{"x,y", "z"}},
		"own":  {Domain: "mine", Tags: []string{"t", "x,y", "z"}},
		"chat": {Domain: "given", Tags: []string{"x,y", "z"}},
	} {
		if x := got[description]; x.Domain != want.Domain || !slices.Equal(x.Tags, want.Tags) {
			t.Errorf("%s has the context %+v, want %+v", description, x, want)
		}
	}
}

func TestImportFormatCanBeForced(t *testing.T) {
	c := newCLI(t)
	chat := c.file("chat.jsonl", `{"messages":[{"role":"user","content":"chat"}]}`)
	c.fails(exitFailure, "messages: unknown field", "import", "--format", "episodic", chat)
	c.fails(exitFailure, "messages: is missing", "import", "--format", "openai", c.file("e.jsonl", lineOne))
	c.ok("import", "--format", "openai", chat)
}

func TestImportOfAHugeLine(t *testing.T) {
	c := newCLI(t)
	// Steps of 1 MB each: a value that a server could store, too.
	steps := make([]string, testkit.Effort(6, 20, 20))
	for i := range steps {
		steps[i] = fmt.Sprintf(`{"tool":"read","result":{"kind":"output","text":"%d %s"}}`, i, strings.Repeat("x", 1<<20))
	}
	huge := `{"description":"huge","steps":[` + strings.Join(steps, ",") + `]}`
	tooLarge := `{"description":"` + strings.Repeat("y", 5<<20) + `"}`
	got := c.run("import", c.file("huge.jsonl", lineOne+"\n"+huge+"\n"+tooLarge+"\n"+`{"description":"after"}`))
	if got.code != exitFailure || got.stdout != fmt.Sprintf("imported 3 episodes, %d steps; 0 were already there; 1 bad line\n", 1+len(steps)) || !strings.Contains(got.stderr, "huge.jsonl:3: ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
}

func TestALineTooLongToKeepIsLeftOut(t *testing.T) {
	const limit = 100_000
	in := strings.NewReader("1\n" + strings.Repeat("x", limit) + "\n" + strings.Repeat("y", limit-1) + "\n4\n" + strings.Repeat("z", 3*limit))
	var got []string
	for rec, err := range records(in, limit) {
		if err != nil {
			got = append(got, fmt.Sprintf("%d %v", rec.line, err))
		} else {
			got = append(got, fmt.Sprintf("%d %c %d", rec.line, rec.raw[0], len(rec.raw)))
		}
	}
	want := []string{"1 1 1", "2 : is longer than 100000 bytes", "3 y 99999", "4 4 1", "5 : is longer than 100000 bytes"}
	if !slices.Equal(got, want) {
		t.Errorf("records are %q, want %q", got, want)
	}
}

// interrupting gives its text, then cancels and gives nothing more.
type interrupting struct {
	text   io.Reader
	cancel func()
	done   <-chan struct{}
}

func (r *interrupting) Read(p []byte) (int, error) {
	n, err := r.text.Read(p)
	if err == io.EOF {
		r.cancel()
		<-r.done
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func TestInterruptedImportSaysHowFarItGot(t *testing.T) {
	c := newCLI(t)
	ctx, cancel := context.WithCancel(t.Context())
	// Far more is read ahead than fits into buffers, so that one batch is stored
	// when the interrupt comes and the second is not full.
	var text bytes.Buffer
	for i := range 180 {
		fmt.Fprintf(&text, `{"description":"%d","metadata":{"pad":"%s"}}`+"\n", i, strings.Repeat("x", 4000))
	}
	c.stdin = &interrupting{text: &text, cancel: cancel, done: t.Context().Done()}
	got := c.runContext(ctx, "import", "-")
	if got.code != exitFailure || got.stdout != "" || !strings.Contains(got.stderr, "with 100 episodes stored and 0 found stored: interrupted; importing again is safe\n") {
		t.Errorf("import: %+v", got)
	}
	c.stdin = strings.NewReader(`{"description":"another"}`)
	c.ok("import", "-")
	if n, err := c.store().Counts(t.Context()); err != nil || n.Episodes != 101 {
		t.Errorf("%d episodes are stored (%v), want 101", n.Episodes, err)
	}
}

func TestSamplesShowWhatEpisodesCanHold(t *testing.T) {
	kinds := map[episodic.OutcomeKind]int{}
	line := 0
	for rec, err := range records(strings.NewReader(samples), maxLine) {
		line++
		if err != nil {
			t.Fatal(err)
		}
		e, err := parseDocument(rec.raw, formatAuto, episodic.Scope{}, e0)
		if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		kinds[e.Outcome.Kind]++
		if len(e.Steps) == 0 || e.Reward == nil || len(e.Context.Tags) == 0 || e.Start.IsZero() || !e.End.After(e.Start) || len(e.Reflection.Insights)+len(e.Reflection.Improvements) == 0 {
			t.Errorf("line %d lacks something", line)
		}
	}
	if line != 10 || len(kinds) != 4 {
		t.Errorf("%d samples of the outcomes %v", line, kinds)
	}
}

// sharedData returns the path of a data file beside the checkout.
func sharedData(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("needs the shared data beside the checkout: %v", err)
	}
	return path
}

// The same commands on a file and on a server find the same kind of thing: on a server
// that has the words of steps too.
func TestFileAndServerAgree(t *testing.T) {
	source := sharedData(t, "tau-bench-airline.jsonl")
	queries := []string{"cancel reservation insurance", "upgrade to business class", "book_reservation", "refund delayed flight certificate", "baggage"}
	for _, db := range []string{filepath.Join(t.TempDir(), "m.db"), hranatest.Start(t).URL()} {
		c := newCLI(t)
		c.env["EPISODIC_DB"], c.env["EPISODIC_INDEX_STEPS"] = db, "1"
		for n, want := range []string{"imported 100 episodes, 621 steps; 0 were already there", "imported 0 episodes, 0 steps; 100 were already there"} {
			if out := c.ok("import", source); !strings.Contains(out, want) {
				t.Errorf("%s: import %d says %q", db, n+1, out)
			}
		}
		for _, q := range queries {
			found := decode[searchOutput](t, c.ok("search", "--json", q))
			tasks := make(map[string]bool)
			for _, hit := range found.Hits {
				tasks[hit.Episode.Description] = true
			}
			if len(found.Hits) != 10 || len(tasks) != 10 || found.Next == "" {
				t.Errorf("%s: %q finds %d episodes of %d tasks", db, q, len(found.Hits), len(tasks))
			}
			next := decode[searchOutput](t, c.ok("search", "--json", "--page", found.Next, q))
			for _, hit := range next.Hits {
				if tasks[hit.Episode.Description] {
					t.Errorf("%s: %q finds %q on two pages", db, q, hit.Episode.Description)
				}
			}
		}
	}
}
