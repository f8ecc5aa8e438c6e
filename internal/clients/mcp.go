package clients

// mcpNames are what clients call themselves to MCP servers.
var mcpNames = map[string]Client{
	"claude-code":           ClaudeCode,
	"codex-mcp-client":      Codex,
	"gemini-cli-mcp-client": Gemini,
	"opencode":              OpenCode,
}

// OfMCP is the client that calls itself by a name to MCP servers; empty if it is not known.
func OfMCP(name string) Client { return mcpNames[name] }

// SessionOfMCP is the session that a client names in the _meta of its requests to MCP servers:
// only Codex does. Empty if it does not.
func (c Client) SessionOfMCP(meta map[string]any) string {
	if c != Codex {
		return ""
	}
	turn, _ := meta["x-codex-turn-metadata"].(map[string]any)
	session, _ := turn["session_id"].(string)
	return session
}
