package transcript

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

// toldOf is what the runs of a file say, in lines.
func toldOf(t *testing.T, name, text string, o *Options) string {
	t.Helper()
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for run, err := range Read(strings.NewReader(text), name, o) {
		if err != nil {
			say("! %v", err)
			continue
		}
		if e := run.Episode; e != nil {
			say("%s: %s", run.Format, e.Description)
			for i := range e.Steps {
				say("%s", toldStep(&e.Steps[i]))
			}
			if out := e.Outcome; out.Kind != "" || out.Verdict+out.Reason != "" {
				say("= %s %s", out.Kind, out.Verdict+out.Reason)
			}
			if e.Reward != nil {
				say("= %v %v", e.Reward.Total, e.Reward.Components)
			}
		}
		for _, what := range slices.Sorted(maps.Keys(run.Left)) {
			say("left %d %s", run.Left[what], what)
		}
		for _, f := range run.Odd {
			say("odd %s %s", f.Name, f.Problem)
		}
	}
	return strings.Join(lines, "\n")
}

func toldStep(s *episodic.Step) string {
	line := "-"
	if s.Tool != "" {
		line += " " + s.Tool + "(" + string(s.Parameters) + ")"
	}
	if s.Action != "" {
		line += " \"" + s.Action + "\""
	}
	if s.Result != nil {
		line += " " + string(s.Result.Kind) + ": " + s.Result.Text
	}
	if s.Latency != 0 {
		line += " " + s.Latency.String()
	}
	for _, key := range slices.Sorted(maps.Keys(s.Metadata)) {
		line += " [" + key + ": " + s.Metadata[key] + "]"
	}
	return line
}

// trap is a file that is easily misread, and what it says.
type trap struct {
	name, text string
	want       []string
}

