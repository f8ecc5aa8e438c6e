package transcript

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBenchmarkTraps: what the records of benchmarks and of their agents do.
func TestBenchmarkTraps(t *testing.T) {
	t.Parallel()
	runTraps(t, []trap{
		{"SWE-agent before it kept its configuration", `{"trajectory":[{"action":"open a.py\n","observation":"1: x","thought":"Look."},{"action":"","observation":"Your output was not formatted correctly","thought":"Hm."},{"action":"edit 1:1\ny\nend_of_edit","observation":null,"thought":"","response":"So."}],"history":[{"role":"system","content":"s"},{"role":"user","content":"like this","is_demo":true},{"role":"assistant","content":"x","is_demo":true},{"role":"user","content":"We're solving an issue. Here's the issue text:\nISSUE:\nSum is off.\n\nINSTRUCTIONS:\nNow go."}],"info":{"exit_status":"early_exit","submission":null}}`,
			[]string{"swe-agent: Sum is off.", `- open("open a.py\n") "Look." output: 1: x`, `- "Hm." output: Your output was not formatted correctly`, `- edit("edit 1:1\ny\nend_of_edit") "So."`, "=  So.", "left 2 demonstration", "left 1 system prompt"}},
		{"SWE-agent, resolved", `{"trajectory":[{"action":"ls","observation":""}],"history":[{"role":"user","content":"<pr_description>\nConsider the following PR description:\nq\n</pr_description>\ndo"}],"info":{"submission":"diff"},"resolved":true}`,
			[]string{"swe-agent: q", `- ls("ls") output: `, "= success diff"}},
		{"mini-swe-agent, two commands", `{"trajectory_format":"mini-swe-agent-1","info":{"exit_status":"Submitted","submission":"diff\n","config":{"agent":{"instance_template":"Fix {{task}} now.\nRules: {{rules}}"}}},"messages":[{"role":"system","content":"s"},{"role":"user","content":"Fix the door now.\nRules: none"},{"role":"assistant","content":"A\n` + "```bash\\nls\\n```\\nB\\n```bash\\npwd\\n```" + `"},{"role":"user","content":"Exactly one action, please."},{"role":"assistant","content":"C\n` + "```bash\\nls\\n```" + `"},{"role":"user","content":"<returncode>-1</returncode>\n<warning>long</warning>\n<output_head>\na\n</output_head>"},{"role":"assistant","content":"` + "```bash\\necho DONE\\n```" + `"},{"role":"user","content":"diff\n"}]}`,
			[]string{"mini-swe-agent: the door", "- \"A\n```bash\nls\n```\nB\n```bash\npwd\n```\"", "- bash({\"command\":\"ls\"}) \"C\" error: <warning>long</warning>\n<output_head>\na\n</output_head> [exit_code: -1] [prompt: Exactly one action, please.]", "- bash({\"command\":\"echo DONE\"}) output: diff\n", "=  diff", "left 1 system prompt"}},
		{"mini-swe-agent, parallel calls and a time limit", `{"trajectory_format":"mini-swe-agent-1.1","info":{"exit_status":"LimitsExceeded"},"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[{"id":"1","function":{"name":"bash","arguments":"{\"command\":\"a\"}"}},{"id":"2","function":{"name":"bash","arguments":"{\"command\":\"b\"}"}}],"extra":{"response":{"usage":{"completion_tokens":9},"choices":[{"message":{"reasoning_content":"hm"}}]}}},{"role":"tool","tool_call_id":"2","content":"<exception>too slow</exception>\n<returncode>-1</returncode>\n<output>\n</output>","extra":{"raw_output":"","returncode":-1,"exception_info":"too slow"}},{"role":"tool","tool_call_id":"1","content":"<returncode>0</returncode>\n<output>\nx\n</output>","extra":{"returncode":0}},{"role":"exit","content":"over","extra":{"exit_status":"LimitsExceeded","submission":""}}]}`,
			[]string{"mini-swe-agent: q", "- bash({\"command\":\"a\"}) output: x\n [thought: hm]", "- bash({\"command\":\"b\"}) error: <exception>too slow</exception>\n\n<output>\n</output> [exit_code: -1]", "=  over"}},
		{"mini-swe-agent's first messages", `[{"role":"system","content":"s"},{"role":"user","content":"Please solve this issue: q\n\nYou can execute bash commands. echo MICRO_SWE_AGENT_FINAL_OUTPUT when done"},{"role":"assistant","content":"A\n` + "```bash\\nls\\n```" + `"},{"role":"user","content":"Observation: a.py"}]`,
			[]string{"mini-swe-agent: q", `- bash({"command":"ls"}) "A" output: Observation: a.py`, "=  A", "left 1 system prompt"}},
		{"OpenHands, the oldest", `{"instance_id":"a-1","instruction":"q","history":[[{"action":"message","source":"user","args":{"content":"q"}},{"observation":"null","content":""}],[{"action":"run","source":"agent","args":{"command":"ls","thought":"see"}},{"observation":"run","content":"none","extras":{"exit_code":1}}]],"success":true}`,
			[]string{"openhands: q", `- run({"command":"ls"}) "see" error: none`, "= success see"}},
		{"OpenHands, flat", `{"issue":{"title":"t","body":"b"},"history":[{"action":"run","command":"ls","thought":"see"},{"observation":"run","content":"a"},{"action":"run_ipython","code":"1","thought":""},{"observation":"run_ipython","content":"1"}]}`,
			[]string{"openhands: t\nb", `- run({"command":"ls"}) "see" output: a`, `- run_ipython({"code":"1"}) output: 1`, "=  see"}},
		{"OpenHands, resolved though it was ended", `{"instance_id":"a","instruction":"q","history":[{"source":"agent","action":"message","args":{"content":"a"}}],"error":"too many turns","report":{"resolved":true}}`,
			[]string{"openhands: q", "= success a"}},
		{"OpenHands' events", `[{"id":1,"timestamp":"2026-05-01T10:00:00","source":"user","action":"message","args":{"content":"<uploaded_files>\n/w\n</uploaded_files>\nq","image_urls":["x"]}},{"id":2,"timestamp":"2026-05-01T10:00:01","source":"agent","action":"run","args":{"command":"sleep 9","thought":""}},{"id":3,"timestamp":"2026-05-01T10:00:02","source":"agent","action":"think","args":{"thought":"hm"}},{"id":4,"timestamp":"2026-05-01T10:00:03","source":"agent","observation":"think","content":"logged","cause":3,"extras":{}},{"id":5,"timestamp":"2026-05-01T10:00:04","source":"agent","observation":"run","content":"still runs","cause":2,"extras":{"metadata":{"exit_code":-1}}},{"id":6,"timestamp":"2026-05-01T10:00:05","source":"environment","observation":"error","content":"stuck","extras":{}},{"id":7,"timestamp":"2026-05-01T10:00:06","source":"agent","action":"call_tool_mcp","args":{"name":"fetch","arguments":{"u":"x"},"thought":"get"}},{"id":8,"timestamp":"2026-05-01T10:00:07","source":"agent","observation":"mcp","content":"{\"isError\": true}","cause":7,"extras":{}},{"id":9,"timestamp":"2026-05-01T10:00:08","source":"agent","action":"message","args":{"content":"Sorry."}},{"id":10,"source":"agent","observation":"agent_state_changed","content":""}]`,
			[]string{"openhands: q", `- run({"command":"sleep 9"}) timeout: still runs 3s`, `- think({"thought":"hm"}) output: logged 1s`, "- error() error: stuck", `- fetch({"u":"x"}) "get" error: {"isError": true} 1s`, "=  Sorry.", "left 1 image"}},
		{"OpenHands since version 1", `[{"kind":"SystemPromptEvent","source":"agent","system_prompt":{"type":"text","text":"s"}},{"kind":"MessageEvent","source":"user","llm_message":{"role":"user","content":[{"type":"text","text":"q"},{"type":"image","image_urls":[]}]}},{"kind":"ActionEvent","id":"e1","source":"agent","thought":[{"type":"text","text":"see"}],"reasoning_content":"hm","tool_name":"terminal","tool_call_id":"c1","tool_call":{"id":"c1","name":"terminal","arguments":"{\"command\": \"ls\"}"},"action":{"kind":"TerminalAction","command":"ls"}},{"kind":"ActionEvent","id":"e2","source":"agent","tool_name":"file_editor","tool_call_id":"c2","action":{"kind":"FileEditorAction","path":"/a","view_range":null}},{"kind":"AgentErrorEvent","tool_name":"file_editor","tool_call_id":"c2","error":"no such file"},{"kind":"ObservationEvent","tool_name":"terminal","tool_call_id":"c1","observation":{"kind":"TerminalObservation","content":[{"type":"text","text":"none"}],"exit_code":2}},{"kind":"ConversationStateUpdateEvent","key":"stats","value":{}},{"kind":"NewEvent"},{"kind":"ActionEvent","id":"e3","tool_name":"finish","tool_call_id":"c3","action":{"kind":"FinishAction","message":"Done."}}]`,
			[]string{"openhands: q", `- terminal({"command": "ls"}) "see" error: none [thought: hm]`, `- file_editor({"path":"/a"}) error: no such file`, `- finish({"message":"Done."})`, "=  Done.", "left 1 event of kind NewEvent", "left 1 image", "left 1 system prompt"}},
		{"OpenHands, a call without a name", `[{"kind":"MessageEvent","source":"user","llm_message":{"content":"q"}},{"kind":"ActionEvent","source":"agent"}]`,
			[]string{"! event[1].tool_name: is missing, so this call cannot be kept", "openhands: q"}},
		{"a simulation of tau2", `{"id":"s","task_id":1,"termination_reason":"agent_error","reward_info":{"reward":0.0},"messages":[{"role":"assistant","content":"Hello?"},{"role":"user","content":"q ###TRANSFER###"},{"role":"assistant","content":"a"},{"role":"user","content":null,"tool_calls":[{"id":"u","name":"f","arguments":{},"requestor":"user"}]},{"role":"tool","id":"u","content":"r","requestor":"user"}]}`,
			[]string{"tau2: q", "= failure a", "= 0 map[]", "left 1 call by the user"}},
		{"a simulation of tau2, odd", `{"simulations":[{"id":"s","task_id":1,"messages":[{"role":"assistant","tool_calls":[{"id":"1","arguments":{}}]}]},7,{"id":"z","messages":[{"role":"user","content":"q"}]}]}`,
			[]string{"! simulations[0].messages[0].tool_calls[0].name: is missing, so this call cannot be kept", "left 1 record without a task or a step", "! simulations[1]: is no object", "tau2: q"}},
		{"smolagents, twice", `[{"system_prompt":"s"},{"task":"q1"},{"step_number":1,"start_time":1780000000.5,"end_time":1780000002.0,"duration":1.5,"llm_output":"I call","tool_calls":[{"name":"f","arguments":{"x":1},"id":"c"},{"name":"g","arguments":"1","id":"d"}],"observations":"of both","observations_images":["x"]},{"step_number":2,"model_output":"garbled","error":{"type":"AgentParsingError","message":"no code"}},{"task":"q2"},{"step_number":3,"model_output":"so","tool_calls":[{"function":{"name":"final_answer","arguments":"6"}}],"action_output":6},{"output":6}]`,
			[]string{"smolagents: q1", `- f({"x":1}) [thought: I call]`, "- g(1) output: of both 1.5s", `- "garbled" error: no code`, "left 1 image", "left 1 system prompt", "smolagents: q2", "- final_answer(6) output: 6 [thought: so]", "=  6"}},
		{"ShareGPT in prose", `{"id":"os_0","conversations":[{"from":"human","loss":null,"value":"q"},{"from":"gpt","loss":true,"value":"Think: see\n\nAct: bash"},{"from":"human","value":"The output: a"},{"from":"gpt","value":"Act: finish"}]}`,
			[]string{"sharegpt: q", "- \"Think: see\n\nAct: bash\"", "=  Act: finish"}},
		{"ShareGPT with several calls", `{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"<think>hm</think>So:\n<tool_call>{'name': 'f', 'arguments': {'x': True}}</tool_call>\n<tool_call>\n{\"name\":\"g\",\"parameters\":{}}\n</tool_call>"},{"from":"tool","value":"<tool_response>1</tool_response>\n<tool_response>2</tool_response>"},{"from":"narrator","value":"x"}]}`,
			[]string{"sharegpt: q", `- f({"x":true}) "So:" output: 1 [thought: hm]`, `- g({}) output: 2`, "=  So:", "left 1 turn from narrator"}},
		{"ShareGPT, a call that is none", `{"conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"f(1)"}]}`,
			[]string{"! conversations[1].value: has a call that is not JSON: f(1)", "sharegpt: q"}},
		{"ToolBench, cut off and with branches", `{"7":{"query":"Find the long way home.","answer":{"method":"DFS","final_answer":"","answer_details":[{"role":"system","message":"","next":[{"role":"user","message":"Find the long","next":[{"role":"tool","message":"{'name': 'f', 'arguments': '{\\n  \"x\": 1\\n}', 'response': 'it\\'s","next":[{"role":"tool","message":"{'name': 'g', 'argum","next":[]},{"role":"assistant","message":"other","next":[]}]}]}]}]}},"8":{"query":"q","answer":{"answer_details":[{"role":"tool","message":"{'arguments': '{}'}","next":[]}]}}}`,
			[]string{"toolbench: Find the long way home.", "- f({\n  \"x\": 1\n}) output: it's", "- g()", "left 2 end of a text that was cut off", "left 1 turn of another branch", "! 8.answer.answer_details[0].message: is a call without a name, or cannot be read: {'arguments': '{}'}", "toolbench: q"}},
		{"ToolBench, the file of an answer", `{"win":true,"answer_generation":{"finish_type":"give_answer","final_answer":"{\"return_type\":\"give_answer\",\"final_answer\":\"5\"}","train_messages":[[{"role":"user","content":"no"}],[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"","function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"r"}]]}}`,
			[]string{"toolbench: q", "- f({}) output: r", "=  5", "left 1 earlier attempt", "left 1 system prompt"}},
		{"AgentBench with a demonstration", `{"index":1,"output":{"status":"completed","result":{"result":false},"history":[{"role":"user","content":"rules"},{"role":"agent","content":"I've understood your instruction, start please."},{"role":"user","content":"a problem"},{"role":"agent","content":"a solution"},{"role":"user","content":"A new question: q"},{"role":"agent","content":"Act: answer(3)"}]},"time":{"timestamp":1780000000000}}`,
			[]string{"agentbench: q", `- "I've understood your instruction, start please."`, `- "Act: answer(3)"`, "=  Act: answer(3)", "left 2 demonstration", "left 1 system prompt"}},
		{"AgentBench, plain", `{"index":1,"output":{"status":"task limit reached","result":{"is_correct":false},"history":[{"role":"user","content":"q"},{"role":"agent","content":"a"},{"role":"user","content":"r"}]}}` + "\n" + `{"index":2,"error":"NETWORK_ERROR","output":null,"time":{}}`,
			[]string{"agentbench: q", `- "a" output: r`, "= failure a", "left 1 run that failed before it began"}},
	}, nil)
}

