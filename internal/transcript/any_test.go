package transcript

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding/unicode"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// small are files of the formats, by a name of the format. Every text that people, a model or a
// tool said ends with "!".
var small = map[string]string{
	"openai":       `{"messages":[{"role":"user","content":"q!","timestamp":"2026-01-01T00:00:00Z"},{"role":"assistant","content":"s!","reasoning":"h!","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":\"a!\"}"}}]},{"role":"tool","tool_call_id":"1","content":"r!"},{"role":"assistant","content":"e!"}],"reward":1,"usage":{"prompt_tokens":1}}`,
	"anthropic":    `{"system":"y","messages":[{"role":"user","content":"q!"},{"role":"assistant","content":[{"type":"thinking","thinking":"h!"},{"type":"text","text":"s!"},{"type":"tool_use","id":"1","name":"f","input":{"x":"a!"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"r!"}]}]},{"role":"assistant","content":[{"type":"text","text":"e!"}]}]}`,
	"log":          `{"id":"l","request":{"messages":[{"role":"user","content":"q!"}]},"response":{"choices":[{"message":{"role":"assistant","content":"e!"}}],"created":1767258000,"usage":{"prompt_tokens":1}}}`,
	"responses":    `{"id":"p","object":"response","input":"q!","output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"h!"}]},{"type":"function_call","call_id":"1","name":"f","arguments":"{\"x\":\"a!\"}"},{"type":"function_call_output","call_id":"1","output":"r!"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"e!"}]}]}`,
	"swe-agent":    `{"trajectory":[{"action":"ls a!","observation":"r!","thought":"s!","execution_time":0.5,"state":{"working_dir":"/w"}}],"history":[{"role":"user","content":"q!"}],"info":{"submission":"e!","exit_status":"x","model_stats":{"tokens_sent":1}}}`,
	"mini":         `{"trajectory_format":"mini-swe-agent-1.1","info":{"submission":"e!","mini_version":"2"},"messages":[{"role":"user","content":"q!"},{"role":"assistant","content":"s!","extra":{"actions":[{"command":"a!"}],"timestamp":1767258000}},{"role":"user","content":"<returncode>1</returncode>\n<output>\nr!</output>"}]}`,
	"openhands":    `{"instance_id":"i","history":[{"id":0,"source":"user","timestamp":"2026-01-01T00:00:00","action":"message","args":{"content":"q!"}},{"id":1,"source":"agent","timestamp":"2026-01-01T00:00:01","action":"run","args":{"command":"a!","thought":"s!"}},{"source":"agent","timestamp":"2026-01-01T00:00:02","cause":1,"observation":"run","content":"r!","extras":{"metadata":{"exit_code":1}}},{"id":3,"source":"agent","action":"message","args":{"content":"e!"}}]}`,
	"openhands v1": `[{"kind":"MessageEvent","source":"user","timestamp":"2026-01-01T00:00:00","llm_message":{"content":[{"text":"q!"}]}},{"kind":"ActionEvent","source":"agent","tool_name":"f","tool_call_id":"1","thought":[{"text":"s!"}],"reasoning_content":"h!","action":{"x":"a!"}},{"kind":"ObservationEvent","tool_call_id":"1","observation":{"content":[{"text":"r!"}],"exit_code":1}},{"kind":"MessageEvent","source":"agent","llm_message":{"content":[{"text":"e!"}]}}]`,
	"tau2":         `{"tasks":[{"id":"1","user_scenario":{"instructions":"q!"}}],"simulations":[{"id":"s","task_id":"1","start_time":"2026-01-01T00:00:00","reward_info":{"reward":1},"messages":[{"role":"user","content":"p!"},{"role":"assistant","content":"s!","tool_calls":[{"id":"1","name":"f","arguments":{"x":"a!"}}]},{"role":"tool","id":"1","content":"r!"},{"role":"assistant","content":"e!"}]}]}`,
	"smolagents":   `[{"task":"q!"},{"step_number":1,"timing":{"start_time":1780000000},"model_output":"h!","tool_calls":[{"function":{"name":"f","arguments":"a!"}}],"observations":"r!"},{"output":"e!"}]`,
	"sharegpt":     `{"conversations":[{"from":"human","value":"q!"},{"from":"gpt","value":"s!<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":\"a!\"}}</tool_call>"},{"from":"tool","value":"r!"},{"from":"gpt","value":"e!"}]}`,
	"toolbench":    `{"7":{"query":"q!","answer":{"final_answer":"e!","answer_details":[{"role":"tool","message":"{'name': 'f', 'arguments': 'a!', 'response': 'r!'}","next":[]}]}}}`,
	"agentbench":   `{"index":1,"output":{"history":[{"role":"user","content":"q!"},{"role":"agent","content":"s!"},{"role":"user","content":"r!"},{"role":"agent","content":"e!"}],"result":{"is_correct":true}},"time":{"timestamp":1780000000000}}`,
	"steps":        `{"task":"q!","steps":[{"thought":"s!","command":"a!","returncode":1,"result":"r!"}],"final_answer":"e!"}`,
	"claude code":  `{"type":"user","uuid":"1","parentUuid":null,"sessionId":"s","timestamp":"2026-01-01T00:00:00Z","message":{"content":"q!"}}` + "\n" + `{"type":"assistant","uuid":"2","parentUuid":"1","sessionId":"s","timestamp":"2026-01-01T00:00:01Z","message":{"id":"m","content":[{"type":"thinking","thinking":"h!"},{"type":"text","text":"s!"},{"type":"tool_use","id":"t","name":"f","input":{"x":"a!"}}],"usage":{"output_tokens":1}}}` + "\n" + `{"type":"user","uuid":"3","parentUuid":"2","sessionId":"s","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"r!"}]}}` + "\n" + `{"type":"assistant","uuid":"4","parentUuid":"3","message":{"id":"n","content":[{"type":"text","text":"e!"}]}}`,
	"codex":        `{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"i"}}` + "\n" + `{"timestamp":"2026-01-01T00:00:01Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"q!"}]}}` + "\n" + `{"type":"response_item","payload":{"type":"reasoning","summary":[{"text":"h!"}]}}` + "\n" + `{"type":"response_item","payload":{"type":"function_call","name":"f","arguments":"{\"x\":\"a!\"}","call_id":"c"}}` + "\n" + `{"type":"response_item","payload":{"type":"function_call_output","call_id":"c","output":"r!"}}` + "\n" + `{"type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"e!"}]}}`,
	"codex exec":   `{"type":"thread.started","thread_id":"t"}` + "\n" + `{"type":"item.completed","item":{"id":"1","type":"command_execution","command":"a!","aggregated_output":"r!","exit_code":1}}` + "\n" + `{"type":"item.completed","item":{"id":"2","type":"agent_message","text":"e!"}}`,
	"gemini":       `{"sessionId":"s","projectHash":"h","startTime":"2026-01-01T00:00:00Z","messages":[{"id":"1","type":"user","content":"q!"},{"id":"2","type":"gemini","content":"s!","thoughts":[{"subject":"h","description":"h!"}],"toolCalls":[{"id":"c","name":"f","args":{"x":"a!"},"status":"success","result":[{"functionResponse":{"response":{"output":"r!"}}}]}]},{"id":"3","type":"gemini","content":[{"text":"e!"}]}]}`,
	"cursor":       `{"role":"user","message":{"content":[{"type":"text","text":"q!"}]}}` + "\n" + `{"role":"assistant","message":{"content":[{"type":"text","text":"s!"},{"type":"tool_use","name":"f","input":{"x":"a!"}}]}}` + "\n" + `{"role":"assistant","message":{"content":[{"type":"text","text":"e!"}]}}`,
	"cursor's db":  `{"composer":{"composerId":"c","createdAt":1767258000000,"fullConversationHeadersOnly":[{"bubbleId":"1"},{"bubbleId":"2"},{"bubbleId":"3"}]},"bubbles":{"1":{"type":1,"text":"q!"},"2":{"type":2,"text":"s!","thinking":{"text":"h!"},"toolFormerData":{"name":"f","rawArgs":"{\"x\":\"a!\"}","result":"r!","status":"completed"}},"3":{"type":2,"text":"e!"}}}`,
	"opencode":     `{"info":{"id":"ses_1","time":{"created":1767258000000}},"messages":[{"info":{"role":"user"},"parts":[{"type":"text","text":"q!"}]},{"info":{"role":"assistant"},"parts":[{"type":"reasoning","text":"h!"},{"type":"text","text":"s!"},{"type":"tool","tool":"f","state":{"status":"completed","input":{"x":"a!"},"output":"r!","time":{"start":1775000001000,"end":1775000002000}}},{"type":"text","text":"e!"}]}]}`,
	"langchain":    `{"messages":[{"type":"human","content":"q!"},{"type":"ai","content":"s!","tool_calls":[{"id":"1","name":"f","args":{"x":"a!"}}]},{"type":"tool","tool_call_id":"1","content":"r!"},{"type":"ai","content":"e!"}]}`,
	"langsmith":    `{"id":"1","trace_id":"1","run_type":"chain","start_time":"2026-01-01T00:00:00","inputs":{"input":"q!"},"outputs":{"output":"e!"}}` + "\n" + `{"id":"2","trace_id":"1","parent_run_id":"1","run_type":"tool","name":"f","inputs":{"input":"a!"},"outputs":{"output":"r!"}}`,
	"otel":         `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"t","spanId":"1","name":"chat","startTimeUnixNano":"1775000000000000000","attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},{"key":"gen_ai.input.messages","value":{"stringValue":"[{\"role\":\"user\",\"parts\":[{\"type\":\"text\",\"content\":\"q!\"}]}]"}},{"key":"gen_ai.output.messages","value":{"stringValue":"[{\"role\":\"assistant\",\"parts\":[{\"type\":\"text\",\"content\":\"e!\"}]}]"}}]}]}]}]}`,
	"autogen":      `{"messages":[{"source":"user","type":"TextMessage","content":"q!","created_at":"2026-01-01T00:00:00Z"},{"source":"a","type":"ThoughtEvent","content":"h!"},{"source":"a","type":"ToolCallRequestEvent","content":[{"id":"1","name":"f","arguments":"{\"x\":\"a!\"}"}]},{"source":"a","type":"ToolCallExecutionEvent","content":[{"call_id":"1","content":"r!"}]},{"source":"a","type":"TextMessage","content":"e!"}]}`,
	"autogen 0.2":  `{"chat_history":[{"role":"user","name":"p","content":"q!"},{"role":"user","name":"c","content":"s!","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"x\":\"a!\"}"}}]},{"role":"tool","name":"p","tool_responses":[{"tool_call_id":"1","content":"r!"}]},{"role":"user","name":"c","content":"e!"}]}`,
	"pydantic":     `[{"kind":"request","parts":[{"part_kind":"user-prompt","content":"q!","timestamp":"2026-01-01T00:00:00Z"}]},{"kind":"response","parts":[{"part_kind":"thinking","content":"h!"},{"part_kind":"tool-call","tool_name":"f","args":{"x":"a!"},"tool_call_id":"1"}]},{"kind":"request","parts":[{"part_kind":"tool-return","tool_name":"f","content":"r!","tool_call_id":"1"}]},{"kind":"response","parts":[{"part_kind":"text","content":"e!"}]}]`,
}

