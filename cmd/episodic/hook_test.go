package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// hook runs a hook with a payload, which must end well and say nothing on stderr, and returns what
// it prints.
func (c *cli) hook(payload string, args ...string) string {
	c.t.Helper()
	c.stdin = strings.NewReader(payload)
	defer func() { c.stdin = nil }()
	return c.ok(append([]string{"hook"}, args...)...)
}

// event runs a hook with an event of Claude Code's in a folder.
func (c *cli) event(session, folder, name string, more map[string]any) string {
	c.t.Helper()
	m := map[string]any{"session_id": session, "cwd": folder, "hook_event_name": name}
	for key, value := range more {
		m[key] = value
	}
	b, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.hook(string(b), name)
}

func (c *cli) hookLog() string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.home, "state", "episodic", "hooks", "hook.log"))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return string(text)
}

// folder makes a folder with a repository whose remote is given; empty: without one.
func (c *cli) folder(name, remote string) string {
	c.t.Helper()
	dir := filepath.Join(c.home, name)
	if err := os.MkdirAll(filepath.Join(dir, ".git"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if remote == "" {
		return dir
	}
	config := "[remote \"origin\"]\n\turl = " + remote + "\n"
	for file, text := range map[string]string{"HEAD": "ref: refs/heads/main\n", "config": config} {
		if err := os.WriteFile(filepath.Join(dir, ".git", file), []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return dir
}

func TestHook(t *testing.T) {
	c := newCLI(t)
	dir := c.folder("pumps", "git@github.com:We/Pumps.git")
	const project = "github.com/we/pumps"
	if out := c.event("s1", dir, "SessionStart", map[string]any{"source": "startup"}); out != "" {
		t.Errorf("an empty memory tells %s", out)
	}
	c.event("s1", dir, "UserPromptSubmit", map[string]any{"prompt": "mend the leaking valve of the pump"})
	c.event("s1", dir, "PostToolUse", map[string]any{"tool_name": "Bash", "tool_input": map[string]any{"command": "turn valve"}, "tool_response": map[string]any{"stdout": "turned"}, "tool_use_id": "a"})
	c.event("s1", dir, "PostToolUse", map[string]any{"tool_name": "mcp__episodic__recall", "tool_input": map[string]any{}, "tool_response": "Nothing", "tool_use_id": "b"})
	c.event("s1", dir, "Stop", map[string]any{"last_assistant_message": "it is mended"})
	c.event("s1", dir, "SessionEnd", map[string]any{"reason": "other"})
	e, err := c.store().Episode(t.Context(), transcript.DeriveID(episodic.Scope{Project: project}, "claude-code", "s1"))
	if err != nil || e.StepCount != 1 || e.Running() || e.Outcome.Verdict != "it is mended" {
		t.Fatalf("the episode is %+v, %v", e, err)
	}
	for name, more := range map[string]map[string]any{"SessionStart": {"source": "startup"}, "UserPromptSubmit": {"prompt": "the valve of the pump leaks again, mend it"}} {
		var out struct {
			HookSpecificOutput struct{ HookEventName, AdditionalContext string }
		}
		text := c.event("s2", filepath.Join(dir, "deep", "below"), name, more)
		if err := json.Unmarshal([]byte(text), &out); err != nil || out.HookSpecificOutput.HookEventName != name || !strings.Contains(out.HookSpecificOutput.AdditionalContext, "mend the leaking valve of the pump") {
			t.Errorf("%s prints %q, %v", name, text, err)
		}
	}
	if out := c.event("s3", c.folder("else", "https://github.com/they/else"), "UserPromptSubmit", map[string]any{"prompt": "the valve of the pump leaks again, mend it"}); out != "" {
		t.Errorf("another project is told %s", out)
	}
	if log := c.hookLog(); log != "" {
		t.Errorf("the log has %s", log)
	}
}

// Whatever a hook is given, it ends well and prints nothing; the log says what was wrong.
func TestHookGivenAnything(t *testing.T) {
	c := newCLI(t)
	c.env["EPISODIC_PROJECT"] = "p"
	huge := `{"session_id":"s","hook_event_name":"PostToolUse","tool_name":"Bash","tool_response":"` + strings.Repeat("x", mostPayload) + `"}`
	lines := 0
	for _, tt := range []struct {
		says    string // in the log; empty: nothing
		payload string
		args    []string
	}{
		{"no JSON object", "", []string{"Stop"}},
		{"no JSON object", "{", nil},
		{"no JSON object", "[]", []string{"Stop"}},
		{"names no session", `{"hook_event_name":"Stop","session_id":7}`, []string{"Stop"}},
		{"--client names it", `{"a":1}`, []string{"Stop"}},
		{"no client that is known", `{"session_id":"s"}`, []string{"Stop", "--client", "else"}},
		{"more than", huge, []string{"PostToolUse"}},
		{"", `{"session_id":"s","hook_event_name":"SomethingNew"}`, []string{"SomethingNew"}},
		{"", `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"x"}`, []string{"PreToolUse"}},
		{"", `{"session_id":"s","hook_event_name":"Stop"}`, []string{"Stop"}},
		{"unknown flag", `{}`, []string{"Stop", "--no-such-flag"}},
		{"unexpected argument", `{}`, []string{"Stop", "Stop"}},
	} {
		if out := c.hook(tt.payload, tt.args...); out != "" {
			t.Errorf("%.80q prints %s", tt.payload, out)
		}
		want := lines
		if tt.says != "" {
			want++
		}
		all := strings.Split(strings.TrimSuffix(c.hookLog(), "\n"), "\n")
		if c.hookLog() == "" {
			all = nil
		}
		if len(all) != want || tt.says != "" && !strings.Contains(all[len(all)-1], tt.says) {
			t.Errorf("%.80q %q: the log is\n%s", tt.payload, tt.args, c.hookLog())
		}
		lines = len(all)
	}
	for _, args := range [][]string{{"--db", "ftp://x", "hook", "Stop"}, {"--offline", "sometimes", "hook", "Stop"}, {"--redact-allow", "/(/", "hook", "Stop"}} {
		c.stdin = strings.NewReader(`{"session_id":"t","cwd":"/w","hook_event_name":"UserPromptSubmit","prompt":"do"}`)
		if got := c.run(args...); got.code != exitOK || got.stdout != "" || got.stderr != "" {
			t.Errorf("%q: %+v", args, got)
		}
		if now := strings.Count(c.hookLog(), "\n"); now != lines+1 {
			t.Errorf("%q: the log is\n%s", args, c.hookLog())
		}
		lines = strings.Count(c.hookLog(), "\n")
	}
	if c.hookLog(); strings.Contains(c.hookLog(), "xxxxxxxx") {
		t.Error("the log has the payload")
	}
}

// The log of hooks does not grow for ever.
func TestHookLogIsBounded(t *testing.T) {
	c := newCLI(t)
	dir := filepath.Join(c.home, "state", "episodic", "hooks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hook.log"), bytes.Repeat([]byte("2026-11-28T09:00:00Z Stop: something\n"), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	c.hook("{", "Stop")
	if log := c.hookLog(); len(log) > mostHookLog || !strings.HasPrefix(log, "2026") || !strings.HasSuffix(log, "no JSON object\n") {
		t.Errorf("it has %d bytes: %.50s ... %s", len(log), log, log[len(log)-50:])
	}
}

// What hooks, capture and import store of a session is one episode, in the project of its folder.
func TestOneProject(t *testing.T) {
	const project = "github.com/we/pumps"
	id := func(project string) string {
		return transcript.DeriveID(episodic.Scope{Project: project}, "claude-code", capturedSession).String()
	}
	setup := func(t *testing.T, folder string) (*cli, string) {
		c := newCLI(t)
		c.env["CLAUDE_CONFIG_DIR"] = filepath.Join(c.home, "claude")
		c.env["HOME"] = c.home
		t.Setenv("HOME", c.home)
		t.Setenv("USERPROFILE", c.home)
		if folder == "" {
			folder = c.folder("pumps", "https://github.com/we/pumps")
		}
		path := c.session(2)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, bytes.ReplaceAll(text, []byte("/w/app"), []byte(folder)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c, folder
	}
	stored := func(c *cli) (ids []string) {
		for e, err := range c.store().Episodes(c.t.Context(), nil) {
			if err != nil {
				c.t.Fatal(err)
			}
			ids = append(ids, e.ID.String())
		}
		return ids
	}
	only := func(c *cli, want string) {
		c.t.Helper()
		if ids := stored(c); len(ids) != 1 || ids[0] != want {
			c.t.Errorf("there are %v, want %s", ids, want)
		}
	}
	hook := func(c *cli, folder string) {
		c.t.Helper()
		c.event(capturedSession, folder, "UserPromptSubmit", map[string]any{"prompt": "mend the pump"})
		c.event(capturedSession, folder, "Stop", map[string]any{"last_assistant_message": "did"})
	}
	importIt := func(c *cli, _ string) { c.t.Helper(); c.ok("import", "--from", "claude-code") }
	captureIt := func(c *cli, _ string) { c.t.Helper(); c.ok("capture", "--once") }
	for name, order := range map[string][]func(*cli, string){
		"import first": {importIt, hook, captureIt}, "hook first": {hook, importIt, captureIt}, "capture first": {captureIt, importIt, hook},
	} {
		t.Run(name, func(t *testing.T) {
			c, folder := setup(t, "")
			for _, do := range order {
				do(c, folder)
				only(c, id(project))
			}
			if out := c.ok("--project", project, "search", "valve1"); !strings.Contains(out, "mend the pump") {
				t.Errorf("it is not found in its project: %s", out)
			}
		})
	}
	t.Run("not of this machine", func(t *testing.T) {
		c, folder := setup(t, "/home/somebody/pumps")
		importIt(c, folder)
		only(c, id(""))
		captureIt(c, folder)
		only(c, id(""))
	})
	t.Run("with an alias", func(t *testing.T) {
		c, folder := setup(t, "/home/somebody/pumps")
		c.aliases("pumps = /home/somebody\n")
		importIt(c, folder)
		only(c, id("pumps"))
	})
	t.Run("stored before", func(t *testing.T) {
		c, folder := setup(t, "/home/somebody/pumps")
		importIt(c, folder)
		c.aliases("pumps = /home/somebody\n")
		for _, do := range []func(*cli, string){importIt, captureIt, hook} {
			do(c, folder)
			only(c, id(""))
		}
	})
	t.Run("another remote since", func(t *testing.T) {
		c, folder := setup(t, "")
		hook(c, folder)
		c.folder("pumps", "https://github.com/others/pumps")
		for _, do := range []func(*cli, string){captureIt, importIt, hook} {
			do(c, folder)
			only(c, id(project))
		}
	})
	t.Run("wrong aliases", func(t *testing.T) {
		c, folder := setup(t, "")
		c.aliases("pumps\n")
		for _, args := range [][]string{{"capture", "--once"}, {"import", "--from", "claude-code"}} {
			if got := c.run(args...); got.code != exitOK || strings.Count(got.stderr, "an alias is NAME = PLACE") != 1 {
				t.Errorf("%q: %+v", args, got)
			}
			only(c, id(""))
		}
		hook(c, folder)
		only(c, id(""))
		if log := c.hookLog(); strings.Count(log, "an alias is NAME = PLACE") != 1 {
			t.Errorf("the log has %s", log)
		}
		c.fails(exitUsage, "an alias is NAME = PLACE", "--project", ".", "list")
	})
}

func (c *cli) aliases(text string) {
	c.t.Helper()
	dir := filepath.Join(c.home, "config", "episodic")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "projects"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// The verdict that the model gives by a tool is that of the episode which hooks record, and what
// they record later is not lost.
func TestHookAndMCP(t *testing.T) {
	c := newCLI(t)
	dir := c.folder("pumps", "https://github.com/we/pumps")
	p := startMCP(t, "EPISODIC_DB="+c.env["EPISODIC_DB"], "XDG_STATE_HOME="+filepath.Join(c.home, "state"), "XDG_CONFIG_HOME="+filepath.Join(c.home, "config"),
		"EPISODIC_PROJECT=", "CLAUDE_CODE_SESSION_ID=s", "CLAUDE_PROJECT_DIR="+dir)
	call := func(id string) {
		t.Helper()
		c.event("s", dir, "PostToolUse", map[string]any{"tool_name": "Bash", "tool_input": map[string]any{"command": id}, "tool_response": "ok", "tool_use_id": id})
	}
	c.event("s", dir, "UserPromptSubmit", map[string]any{"prompt": "mend the leaking valve of the pump", "prompt_id": "p1"})
	call("a")
	call("b")
	if out := p.tool("start", map[string]any{"task": "Mend the valve"}); !strings.Contains(out, "is being recorded already") {
		t.Errorf("start says %s", out)
	}
	p.tool("complete", map[string]any{"outcome": "success", "summary": "it holds"})
	call("c")
	c.event("s", dir, "Stop", map[string]any{"last_assistant_message": "I have mended it"})
	c.event("s", dir, "UserPromptSubmit", map[string]any{"prompt": "and paint it in green", "prompt_id": "p2"})
	call("d")
	c.event("s", dir, "SessionEnd", map[string]any{"reason": "other"})
	p.in.Close()
	p.ends()
	store := c.store()
	if counts, err := store.Counts(t.Context()); err != nil || counts.Episodes != 1 {
		t.Fatalf("there are %d episodes, %v", counts.Episodes, err)
	}
	e, err := store.Episode(t.Context(), transcript.DeriveID(episodic.Scope{Project: "github.com/we/pumps"}, "claude-code", "s"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Outcome.Kind != episodic.Success || e.Outcome.Verdict+e.Outcome.Reason != "it holds" || e.Running() {
		t.Errorf("it is %+v", e)
	}
	var steps []string
	for _, st := range e.Steps {
		steps = append(steps, st.Tool+string(st.Parameters)+st.Action)
	}
	if got := strings.Join(steps, "; "); got != `Bash{"command":"a"}; Bash{"command":"b"}; Bash{"command":"c"}; I have mended it; Bash{"command":"d"}` {
		t.Errorf("its steps are %s; the log has %s", got, c.hookLog())
	}
}
