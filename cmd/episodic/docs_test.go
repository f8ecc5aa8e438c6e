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
