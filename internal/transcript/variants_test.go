package transcript

import (
	"strings"
	"testing"
)

// TestVariants: the shapes in which writers have what the formats are made of.
func TestVariants(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"lists of messages, one a line", `[{"role":"user","content":"q1"},{"role":"assistant","content":"a1"}]
[{"role":"user","content":"q2"},{"role":"assistant","content":"a2"}]`, `[] "q1" => "a1"
[] "q2" => "a2"`},
		{"a list of lists of messages", `[[{"role":"user","content":"q1"},{"role":"assistant","content":"a1"}],[{"role":"user","content":"q2"}]]`, `[] "q1" => "a1"
[] "q2" => ""`},
		{"a message a line", `{"role":"user","content":"q"}
{"role":"assistant","content":"a"}`, `[] "q" => "a"`},
		{"runs in an object", `{"model":"m","data":[{"messages":[{"role":"user","content":"q1"}]},{"messages":[{"role":"user","content":"q2"}]}]}`, `[] -1 field model
[] "q1" => ""
[] "q2" => ""`},
		{"runs by their names", `{"one":{"messages":[{"role":"user","content":"q1"}]},"two":{"messages":[{"role":"user","content":"q2"}]}}`, `[] "q1" => ""
[] "q2" => ""`},
		{"messages as text", `{"messages":"[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]","resolved":true}`, `[] "q" => "a"`},
		{"messages by another name", `{"trajectory":[{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]}`, `[] "q" | f({}) output "r" => ""`},
		{"calls as text", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":"[{\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]"}]}`, `[] "q" | f({}) => ""`},
		{"one call without a list", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":{"id":"1","function":{"name":"f"}}}]}`, `[] "q" | f() => ""`},
		{"calls that name a function", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","function":"bash","arguments":{"cmd":"ls"}}]},{"role":"tool","tool_call_id":"1","content":"r","error":{"type":"timeout","message":"late"}}]}`, `[] "q" | bash({"cmd":"ls"}) error "r\nlate" => ""`},
		{"the other calls of a message stay", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1"},{"id":"2","function":{"name":"g"}}]},{"role":"tool","tool_call_id":"2","content":"r"}]}`, `! messages[1].tool_calls[0].name: is missing, so this call cannot be kept
[] "q" | g() output "r" => ""`},
		{"reasoning in parts", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","reasoning_details":[{"type":"reasoning.text","text":"hm"},{"type":"reasoning.encrypted","data":"x"}]},{"role":"assistant","content":"b","thinking_blocks":[{"type":"thinking","thinking":"so"}]}]}`, `[] "q" | thinking "hm\nso" "a" => "b" -1 encrypted reasoning`},
		{"input of a batch", `{"custom_id":"r","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"q"}]}}`, `[r/770223a9cdbd575f] "q" => ""`},
		{"output of a batch", `{"id":"b1","custom_id":"r1","response":{"status_code":200,"body":{"id":"c1","choices":[{"message":{"role":"assistant","content":"a"}}]}},"error":null}
{"id":"b2","custom_id":"r2","response":null,"error":{"message":"too late"}}`, `[c1] "a" => "a"
[b2] -1 field error -1 record without a task or a step`},
		{"input of a batch of Anthropic's", `{"requests":[{"custom_id":"r","params":{"messages":[{"role":"user","content":"q"}]}}]}`, `[r/770223a9cdbd575f] "q" => ""`},
		{"output of a batch of Anthropic's", `{"custom_id":"r","result":{"type":"succeeded","message":{"id":"m1","role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}}}`, `[m1] "a run without a recorded task" | f({}) => ""`},
		{"a prompt and its completion", `{"prompt":"q","completion":"a"}`, `[] "q" => "a"`},
		{"an answer that was preferred", `{"input":{"messages":[{"role":"user","content":"q"}]},"preferred_output":[{"role":"assistant","content":"good"}],"non_preferred_output":[{"role":"assistant","content":"bad"}]}`, `[] "q" => "good" -1 field non_preferred_output`},
		{"tools of Anthropic's servers", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"server_tool_use","id":"1","name":"web_search","input":{"query":"w"}},{"type":"web_search_tool_result","tool_use_id":"1","content":[{"type":"web_search_result","url":"u","title":"T","encrypted_content":"E"}]},
{"type":"server_tool_use","id":"2","name":"bash_code_execution","input":{}},{"type":"bash_code_execution_tool_result","tool_use_id":"2","content":{"type":"bash_code_execution_result","stdout":"","stderr":"no","return_code":2}},
{"type":"mcp_tool_use","id":"3","name":"echo","input":{}},{"type":"mcp_tool_result","tool_use_id":"3","is_error":true,"content":[{"type":"text","text":"gone"}]}]}]}`,
			`[] "q" | web_search({"query":"w"}) output "T\nu" | bash_code_execution({}) error "no" | echo({}) error "gone" => "" -1 encrypted content`},
		{"ShareGPT with roles", `{"conversations":[{"role":"user","content":"q"},{"role":"assistant","content":"<think>hm</think><tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>"},{"role":"tool","content":"<tool_response>r</tool_response>"}]}`, `[] "q" | thinking "hm" f({}) output "r" => ""`},
		{"ShareGPT's turns alone", `[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]`, `[] "q" => "a"`},
		{"ShareGPT's items", `{"id":"1","items":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}`, `[] "q" => "a"`},
		{"a demonstration of SWE-agent", `{"history":[{"role":"system","content":"s","agent":"main"},{"role":"user","content":"q","agent":"main"},{"role":"assistant","content":"look","action":"ls","agent":"main","tool_calls":[{"id":"1","function":{"name":"bash","arguments":"{}"}}]},{"role":"tool","content":"x","tool_call_ids":["1"],"agent":"main"}]}`, `[] "q" | "look" bash({}) output "x" => "look" -1 system prompt`},
		{"attempts of SWE-agent", `{"attempts":[{"trajectory":[],"history":[]},{"trajectory":[{"action":"ls","observation":"x"}],"history":[{"role":"user","content":"q"}]}]}`, `[] "q" | ls("ls") output "x" => "" -1 earlier attempt`},
		{"turns of SWE-agent", strings.ReplaceAll(`{"trajectory":[{"role":"system","system_prompt":"s","text":null},{"role":"user","text":"q"},{"role":"ai","text":"I look.\n'''\nx\n'''\nSo:\n'''bash\nls\n'''"},{"role":"user","text":"x"},{"role":"ai","text":"done"}],"target":true}`, "'''", "```"),
			"[] \"q\" | \"I look.\\n```\\nx\\n```\\nSo:\" ls(\"ls\") output \"x\" => \"done\" -1 system prompt"},
		{"printed spans", `{"name":"invoke_agent x","context":{"trace_id":"0xA","span_id":"0x1"},"parent_id":null,"start_time":"2026-01-01T00:00:00Z","end_time":"2026-01-01T00:00:03Z","status":{"status_code":"OK"},"attributes":{"gen_ai.operation.name":"invoke_agent"}}
{"name":"execute_tool f","context":{"trace_id":"0xA","span_id":"0x2"},"parent_id":"0x1","start_time":"2026-01-01T00:00:01Z","end_time":"2026-01-01T00:00:02Z","status":{"status_code":"ERROR","description":"no"},"attributes":{"gen_ai.operation.name":"execute_tool","gen_ai.tool.name":"f"}}`, `[a/1] "a run without a recorded task" | f() error "no" 1s => ""`},
		{"what AutoGen saves of a team", `{"type":"TeamState","agent_states":{"m/1":{"message_thread":[{"source":"user","type":"TextMessage","content":"q"},{"source":"a","type":"TextMessage","content":"r"}]},"a/1":{"agent_state":{}}}}`, `[] "q" => "r"`},
		{"what AutoGen saves of an agent", `{"llm_context":{"messages":[{"source":"user","type":"UserMessage","content":"q"},{"source":"a","type":"AssistantMessage","thought":"hm","content":[{"id":"c","name":"f","arguments":"{}"}]},{"type":"FunctionExecutionResultMessage","content":[{"call_id":"c","content":"r"}]}]}}`, `[] "q" | a: thinking "hm" f({}) output "r" => ""`},
		{"AutoGen 0.2, the history alone", `[{"role":"assistant","name":"proxy","content":"q"},{"role":"user","name":"coder","content":"ls"},{"role":"assistant","name":"proxy","content":"exitcode: 1 (execution failed)\nCode output: x"}]`, `[] "q" | coder: "ls" execute_code() error "x" => "ls"`},
		{"the result of a smolagents run", `{"output":"6","state":"success","steps":[{"task":"q"},{"step_number":1,"tool_calls":[{"function":{"name":"f","arguments":"1"}}],"observations":"r"}]}`, `[] "q" | f(1) output "r" => "6"`},
		{"an evaluation of smolagents", `{"question":"q","prediction":"6","intermediate_steps":[{"task":"a template around q"},{"step_number":1,"model_output":"t","tool_calls":[{"function":{"name":"f","arguments":"1"}}],"observations":"r"}]}`, `[] "q" | thinking "t" f(1) output "r" => "6"`},
		{"an AgentExecutor of LangChain", `{"input":"q","output":"a","intermediate_steps":[[{"tool":"f","tool_input":{"x":1},"log":"hm"},"r"],[{"log":"?"},"x"]]}`, `! intermediate_steps[1]: calls a tool without a name, so this call cannot be kept
[] "q" | thinking "hm" f({"x":1}) output "r" => "a"`},
		{"events of OpenHands in an object", `{"trajectory":[{"id":0,"timestamp":"2026-01-01T00:00:00","source":"user","action":"message","args":{"content":"q"}}]}`, `[2026-01-01T00:00:00Z] "q" => ""`},
		{"contents of Gemini's API", `{"contents":[{"role":"user","parts":[{"text":"q"}]},{"role":"model","parts":[{"functionCall":{"name":"f"}}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"r"}}}]}],"systemInstruction":{"parts":[{"text":"s"}]}}`, `[] "q" | f() output "r" => "" -1 system prompt`},
		{"what Claude Code prints", `{"type":"system","subtype":"init","cwd":"/w","session_id":"s1","tools":[]}
{"type":"assistant","session_id":"s1","parent_tool_use_id":null,"message":{"id":"m1","content":[{"type":"tool_use","id":"t1","name":"Task","input":{}}]}}
{"type":"assistant","session_id":"s1","parent_tool_use_id":"t1","message":{"id":"m2","content":[{"type":"text","text":"inner"}]}}
{"type":"user","session_id":"s1","parent_tool_use_id":null,"message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"x"}]}}
{"type":"result","subtype":"success","session_id":"s1","result":"done","total_cost_usd":0.5}`, `[s1] "done" | Task({}) output "x" => "done"
[s1/t1] "inner" => "inner"`},
		{"a conversation of Cursor", `{"composer":{"composerId":"c","createdAt":"soon","fullConversationHeadersOnly":[{"bubbleId":"1"},{"bubbleId":"2"},{"bubbleId":"3"}]},"bubbles":{"1":{"type":1,"text":"q","images":["x"]},"2":{"type":2,"toolFormerData":{"toolCallId":"t"}},"3":{"type":2,"text":"a","allThinkingBlocks":[{"thinking":"hm"}]},"4":{"type":1,"text":"z"}}}`,
			`! bubbles.2.toolFormerData.name: is missing, so this call cannot be kept
[c] "q" => "a" -1 bubble that was taken back -1 image -1 reasoning ?composer.createdAt is no time: "soon"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := retell(test.in, "file.json", nil); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestLongLists: also of a long list it is seen that another one follows it, but for one that
// comes through a pipe.
func TestLongLists(t *testing.T) {
	t.Parallel()
	text := `[{"role":"user","content":"` + strings.Repeat("x", 200<<10) + `"}]` + "\n" + `[{"role":"user","content":"q2"}]`
	for run, err := range Read(strings.NewReader(text), "file.jsonl", nil) {
		if err != nil || len(run.Episode.Steps) > 0 || run.Episode.Metadata[MetaLastPrompt] != "" {
			t.Errorf("%+v, %v", run, err)
		}
	}
}
