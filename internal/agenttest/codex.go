package agenttest

import (
	"fmt"
	"testing"
)

// Codex is OpenAI's. It has no tool that writes files but the shell.
var Codex = Agent{
	Name: "codex",
	file: "codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
	configure: func(t testing.TB, h *Home, model string) {
		h.Write(t, h.config(".codex", "config.toml"), fmt.Sprintf(`# The model of this machine.
model = "gpt-5"
model_provider = "fake"

[model_providers.fake]
name = "Fake"
base_url = "%s/v1"
wire_api = "responses"
`, model))
	},
	args: func(prompt string) []string {
		return []string{"exec", "--dangerously-bypass-hook-trust", "--dangerously-bypass-approvals-and-sandbox", prompt}
	},
	env: func(string) []string { return nil },
	Tool: func(name string, input map[string]any) Call {
		return Call{Space: "mcp__episodic", Tool: name, Input: input}
	},
	Shell: func(command string) Call {
		return Call{Tool: "exec_command", Input: object{"cmd": command}}
	},
	Write: func(path, content string) Call {
		return Call{Tool: "exec_command", Input: object{"cmd": fmt.Sprintf("printf %%s '%s' > '%s'", content, path)}}
	},
}