// outcome is what was read of a file, as one text, and how much of it was told or counted.
type outcome struct {
	text     string
	runs     int
	told     int // problems, odd fields, things left out
	problems int
}

func outcomeOf(text string) (o outcome) {
	var b strings.Builder
	for run, err := range Read(strings.NewReader(text), "file.json", nil) {
		if err != nil {
			o.told, o.problems = o.told+1, o.problems+1
			continue
		}
		for _, n := range run.Left {
			o.told += n
		}
		o.told += len(run.Odd)
		if run.Episode != nil {
			o.runs++
			all, _ := json.Marshal(run.Episode) // it always can be
			b.Write(all)
		}
	}
	o.text = b.String()
	return o
}

// valuesOf are the values of a file.
func valuesOf(t interface{ Fatal(...any) }, text string) (list []any) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	for dec.More() {
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

func linesOf(list []any, indent string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	for _, v := range list {
		_ = enc.Encode(v) // a Builder takes all
	}
	return b.String()
}

// place is a value within others, and what sets it.
type place struct {
	path  string
	value any
	set   func(any)
}

func places(v any, path string, set func(any)) []place {
	list := []place{{path, v, set}}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			list = append(list, places(v[key], path+"."+key, func(x any) { v[key] = x })...)
		}
	case []any:
		for i := range v {
			list = append(list, places(v[i], fmt.Sprintf("%s[%d]", path, i), func(x any) { v[i] = x })...)
		}
	}
	return list
}

