package agenttest

import (
	"path/filepath"
	"testing"
	"time"
)

// Agent is an agent program: how it is set up and run, and what it calls things.
type Agent struct {
	Name string // as episodic calls it
	// Hooks are the events at which it runs hooks of which episodic makes something.
	Hooks []string
	// End is that of Hooks at which a session ends; empty: there is none.
	End string

	file string // of the program, below node_modules
	node bool   // Node runs it
	// configure writes its configuration.
	configure func(t testing.TB, h *Home, s Settings)
	// args are those of a session with one prompt.
	args func(prompt string) []string
	// env is what its environment has beside Home's.
	env func(model string) []string

	// Tool is a call of a tool of episodic's MCP server.
	Tool func(name string, input map[string]any) Call
	// Shell is a call of its own tool that runs a command, and Write of that which writes a file.
	Shell func(command string) Call
	Write func(path, content string) Call
	// ShellTool is what its hooks call the tool that Shell calls.
	ShellTool string
}

// Agents are those that are tried.
var Agents = []*Agent{&ClaudeCode, &Codex, &GeminiCLI, &OpenCode}

// Settings say how an Agent is set up.
type Settings struct {
	Model  string   // the URL of its Model
	Memory bool     // episodic is an MCP server
	Hooks  []string // of the Agent's: the events at which episodic is run
}

// SetUp configures the agent in a home. Without the program the test is skipped.
func (a *Agent) SetUp(t testing.TB, h *Home, s Settings) {
	t.Helper()
	Part(t, a.file)
	a.configure(t, h, s)
}

// patience bounds a session, which takes some seconds on a quiet machine.
const patience = 3 * time.Minute

// Session has the agent live a session with one prompt, to which the Model answers with the
// turns. It returns what the Model was sent, which must be one request for each of them.
func (a *Agent) Session(t testing.TB, h *Home, m *Model, prompt string, turns ...Turn) []*Request {
	t.Helper()
	m.Say(turns...)
	name, args := Part(t, a.file), a.args(prompt)
	if a.node {
		name, args = Node(t), append([]string{name}, args...)
	}
	out, err := h.Run(t, patience, a.env(m.URL), name, args...)
	requests := m.Requests()
	if err != nil || len(requests) != len(turns) {
		t.Fatalf("%s has asked for %d of %d turns, and said %s %v", a.Name, len(requests), len(turns), out, err)
	}
	return requests
}

// hookGroups are hooks as Claude Code, and those that do likewise, write them.
func hookGroups(events []string, hook func(event string) object) object {
	groups := object{}
	for _, event := range events {
		groups[event] = []object{{"hooks": []object{hook(event)}}}
	}
	return groups
}

// config is the path of a file in the home.
func (h *Home) config(elements ...string) string {
	return filepath.Join(append([]string{h.Dir}, elements...)...)
}
