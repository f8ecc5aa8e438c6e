package transcript

import (
	"bufio"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// split returns the values of a file, "!" before what is wrong, and the lines they begin at.
func split(t *testing.T, text string) (texts []string, lines []int) {
	t.Helper()
	v := newValues(bufio.NewReaderSize(strings.NewReader(text), 16))
	for {
		val, err := v.next()
		if err == io.EOF {
			return texts, lines
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, val.line)
		if _, err := val.parsed(); err != nil {
			what, _, _ := strings.Cut(err.Error(), ":")
			texts = append(texts, "!"+what)
			continue
		}
		texts = append(texts, val.text)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in string
		want     []string
		lines    []int
	}{
		{"nothing", " \n\n", nil, nil},
		{"lines", "{\"a\":1}\n\n{\"a\":2}\r\n", []string{`{"a":1}`, `{"a":2}`}, []int{1, 3}},
		{"no line end", `{"a":1}`, []string{`{"a":1}`}, []int{1}},
		{"several in a line", `{"a":1}{"a":2} {"a":3}`, []string{`{"a":1}`, `{"a":2}`, `{"a":3}`}, []int{1, 1, 1}},
		{"one over many lines", "{\n  \"a\": [\n    1\n  ]\n}\n", []string{"{\n  \"a\": [\n    1\n  ]\n}"}, []int{1}},
		{"byte order marks", "\ufeff{\"a\":1}\n\ufeff{\"a\":2}", []string{`{"a":1}`, `{"a":2}`}, []int{1, 2}},
		{"marks in strings", "{\"a\":\"}{\\\"\\\\\"}\n{\"b\":\"]\"}", []string{`{"a":"}{\"\\"}`, `{"b":"]"}`}, []int{1, 2}},
		{"an array", "[ {\"a\":1},\n{\"a\":2} ]\n", []string{`{"a":1}`, `{"a":2}`}, []int{1, 2}},
		{"an array of plain values", `[1,"a]",null]`, []string{"1", `"a]"`, "null"}, []int{1, 1, 1}},
		{"an empty array", "[]", nil, nil},
		{"an array that was cut off", `[{"a":1},{"a"`, []string{`{"a":1}`, "!is not JSON", "!the file ends within its array; it was cut off"}, []int{1, 1, 1}},
		{"something behind an array", "[1]\nx", []string{"1", "!something follows the end of the array"}, []int{1, 2}},
		{"an end that is read by itself", `[1234567890123]`, []string{"1234567890123"}, []int{1}},
		{"ends without a begin", "}\n{\"a\":1}]", []string{"!is not JSON", `{"a":1}`, "!is not JSON"}, []int{1, 2, 2}},
		{"an end without a begin in an array", "[}1]", []string{"!is not JSON", "1"}, []int{1, 1}},
		{"an end without a begin", "[{\"a\":1},\n}]", []string{`{"a":1}`, "!is not JSON"}, []int{1, 2}},
		{"a line that is one", "]\n{\"a\":1}", []string{"!is not JSON", `{"a":1}`}, []int{1, 2}},
		{"a line that was cut off", "{\"a\":\"b\n{\"a\":2}", []string{"!is not JSON", `{"a":2}`}, []int{1, 2}},
		{"one that ends in a value", "{\"a\":1\n{\"a\":2}", []string{"!is not JSON", `{"a":2}`}, []int{1, 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			texts, lines := split(t, test.in)
			if strings.Join(texts, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("values %q, want %q", texts, test.want)
			}
			for i := range lines {
				if i < len(test.lines) && lines[i] != test.lines[i] {
					t.Errorf("value %d begins at line %d, want %d", i, lines[i], test.lines[i])
				}
			}
		})
	}
}

// TestPlainValues: wherever a read from the file ends, a plain value ends before the bracket.
func TestPlainValues(t *testing.T) {
	t.Parallel()
	for n := 1; n < 50; n++ {
		if texts, _ := split(t, "["+strings.Repeat("7", n)+"]"); len(texts) != 1 || len(texts[0]) != n {
			t.Errorf("%d digits are %q", n, texts)
		}
	}
}

// TestLongValues: what is too long is not held, and what follows it is read.
func TestLongValues(t *testing.T) {
	t.Parallel()
	long := `{"a":"` + strings.Repeat("x", maxValue) + `"}`
	texts, _ := split(t, long+"\n{\"a\":2}\n")
	if len(texts) != 2 || texts[0] != "!is longer than 64 MiB, and was not read" || texts[1] != `{"a":2}` {
		t.Errorf("%.200q", texts)
	}
}

// TestHashes: the spelling of a value makes no difference to its hash, its content does.
func TestHashes(t *testing.T) {
	t.Parallel()
	same := []string{
		`{"description":"caf\u00e9 a/b","reward":{"total":1.0},"n":12345678901234567}`,
		`{ "reward": {"total":1}, "n":12345678901234567, "description":"café a\/b" }`,
		`{"description":"x","reward":{"total":1e0},"n":12345678901234567,"description":"café a/b"}`,
	}
	first, err := parse(same[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range same {
		n, err := parse(text)
		if err != nil || n.hash() != first.hash() {
			t.Errorf("%s has another hash, %v", text, err)
		}
	}
	for _, text := range []string{
		`{"description":"café a/b","reward":{"total":1.1},"n":12345678901234567}`,
		`{"description":"café a/b","reward":{"total":1},"n":12345678901234568}`,
		`{"description":"café a/b","reward":{"total":"1"},"n":12345678901234567}`,
	} {
		if n, err := parse(text); err != nil || n.hash() == first.hash() {
			t.Errorf("%s has the same hash, %v", text, err)
		}
	}
}

// TestValuesOfAnySpelling: however values are written into a file, they are read from it.
func TestValuesOfAnySpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOf(rapid.StringMatching(`\{"[a-z]{0,3}": ?("[^"\\\x00-\x1f]{0,20}"|-?[1-9][0-9]{0,3}|\[\{\},\[\]\])\}`)).Draw(t, "values")
		array := rapid.Bool().Draw(t, "array")
		file := strings.Join(texts, rapid.SampledFrom([]string{"\n", " ", "\r\n", "\n\n"}).Draw(t, "between"))
		if array {
			file = "[" + strings.Join(texts, rapid.SampledFrom([]string{",", " , ", ",\n"}).Draw(t, "between")) + "]"
		}
		v := newValues(bufio.NewReaderSize(strings.NewReader(file), 16))
		for _, want := range texts {
			if got, err := v.next(); err != nil || got.text != want {
				t.Fatalf("%q: %+v, %v, want %q", file, got, err, want)
			}
		}
		if got, err := v.next(); err != io.EOF {
			t.Fatalf("%q: %+v, %v behind the last", file, got, err)
		}
	})
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{
		`{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}],"reward":1}`,
		`[{"role":"user","content":[{"type":"text","text":"q"},{"type":"image"}]},{"role":"assistant","content":"a"}]`,
		`{"system":"s","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"text","text":"r"}]}]}]}`,
		`{"trajectory":[{"action":"ls -l","observation":"a","thought":"t","execution_time":0.5}],"history":[{"role":"user","content":"q","is_demo":true}],"replay_config":"{}","info":{"submission":"d"}}`,
		`{"trajectory_format":"mini-swe-agent-1.1","info":{"submission":"d"},"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"x","extra":{"actions":[{"command":"c"}]}},{"role":"user","content":"<returncode>1</returncode>\n<output>\na</output>"},{"role":"exit","content":"d"}]}`,
		`{"instance_id":"a","history":[{"id":1,"source":"agent","timestamp":"2026-05-01T10:00:00","action":"run","args":{"command":"c","thought":"t"}},{"source":"agent","cause":1,"observation":"run","content":"r","extras":{"metadata":{"exit_code":1}}}],"error":"e"}`,
		`[{"kind":"ActionEvent","source":"agent","tool_name":"f","tool_call_id":"1","action":{"x":1}},{"kind":"ObservationEvent","tool_call_id":"1","observation":{"content":[{"text":"r"}]}}]`,
		`{"tasks":[{"id":"1","user_scenario":{"instructions":"q"}}],"simulations":[{"id":"s","task_id":"1","reward_info":{"reward":1,"reward_breakdown":{"DB":1}},"messages":[{"role":"assistant","tool_calls":[{"id":"1","name":"f","arguments":{}}]},{"role":"tool","id":"1","content":"r","error":true}]}]}`,
		`[{"task":"q"},{"step_number":1,"timing":{"start_time":1780000000,"duration":1},"tool_calls":[{"function":{"name":"f","arguments":"x"}}],"error":{"message":"e"}},{"output":"6"}]`,
		`{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"<tool_call>{'name':'f','arguments':{}}</tool_call>"},{"from":"tool","value":"<tool_response>r</tool_response>"}]}`,
		`{"7":{"query":"q","answer":{"final_answer":"{}","answer_details":[{"role":"tool","message":"{'name': 'f', 'arguments': '{}', 'resp","next":[]}]}}}`,
		`{"index":1,"output":{"history":[{"role":"user","content":"r"},{"role":"agent","content":"Ok."},{"role":"user","content":"q"},{"role":"agent","content":"a"}],"result":{"is_correct":true}},"time":{"timestamp":1780000000000}}`,
		`{"task":"q","steps":[{"thought":"t","command":"c","returncode":1,"result":"r"},{"action":{"name":"f","arguments":{}}}]}`,
		`{"type":"user","uuid":"1","parentUuid":null,"sessionId":"s","message":{"content":"q"}}` + "\n" +
			`{"type":"assistant","uuid":"2","parentUuid":"1","message":{"id":"m","content":[{"type":"tool_use","id":"t","name":"f","input":{}}],"usage":{"output_tokens":1}}}` + "\n" +
			`{"type":"user","uuid":"3","parentUuid":"2","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"<task-notification>"}]}}` + "\n" +
			`{"type":"user","uuid":"4","parentUuid":"1","message":{"content":"<command-name>/x</command-name><command-args>a b</command-args>"}}` + "\n" +
			`{"type":"queue-operation","operation":"enqueue","sessionId":"s","content":"<task-notification><tool-use-id>t</tool-use-id><result>r</result>"}` + "\n" +
			`{"type":"user","uuid":"5","parentUuid":"1","isSidechain":true,"message":{"content":"again"}}`,
		`{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"i","subagent_history_start_ordinal":1}}` + "\n" +
			`{"type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"q"}]}}` + "\n" +
			`{"type":"response_item","payload":{"type":"function_call","name":"f","arguments":"{","call_id":"c"}}` + "\n" +
			`{"type":"event_msg","payload":{"type":"exec_command_end","call_id":"c","exit_code":1,"duration":{"secs":1}}}` + "\n" +
			`{"type":"response_item","payload":{"type":"function_call_output","call_id":"c","output":"Exit code: 2\nOutput:\n"}}`,
		`{"type":"thread.started","thread_id":"t"}` + "\n" + `{"type":"item.completed","item":{"id":"1","type":"command_execution","command":"ls","exit_code":1}}`,
		`{"sessionId":"s","projectHash":"h"}` + "\n" + `{"id":"1","type":"user","content":"q"}` + "\n" + `{"id":"2","type":"gemini","content":[{"text":"a"}],"toolCalls":[{"name":"f","status":"error","result":[{"functionResponse":{"response":{"error":"e"}}}]}]}` + "\n" + `{"$rewindTo":"1"}`,
		`{"sessionId":"s","projectHash":"h"}` + "\n" + `{"id":"2","type":"gemini","toolCalls":[{"id":"c","name":"f"}]}` + "\n" + `{"$patch":{"updates":[{"id":"2","toolCalls":[{"id":"c","status":"error"}]}],"removeIds":["1"]}}`,
		`[{"role":"user","parts":[{"text":"q"}]},{"role":"model","parts":[{"functionCall":{"name":"f"}},{"functionResponse":{"name":"f","response":{"output":"r"}}}]}]`,
		`{"role":"user","message":{"content":[{"type":"text","text":"<timestamp>Thursday, Feb 5, 2026, 9:00 AM (UTC+1)</timestamp>q"}]}}`,
		`{"info":{"id":"ses_1"},"messages":[{"info":{"role":"assistant"},"parts":[{"type":"tool","tool":"f","state":{"status":"completed","metadata":{"exit":1},"time":{"start":1775000001000,"end":1775000002000}}}]}]}`,
		`{"type":"tool_use","timestamp":1775000001000,"sessionID":"s","part":{"type":"tool","tool":"f","state":{"status":"error"}}}`,
		`{"id":"r","request":{"messages":[{"role":"user","content":"q"}]},"response":{"choices":[{"message":{"role":"assistant","content":"a"}}]}}`,
		`{"id":"a","object":"response","previous_response_id":"b","input":"q","output":[{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}]}`,
		`[{"role":"user","content":"q"},{"type":"mcp_call","id":"1","name":"f","arguments":"{}","error":"e"},{"type":"shell_call_output","call_id":"2","output":[{"outcome":{"exit_code":1}}]}]`,
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"t","spanId":"1","startTimeUnixNano":"1775000000000000000","attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},{"key":"gen_ai.input.messages","value":{"arrayValue":{"values":[{"kvlistValue":{"values":[{"key":"role","value":{"stringValue":"user"}}]}}]}}},{"key":"gen_ai.completion.0.tool_calls.0.name","value":{"stringValue":"f"}}]}]}]}]}`,
		`{"id":"1","trace_id":"1","run_type":"chain","inputs":{"input":"q"},"child_runs":[{"id":"2","run_type":"tool","name":"f","inputs":{"input":"{}"},"outputs":{"output":"r"}}]}`,
		`{"messages":[{"lc":1,"type":"constructor","id":["HumanMessage"],"kwargs":{"content":"q"}},{"type":"ai","data":{"content":"","tool_calls":[{"id":"1","name":"f","args":{}}]}},{"type":"tool","tool_call_id":"1","content":[]}]}`,
		`{"messages":[{"source":"user","type":"TextMessage","content":"q"},{"source":"a","type":"ToolCallRequestEvent","content":[{"id":"1","name":"f","arguments":"{}"}]}]}`,
		`{"chat_history":[{"role":"user","name":"p","content":"q"},{"role":"user","name":"c","content":"exitcode: 1 (x)\nCode output: "}]}`,
		`[{"kind":"request","parts":[{"part_kind":"user-prompt","content":"q"}]},{"kind":"response","parts":[{"part_kind":"tool-call","tool_name":"f","args":{}}]}]`,
		`{"type":"entity","name":"a","entityType":"x","observations":["o"]}{"type":"relation","from":"a","to":"b","relationType":"r"}`,
		`{"table":"episodes","row":1,"columns":{"episode_id":"01900000-0000-4000-8000-000000000001","task_description":{"$bytes":"/w=="},"start_time":1,"context":"{\"tags\":[1]}","steps":"[{\"tool\":\"t\",\"result\":{\"Error\":{}}}]","outcome":"{\"Failure\":{}}","reward":"{\"total\":1,\"base\":2}"},"of":{"episode_tags":[{"tag":"t"}]}}` + "\n" +
			`{"table":"patterns","row":1,"columns":{"pattern_id":"x","pattern_type":"ToolSequence { tools: [\"a\"], avg_latency: TimeDelta { secs: 1, nanos: 5 } }","pattern_data":"{}","success_rate":2}}` + "\n" +
			`{"table":"embeddings","row":1,"columns":{"item_id":"emb_v1:m:episode:01900000-0000-4000-8000-000000000001","item_type":"embedding","embedding_data":"__compressed__:lz4:4\nAAAA","dimension":1}}` + "\n" +
			`{"table":"episode_relationships","row":1,"columns":{"priority":99}}` + "\n" + `{"table":"procedural_memory","columns":{"steps":"[1]"}}` + "\n" + `{"table":"heuristics","error":"e"}`,
		"# aider chat started at 2026-01-02 03:04:05\n#### q  \n\na\n```\n> Tokens: 1k sent, 2 received.  \n> Running x  \n",
	} {
		f.Add(text, "")
		for _, name := range Formats() {
			f.Add(text, name)
		}
	}
	f.Fuzz(func(t *testing.T, text, format string) {
		for _, split := range []Split{BySession, ByPrompt} {
			for run, err := range Read(strings.NewReader(text), "file.json", &Options{Format: format, Split: split, System: true}) {
				if (run == nil) == (err == nil) {
					t.Fatalf("%+v, %v", run, err)
				}
				if run != nil && run.Episode != nil && run.Episode.Description == "" {
					t.Fatalf("%+v has no description", run.Episode)
				}
			}
		}
	})
}

// longLine is a line of so many bytes, which nobody has in memory. most is how much there was.
type longLine struct {
	left  int
	most  uint64
	began bool
}

func (l *longLine) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), l.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	if !l.began {
		l.began = true
		copy(p, `{"description":"`)
	}
	if l.left>>24 != (l.left-n)>>24 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		l.most = max(l.most, m.HeapAlloc)
	}
	l.left -= n
	return n, nil
}

// A line that is too long is passed without being held, and what follows it is read.
func TestLineThatIsTooLongIsNotHeld(t *testing.T) {
	long := &longLine{left: testkit.Effort(100, 200, 1000) << 20}
	file := io.MultiReader(strings.NewReader(`{"description":"before"}`+"\n"), long, strings.NewReader("\"}\n"+`{"description":"after"}`+"\n"))
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var got []string
	for run, err := range Read(file, "long.jsonl", nil) {
		if err != nil {
			got = append(got, err.Error())
		} else {
			got = append(got, run.Episode.Description)
		}
	}
	if want := []string{"before", "is longer than 64 MiB, and was not read", "after"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if most := int64(long.most) - int64(before.HeapAlloc); most > 250<<20 {
		t.Errorf("%d MB were held", most>>20)
	}
}