// TestNoTextIsLost: each text of a file is in what is read of it.
func TestNoTextIsLost(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(small)) {
		o := outcomeOf(small[name])
		if o.runs != 1 || o.problems > 0 {
			t.Errorf("%s: %d runs, %d problems", name, o.runs, o.problems)
		}
		for _, what := range []string{"q!", "h!", "s!", "a!", "r!", "e!", "p!"} {
			if strings.Contains(small[name], what) && !strings.Contains(o.text, what) {
				t.Errorf("%s: %s is lost: %s", name, what, o.text)
			}
		}
	}
}

// TestFilesOfAnyForm: how a file is written makes no difference.
func TestFilesOfAnyForm(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(small)) {
		text := small[name]
		want := outcomeOf(text)
		list := valuesOf(t, text)
		array := "[" + strings.Join(strings.Split(strings.TrimSpace(linesOf(list, "")), "\n"), ",\n") + "]"
		if strings.HasPrefix(text, "[") {
			array = text
		}
		for form, text := range map[string]string{
			"CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "BOM": byteOrderMark + text, "pretty": linesOf(list, "  "),
			"UTF-16": utf16(t, text), "gzip": gzipped(t, text), "Zstandard": zstandard(t, text), "array": array,
		} {
			if form == "array" && (name == "cursor" || name == "codex" || name == "gemini") {
				continue // which nobody writes, and is no line of theirs
			}
			if got := outcomeOf(text); got.text != want.text || got.problems > 0 {
				t.Errorf("%s, %s: %+v, want %+v", name, form, got, want)
			}
		}
	}
	for _, text := range []string{"", "\n", byteOrderMark} {
		if got := outcomeOf(text); got != (outcome{}) {
			t.Errorf("of %q: %+v", text, got)
		}
	}
}

