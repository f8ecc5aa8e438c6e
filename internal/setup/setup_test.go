package setup

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const program = "/opt/episodic/bin/episodic"

// home is an invented home of a user, with a file of records beside it.
type home struct {
	t   *testing.T
	dir string
	env map[string]string
	*Setup
}

func newHome(t *testing.T, files map[string]string) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), env: map[string]string{}}
	h.dir, _ = filepath.EvalSymlinks(h.dir)
	for path, text := range files {
		h.write(path, text)
	}
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	h.Setup = &Setup{
		Machine: &Machine{GOOS: "linux", Home: h.dir, Getenv: func(name string) string { return h.env[name] }},
		Program: &Program{Path: program, Flags: []string{"--db=/home/x/my memory.db"}},
		Choice:  &Choice{Hooks: true, Exists: exists, Tools: tools},
		Records: filepath.Join(t.TempDir(), "state", "setup.json"),
	}
	return h
}

func tools(hooks bool) []string {
	list := []string{"recall", "show", "complete", "learn", "feedback", "forget"}
	if !hooks {
		list = append(list, "start", "log")
	}
	return list
}

func (h *home) write(path, text string) {
	h.t.Helper()
	path = filepath.Join(h.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) read(path string) string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, path))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// tree is all that is in the home: files with their texts and modes, folders and links.
func (h *home) tree() map[string]string {
	h.t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(h.dir, path)
		text := info.Mode().String()
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += to
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += string(b)
		}
		tree[name] = text
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return tree
}

// carry carries out a plan that has no problem, and returns what it shows.
func (h *home) carry(plan *Plan, err error) string {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range plan.Problems {
		h.t.Fatal(p)
	}
	diffs := ""
	for _, c := range plan.Changes {
		diffs += c.Diff()
		if err := h.Carry(c); err != nil {
			h.t.Fatal(err)
		}
	}
	return diffs
}

