package setup

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// TestAnySequence: whatever was set up, again and again, with other programs, flags and clients,
// and whatever people have written in between: undoing all of it leaves what they wrote.
func TestAnySequence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		files := map[string]string{}
		for _, c := range Clients {
			if rapid.Bool().Draw(rt, c.Name) {
				for path, text := range existing[c.Name] {
					if rapid.Bool().Draw(rt, "crlf") && !strings.Contains(text, "\r") {
						text = strings.ReplaceAll(text, "\n", "\r\n")
					}
					files[path] = text
				}
			}
		}
		h := newHome(t, files)
		want := h.tree()
		some := func() (list []*Client) {
			for _, c := range Clients {
				if rapid.IntRange(0, 2).Draw(rt, c.Name) == 0 {
					list = append(list, c)
				}
			}
			return list
		}
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0, 1:
				h.Program = &Program{Path: program, Flags: rapid.SliceOfN(rapid.SampledFrom([]string{"--db=a b", "--user=x"}), 0, 2).Draw(rt, "flags")}
				h.Choice.Hooks = rapid.Bool().Draw(rt, "hooks")
				h.Choice.ClaudeHooks = rapid.Bool().Draw(rt, "claude")
				clients := some()
				h.carry(h.Plan(clients))
				h.none(h.Plan(clients))
			case 2:
				h.carry(h.PlanUndo(some()))
			case 3: // people add a comment, or a paragraph
				for _, path := range []string{".gemini/settings.json", ".config/zed/settings.json", ".config/opencode/opencode.jsonc", ".claude/CLAUDE.md", ".codex/config.toml"} {
					text, there := files[path]
					if !there || !rapid.Bool().Draw(rt, path) {
						continue
					}
					line := fmt.Sprintf("// %d\n", len(text))
					if filepath.Ext(path) == ".toml" {
						line = "#" + line
					}
					files[path] = line + text
					h.write(path, line+h.read(path))
				}
				undone := newHome(t, files)
				want = undone.tree()
			}
		}
		h.carry(h.PlanUndo(Clients))
		same(t, h.tree(), want)
		if _, err := os.Stat(h.Records); err == nil {
			t.Error("records are left")
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// TestMain has the property tests do less than usual: each carries out dozens of changes, which
// wait for the disk.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", strconv.Itoa(testkit.Effort(2, 3, 40))); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
