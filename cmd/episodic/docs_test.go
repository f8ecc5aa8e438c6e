package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

var update = flag.Bool("update", false, "write the page of the commands")

func parserForTest(t *testing.T) *kong.Kong {
	t.Helper()
	p, err := newParser(new(commands), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The page of the commands is what the command line is.
func TestCommandsPage(t *testing.T) {
	const path = "../../docs/commands.md"
	var b strings.Builder
	b.WriteString("# Commands\n\n`episodic COMMAND --help` says the same. `make docs` makes this page of the code.\n\n")
	model := parserForTest(t).Model.Node
	b.WriteString(paragraphs(description) + "\n\n## Flags of all commands\n\n")
	writeFlags(&b, model)
	for _, c := range model.Children {
		writeCommand(&b, c, "##")
	}
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != b.String() {
		t.Errorf("%s differs from the command line; make docs writes it", path)
	}
}

func writeCommand(b *strings.Builder, n *kong.Node, heading string) {
	if n.Hidden {
		return
	}
	fmt.Fprintf(b, "\n%s %s\n\n`%s`\n\n%s\n", heading, strings.TrimPrefix(n.FullPath(), "episodic "), n.Summary(), n.Help)
	if n.Detail != "" {
		fmt.Fprintf(b, "\n%s\n", paragraphs(n.Detail))
	}
	if len(n.Positional) > 0 {
		b.WriteString("\n| argument | |\n|---|---|\n")
		for _, arg := range n.Positional {
			fmt.Fprintf(b, "| `%s` | %s |\n", arg.Summary(), cell(arg.Help))
		}
	}
	b.WriteString("\n")
	writeFlags(b, n)
	for _, c := range n.Children {
		writeCommand(b, c, heading+"#")
	}
}

func writeFlags(b *strings.Builder, n *kong.Node) {
	rows := ""
	for _, f := range n.Flags {
		if f.Name != "help" && !f.Hidden {
			rows += fmt.Sprintf("| `%s` | %s |\n", strings.ReplaceAll(f.String(), "|", `\|`), cell(f.Help))
		}
	}
	if rows != "" {
		b.WriteString("| flag | |\n|---|---|\n" + rows)
	}
}

func cell(help string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(help), " "), "|", `\|`)
}

// paragraphs keeps indented lines as they are, in a block of their own.
func paragraphs(text string) string {
	var out []string
	for block := range strings.SplitSeq(text, "\n\n") {
		lines := strings.Split(block, "\n")
		for i := range lines {
			if strings.HasPrefix(lines[i], "  ") {
				lines[i] = "    " + strings.TrimLeft(lines[i], " ")
			}
		}
		out = append(out, strings.Join(lines, "\n"))
	}
	return strings.Join(out, "\n\n")
}

var (
	shown   = regexp.MustCompile(`^(?:    |\$ )?(?:[A-Z_]+=\S+ )*episodic ([a-z-].*)$`)
	comment = regexp.MustCompile(`(?:\s{2,}| #|\s+[|>&]).*$`)
)

// Every command line that a page shows is one.
func TestCommandLinesOfThePagesAreRight(t *testing.T) {
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	parser, lines := parserForTest(t), 0
	for _, path := range append(paths, "../../README.md") {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		inFence := false
		for i, line := range strings.Split(string(page), "\n") {
			if strings.HasPrefix(line, "```") {
				inFence = !inFence
			}
			m := shown.FindStringSubmatch(line)
			if m == nil || !inFence && !strings.HasPrefix(line, "    ") {
				continue
			}
			lines++
			args := shellWords(comment.ReplaceAllString(m[1], ""))
			found, err := kong.Trace(parser, args)
			if err == nil {
				err = found.Error
			}
			if err != nil {
				t.Errorf("%s:%d: episodic %q: %v", path, i+1, args, err)
			}
		}
	}
	if lines < 30 {
		t.Errorf("only %d command lines were found", lines)
	}
}

// The session that docs/guide.md shows: each command works, and prints what stands there.
func TestSessionOfTheGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	c := newCLI(t)
	const address = "http://127.0.0.1:8080"
	server := hranatest.Start(t)
	t.Chdir(t.TempDir())
	ran := 0
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```").FindAllSubmatch(page, -1) {
		for _, part := range strings.Split("\n"+string(block[1]), "\n$ ")[1:] {
			line, want, _ := strings.Cut(part, "\n")
			args := shellWords(comment.ReplaceAllString(strings.ReplaceAll(line, address, server.URL()), ""))
			switch args[0] {
			case "go": // this program is installed
				continue
			case "sqld": // is started above
				continue
			case "export":
				name, value, _ := strings.Cut(args[1], "=")
				c.env[name] = value
				continue
			}
			got := c.run(args[1:]...)
			if got.code != exitOK {
				t.Fatalf("%s: exit code %d: %s", line, got.code, got.stderr)
			}
			want = score.ReplaceAllString(strings.TrimSpace(want), " * ")
			if printed := score.ReplaceAllString(strings.TrimSpace(got.stdout), " * "); want != "" && printed != want {
				t.Errorf("%s prints\n%s", line, got.stdout)
			}
			ran++
		}
	}
	if ran < 15 {
		t.Errorf("only %d commands were run", ran)
	}
}

// A score depends on the day.
var score = regexp.MustCompile(` \d+\.\d\d `)

// shellWords are the words of a command line, of which some stand between double quotes.
func shellWords(line string) (words []string) {
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