// none fails if there is something to do.
func (h *home) none(plan *Plan, err error) {
	h.t.Helper()
	if err != nil || len(plan.Changes)+len(plan.Problems) > 0 {
		for _, c := range plan.Changes {
			h.t.Error(c.Diff())
		}
		for _, p := range plan.Problems {
			h.t.Error(p)
		}
		h.t.Fatal("there is something to do", err)
	}
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range got {
		if got[name] != want[name] {
			t.Errorf("%s: %q, want %q", name, got[name], want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is gone", name)
		}
	}
}

// existing are configurations as people have them, by the names of clients.
var existing = map[string]map[string]string{
	"claude-code": {
		".claude.json":           "{\n  \"numStartups\": 12,\n  \"mcpServers\": {\n    \"github\": {\n      \"type\": \"http\",\n      \"headers\": {\"Authorization\": \"Bearer ghp_0123456789abcdefghij0123456789abcdef\"}\n    }\n  },\n  \"projects\": {\"/w\": {\"mcpServers\": {}}}\n}",
		".claude/settings.json":  "{\n\t\"permissions\": {\"allow\": [\"Bash(ls:*)\"]},\n\t\"hooks\": {\n\t\t\"PostToolUse\": [\n\t\t\t{\"matcher\": \"Edit\", \"hooks\": [{\"type\": \"command\", \"command\": \"gofmt -l .\"}]}\n\t\t]\n\t}\n}\n",
		".claude/CLAUDE.md":      "# Mine\r\n\r\nUse tabs.\r\n",
		".claude/projects/p.txt": "x",
	},
	"codex": {
		".codex/config.toml": "# mine\nmodel = \"gpt\" # fast\n\n[mcp_servers.docs]\ncommand = \"docs\"\nenv = { TOKEN = \"secret\" }\n\n[projects.\"/w\"]\ntrust_level = \"trusted\"",
		".codex/AGENTS.md":   "Be brief.",
	},
	"gemini": {
		".gemini/settings.json": "{\n    // theme\n    \"theme\": \"GitHub\",\n    \"hooks\": {\"enabled\": true, },\n    \"mcpServers\": {\n        \"other\": { \"command\": \"o\" }, // c\n    },\n}\n",
	},
	"cursor": {
		".cursor/mcp.json":   "{\"mcpServers\":{\"a\":{\"command\":\"a\",\"env\":{\"KEY\":\"abc\"}}}}",
		".cursor/hooks.json": "{\n  \"version\": 1,\n  \"hooks\": {\n    \"stop\": [{\"command\": \"say done\"}]\n  }\n}\n",
	},
	"vscode": {
		".config/Code/User/mcp.json": "\ufeff{\r\n\t\"servers\": {\r\n\t\t/* none */\r\n\t},\r\n\t\"inputs\": []\r\n}\r\n",
	},
	"opencode": {
		".config/opencode/opencode.jsonc": "// my settings\n{\n  \"$schema\": \"https://opencode.ai/config.json\",\n  \"mcp\": {},\n}\n// end",
		".config/opencode/AGENTS.md":      "# Rules\n\n- one\n",
	},
	"copilot": {
		".copilot/mcp-config.json": "{}",
		".copilot/config.json":     "{\"model\": \"x\"}",
	},
	"windsurf": {
		".codeium/windsurf/mcp_config.json": "",
		".codeium/windsurf/hooks.json":      "{ \"hooks\" : { \"pre_user_prompt\" : [ { \"command\" : \"x\" } ] } }",
	},
	"zed": {
		".config/zed/settings.json": "// Zed settings\n{\n  \"context_servers\": {\n    \"a\": {\n      \"command\": \"a\"\n    }\n  }, // servers\n  \"theme\": \"One\" // dark\n}\n",
	},
	"cline": {
		".cline/data/settings/cline_mcp_settings.json": "{\n  \"mcpServers\": {\n  }\n}",
		"Documents/Cline/Hooks/PreToolUse":             "#!/bin/sh\necho\n",
	},
	"claude-desktop": {
		".config/Claude/claude_desktop_config.json": "  {\n  }\n",
	},
	"goose": {
		".config/goose/config.yaml": "GOOSE_PROVIDER: anthropic # p\nextensions:\n  developer:\n    enabled: true\n    name: developer\n    type: builtin\nGOOSE_MODEL: x\n",
		".config/goose/.goosehints": "",
	},
}

// TestClients: for each client, with its files as people have them and without any: setting up
// changes what golden files say, twice does nothing, and undoing it restores every byte.
func TestClients(t *testing.T) {
	t.Parallel()
	for _, c := range Clients {
		for kind, files := range map[string]map[string]string{"new": nil, "existing": existing[c.Name]} {
			t.Run(c.Name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				h := newHome(t, files)
				before := h.tree()
				diffs := h.carry(h.Plan([]*Client{c}))
				for _, secret := range []string{"ghp_", "\"abc\"", "secret"} {
					if strings.Contains(diffs, secret) {
						t.Errorf("the diff shows %q", secret)
					}
				}
				h.none(h.Plan([]*Client{c}))
				h.golden(c.Name+"-"+kind, diffs, before)
				h.carry(h.PlanUndo([]*Client{c}))
				same(t, h.tree(), before)
				if _, err := os.Stat(h.Records); err == nil {
					t.Error("records are left")
				}
				h.none(h.PlanUndo([]*Client{c}))
			})
		}
	}
}

// golden compares what was changed with testdata.
func (h *home) golden(name, diffs string, before map[string]string) {
	h.t.Helper()
	clean := func(s string) string { return strings.ReplaceAll(s, h.dir, "/home/x") }
	var b bytes.Buffer
	b.WriteString("What setting up shows, and the files that it has changed.\n\n" + clean(diffs) + "\n")
	tree := h.tree()
	for _, path := range sortedKeys(toAny(tree)) {
		if text := tree[path]; text != before[path] && text[0] == '-' {
			text = strings.ReplaceAll(text[len("-rw-------"):], "\r", "␍")
			if !strings.HasSuffix(text, "\n") {
				text += "␃\n" // no end of the last line
			}
			b.WriteString("-- " + path + " " + tree[path][:len("-rw-------")] + " --\n" + clean(text))
		}
	}
	path := filepath.Join("testdata", name+".txtar")
	got := b.Bytes()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			h.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		h.t.Errorf("%s: %v; got\n%s", path, err, got)
	}
}

