package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/mcpserver"
	"github.com/episodic-memory/episodic/internal/setup"
)

// newSetupHome is a home with nothing in it, and a PATH with no programs.
func newSetupHome(t *testing.T) (c *cli, home string) {
	c = newCLI(t)
	home = filepath.Join(c.home, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	t.Setenv("PATH", "")
	t.Setenv("EPISODIC_TEST_AS_PROGRAM", "1") // what clients start is this test
	return c, home
}

// TestSetup: what is to be written is shown and asked for, works, and can be taken back.
func TestSetup(t *testing.T) {
	c, home := newSetupHome(t)
	c.fails(exitUsage, "must be named", "setup", "--yes")
	c.fails(exitUsage, "known are claude-code, codex", "setup", "emacs")
	file := filepath.Join(home, ".cursor", "mcp.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	const before = `{"mcpServers":{"x":{"env":{"TOKEN":"abc"}}}}`
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(before)
	got := c.fails(exitUsage, "nothing was changed", "setup")
	if !strings.Contains(got.stdout, `"--db=`+c.env["EPISODIC_DB"]+`","mcp","--tools","hooks"`) || strings.Contains(got.stdout, "abc") || !strings.Contains(got.stdout, "hook sessionStart --client cursor") {
		t.Errorf("shown: %s", got.stdout)
	}
	c.stdin = strings.NewReader("n\n")
	c.fails(exitFailure, "nothing was changed", "setup")
	c.stdin = strings.NewReader("y\n")
	if out := c.ok("setup"); !strings.Contains(out, "Cursor: set up; restart Cursor\n") {
		t.Error(out)
	}
	c.stdin = nil
	if out := c.ok("setup"); out != "Cursor: already set up\n" {
		t.Error(out)
	}
	c.env["EPISODIC_DB"] = "elsewhere.db" // it is not this that was set up
	if out := c.ok("setup", "--check"); !strings.Contains(out, "can read its memory") || strings.Contains(out, "PROBLEM") {
		t.Error(out)
	}
	c.env["EPISODIC_DB"] = filepath.Join(c.home, "test.db")

	hooks := filepath.Join(home, ".cursor", "hooks.json")
	if err := os.Rename(hooks, hooks+".away"); err != nil {
		t.Fatal(err)
	}
	write(strings.Replace(readString(t, file), "mcp\"", "mpc\"", 1))
	broken := c.run("setup", "--check", "--json")
	var report setupCheck
	if err := json.Unmarshal([]byte(broken.stdout), &report); err != nil || broken.code != exitFailure || len(report.Clients) != 1 {
		t.Fatalf("%+v, %v", broken, err)
	}
	r := report.Clients[0]
	if !strings.Contains(r.Files[0].Problem, "episodic setup cursor makes it right") || !strings.Contains(r.Files[1].Problem, "episodic setup cursor puts it there") || !strings.Contains(r.Server.Problem, "not answered as an MCP server") {
		t.Errorf("%+v", r)
	}
	if err := os.Rename(hooks+".away", hooks); err != nil {
		t.Fatal(err)
	}
	c.ok("setup", "--yes")
	if out := c.ok("setup", "--undo", "--yes"); !strings.Contains(out, "no longer set up") {
		t.Error(out)
	}
	if text := readString(t, file); text != before {
		t.Errorf("%q, want %q", text, before)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Error(entries, err)
	}
	if out := c.ok("setup", "--undo"); out != "Cursor: not set up\n" {
		t.Error(out)
	}
	if out := c.ok("setup", "--check"); !strings.Contains(out, "Cursor: not set up; episodic setup cursor does it") {
		t.Error(out)
	}

	write("{")
	if got := c.fails(exitFailure, file+": line 1: ", "setup", "--yes", "--no-hooks"); got.stdout != "" {
		t.Error(got.stdout)
	}
	c.fails(exitUsage, "would write the secret", "--db", "libsql://memory.example?authToken=x", "setup", "cursor")
}

func readString(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSetupText: instruction files name the tools that there are, all but those that hooks
// replace, in ten lines at most.
func TestSetupText(t *testing.T) {
	for _, tools := range []mcpserver.Tools{mcpserver.AllTools, mcpserver.HookTools} {
		text := setup.Block(tools.Names())
		if n := strings.Count(text, "\n") + 1; n > 10 {
			t.Errorf("%s: %d lines", tools, n)
		}
		for i, word := range strings.Split(text, "`") {
			if named := i%2 == 1; named && !strings.Contains(" "+strings.Join(tools.Names(), " ")+" ", " "+word+" ") {
				t.Errorf("%s: there is no tool %q", tools, word)
			}
		}
		for _, name := range tools.Names() {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s: nothing is said of %s", tools, name)
			}
		}
	}
}

// TestPluginTools: the plug-in for Claude Code speaks of the tools that there are.
func TestPluginTools(t *testing.T) {
	for path, text := range setup.PluginFiles(mcpserver.HookTools.Names()) {
		if got := readString(t, filepath.Join("..", "..", "plugins", "claude-code", path)); got != text {
			t.Errorf("%s is not %q", path, text)
		}
	}
}