func utf16(t *testing.T, text string) string {
	out, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func gzipped(t *testing.T, text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstandard(t *testing.T, text string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return string(w.EncodeAll([]byte(text), nil))
}

// TestCutOff: a file that ends within its last line gives all before it, and one message, or a
// count where a program may still be writing it.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(small)) {
		text := small[name]
		if !strings.Contains(text, "\n") || strings.HasPrefix(text, "[") {
			text += "\n" + text
		}
		last := strings.LastIndexByte(text, '\n')
		whole, cut := outcomeOf(text[:last]), outcomeOf(text[:last+(len(text)-last)/2])
		if strings.HasPrefix(text, "[") {
			continue // within an array there are no lines
		}
		if cut.runs != whole.runs || cut.text != whole.text || cut.told != whole.told+1 {
			t.Errorf("%s: %+v, want %+v and one more told", name, cut, whole)
		}
	}
}

// oddities are what writers have in place of what is expected.
var oddities = []any{nil, true, json.Number("3.5"), json.Number("-1e400"), "x", "2026-01-01", map[string]any{}, []any{}, []any{json.Number("1")}}

// TestOddFields: where one field is odd, no other text is lost without a word.
func TestOddFields(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(small)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, before := valuesOf(t, small[name]), outcomeOf(small[name])
			var all []place
			for i := range list {
				all = append(all, places(list[i], fmt.Sprint(i), func(v any) { list[i] = v })...)
			}
			for i, p := range all {
				for k := range testkit.Effort(1, 1, len(oddities)) {
					odd := oddities[(i+k)%len(oddities)]
					p.set(odd)
					text := linesOf(list, "")
					p.set(p.value)
					got := outcomeOf(text)
					// A key of an attribute says what its value is; without simulations there is no run.
					if got.told > before.told || name == "otel" && strings.HasSuffix(p.path, ".key") || strings.HasSuffix(p.path, ".simulations") {
						continue
					}
					for _, what := range []string{"q!", "h!", "s!", "a!", "r!", "e!", "p!"} {
						if strings.Contains(text, what) && !strings.Contains(got.text, what) {
							t.Errorf("with %v at %s %s is lost", odd, p.path, what)
						}
					}
				}
			}
		})
	}
}

// TestOddTimes: a time that is none is told, and loses nothing else.
func TestOddTimes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"openai", "claude code", "codex", "openhands", "openhands v1", "autogen", "opencode"} {
		text, before := small[name], outcomeOf(small[name])
		text = strings.NewReplacer(`"2026-01-01T00:00:00Z"`, `"soon"`, `"2026-01-01T00:00:00"`, `"soon"`, `"2026-01-01T00:00:01Z"`, `"soon"`,
			`"info":{"role":"user"}`, `"info":{"role":"user","time":{"created":"soon"}}`).Replace(text)
		if got := outcomeOf(text); got.told != before.told+1 || got.runs != 1 || !strings.Contains(got.text, "e!") {
			t.Errorf("%s: %+v, want one more told than %+v", name, got, before)
		}
	}
}
