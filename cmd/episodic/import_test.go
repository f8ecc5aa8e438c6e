package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
	"github.com/episodic-memory/episodic/internal/transcript"
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
		`{"messages":[{"role":"user","content":"hi"},{"role":"robot","tool_calls":[{}]}]}`,
		`{"description":"last"}`,
	}, "\n"))
	missing := filepath.Join(c.home, "missing.jsonl")
	got := c.run("import", missing, path)
	if got.code != exitFailure {
		t.Errorf("exit code %d, want %d", got.code, exitFailure)
	}
	if want := "imported 3 episodes, 1 step; 0 were already there; 9 bad lines\n4 have no step\n1 file could not be read\n"; got.stdout != want {
		t.Errorf("stdout is %q, want %q", got.stdout, want)
	}
	bad := map[int]string{
		3: "not JSON", 4: "contxt: unknown field", 5: "steps[1].tol: unknown field", 6: "not valid UTF-8 at byte 21", 9: "context.domain: holds a number, want a string",
		10: `start: parsing time "yesterday"`, 11: "messages[1].role: is \"robot\"", 7: "description: is empty", 8: "outcome.kind: is \"great\"",
	}
	lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
	if len(lines) != 1+toldErrors+1 || !strings.HasPrefix(lines[0], "episodic: lstat "+missing) || lines[len(lines)-1] != path+": and 4 more" {
		t.Fatalf("stderr is\n%s", got.stderr)
	}
	for _, line := range lines[1 : 1+toldErrors] {
		var n int
		rest, _ := strings.CutPrefix(line, path+":")
		if _, err := fmt.Sscanf(rest, "%d: ", &n); err != nil || bad[n] == "" || !strings.Contains(line, bad[n]) {
			t.Errorf("stderr has %q, want %q", line, bad[n])
		}
		delete(bad, n)
	}
	if n := len(decode[listOutput](t, c.ok("list", "--json")).Episodes); n != 3 { // of the one with a robot its prompt
		t.Errorf("%d episodes are stored, want 3", n)
	}
}

