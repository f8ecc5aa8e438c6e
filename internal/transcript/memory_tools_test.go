package transcript

import (
	"strings"
	"testing"
)

func TestIsMemoryTool(t *testing.T) {
	t.Parallel()
	for tool, want := range map[string]bool{
		"mcp__episodic__recall": true, "mcp_episodic_log": true, "episodic_complete": true, "mcp__plugin_episodic_episodic__show": true, "episodic-recall": true,
		"mcp__other__recall": false, "episodic": false, "recall": false, "mcp__episodic__else": false,
	} {
		if got := IsMemoryTool(tool); got != want {
			t.Errorf("%s: %v", tool, got)
		}
	}
}

// What a session recalled is not stored again with it, and what led to a call of a memory's tool
// stays.
func TestCallsOfTheMemoryAreNoSteps(t *testing.T) {
	t.Parallel()
	call := func(id, tool, said string) string {
		text := ""
		if said != "" {
			text = `{"type":"text","text":"` + said + `"},`
		}
		return `{"type":"assistant","sessionId":"s","timestamp":"2026-11-28T10:00:0` + id + `Z","message":{"role":"assistant","content":[` + text + `{"type":"tool_use","id":"` + id + `","name":"` + tool + `","input":{}}]}}` +
			"\n" + `{"type":"user","sessionId":"s","timestamp":"2026-11-28T10:00:0` + id + `Z","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"` + id + `","content":"answer ` + id + `"}]}}`
	}
	prompt := func(text string) string {
		return `{"type":"user","sessionId":"s","timestamp":"2026-11-28T10:00:00Z","message":{"role":"user","content":"` + text + `"}}`
	}
	record := strings.Join([]string{
		prompt("repair the valve"), call("1", "mcp__episodic__recall", ""), prompt("now, please"), call("2", "mcp__episodic__show", ""),
		call("3", "Bash", ""), call("4", "mcp__episodic__learn", "I keep that"), call("5", "Bash", ""), prompt("thanks"), call("6", "mcp__episodic__complete", ""),
	}, "\n")
	var runs []*Run
	for r, err := range Read(strings.NewReader(record), "s.jsonl", &Options{Format: "claude-code"}) {
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	if len(runs) != 1 {
		t.Fatalf("%d runs", len(runs))
	}
	e := runs[0].Episode
	var got []string
	for _, s := range e.Steps {
		got = append(got, s.Tool+"|"+s.Action+"|"+s.Metadata[MetaPrompt])
	}
	if want := "Bash||now, please; |I keep that|; Bash||"; strings.Join(got, "; ") != want {
		t.Errorf("steps %q, want %q", strings.Join(got, "; "), want)
	}
	if e.Metadata[MetaLastPrompt] != "thanks" || runs[0].Left["call of episodic's own tools"] != 4 {
		t.Errorf("%v, left %v", e.Metadata, runs[0].Left)
	}
}

func TestInjectedTextIsNobodysWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<hook_context>&lt;episodic-memory project=&quot;x&quot;&gt; old &lt;/episodic-memory&gt;</hook_context>\nrepair it": "repair it",
		"repair it\n<episodic-memory project=\"x\" note=\"data\">\n- old\n</episodic-memory>":                                "repair it",
	} {
		if got := words(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