func runTraps(t *testing.T, traps []trap, o *Options) {
	t.Helper()
	for _, test := range traps {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got, want := toldOf(t, "runs.json", test.text, o), strings.Join(test.want, "\n"); got != want {
				t.Errorf("it says\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestTraps: what writers of messages do, of whichever format.
func TestTraps(t *testing.T) {
	t.Parallel()
	runTraps(t, []trap{
		{"a pretty object", "{\n \"messages\": [\n  {\"role\": \"user\", \"content\": \"q\"},\n  {\"role\": \"assistant\", \"content\": \"a\"}\n ]\n}\n",
			[]string{"openai: q", "=  a"}},
		{"flat calls", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","name":"f","arguments":{"x":1}}]},{"id":"1","role":"tool","content":"r","error":true}]}`,
			[]string{"openai: q", `- f({"x":1}) error: r`}},
		{"calls in functions of one's own", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","type":"custom","custom":{"name":"patch","input":"*** Begin"}}]}]}`,
			[]string{"openai: q", `- patch("*** Begin")`}},
		{"a call before there were several", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{\"x\": 1.0}"}},{"role":"function","name":"f","content":"r"}]}`,
			[]string{"openai: q", `- f({"x": 1.0}) output: r`}},
		{"arguments that are no JSON", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{x: 1"}}]}]}`,
			[]string{"openai: q", `- f("{x: 1")`}},
		{"a call without a name", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","function":{"arguments":"{}"}}]}]}`,
			[]string{"! messages[1].tool_calls[0].name: is missing, so this call cannot be kept", "openai: q"}},
		{"calls that are no array", `{"messages":[{"role":"assistant","tool_calls":{"id":"1"}}]}`,
			[]string{"! messages[0].tool_calls: is no array", "left 1 record without a task or a step"}},
		{"calls of an unknown role", `{"messages":[{"role":"user","content":"q"},{"role":"robot","tool_calls":[{"id":"1","function":{"name":"f"}}]}]}`,
			[]string{`! messages[1].role: is "robot", and calls tools; it must be assistant`, "openai: q"}},
		{"one bad record among good ones", `{"messages":[{"role":"user","content":"1"},{"role":"assistant","content":"a"}]}` + "\n" + `{"messages":[{"role":"assistant","tool_calls":[{}]}]}` + "\n{\"messages\":[{\"role\":\"us\n" + `{"messages":[{"role":"user","content":"3"}]}`,
			[]string{"openai: 1", "=  a", "! messages[0].tool_calls[0].name: is missing, so this call cannot be kept", "left 1 record without a task or a step", "! is not JSON: missing closing '\"'", "openai: 3"}},
		{"unknown roles", `{"messages":[{"role":"narrator","content":"n"},{"role":"human","content":"q"},{"role":"ai","content":"a"},{"content":"x"}]}`,
			[]string{"openai: q", "=  a", "left 1 message of role narrator", "left 1 message of role none"}},
		{"a demonstration", `{"messages":[{"role":"user","content":"like this","is_demo":true},{"role":"assistant","content":"so","is_demo":true},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`,
			[]string{"openai: q", "=  a", "left 2 demonstration"}},
		{"who greets first", `{"messages":[{"role":"assistant","content":"hello"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`,
			[]string{"openai: q", `- "hello"`, "=  a"}},
		{"parallel calls, answered out of order", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f"}},{"id":"2","function":{"name":"g"}}]},{"role":"tool","tool_call_id":"2","content":"of g"},{"role":"tool","tool_call_id":"1","content":"of f"}]}`,
			[]string{"openai: q", "- f() output: of f", "- g() output: of g"}},
		{"calls without ids", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"function":{"name":"f"}},{"function":{"name":"g"}}]},{"role":"tool","tool_call_id":"7","name":"g","content":"of g"},{"role":"tool","content":"of f"}]}`,
			[]string{"openai: q", "- f() output: of f", "- g() output: of g"}},
		{"an answer whose call is not there", `{"messages":[{"role":"tool","tool_call_id":"1","name":"f","content":"r"},{"role":"user","content":"q"}]}`,
			[]string{"openai: q", "- f() output: r"}},
		{"answers that are no text", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f"}},{"id":"2","function":{"name":"g"}},{"id":"3","function":{"name":"h"}}]},{"role":"tool","tool_call_id":"1","content":{"n":1.50}},{"role":"tool","tool_call_id":"2","content":[1,2]},{"role":"tool","tool_call_id":"3","content":7}]}`,
			[]string{"openai: q", `- f() output: {"n":1.50}`, "- g() output: [1,2]", "- h() output: 7"}},
		{"blocks of content", `{"messages":[{"role":"user","content":[{"type":"input_text","text":"q"},{"type":"image_url","image_url":{"url":"data:"}},{"type":"hologram","data":"x"}]},{"role":"assistant","content":[{"type":"output_text","text":"a"}]}]}`,
			[]string{"openai: q", "=  a", "left 1 content of type hologram", "left 1 image"}},
		{"how an answer begins", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f"}}]},{"role":"tool","tool_call_id":"1","content":"Error: is the title of a book"}]}`,
			[]string{"openai: q", "- f() output: Error: is the title of a book"}},
		{"seconds, milliseconds and no zone", `{"created":1767258000.5,"messages":[{"role":"user","content":"q","timestamp":1767258001000},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f"}}],"timestamp":"2026-01-01T09:00:02"},{"role":"tool","tool_call_id":"1","content":"r","timestamp":"2026-01-01T09:00:02.25"}]}`,
			[]string{"openai: q", "- f() output: r 250ms"}},
		{"odd times", `{"created":"soon","messages":[{"role":"user","content":"q","timestamp":"x"},{"role":"assistant","content":"a","timestamp":"y"}]}`,
			[]string{"openai: q", "=  a", `odd messages.timestamp is no time: "x"`, `odd created is no time: "soon"`}},
		{"a reward that is true", `{"messages":[{"role":"user","content":"q"}],"reward":true}`, []string{"openai: q", "= success "}},
		{"a reward that is a text", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"reward":"0.5"}`, []string{"openai: q", "= partial_success a", "= 0.5 map[]"}},
		{"a reward of our own", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"reward":{"total":0}}`, []string{"openai: q", "= failure a", "= 0 map[]"}},
		{"a score out of ten", `{"messages":[{"role":"user","content":"q"}],"score":3}`, []string{"openai: q", "= 3 map[]"}},
		{"an odd reward", `{"messages":[{"role":"user","content":"q"}],"reward":"lots","resolved":false}`, []string{"openai: q", "= failure ", `odd reward says nothing of success or failure: "lots"`}},
		{"nothing", `{"messages":[]}`, []string{"left 1 record without a task or a step"}},
		{"fields", `{"messages":[{"role":"user","content":"q"}],"tools":[{"type":"function"}],"info":{"x":{"y":1}},"files":["a","b"]}`, []string{"openai: q", "left 1 field info", "left 1 field tools"}},
		{"steps with a task", `{"task":"q","steps":[{"thought":"see","command":"ls","returncode":2,"result":"none"},{"tool":"f","args":{"x":1},"output":{"y":2}},{"action":{"name":"g","arguments":{}},"error":"no"},{"function":{"name":"h","arguments":"{}"},"cost":0.5,"state":{}},{"action":"look"}],"success":"yes"}`,
			[]string{"steps: q", `- bash({"command":"ls"}) "see" error: none [exit_code: 2]`, `- f({"x":1}) output: {"y":2}`, "- g({}) error: no", "- h({}) [cost: 0.5]", `- "look"`, "= success look", "left 1 field state of a step"}},
	}, nil)
}

// TestOutcomeField: what came of a run is where it is said to be.
func TestOutcomeField(t *testing.T) {
	t.Parallel()
	runTraps(t, []trap{
		{"there", `{"messages":[{"role":"user","content":"q"}],"reward":1,"eval":{"passed":"no"}}`, []string{"openai: q", "= failure ", "left 1 field eval"}},
		{"not there", `{"messages":[{"role":"user","content":"q"}],"reward":1}`, []string{"openai: q"}},
	}, &Options{OutcomeField: "eval.passed"})
}