func toAny(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// TestAllAtOnce: clients that share files.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	all := map[string]string{}
	for _, files := range existing {
		for path, text := range files {
			all[path] = text
		}
	}
	h := newHome(t, all)
	h.Choice.ClaudeHooks = true
	before := h.tree()
	h.carry(h.Plan(Clients))
	h.none(h.Plan(Clients))
	shared := h.read(".copilot/hooks/episodic.json")
	h.carry(h.PlanUndo([]*Client{vscode}))
	if got := h.read(".copilot/hooks/episodic.json"); got != shared {
		t.Errorf("what Copilot uses too became %q", got)
	}
	h.none(h.Plan([]*Client{copilot}))
	h.carry(h.PlanUndo(Clients))
	same(t, h.tree(), before)
}

// TestOlderEntries: those of another path or with other flags are replaced, and what people have
// added to them stays; undoing restores what was there before the first.
func TestOlderEntries(t *testing.T) {
	t.Parallel()
	for _, c := range Clients {
		h := newHome(t, existing[c.Name])
		before := h.tree()
		h.carry(h.Plan([]*Client{c}))
		h.Program = &Program{Path: "/usr/local/bin/episodic", Flags: []string{"--db=https://memory.example"}, Variables: []string{"EPISODIC_AUTH_TOKEN"}}
		diffs := h.carry(h.Plan([]*Client{c}))
		h.none(h.Plan([]*Client{c}))
		for path, text := range h.tree() {
			if strings.Contains(text, program) {
				t.Errorf("%s: %s has the older path; %s", c.Name, path, diffs)
			}
		}
		h.Choice.Hooks = false
		h.carry(h.Plan([]*Client{c}))
		h.none(h.Plan([]*Client{c}))
		for path, text := range h.tree() {
			if runsHook.MatchString(text) || strings.Contains(text, `"hook"`) {
				t.Errorf("%s: %s still has hooks: %s", c.Name, path, text)
			}
		}
		h.carry(h.PlanUndo([]*Client{c}))
		same(t, h.tree(), before)
	}
}

// TestAnotherName: a program that people have renamed finds again what it has put there.
func TestAnotherName(t *testing.T) {
	t.Parallel()
	for _, c := range Clients {
		h := newHome(t, existing[c.Name])
		before := h.tree()
		h.Program = &Program{Path: "/opt/bin/memory"}
		h.carry(h.Plan([]*Client{c}))
		h.none(h.Plan([]*Client{c}))
		h.carry(h.PlanUndo([]*Client{c}))
		same(t, h.tree(), before)
	}
}

// TestEditedMeanwhile: what people write between a setup and its undoing stays, and the rest is
// as before.
func TestEditedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHome(t, existing["claude-code"])
	h.carry(h.Plan([]*Client{claudeCode}))
	// Claude Code writes the file anew, all of it.
	var doc map[string]any
	if err := json.Unmarshal([]byte(h.read(".claude.json")), &doc); err != nil {
		t.Fatal(err)
	}
	doc["numStartups"] = 13
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	h.write(".claude.json", string(b))
	h.write(".claude/settings.json", strings.Replace(h.read(".claude/settings.json"), "Bash(ls:*)", "Bash(cat:*)", 1))
	h.write(".claude/CLAUDE.md", h.read(".claude/CLAUDE.md")+"More.\r\n")
	h.none(h.Plan([]*Client{claudeCode}))
	h.carry(h.PlanUndo([]*Client{claudeCode}))
	if got, want := h.read(".claude/settings.json"), strings.Replace(existing["claude-code"][".claude/settings.json"], "Bash(ls:*)", "Bash(cat:*)", 1); got != want {
		t.Errorf("settings: %q, want %q", got, want)
	}
	if got, want := h.read(".claude/CLAUDE.md"), existing["claude-code"][".claude/CLAUDE.md"]+"More.\r\n"; got != want {
		t.Errorf("instructions: %q, want %q", got, want)
	}
	delete(doc["mcpServers"].(map[string]any), name)
	var got map[string]any
	if err := json.Unmarshal([]byte(h.read(".claude.json")), &got); err != nil || !reflect.DeepEqual(plain(doc), plain(got)) {
		t.Errorf("servers: %v, %v", got, err)
	}
}

