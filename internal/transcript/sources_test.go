package transcript

import (
	"strings"
	"testing"
)

func TestFolders(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, env, goos, want string }{
		{"claude-code", "", "linux", "/home/x/.claude/projects /home/x/.config/claude/projects"},
		{"claude-code", "CLAUDE_CONFIG_DIR=/c", "darwin", "/c/projects"},
		{"claude-code", "XDG_CONFIG_HOME=/xdg", "linux", "/home/x/.claude/projects /xdg/claude/projects"},
		{"claude-code", "", "windows", `C:\Users\x\.claude\projects C:\Users\x\.config\claude\projects`},
		{"codex", "", "linux", "/home/x/.codex/sessions /home/x/.codex/archived_sessions"},
		{"codex", "CODEX_HOME=/c", "linux", "/c/sessions /c/archived_sessions"},
		{"gemini", "", "darwin", "/home/x/.gemini/tmp"},
		{"gemini", "GEMINI_CLI_HOME=/g", "linux", "/g/.gemini/tmp"},
		{"cursor", "", "windows", `C:\Users\x\AppData\Roaming\Cursor\User\globalStorage C:\Users\x\.cursor\projects`},
		{"cursor", "", "linux", "/home/x/.config/Cursor/User/globalStorage /home/x/.cursor/projects"},
		{"cursor", "", "darwin", "/home/x/Library/Application Support/Cursor/User/globalStorage /home/x/.cursor/projects"},
		{"opencode", "", "linux", "/home/x/.local/share/opencode"},
		{"opencode", "XDG_DATA_HOME=/d", "darwin", "/d/opencode"},
		{"none", "", "linux", ""},
	} {
		home := "/home/x/"
		if test.goos == "windows" {
			home = `C:\Users\x`
		}
		key, value, _ := strings.Cut(test.env, "=")
		env := func(name string) string {
			if name == key {
				return value
			}
			return ""
		}
		if got := strings.Join(Folders(test.name, env, home, test.goos), " "); got != test.want {
			t.Errorf("%s, %s, %s: %s, want %s", test.name, test.env, test.goos, got, test.want)
		}
	}
}

func TestWanted(t *testing.T) {
	t.Parallel()
	const id = "5a1c0000-0000-4000-8000-000000000001"
	for _, test := range []struct {
		path   string
		wanted string // the program whose session it is; empty: none
	}{
		{"/h/.claude/projects/-w-app/" + id + ".jsonl", "claude-code"},
		{`C:\Users\x\.claude\projects\C--w\` + id + ".jsonl", "claude-code"},
		{"/h/.claude/projects/-w-app/agent-ab12.jsonl", "claude-code"},
		{"/h/.claude/projects/-w-app/" + id + "/subagents/agent-ab12.jsonl", "claude-code"},
		{"/h/.claude/projects/-w-app/" + id + "/subagents/workflows/w1/agent-ab12.jsonl", "claude-code"},
		{"/h/.claude/projects/-w-app/" + id + "/subagents/workflows/w1/journal.jsonl", ""},
		{"/h/.claude/projects/-w-app/memory/notes.jsonl", ""},
		{"/h/.claude/projects/-w-app/sessions-index.json", ""},
		{"/h/.codex/sessions/2026/03/04/rollout-2026-03-04T05-06-00-" + id + ".jsonl", "codex"},
		{"/h/.codex/history.jsonl", ""},
		{"/h/.gemini/tmp/abab/chats/session-2026-04-05T06-00-9e000000.json", "gemini"},
		{"/h/.gemini/tmp/abab/chats/" + id + "/x.jsonl", "gemini"},
		{"/h/.gemini/tmp/abab/logs.json", ""},
		{"/h/.gemini/tmp/abab/checkpoint-x.json", ""},
		{"/h/.cursor/projects/w-app/agent-transcripts/" + id + "/" + id + ".jsonl", "cursor"},
		{"/h/.cursor/projects/w-app/agent-tools/a.txt", ""},
		{"", ""},
	} {
		for _, name := range Sources() {
			if got := Wanted(name, test.path); got != (name == test.wanted) && !(name == "claude-code" && test.wanted == "cursor") {
				t.Errorf("%s of %s: %v", test.path, name, got)
			}
		}
		if got := Placed(test.path); got != test.wanted {
			t.Errorf("%s is placed as %q, want %q", test.path, got, test.wanted)
		}
	}
}
