package transcript

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// retell says in one line a run what was read of a file.
func retell(text, name string, o *Options) string {
	var lines []string
	for run, err := range Read(strings.NewReader(text), name, o) {
		if err != nil {
			lines = append(lines, "! "+err.Error())
			continue
		}
		lines = append(lines, retold(run))
	}
	return strings.Join(lines, "\n")
}

func retold(r *Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]", r.Key)
	switch {
	case r.Heuristic != nil:
		fmt.Fprintf(&b, " %s: %q", r.Heuristic.Condition, r.Heuristic.Action)
	case r.Episode != nil:
		e := r.Episode
		fmt.Fprintf(&b, " %q", e.Description)
		for i := range e.Steps {
			s := &e.Steps[i]
			b.WriteString(" |")
			if by := s.Metadata[MetaAgent]; by != "" {
				b.WriteString(" " + by + ":")
			}
			if p := s.Metadata[MetaPrompt]; p != "" {
				fmt.Fprintf(&b, " after %q", p)
			}
			if p := s.Metadata[MetaThought]; p != "" {
				fmt.Fprintf(&b, " thinking %q", p)
			}
			if s.Action != "" {
				fmt.Fprintf(&b, " %q", s.Action)
			}
			if s.Tool != "" {
				fmt.Fprintf(&b, " %s(%s)", s.Tool, s.Parameters)
			}
			if s.Result != nil {
				fmt.Fprintf(&b, " %s %q", s.Result.Kind, s.Result.Text)
			}
			if s.Latency > 0 {
				fmt.Fprintf(&b, " %v", s.Latency)
			}
		}
		if p := e.Metadata[MetaLastPrompt]; p != "" {
			fmt.Fprintf(&b, " | after %q", p)
		}
		fmt.Fprintf(&b, " => %q", e.Outcome.Verdict+e.Outcome.Reason)
	}
	for _, what := range slices.Sorted(maps.Keys(r.Left)) {
		fmt.Fprintf(&b, " -%d %s", r.Left[what], what)
	}
	for _, f := range r.Odd {
		fmt.Fprintf(&b, " ?%s %s", f.Name, f.Problem)
	}
	return b.String()
}