// TestOwnMembersStay: those that people have put into our entry.
func TestOwnMembersStay(t *testing.T) {
	t.Parallel()
	h := newHome(t, map[string]string{".cursor/mcp.json": "{\n  \"mcpServers\": {\n    \"episodic\": {\"command\": \"/old\", \"env\": {\"EPISODIC_AUTH_TOKEN\": \"tok-0123456789abcdef\"}}\n  }\n}\n"})
	before := h.tree()
	diffs := h.carry(h.Plan([]*Client{cursor}))
	if strings.Contains(diffs, "tok-0123456789abcdef") {
		t.Error("the diff shows the token:", diffs)
	}
	if !strings.Contains(h.read(".cursor/mcp.json"), "tok-0123456789abcdef") {
		t.Error("the token is gone")
	}
	h.carry(h.PlanUndo([]*Client{cursor}))
	same(t, h.tree(), before)
}

// TestWithoutRecords: undoing takes out what is ours where nothing is known of what was there.
func TestWithoutRecords(t *testing.T) {
	t.Parallel()
	for _, c := range Clients {
		h := newHome(t, existing[c.Name])
		h.carry(h.Plan([]*Client{c}))
		if err := os.Remove(h.Records); err != nil {
			t.Fatal(err)
		}
		h.carry(h.PlanUndo([]*Client{c}))
		for path, text := range h.tree() {
			if strings.Contains(text, program) || strings.Contains(text, blockStart) {
				t.Errorf("%s: %s: %q", c.Name, path, text)
			}
		}
		h.none(h.PlanUndo([]*Client{c}))
	}
}

// TestRefused: files that cannot be edited stay as they are, and the problem says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		client     *Client
		path, text string
		mode       fs.FileMode
		says       string
		snippet    string
	}{
		{cursor, ".cursor/mcp.json", "{\n  \"mcpServers\": {\n", 0o644, "line 2: ", ""},
		{cursor, ".cursor/mcp.json", "[]", 0o644, "line 1: the file holds no JSON object", ""},
		{cursor, ".cursor/mcp.json", "{\"a\": \"\xff\"}", 0o644, "no UTF-8 text", ""},
		{cursor, ".cursor/mcp.json", "{\"mcpServers\": []}", 0o644, `"mcpServers" is no object`, program},
		{cursor, ".cursor/mcp.json", "{}", 0o444, "read-only", program},
		{codex, ".codex/config.toml", "a = 1\na = \n", 0o644, "line 2: ", ""},
		{codex, ".codex/config.toml", "mcp_servers = { x = { command = 'y' } }\n", 0o644, "not edited", "[mcp_servers.episodic]"},
		{goose, ".config/goose/config.yaml", "extensions: {a: {b: 1}}\n", 0o644, "not edited", "episodic:"},
		{opencode, ".config/opencode/plugins/episodic.js", "mine", 0o644, "not written by episodic", ""},
		{codex, ".codex/AGENTS.md", "<!-- episodic:start v1 -->\n", 0o644, "no pair", ""},
	} {
		h := newHome(t, map[string]string{c.path: c.text})
		if err := os.Chmod(filepath.Join(h.dir, c.path), c.mode); err != nil {
			t.Fatal(err)
		}
		plan, err := h.Plan([]*Client{c.client})
		if err != nil || len(plan.Problems) != 1 {
			t.Errorf("%s %q: %v, %v", c.path, c.text, plan, err)
			continue
		}
		p := plan.Problems[0]
		if !strings.Contains(p.Error(), c.says) || !strings.HasPrefix(p.Error(), filepath.Join(h.dir, c.path)) || (p.Snippet == "") != (c.snippet == "") || !strings.Contains(p.Snippet, c.snippet) {
			t.Errorf("%s %q: %v; snippet %q", c.path, c.text, p, p.Snippet)
		}
		if h.read(c.path) != c.text {
			t.Errorf("%s was changed", c.path)
		}
	}
}

