package agenttest

import (
	"path/filepath"
	"testing"
	"time"
)

// Agent is an agent program: how it is set up and run, and what it calls things.
type Agent struct {
	Name string // as episodic setup calls it
	// Endless says that its hooks are not told when a session ends.
	Endless bool

	file string // of the program, below node_modules
	node bool   // Node runs it
	// configure writes what a person has in its configuration: where the model is.
	configure func(t testing.TB, h *Home, model string)
	// args are those of a session with one prompt.
	args func(prompt string) []string
	// env is what its environment has beside Home's.
	env func(model string) []string

	// Tool is a call of a tool of episodic's MCP server.
	Tool func(name string, input map[string]any) Call
	// Shell is a call of its own tool that runs a command, and Write of that which writes a file.
	Shell func(command string) Call
	Write func(path, content string) Call
}

// Agents are those that are tried.
var Agents = []*Agent{&ClaudeCode, &Codex, &GeminiCLI, &OpenCode}

// SetUp has a person of a home use the agent with a Model, and episodic setup, with more flags,
// set it up. Without the program the test is skipped.
func (a *Agent) SetUp(t testing.TB, h *Home, m *Model, flags ...string) {
	t.Helper()
	Part(t, a.file)
	a.configure(t, h, m.URL)
	if out, err := h.Run(t, time.Minute, nil, h.Program, append([]string{"setup", "--yes", a.Name}, flags...)...); err != nil {
		t.Fatal(err, out)
	}
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

// config is the path of a file in the home.
func (h *Home) config(elements ...string) string {
	return filepath.Join(append([]string{h.Dir}, elements...)...)
}