// TestSavedEvent: a conversation of OpenHands is many files, which are no runs.
func TestSavedEvent(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"events/17.json", "event-00017-0a1b2c3d-0000.json"} {
		got := toldOf(t, name, `{"id":17,"source":"agent","action":"run","args":{"command":"ls"}}`, nil)
		if !strings.HasPrefix(got, "! is one event of a conversation of OpenHands, whose others lie beside it") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestBenchmarkKeys: what runs of the samples are known by, and what is told of them besides.
func TestBenchmarkKeys(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(samples); err != nil {
		t.Skip("no sample files; they lie in ../shared/data/transcripts, seen from the project")
	}
	for _, test := range []struct {
		name string
		keys []string
		left string
	}{
		{"openhands", []string{"blog-3@2026-05-01T10:00:00.000001Z", "blog-4@2026-05-01T10:00:00.1Z"}, "recall of knowledge system prompt"},
		{"tau2", []string{"sim-1"}, "call by the user system prompt"},
		{"mini_swe_agent", []string{"shop-13@2026-03-31T23:33:20.5Z"}, "system prompt"},
		{"swe_agent", []string{""}, "demonstration system prompt"},
		{"smolagents", []string{""}, "system prompt"},
		{"agentbench", []string{"", ""}, "run that failed before it began system prompt"},
	} {
		runs, _ := readSample(t, filepath.Join(samples, test.name), nil)
		if len(runs) != len(test.keys) {
			t.Fatalf("%s: %d runs", test.name, len(runs))
		}
		left := make(map[string]bool)
		for i, run := range runs {
			if run.Key != test.keys[i] {
				t.Errorf("%s: run %d has the key %q, want %q", test.name, i, run.Key, test.keys[i])
			}
			for what := range run.Left {
				left[what] = true
			}
			if len(run.Odd) > 0 {
				t.Errorf("%s: odd %v", test.name, run.Odd)
			}
		}
		for what := range left {
			if !strings.Contains(test.left, what) {
				t.Errorf("%s: left out %s", test.name, what)
			}
		}
	}
}
