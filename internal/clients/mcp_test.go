package clients

import (
	"encoding/json"
	"testing"
)

func TestSessionOfMCP(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, meta string
		client     Client
		session    string
	}{
		{"codex-mcp-client", `{"callId":"call_1","x-codex-turn-metadata":{"session_id":"01a2","thread_id":"01a2","turn_id":"01a3"},"threadId":"01a2","sessionId":"01a2","progressToken":1}`, Codex, "01a2"},
		{"codex-mcp-client", `{"x-codex-turn-metadata":"of another version"}`, Codex, ""},
		{"codex-mcp-client", `null`, Codex, ""},
		{"gemini-cli-mcp-client", `{"progressToken":"f1d5"}`, Gemini, ""},
		{"opencode", `{"progressToken":2,"x-codex-turn-metadata":{"session_id":"01a2"}}`, OpenCode, ""},
		{"claude-code", `{"claudecode/toolUseId":"toolu_1","progressToken":3}`, ClaudeCode, ""},
		{"inspector", `{}`, "", ""},
	} {
		var meta map[string]any
		if err := json.Unmarshal([]byte(tt.meta), &meta); err != nil {
			t.Fatal(err)
		}
		c := OfMCP(tt.name)
		if got := c.SessionOfMCP(meta); c != tt.client || got != tt.session {
			t.Errorf("%s %s: session %q of %q", tt.name, tt.meta, got, c)
		}
	}
}
