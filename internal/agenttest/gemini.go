package agenttest

import "testing"

// GeminiCLI is Google's.
var GeminiCLI = Agent{
	Name: "gemini",
	file: "@google/gemini-cli/bundle/gemini.js", node: true,
	configure: func(t testing.TB, h *Home, _ string) {
		h.Write(t, h.config(".gemini", "settings.json"), `{
  // The model of this machine.
  "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": false}}
}
`)
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
}
