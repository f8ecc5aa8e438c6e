package agenttest

import "testing"

// ClaudeCode is Anthropic's.
var ClaudeCode = Agent{
	Name:  "claude-code",
	Hooks: []string{"SessionStart", "UserPromptSubmit", "PostToolUse", "PostToolUseFailure", "PreCompact", "SubagentStop", "Stop", "SessionEnd"},
	End:   "SessionEnd",
	file:  "@anthropic-ai/claude-code-linux-x64/claude",
	configure: func(t testing.TB, h *Home, s Settings) {
		h.Write(t, h.config(".claude", "settings.json"), text(object{"hooks": hookGroups(s.Hooks, func(event string) object {
			return object{"type": "command", "command": h.Program, "args": []string{"hook", event}}
		})}))
		if s.Memory {
			h.Write(t, h.config(".claude.json"), text(object{
				"mcpServers": object{"episodic": object{"type": "stdio", "command": h.Program, "args": []string{"mcp"}}},
			}))
		}
	},
	args: func(prompt string) []string {
		return []string{"-p", prompt, "--allowedTools", "Bash,Write,mcp__episodic"}
	},
	env: func(model string) []string {
		return []string{"ANTHROPIC_BASE_URL=" + model, "ANTHROPIC_API_KEY=x", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"}
	},
	Tool: func(name string, input map[string]any) Call {
		return Call{Tool: "mcp__episodic__" + name, Input: input}
	},
	Shell: func(command string) Call {
		return Call{Tool: "Bash", Input: object{"command": command, "description": "run it"}}
	},
	Write: func(path, content string) Call {
		return Call{Tool: "Write", Input: object{"file_path": path, "content": content}}
	},
	ShellTool: "Bash",
}
