package episodic_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var update = flag.Bool("update", false, "write what is made of the code into docs/configuration.md")

// pages are the documents of this repository.
func pages(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*.md", "docs/*.md", "bench/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	if len(list) < 10 {
		t.Fatalf("only %d pages were found", len(list))
	}
	return list
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	fenced = regexp.MustCompile("(?ms)^```.*?^```")
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// What a page of this repository links to here is there, the heading too.
func TestLinksOfThePagesHold(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(readPage(t, page), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			path, heading, _ := strings.Cut(m[1], "#")
			to := page
			if path != "" {
				to = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if heading != "" && !slices.Contains(headings(readPage(t, to)), heading) {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// A test that a page names is there.
func TestTestsThatThePagesNameExist(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".cache":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		tests.WriteString(readPage(t, path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range pages(t) {
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(readPage(t, page), -1) {
			named++
			if !strings.Contains(tests.String(), "\nfunc "+m[1]+"(") {
				t.Errorf("%s names %s, which is no test", page, m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d tests are named", named)
	}
}

// headings are the anchors of a page, as GitHub makes them.
func headings(page string) (anchors []string) {
	for line := range strings.Lines(fenced.ReplaceAllString(page, "")) {
		text := strings.TrimLeft(line, "#")
		if text == line || !strings.HasPrefix(text, " ") {
			continue
		}
		anchors = append(anchors, strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(text)))
	}
	return anchors
}

// Every field that can be set is on the page about configuration, with what the code says of it.
func TestConfigurationPageHasEveryOption(t *testing.T) {
	const path, begin, end = "docs/configuration.md", "<!-- made of the code by: make docs -->\n", "<!-- end -->\n"
	page := readPage(t, path)
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place between %q and %q", path, begin, end)
	}
	want := before + begin + options(t) + end + after
	if want == page {
		return
	}
	if !*update {
		t.Fatalf("%s does not have what the code says; make docs writes it", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// options are the tables of Options and of what its fields are made of.
func options(t *testing.T) string {
	structs := make(map[string]*ast.TypeSpec)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			for _, s := range specs(d) {
				if s, ok := s.(*ast.TypeSpec); ok {
					structs[s.Name.Name] = s
				}
			}
		}
	}
	var b strings.Builder
	todo := []string{"Options"}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name != "Options" { // which the page has a heading for
			fmt.Fprintf(&b, "\n### %s\n", name)
		}
		fmt.Fprintf(&b, "\n| field | type | what it does, and its default |\n|---|---|---|\n")
		for _, field := range structs[name].Type.(*ast.StructType).Fields.List {
			var typ bytes.Buffer
			if err := format.Node(&typ, set, field.Type); err != nil {
				t.Fatal(err)
			}
			for _, id := range field.Names {
				if !id.IsExported() {
					continue
				}
				text := strings.Join(strings.Fields(field.Doc.Text()+" "+field.Comment.Text()), " ")
				of, isStruct := structs[typ.String()]
				if isStruct {
					_, isStruct = of.Type.(*ast.StructType)
				}
				if isStruct {
					text = strings.TrimSpace(text + " See [" + typ.String() + "](#" + strings.ToLower(typ.String()) + ").")
					todo = append(todo, typ.String())
				}
				if text == "" {
					t.Errorf("%s.%s has no comment of its own", name, id.Name)
				}
				fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", id.Name, typ.String(), strings.ReplaceAll(text, "|", `\|`))
			}
		}
	}
	return b.String() + "\n"
}

func specs(d ast.Decl) []ast.Spec {
	if g, ok := d.(*ast.GenDecl); ok {
		return g.Specs
	}
	return nil
}

// Each variable that a program reads is on the page, and no other.
func TestConfigurationPageHasEveryVariable(t *testing.T) {
	_, page, _ := strings.Cut(readPage(t, "docs/configuration.md"), "\n## Environment\n")
	page, _, _ = strings.Cut(page, "\n## ")
	name := regexp.MustCompile(`\b(?:EPISODIC|TURSO)_[A-Z_]*[A-Z]\b`)
	documented := make(map[string]bool)
	for row := range strings.Lines(page) {
		if cell, _, found := strings.Cut(strings.TrimPrefix(row, "|"), "|"); found {
			for _, v := range name.FindAllString(cell, -1) {
				documented[v] = true
			}
		}
	}
	read := make(map[string]bool)
	for _, dir := range []string{".", "cmd/episodic", "internal"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && dir == "." && path != ".", d.IsDir() && (d.Name() == "testkit" || d.Name() == "hranatest" || d.Name() == "agenttest" || d.Name() == "testdata"):
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			b, err := os.ReadFile(path)
			for _, v := range regexp.MustCompile(`"(`+name.String()+`)"`).FindAllSubmatch(b, -1) {
				read[string(v[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(read) < 10 {
		t.Fatalf("only %d variables were found in the code", len(read))
	}
	for v := range read {
		if !documented[v] {
			t.Errorf("docs/configuration.md says nothing of %s", v)
		}
	}
	for v := range documented {
		if !read[v] {
			t.Errorf("docs/configuration.md explains %s, which nothing reads", v)
		}
	}
}

// The figures of README are those of the results.
func TestFiguresOfTheReadmeAreMeasured(t *testing.T) {
	readme := strings.Join(strings.Fields(readPage(t, "README.md")), " ")
	rows := 0
	for line := range strings.Lines(readPage(t, "testdata/figures.txt")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " <- ")
		if len(parts) < 3 {
			t.Fatalf("testdata/figures.txt: %q is not README TEXT <- RESULTS FILE <- TEXT THERE", line)
		}
		rows++
		if !strings.Contains(readme, parts[0]) {
			t.Errorf("README does not say %q any more", parts[0])
		}
		page := readPage(t, filepath.Join("bench/results", parts[1]))
		for _, text := range parts[2:] {
			if !strings.Contains(page, text) {
				t.Errorf("README says %q, but bench/results/%s does not have %q", parts[0], parts[1], text)
			}
		}
	}
	if rows == 0 {
		t.Error("testdata/figures.txt has no figures")
	}
}
