package agenttest

import (
	"os"
	"testing"
)

// OpenCode is of many models. It has no hooks, but plug-ins, and no end of a session.
var OpenCode = Agent{
	Name:  "opencode",
	Hooks: []string{"plugin"},
	file:  "opencode-linux-x64/bin/opencode",
	configure: func(t testing.TB, h *Home, s Settings) {
		config := object{
			"provider": object{"fake": object{
				"npm": "@ai-sdk/openai-compatible", "options": object{"baseURL": s.Model + "/v1", "apiKey": "x"},
				"models": object{"fake": object{}},
			}},
			"permission": "allow",
		}
		if s.Memory {
			config["mcp"] = object{"episodic": object{"type": "local", "command": []string{h.Program, "mcp"}, "enabled": true}}
		}
		h.Write(t, h.config(".config", "opencode", "opencode.json"), text(config))
		if s.Hooks != nil {
			plugin, err := os.ReadFile("testdata/opencode.js")
			if err != nil {
				t.Fatal(err)
			}
			h.Write(t, h.config(".config", "opencode", "plugins", "episodic.js"), string(plugin))
		}
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
	ShellTool: "bash",
}
