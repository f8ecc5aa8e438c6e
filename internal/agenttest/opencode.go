package agenttest

import (
	"fmt"
	"testing"
)

// OpenCode is of many models. It has plug-ins in place of hooks.
var OpenCode = Agent{
	Name: "opencode", Endless: true,
	file: "opencode-linux-x64/bin/opencode",
	configure: func(t testing.TB, h *Home, model string) {
		h.Write(t, h.config(".config", "opencode", "opencode.json"), fmt.Sprintf(`{
  "permission": "allow",
  "provider": {
    "fake": {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "%s/v1", "apiKey": "x"}, "models": {"fake": {}}}
  }
}
`, model))
	},
	args: func(prompt string) []string { return []string{"run", "-m", "fake/fake", prompt} },
	env: func(string) []string {
		return []string{"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_LSP_DOWNLOAD=1"}
	},
	Tool: func(name string, input map[string]any) Call { return Call{Tool: "episodic_" + name, Input: input} },
	Shell: func(command string) Call {
		return Call{Tool: "bash", Input: object{"command": command, "description": "run it"}}
	},
	Write: func(path, content string) Call {
		return Call{Tool: "write", Input: object{"filePath": path, "content": content}}
	},
}
