package agenttest

import "testing"

// ClaudeCode is Anthropic's.
var ClaudeCode = Agent{
	Name:      "claude-code",
	file:      "@anthropic-ai/claude-code-linux-x64/claude",
	configure: func(testing.TB, *Home, string) {}, // its environment says where the model is
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
}
