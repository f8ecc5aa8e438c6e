package hook

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/clients"
)

func TestCurrent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	current := func(want string) {
		t.Helper()
		if key, ok := Current(b.Dir, clients.ClaudeCode, "/work/pumps"); key != want || ok != (want != "") {
			t.Errorf("the current session is %q, %v; want %q", key, ok, want)
		}
		if key, ok := Current(b.Dir, clients.ClaudeCode, "/work"); ok {
			t.Errorf("%s goes on in another folder too", key)
		}
		if key, ok := Current(b.Dir, clients.Gemini, "/work/pumps"); ok {
			t.Errorf("%s is one of Gemini CLI too", key)
		}
	}
	// prompt is something that happens in a session later than what came before.
	ago := time.Now().Add(-time.Hour)
	prompt := func(session, text string) {
		b.prompt(session, text)
		ago = ago.Add(time.Minute)
		if err := os.Chtimes(filepath.Join(b.Dir, name(clients.ClaudeCode, session), sessionFile), ago, ago); err != nil {
			t.Fatal(err)
		}
	}
	current("")
	prompt("one", "mend the pump")
	current("one")
	prompt("two", "mend the valve")
	current("two")
	b.hook("one", "SubagentStop", map[string]any{"agent_id": "a", "last_assistant_message": "found"})
	current("two")
	prompt("one", "and the hose")
	current("one")
	b.hook("one", "SessionEnd", nil)
	current("two")
	b.hook("two", "SessionEnd", nil)
	current("")
	prompt("one", "it leaks again")
	current("one")
}
