package setup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPaths: where each client keeps what is set up, on each system.
func TestPaths(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	list := func(goos, home string, env map[string]string) {
		m := &Machine{GOOS: goos, Home: home, Getenv: func(name string) string { return env[name] }}
		p := &Program{Path: "/opt/my episodic/episodic"}
		if goos == "windows" {
			p.Path = `C:\Program Files\episodic.exe`
		}
		o := &Choice{Hooks: true, Exists: func(string) bool { return false }, Tools: tools}
		fmt.Fprintf(&b, "%s %v\n", goos, env)
		for _, c := range Clients {
			for _, it := range c.items(m, p, o) {
				fmt.Fprintf(&b, "  %-14s  %-12s  %s\n", c.Name, it.what, it.path)
			}
		}
		// How the program is started is the same in all files of a client.
		for _, c := range Clients {
			for _, it := range c.items(m, p, o) {
				for line := range strings.Lines(it.part.snippet()) {
					if strings.Contains(line, "essionStart") && strings.Contains(line, "hook ") || strings.Contains(line, "exec ") && strings.Contains(line, "TaskStart") {
						fmt.Fprintf(&b, "  %-14s  %s\n", c.Name, strings.TrimSpace(line))
					}
				}
			}
		}
	}
	list("linux", "/home/x", nil)
	list("linux", "/home/x", map[string]string{"XDG_CONFIG_HOME": "/etc/x", "CLAUDE_CONFIG_DIR": "/c", "CODEX_HOME": "/d", "GEMINI_CLI_HOME": "/g", "COPILOT_HOME": "/p"})
	list("darwin", "/Users/x", nil)
	list("windows", `C:\Users\x`, map[string]string{"APPDATA": `C:\Users\x\AppData\Roaming`})
	list("windows", `C:\Users\x`, nil)
	path := filepath.Join("testdata", "paths.txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != b.String() {
		t.Errorf("%v: got\n%s", err, b.String())
	}
}

// TestQuote: command lines survive their shell.
func TestQuote(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ goos, word, want string }{
		{"linux", "/opt/episodic", "/opt/episodic"},
		{"linux", "/my files/it's", `'/my files/it'\''s'`},
		{"linux", `a\b`, `'a\b'`},
		{"linux", "", "''"},
		{"linux", "$HOME", "'$HOME'"},
		{"windows", `C:\bin\episodic.exe`, `C:\bin\episodic.exe`},
		{"windows", `C:\Program Files\episodic.exe`, `"C:\Program Files\episodic.exe"`},
	} {
		if got := quote(c.goos, c.word); got != c.want {
			t.Errorf("%s: %s, want %s", c.goos, got, c.want)
		}
	}
}
