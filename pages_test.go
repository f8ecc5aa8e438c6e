package episodic_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is what stands between two lines of ``` on a page.
type block struct {
	page     string
	line     int // of its first line, from 1
	language string
	text     string
}

func blocks(t *testing.T, page string) (list []block) {
	t.Helper()
	var open *block
	for i, line := range strings.Split(readPage(t, page), "\n") {
		fence, is := strings.CutPrefix(line, "```")
		switch {
		case is && open == nil:
			open = &block{page: page, line: i + 2, language: fence}
		case is:
			list, open = append(list, *open), nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return list
}

// snippets is Go of a page as one program: a whole one, or all fragments, which share
// their variables, in the order of the page.
type snippets struct {
	page   string
	source string
	// runs are the outputs that the page shows. Of a whole program each is that of a run; of
	// fragments there is one run, and an output for each, nil if none is shown.
	runs [][]*block
}

// betweenFragments is printed behind each fragment.
const betweenFragments = "\x1e\n"

// programs returns what Go stands on a page.
func programs(page string, list []block) (all []*snippets) {
	var fragments, last *snippets
	for _, b := range list {
		switch {
		case b.language == "text" && last == nil:
			continue // shows something else
		case b.language == "text" && last == fragments:
			last.runs[0][len(last.runs[0])-1] = &b
			last = nil
		case b.language == "text":
			last.runs = append(last.runs, []*block{&b})
		case b.language != "go":
			last = nil
		case strings.HasPrefix(b.text, "package main\n"):
			last = &snippets{page: page, source: fmt.Sprintf("//line %s:%d\n%s", page, b.line, b.text)}
			all = append(all, last)
		default:
			if fragments == nil {
				fragments = &snippets{page: page, runs: make([][]*block, 1)}
				all = append(all, fragments)
			}
			last = fragments
			last.source += fmt.Sprintf("//line %s:%d\n%sfmt.Print(%q)\n", page, b.line, b.text, betweenFragments)
			last.runs[0] = append(last.runs[0], nil)
		}
	}
	if fragments != nil {
		fragments.source = around(fragments.source)
	}
	return all
}

// around puts a program around fragments, which may use ctx and store.
func around(fragments string) string {
	var imports strings.Builder
	for _, path := range []string{"context", "errors", "fmt", "log", "os", "time", "github.com/episodic-memory/episodic"} {
		used := strings.Contains(fragments, filepath.Base(path)+".")
		if used || slices.Contains([]string{"context", "log", "github.com/episodic-memory/episodic"}, path) {
			fmt.Fprintf(&imports, "import %q\n", path)
		}
	}
	return fmt.Sprintf(`package main

%s
func main() {
	ctx := context.Background()
	store, err := episodic.Open(ctx, "memory.db", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := fragments(ctx, store); err != nil {
		log.Fatal(err)
	}
}

func fragments(ctx context.Context, store *episodic.Store) (err error) {
%s	return nil
}
`, &imports, fragments)
}

// The Go of the pages compiles, runs, and prints what they say. One binary holds all of it, because
// linking is what takes the time.
func TestGoOfThePagesRuns(t *testing.T) {
	var all []*snippets
	for _, page := range pages(t) {
		all = append(all, programs(page, blocks(t, page))...)
	}
	if len(all) < 3 {
		t.Fatalf("only %d programs were found", len(all))
	}
	binary := buildSnippets(t, all)
	places := make(map[string]string) // where the programs of a page run
	for i, p := range all {
		if places[p.page] == "" {
			places[p.page] = t.TempDir()
		}
		for _, shown := range append(p.runs, make([][]*block, max(0, 1-len(p.runs)))...) {
			run := exec.Command(binary, fmt.Sprint(i))
			run.Dir = places[p.page]
			run.Env = append(os.Environ(), "TMPDIR="+run.Dir)
			var stderr bytes.Buffer
			run.Stderr = &stderr
			out, err := run.Output()
			if err != nil {
				t.Fatalf("%s: the program that begins\n%.120s...\nfailed: %v: %s", p.page, p.source, err, &stderr)
			}
			printed := strings.Split(string(out), betweenFragments)
			for j, want := range shown {
				if want != nil && masked(printed[j]) != masked(want.text) {
					t.Errorf("%s:%d: the program prints\n%s", want.page, want.line, printed[j])
				}
			}
		}
	}
}

// buildSnippets builds a program whose argument is the number of the one that it runs.
func buildSnippets(t *testing.T, all []*snippets) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("internal/snippets") // which is there for the compiler only
	if err != nil {
		t.Fatal(err)
	}
	overlay := make(map[string]string)
	add := func(name, text string) {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay[filepath.Join(root, name)] = file
	}
	var imports, cases strings.Builder
	for i, p := range all {
		source := strings.Replace(p.source, "package main\n", fmt.Sprintf("package p%d\n", i), 1)
		add(fmt.Sprintf("p%d/p.go", i), strings.Replace(source, "\nfunc main() {", "\nfunc Main() {", 1))
		fmt.Fprintf(&imports, "import \"github.com/episodic-memory/episodic/internal/snippets/p%d\"\n", i)
		fmt.Fprintf(&cases, "\tcase \"%d\":\n\t\tp%d.Main()\n", i, i)
	}
	add("main.go", fmt.Sprintf("package main\n\nimport \"os\"\n%s\nfunc main() {\n\tswitch os.Args[1] {\n%s\t}\n}\n", &imports, &cases))
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "snippets")
	build := exec.Command("go", "build", "-overlay", list, "-ldflags=-s -w", "-o", binary, "./internal/snippets")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

var differing = []*regexp.Regexp{
	regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}(?:-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?`),
	regexp.MustCompile(`\d{4}-\d\d-\d\d`),
}

// masked is an output without what differs from run to run: ids and dates.
func masked(text string) string {
	for _, d := range differing {
		text = d.ReplaceAllString(text, "*")
	}
	return strings.TrimRight(text, "\n ")
}

// The guide says of every error what to do.
func TestGuideHasEveryError(t *testing.T) {
	_, table, _ := strings.Cut(readPage(t, "docs/guide.md"), "\n## Errors\n")
	table, _, _ = strings.Cut(table, "\n## ")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var declared, told []string
	for _, path := range files {
		if !strings.HasSuffix(path, "_test.go") {
			for _, m := range regexp.MustCompile(`(?m)^(?:var |\t)(Err[A-Z]\w*) += `).FindAllStringSubmatch(readPage(t, path), -1) {
				declared = append(declared, m[1])
			}
		}
	}
	for row := range strings.Lines(table) {
		if cell, _, found := strings.Cut(strings.TrimPrefix(row, "|"), "|"); found {
			for _, m := range regexp.MustCompile("`(Err\\w+)`").FindAllStringSubmatch(cell, -1) {
				told = append(told, m[1])
			}
		}
	}
	slices.Sort(declared)
	slices.Sort(told)
	if len(declared) < 15 || !slices.Equal(declared, told) {
		t.Errorf("the errors are\n%q\nthe guide tells of\n%q", declared, told)
	}
}