// TestLinks: the file that a link names is written, and the link stays.
func TestLinks(t *testing.T) {
	t.Parallel()
	h := newHome(t, map[string]string{"dotfiles/mcp.json": "{}\n"})
	if err := os.MkdirAll(filepath.Join(h.dir, ".cursor"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../dotfiles/mcp.json", filepath.Join(h.dir, ".cursor/mcp.json")); err != nil {
		t.Fatal(err)
	}
	before := h.tree()
	h.carry(h.Plan([]*Client{cursor}))
	if !strings.Contains(h.read("dotfiles/mcp.json"), program) || h.tree()[".cursor/mcp.json"] != before[".cursor/mcp.json"] {
		t.Error("the link was replaced")
	}
	h.carry(h.PlanUndo([]*Client{cursor}))
	same(t, h.tree(), before)
	if err := os.Remove(filepath.Join(h.dir, "dotfiles/mcp.json")); err != nil {
		t.Fatal(err)
	}
	plan, err := h.Plan([]*Client{cursor})
	if err != nil || len(plan.Problems) != 1 || !strings.Contains(plan.Problems[0].Error(), "points to nothing") {
		t.Errorf("%v, %v", plan, err)
	}
}

// TestChangedMeanwhile: a file that its client has written since it was read is not overwritten.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHome(t, map[string]string{".cursor/mcp.json": "{}"})
	plan, err := h.Plan([]*Client{cursor})
	if err != nil {
		t.Fatal(err)
	}
	h.write(".cursor/mcp.json", `{"a": 1}`)
	if err := h.Carry(plan.Changes[0]); err == nil || h.read(".cursor/mcp.json") != `{"a": 1}` {
		t.Error(err)
	}
}

// TestPlugin: the folder of the plug-in in this repository has what setup puts into files.
func TestPlugin(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "plugins", "claude-code")
	files := PluginFiles(tools(true))
	for path, text := range files {
		path = filepath.Join(folder, path)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s is not %q: go test ./internal/setup -update writes it", path, text)
		}
	}
	h := newHome(t, map[string]string{".claude/settings.json": `{"enabledPlugins": {"episodic@episodic": true}}`})
	if h.Choice.ClaudePlugin = h.HasPlugin(); !h.Choice.ClaudePlugin {
		t.Fatal("the plug-in is not seen")
	}
	h.none(h.Plan([]*Client{claudeCode}))
}

// TestIsHook tells our hooks from those of others.
func TestIsHook(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{"command": "/opt/episodic hook Stop"}`:                                    true,
		`{"command": "'/my files/episodic' '--db=a b' hook Stop --client codex"}`:   true,
		`{"command": "episodic", "args": ["--db=x", "hook", "Stop"]}`:               true,
		`{"powershell": "& \"C:\\Program Files\\episodic.exe\" hook sessionStart"}`: true,
		`{"bash": "/opt/episodic hook sessionStart"}`:                               true,
		`{"hooks": [{"command": "/opt/episodic hook Stop"}]}`:                       true,
		`{"hooks": [{"command": "/opt/episodic hook Stop"}, {"command": "say"}]}`:   false,
		`{"hooks": []}`: false,
		`{"command": "/opt/episodic-notes hook Stop"}`: false,
		`{"command": "/opt/episodic stats"}`:           false,
		`{"command": "notify episodic"}`:               false,
		`"episodic hook x"`:                            false,
	} {
		var element any
		if err := json.Unmarshal([]byte(text), &element); err != nil {
			t.Fatal(text, err)
		}
		if got := isHook(element); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestOtherName: the program may have been renamed.
func TestOtherName(t *testing.T) {
	t.Parallel()
	h := newHome(t, existing["cursor"])
	before := h.tree()
	h.Program.Path = "/opt/memory-1.2"
	h.carry(h.Plan([]*Client{cursor, codex}))
	h.none(h.Plan([]*Client{cursor, codex}))
	h.carry(h.PlanUndo([]*Client{cursor, codex}))
	same(t, h.tree(), before)
}
