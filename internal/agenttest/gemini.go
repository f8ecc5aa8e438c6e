package agenttest

import "testing"

// GeminiCLI is Google's.
var GeminiCLI = Agent{
	Name:  "gemini",
	Hooks: []string{"SessionStart", "BeforeAgent", "AfterTool", "AfterAgent", "PreCompress", "SessionEnd"},
	End:   "SessionEnd",
	file:  "@google/gemini-cli/bundle/gemini.js", node: true,
	configure: func(t testing.TB, h *Home, s Settings) {
		settings := object{
			"hooks": hookGroups(s.Hooks, func(event string) object {
				return object{"type": "command", "command": h.Program + " hook " + event}
			}),
			"security": object{"auth": object{"selectedType": "gemini-api-key"}, "folderTrust": object{"enabled": false}},
		}
		if s.Memory {
			settings["mcpServers"] = object{"episodic": object{"command": h.Program, "args": []string{"mcp"}}}
		}
		h.Write(t, h.config(".gemini", "settings.json"), text(settings))
	},
	args: func(prompt string) []string { return []string{"-m", "gemini-2.5-pro", "--yolo", "-p", prompt} },
	env:  func(model string) []string { return []string{"GEMINI_API_KEY=x", "GOOGLE_GEMINI_BASE_URL=" + model} },
	Tool: func(name string, input map[string]any) Call { return Call{Tool: "mcp_episodic_" + name, Input: input} },
	Shell: func(command string) Call {
		return Call{Tool: "run_shell_command", Input: object{"command": command}}
	},
	Write: func(path, content string) Call {
		return Call{Tool: "write_file", Input: object{"file_path": path, "content": content}}
	},
	ShellTool: "run_shell_command",
}