func TestImportTwiceAddsNothing(t *testing.T) {
	c := newCLI(t)
	own := `{"id":"0198c5f2-0000-7000-8000-000000000001","description":"with an id"}`
	transcript := `{"messages":[{"role":"user","content":"hello"}]}`
	path := c.file("a.jsonl", strings.Join([]string{lineOne, own, transcript}, "\n"))
	if out := c.ok("import", path); out != "imported 3 episodes, 1 step; 0 were already there; 0 bad lines\n2 have no step\n" {
		t.Errorf("the first import printed %q", out)
	}
	// The same documents, otherwise laid out, and a new one among them.
	again := c.file("b.jsonl", "\ufeff[ "+strings.Join([]string{strings.ReplaceAll(lineOne, `:`, ` : `), own, `{"description":"new","steps":[{"action":"y"}]}`, transcript}, "\n,")+" ]")
	if out := c.ok("import", again); out != "imported 1 episode, 1 step; 3 were already there; 0 bad lines\n2 have no step\n" {
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
	if got.code != exitFailure || got.stdout != "imported 2 episodes, 1 step; 0 were already there; 2 bad lines\n1 have no step\n" {
		t.Errorf("import: %+v", got)
	}
	if want := []string{":4: is not a JSON object", ":6: typo: unknown field"}; strings.Count(got.stderr, "\n") != 2 ||
		!strings.Contains(got.stderr, path+want[0]) || !strings.Contains(got.stderr, path+want[1]) {
		t.Errorf("stderr is %q", got.stderr)
	}
	for name, test := range map[string]struct{ text, want, count string }{
		"cut":     {"[\n" + lineOne + ",\n\n{\"descr", ":4: is not JSON", "2 bad lines"},
		"broken":  {"[\n" + lineOne + ",\n\n}]", ":4: is not JSON", "1 bad line"},
		"open":    {"[\n" + lineOne + "\n\n", ":4: the file ends within its array", "1 bad line"},
		"follows": {"[\n" + lineOne + "]\n{}", ":3: something follows", "1 bad line"},
	} {
		path := c.file(name, test.text)
		got := c.fails(exitFailure, path+test.want, "import", path)
		if !strings.HasSuffix(got.stdout, "; "+test.count+"\n") {
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
	c.fails(exitFailure, `-: unknown format: it begins with "nonsense"`, "import", "-")
}

func TestImportOfFolders(t *testing.T) {
	c := newCLI(t)
	dir := filepath.Join(c.home, "logs")
	for name, text := range map[string]string{"a.jsonl": lineOne, "b/c.json": "{\n" + lineOne[1:], "b/d.txt": "no record", "e.jsonl": `{"description":"two"}`} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if out := c.ok("import", dir); !strings.HasPrefix(out, "imported 2 episodes, 1 step; 1 were already there; 0 bad lines\n") {
		t.Errorf("import printed %q", out)
	}
	if out := c.ok("import", filepath.Join(dir, "*.jsonl")); !strings.HasPrefix(out, "imported 0 episodes, 0 steps; 2 were already there") {
		t.Errorf("import of a pattern printed %q", out)
	}
	empty := filepath.Join(c.home, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	c.fails(exitFailure, empty+": holds no file that ends in .jsonl", "import", empty)
	c.fails(exitFailure, "import "+filepath.Join(dir, "*.nothing")+": file does not exist", "import", filepath.Join(dir, "*.nothing"))
}

// Files of other kinds in a folder are no failure, unless there is nothing else. A file that is
// named is what was asked for.
func TestImportPassesByOtherFilesInFolders(t *testing.T) {
	c := newCLI(t)
	dir := filepath.Join(c.home, "project")
	files := map[string]string{"run.jsonl": lineOne, "tsconfig.json": "{\n  // comment\n}", "empty.json": "", "a.json": `"text"`}
	for i := range 7 {
		files[fmt.Sprintf("%d/package.json", i)] = `{"name":"x","version":"1"}`
	}
	write := func() {
		for name, text := range files {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	want := "passed by, for no records of agents are in them: 9 files: 7 x package.json, a.json, tsconfig.json\n"
	if got := c.run("import", dir); got.code != exitOK || got.stdout != "imported 1 episode, 1 step; 0 were already there; 0 bad lines\n"+want || got.stderr != "" {
		t.Errorf("import: %+v", got)
	}
	named := filepath.Join(dir, "0", "package.json")
	c.fails(exitFailure, named+": unknown format: its first object has the keys name, version", "import", named)
	c.fails(exitFailure, "tsconfig.json:1: is not JSON", "import", filepath.Join(dir, "tsconfig.json"))

	if err := os.Remove(filepath.Join(dir, "run.jsonl")); err != nil {
		t.Fatal(err)
	}
	got := c.fails(exitFailure, named+": unknown format: its first object has the keys name, version", "import", dir)
	if got.stdout != "imported 0 episodes, 0 steps; 0 were already there; 0 bad lines\n"+want+"1 file could not be read\n" {
		t.Errorf("stdout is %q", got.stdout)
	}
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
	c.fails(exitFailure, "messages: is no array", "import", "--format", "openai", c.file("e.jsonl", lineOne))
	c.fails(exitUsage, `--from: is "telepathy"; known are`, "import", "--from", "telepathy", chat)
	c.ok("import", "--format", "openai", chat)
}

func TestImportOfAHugeLine(t *testing.T) {
	c := newCLI(t)
	// Steps of 1 MB each: a value that a server could store, too.
	steps := make([]string, testkit.Effort(6, 6, 20))
	for i := range steps {
		steps[i] = fmt.Sprintf(`{"tool":"read","result":{"kind":"output","text":"%d %s"}}`, i, strings.Repeat("x", 1<<20))
	}
	huge := `{"description":"huge","steps":[` + strings.Join(steps, ",") + `]}`
	tooLarge := `{"description":"` + strings.Repeat("y", 5<<20) + `"}`
	got := c.run("import", c.file("huge.jsonl", lineOne+"\n"+huge+"\n"+tooLarge+"\n"+`{"description":"after"}`))
	if got.code != exitFailure || got.stdout != fmt.Sprintf("imported 3 episodes, %d steps; 0 were already there; 1 bad line\n2 have no step\n", 1+len(steps)) || !strings.Contains(got.stderr, "huge.jsonl:3: ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
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
	told := regexp.MustCompile(`with (\d+) episodes? stored and 0 found stored: interrupted; importing again is safe\n$`).FindStringSubmatch(got.stderr)
	if got.code != exitFailure || got.stdout != "" || told == nil {
		t.Fatalf("import: %+v", got)
	}
	stored, _ := strconv.ParseInt(told[1], 10, 64) // it is digits
	if n, err := c.store().Counts(t.Context()); err != nil || n.Episodes != stored {
		t.Errorf("%d episodes are stored (%v), the import says %d", n.Episodes, err, stored)
	}
	c.stdin = strings.NewReader(`{"description":"another"}`)
	c.ok("import", "-")
	if n, err := c.store().Counts(t.Context()); err != nil || n.Episodes != stored+1 {
		t.Errorf("%d episodes are stored (%v), want %d", n.Episodes, err, stored+1)
	}
}

func TestSamplesShowWhatEpisodesCanHold(t *testing.T) {
	kinds := map[episodic.OutcomeKind]int{}
	line := 0
	for run, err := range transcript.Read(strings.NewReader(samples), "samples", nil) {
		line++
		if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		e := run.Episode
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
		for n, want := range []string{"imported 100 episodes, 1381 steps; 0 were already there", "imported 0 episodes, 0 steps; 100 were already there"} {
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

// TestImportOfStores: sessions that agents keep in databases, or in a file for each message, are
// read from there.
func TestImportOfStores(t *testing.T) {
	c := newCLI(t)
	for name, text := range map[string]string{
		"conversation/events/0.json":                         `{"id":0,"source":"user","timestamp":"2026-01-01T00:00:00","action":"message","args":{"content":"of events"}}`,
		"conversation/events/1.json":                         `{"id":1,"source":"agent","timestamp":"2026-01-01T00:00:01","action":"run","args":{"command":"ls"}}`,
		"conversation/event_cache/0-25.json":                 `[{"id":0,"source":"user","timestamp":"2026-01-01T00:00:00","action":"message","args":{"content":"of pages"}}]`,
		".local/share/opencode/storage/session/p/ses_1.json": `{"id":"ses_1"}`,
		".local/share/opencode/storage/message/ses_1/m.json": `{"id":"m","role":"user"}`,
		".local/share/opencode/storage/part/m/p.json":        `{"type":"text","text":"of files"}`,
	} {
		path := filepath.Join(c.home, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if out := c.ok("import", filepath.Join(c.home, "conversation")); !strings.HasPrefix(out, "imported 1 episode, 1 step; 0 were already there; 0 bad lines\n") {
		t.Errorf("import of events printed %q", out)
	}
	c.env["XDG_DATA_HOME"] = filepath.Join(c.home, ".local", "share")
	if out := c.ok("import", "--from", "opencode"); !strings.HasPrefix(out, "imported 1 episode, 0 steps; 0 were already there; 0 bad lines\n") {
		t.Errorf("import of files printed %q", out)
	}
	if out := c.ok("list"); !strings.Contains(out, "of events") || !strings.Contains(out, "of files") {
		t.Errorf("list printed %q", out)
	}
	db := filepath.Join(c.home, "memory.db")
	c.ok("--db", db, "import", c.file("one.jsonl", lineOne))
	c.fails(exitFailure, db+": is an SQLite database, and holds no sessions of OpenCode or Cursor", "import", db)
}