func TestFrameworks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"a log that repeats", `
{"id":"r1","messages":[{"role":"system","content":"it is 8:00"},{"role":"user","content":"weigh it"}],"choices":[{"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"scale","arguments":"{\"unit\": \"kg\"}"}}]}}],"created":1767258000,"usage":{"prompt_tokens":5,"completion_tokens":2}}
{"id":"x1","messages":[{"role":"user","content":"other"}],"choices":[{"message":{"role":"assistant","content":"thing"}},{"message":{"role":"assistant","content":"thong"}}]}
{"id":"r2","messages":[{"role":"system","content":"it is 8:01"},{"role":"user","content":"weigh it"},{"role":"assistant","content":"","tool_calls":[{"id":"c1","type":"function","function":{"name":"scale","arguments":"{\"unit\":\"kg\"}"}}]},{"role":"tool","tool_call_id":"c1","content":"7"}],"choices":[{"message":{"role":"assistant","content":"7 kg"}}],"created":1767258009,"usage":{"prompt_tokens":9,"completion_tokens":3}}
{"id":"x2","messages":[{"role":"user","content":"other"}],"choices":[{"message":{"role":"assistant","content":"thing"}}]}`,
			`[x1] "other" => "thing" -1 further choice
[r1] "weigh it" | scale({"unit":"kg"}) output "7" => "7 kg" -1 system prompt
[x2] "other" => "thing"`},
		{"a log of wrapped texts", `{"request_body":"{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}","response_body":"{\"id\":\"z\",\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"a\"}}]}"}`,
			`[z] "q" => "a"`},
		{"a log with an error", `{"request":{"messages":[{"role":"user","content":"q"}]},"response":{"error":{"message":"too many"}}}
{"other":1}`,
			`! is neither a request nor a response
[] "q" => ""`},
		{"responses by name", `
{"id":"a","object":"response","input":"pick one","output":[{"type":"function_call","call_id":"1","id":"f","name":"list","arguments":"{}"}]}
{"id":"b","object":"response","previous_response_id":"a","input":[{"type":"function_call_output","call_id":"1","output":"x y"}],"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"x"}]}]}`,
			`[a] "pick one" | list({}) output "x y" => "x"`},
		{"items with hosted tools", `[{"role":"user","content":"go"},
{"type":"reasoning","summary":[],"encrypted_content":"e"},
{"type":"code_interpreter_call","id":"1","code":"1/0","outputs":[{"type":"logs","logs":"boom"},{"type":"image","url":"u"}],"status":"completed"},
{"type":"mcp_call","id":"2","name":"ask","server_label":"s","arguments":"{\"q\":1}","output":null,"error":"gone"},
{"type":"custom_tool_call","call_id":"3","name":"patch","input":"*** Begin"},{"type":"custom_tool_call_output","call_id":"3","output":"ok"},
{"type":"shell_call","call_id":"4","action":{"commands":["ls"]}},{"type":"shell_call_output","call_id":"4","output":[{"stdout":"","stderr":"no","outcome":{"type":"exit","exit_code":2}}]},
{"type":"mcp_approval_request","id":"5","name":"drop","arguments":"{}"},{"type":"mcp_approval_response","approval_request_id":"5","approve":false},
{"type":"image_generation_call","id":"6","result":"iVBO","revised_prompt":"cat"},
{"type":"message","role":"assistant","content":[{"type":"output_text","text":"done"}]}]`,
			`[] "go" | code_interpreter({"code":"1/0"}) output "boom" | ask({"q":1}) error "gone" | patch("*** Begin") output "ok" | shell({"commands":["ls"]}) error "no" | drop({}) error "refused" | image_generation({"prompt":"cat"}) => "done" -1 encrypted reasoning -2 image`},
		{"an item without a name", `{"type":"function_call","call_id":"1","arguments":"{}"}`, "! item[0].name: is missing, so this call cannot be kept\n[] -1 record without a task or a step"},
		{"LangChain's parts", `[{"type":"system","data":{"content":"s"}},{"type":"human","data":{"content":[{"type":"text","text":"q"},{"type":"image_url","image_url":{"url":"data:"}}],"example":false}},
{"type":"ai","data":{"content":[{"type":"text","text":"look"},{"type":"tool_use","id":"1","name":"f","input":{"a":1}}],"tool_calls":[{"id":"1","name":"f","args":{"a":1}}],"invalid_tool_calls":[{"id":"2","name":"g","args":"{a","error":"no JSON"}]}},
{"type":"tool","data":{"content":"r","tool_call_id":"1","status":"success"}},
{"type":"AIMessageChunk","data":{"content":"end","additional_kwargs":{"tool_calls":[{"id":"3","function":{"name":"h","arguments":"{}"}}]}}}]`,
			`[] "q" | "look" f({"a":1}) output "r" | g("{a") error "no JSON" | "end" h({}) => "end" -1 image -1 system prompt`},
		{"LangGraph's state", `{"thread_id":"t9","values":{"messages":[{"type":"human","content":"q"},{"type":"ai","content":"a"}]}}`, `[t9] "q" => "a"`},
		{"AutoGen's events", `{"messages":[{"source":"user","type":"TextMessage","content":"q"},{"source":"a","type":"ThoughtEvent","content":"hm"},
{"source":"a","type":"CodeGenerationEvent","content":"run this","code_blocks":[{"code":"x","language":"sh"}]},{"source":"a","type":"CodeExecutionEvent","result":{"exit_code":1,"output":"bad"}},
{"source":"a","type":"TextMessage","content":"I give up"},{"source":"b","type":"ToolCallRequestEvent","content":[{"id":"1","name":"f","arguments":"{}"}]},{"source":"b","type":"ToolCallExecutionEvent","content":[{"call_id":"1","content":"7","is_error":false}]},
{"source":"b","type":"ToolCallSummaryMessage","content":"7"}],"stop_reason":null}`,
			`[] "q" | a: thinking "hm" "run this" execute_code({"code_blocks":[{"code":"x","language":"sh"}]}) error "bad" | a: "I give up" | b: f({}) output "7" => "7"`},
		{"AutoGen 0.2", `{"chat_history":[{"role":"assistant","name":"proxy","content":"q"},{"role":"user","name":"coder","content":"try ls"},{"role":"assistant","name":"proxy","content":"exitcode: 2 (execution failed)\nCode output: none"},
{"role":"user","name":"coder","content":"","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","name":"proxy","content":"r","tool_responses":[{"tool_call_id":"1","role":"tool","content":"r"}]},{"role":"user","name":"coder","content":"TERMINATE"}]}`,
			`[] "q" | coder: "try ls" execute_code() error "none" | coder: f({}) output "r" => "TERMINATE"`},
		{"Pydantic AI", `[{"kind":"request","instructions":"s","parts":[{"part_kind":"user-prompt","content":["q",{"kind":"image-url","url":"u"}],"timestamp":"2026-01-01T00:00:00Z"}]},
{"kind":"response","model_name":"m","usage":{"request_tokens":3,"response_tokens":2},"parts":[{"part_kind":"thinking","content":"hm"},{"part_kind":"tool-call","tool_name":"f","args":"{\"a\":1}","tool_call_id":"1"},{"part_kind":"tool-call","tool_name":"g","args":{"b":2},"tool_call_id":"2"}],"timestamp":"2026-01-01T00:00:01Z"},
{"kind":"request","instructions":"s","parts":[{"part_kind":"retry-prompt","tool_name":"g","content":"wrong","tool_call_id":"2","timestamp":"2026-01-01T00:00:03Z"},{"part_kind":"tool-return","tool_name":"f","content":{"n":1},"tool_call_id":"1","timestamp":"2026-01-01T00:00:02Z"}]},
{"kind":"response","parts":[{"part_kind":"text","content":"a"}]}]`,
			`[] "q" | thinking "hm" f({"a":1}) output "{\"n\":1}" 1s | g({"b":2}) error "wrong" 2s => "a" -1 image -1 system prompt`},
		{"a graph", `{"type":"relation","from":"a","to":"b","relationType":"knows"}
{"type":"entity","name":"a","entityType":"person","observations":["tall"]}
{"type":"entity","name":"b","entityType":"person","observations":"x"}
{"type":"relation","from":"c","to":"d","relationType":"knows"}`,
			`[a] a (person): "tall\na knows b"
[b] b (person): "a knows b" ?observations is no array: "x"
[] -1 relation between unknown entities`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := retell(test.in, "file.json", nil); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestGrownGraph: what is told of an entity later on makes another hash of it, and no other
// key.
func TestGrownGraph(t *testing.T) {
	t.Parallel()
	read := func(text string) (runs []*Run) {
		for run, err := range Read(strings.NewReader(text), "memory.json", nil) {
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		return runs
	}
	const before = `{"type":"entity","name":"a","entityType":"x","observations":["o"]}` + "\n"
	old, grown := read(before), read(before+`{"type":"relation","from":"a","to":"a","relationType":"is"}`)
	if old[0].Key != grown[0].Key || old[0].Hash == grown[0].Hash {
		t.Errorf("keys %q and %q, equal hashes: %v", old[0].Key, grown[0].Key, old[0].Hash == grown[0].Hash)
	}
}
