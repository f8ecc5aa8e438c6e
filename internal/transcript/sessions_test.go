package transcript

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// readLines reads a file of these lines.
func readLines(t *testing.T, name string, o *Options, lines ...string) (runs []*Run, problems []string) {
	t.Helper()
	for run, err := range Read(strings.NewReader(strings.Join(lines, "\n")), name, o) {
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		runs = append(runs, run)
	}
	return runs, problems
}

// outline is what matters of a run, in lines.
func outline(r *Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "key %s", r.Key)
	if r.Parent != "" {
		fmt.Fprintf(&b, " of %s", r.Parent)
	}
	b.WriteByte('\n')
	if e := r.Episode; e != nil {
		fmt.Fprintf(&b, "task %s\n", e.Description)
		for i := range e.Steps {
			s := &e.Steps[i]
			for _, key := range []string{MetaPrompt, MetaThought} {
				if text := s.Metadata[key]; text != "" {
					fmt.Fprintf(&b, "  %s %s\n", key, text)
				}
			}
			fmt.Fprintf(&b, "  step %s|%s|%s", s.Tool, s.Action, s.Parameters)
			if s.Result != nil {
				fmt.Fprintf(&b, " -> %s %s", s.Result.Kind, s.Result.Text)
			}
			if s.Latency > 0 {
				fmt.Fprintf(&b, " %v", s.Latency)
			}
			b.WriteByte('\n')
		}
		for _, text := range []string{e.Metadata[MetaLastPrompt], e.Outcome.Verdict} {
			if text != "" {
				fmt.Fprintf(&b, "last %s\n", text)
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(r.Left)) {
		fmt.Fprintf(&b, "left %d %s\n", r.Left[what], what)
	}
	return b.String()
}

type sessionTest struct {
	name, file string
	options    Options
	lines      []string
	want       string // outlines
	problems   []string
}

func runSessionTests(t *testing.T, tests []sessionTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := test.file
			if file == "" {
				file = "s.jsonl"
			}
			runs, problems := readLines(t, file, &test.options, test.lines...)
			var b strings.Builder
			for _, r := range runs {
				b.WriteString(outline(r))
			}
			if got := b.String(); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if !slices.Equal(problems, test.problems) {
				t.Errorf("problems %q, want %q", problems, test.problems)
			}
		})
	}
}

// claude is a line of a session of Claude Code. content is JSON.
func claude(kind, uuid, parent, second, content string, more ...string) string {
	if parent != "null" {
		parent = quoted(parent)
	}
	return fmt.Sprintf(`{"type":%q,"uuid":%q,"parentUuid":%s,"sessionId":"s","timestamp":"2026-01-01T00:00:%sZ","message":{"role":%q,"id":"m%s","model":"model-1","content":%s}%s}`,
		kind, uuid, parent, second, kind, uuid, content, strings.Join(append([]string{""}, more...), ","))
}

const (
	callOf        = `[{"type":"tool_use","id":"%s","name":"Bash","input":{"n":"%[1]s"}}]`
	sessionResult = `[{"type":"tool_result","tool_use_id":"%s","content":"done %[1]s"}]`
)

func TestClaudeCode(t *testing.T) {
	t.Parallel()
	call := func(id string) string { return fmt.Sprintf(callOf, id) }
	result := func(id string) string { return fmt.Sprintf(sessionResult, id) }
	ask := claude("user", "u1", "null", "01", `"build it"`)
	runSessionTests(t, []sessionTest{
		{
			name: "prompts that were taken back",
			lines: []string{
				ask,
				claude("assistant", "a1", "u1", "02", call("t1")),
				claude("user", "r1", "a1", "03", result("t1")),
				claude("assistant", "a2", "r1", "04", `[{"type":"text","text":"built"}]`),
				claude("user", "u2", "a2", "05", `"now break it"`),
				claude("assistant", "a3", "u2", "06", call("t2")),
				claude("user", "r2", "a3", "07", result("t2")),
				claude("user", "u3", "a2", "08", `"now test it"`),
				claude("assistant", "a4", "u3", "09", call("t3")),
				claude("user", "r3", "a4", "10", result("t3")),
			},
			want: `key s
task build it
  step Bash||{"n":"t1"} -> output done t1 1s
  step |built|
  prompt now test it
  step Bash||{"n":"t3"} -> output done t3 1s
last built
left 1 prompt that was taken back
left 2 step that was taken back
`,
		},
		{
			name: "parallel calls, whose results follow their own calls",
			lines: []string{
				ask,
				claude("assistant", "a1", "u1", "02", call("t1")),
				claude("assistant", "a2", "a1", "02", call("t2")),
				claude("user", "r2", "a2", "03", result("t2")),
				claude("user", "r1", "a1", "04", result("t1")),
				claude("assistant", "a3", "r1", "05", `[{"type":"text","text":"both"}]`),
			},
			want: `key s
task build it
  step Bash||{"n":"t1"} -> output done t1 2s
  step Bash||{"n":"t2"} -> output done t2 1s
last both
`,
		},
		{
			name: "side chains in the file of the session",
			lines: []string{
				ask,
				claude("assistant", "a1", "u1", "02", call("t1")),
				claude("user", "c1", "null", "03", `"look"`, `"isSidechain":true`),
				claude("user", "d1", "null", "03", `"listen"`, `"isSidechain":true`),
				claude("assistant", "c2", "c1", "04", call("t2"), `"isSidechain":true`),
				claude("assistant", "d2", "d1", "04", `[{"type":"text","text":"heard"}]`, `"isSidechain":true`),
				claude("user", "c3", "c2", "05", result("t2"), `"isSidechain":true`),
				claude("user", "r1", "a1", "06", result("t1")),
			},
			want: `key s
task build it
  step Bash||{"n":"t1"} -> output done t1 4s
key s/c1 of s
task look
  step Bash||{"n":"t2"} -> output done t2 1s
key s/d1 of s
task listen
last heard
`,
		},
		{
			name: "commands, notes, and what people ran",
			lines: []string{
				claude("user", "u1", "null", "01", `"<command-name>/model</command-name><command-args>opus now</command-args>"`),
				claude("user", "u2", "u1", "01", `"<local-command-stdout>set</local-command-stdout>"`),
				claude("user", "u3", "u2", "01", `"<command-message>fix</command-message>\n<command-name>/fix</command-name>\n<command-args>the <b> tag in a.html</command-args>"`),
				claude("user", "u4", "u3", "01", `"a long template"`, `"isMeta":true`),
				claude("user", "u5", "u4", "02", `"<bash-input>ls</bash-input>"`),
				claude("user", "u6", "u5", "02", `"Caveat: made by hand"`),
				claude("assistant", "a1", "u6", "03", call("t1")),
				claude("user", "u7", "a1", "04", `"<command-name>/review</command-name><command-args>12</command-args>"`),
			},
			want: `key s
task the <b> tag in a.html
  step Bash||{"n":"t1"}
last /review 12
left 2 note of the agent program
left 1 output of people's commands
left 1 shell command of people
`,
		},
		{
			name: "prompts that were queued",
			lines: []string{
				`{"type":"queue-operation","operation":"enqueue","timestamp":"2026-01-01T00:00:01Z","sessionId":"s","content":"build it"}`,
				ask,
				claude("assistant", "a1", "u1", "02", call("t1")),
				`{"type":"queue-operation","operation":"enqueue","timestamp":"2026-01-01T00:00:03Z","sessionId":"s","content":"and test"}`,
				`{"type":"attachment","uuid":"q1","sessionId":"s","timestamp":"2026-01-01T00:00:03.5Z","attachment":{"type":"queued_command","prompt":"and test"}}`,
				claude("assistant", "a2", "u1", "04", call("t2")),
				`{"type":"queue-operation","operation":"enqueue","timestamp":"2026-01-01T00:00:05Z","sessionId":"s","content":"never mind"}`,
				`{"type":"queue-operation","operation":"enqueue","timestamp":"2026-01-01T00:00:05Z","sessionId":"s","content":"/compact"}`,
			},
			want: `key s
task build it
  step Bash||{"n":"t1"}
  prompt and test
  step Bash||{"n":"t2"}
last never mind
`,
		},
		{
			name: "an agent in the background",
			lines: []string{
				ask,
				claude("assistant", "a1", "u1", "02", call("t1")),
				claude("user", "r1", "a1", "03", `[{"type":"tool_result","tool_use_id":"t1","content":"launched"}]`, `"toolUseResult":{"isAsync":true,"status":"async_launched","agentId":"x9"}`),
				claude("user", "n1", "r1", "12", `"<task-notification><task-id>x9</task-id><status>completed</status><summary>done</summary><result>two bugs</result></task-notification>"`),
				claude("user", "n2", "n1", "13", `"<task-notification><task-id>other</task-id></task-notification>"`),
			},
			want: `key s
task build it
  step Bash||{"n":"t1"} -> output two bugs 10s
left 1 notice of a background task
`,
		},
		{
			name:  "the web export",
			file:  "export.json",
			lines: []string{`{"loglines":[` + ask + `,` + claude("assistant", "a1", "u1", "02", call("t1")) + `]}`},
			want:  "key s\ntask build it\n  step Bash||{\"n\":\"t1\"}\n",
		},
		{
			name: "a call that is not understood",
			lines: []string{
				ask,
				claude("assistant", "a1", "u1", "02", `[{"type":"tool_use","id":"t1","input":{}}]`),
				claude("assistant", "a2", "a1", "03", `[{"type":"text","text":"ok"}]`),
			},
			want:     "key s\ntask build it\nlast ok\n",
			problems: []string{"message.content[0].name: is missing, so this call cannot be kept"},
		},
		{
			name:  "a line that is being written",
			lines: []string{ask, claude("assistant", "a1", "u1", "02", call("t1")), `{"type":"user","uu`},
			want:  "key s\ntask build it\n  step Bash||{\"n\":\"t1\"}\nleft 1 unfinished line\n",
		},
		{
			name:    "split by prompts",
			options: Options{Split: ByPrompt},
			lines: []string{
				ask,
				claude("assistant", "a1", "u1", "02", call("t1")),
				claude("user", "r1", "a1", "03", result("t1")),
				claude("user", "u2", "r1", "05", `"ship it"`),
				claude("assistant", "a2", "u2", "06", call("t2")),
			},
			want: "key s\ntask build it\n  step Bash||{\"n\":\"t1\"} -> output done t1 1s\nkey s#2\ntask ship it\n  step Bash||{\"n\":\"t2\"}\n",
		},
		{
			name:  "only names",
			lines: []string{`{"type":"ai-title","aiTitle":"T","sessionId":"s"}`},
			want:  "key s\nleft 1 record without a task or a step\n",
		},
	})
}

// TestUnfinishedLine: only the last line of a file may be cut off, and only where programs
// write while people import.
func TestUnfinishedLine(t *testing.T) {
	t.Parallel()
	line := claude("user", "u1", "null", "01", `"q"`)
	for _, test := range []struct {
		text           string
		left, problems int
	}{
		{line + "\n" + `{"type":"us`, 1, 0},
		{line + "\n" + `{"type":"us` + "\n", 0, 1},
		{line + "\n" + `{"type":"us` + "\n" + line, 0, 1},
	} {
		left, problems := 0, 0
		for run, err := range Read(strings.NewReader(test.text), "s.jsonl", nil) {
			if err != nil {
				problems++
				continue
			}
			left += run.Left["unfinished line"]
		}
		if left != test.left || problems != test.problems {
			t.Errorf("%q: %d left, %d problems", test.text, left, problems)
		}
	}
	for run, err := range Read(strings.NewReader(""), "s.jsonl", &Options{Format: "claude-code"}) {
		t.Errorf("an empty session gives %+v, %v", run, err)
	}
}

// TestGrowingSession: a session that grew, or got another name, has another hash under the
// same key, and one that did not has the same.
func TestGrowingSession(t *testing.T) {
	t.Parallel()
	lines := []string{
		claude("user", "u1", "null", "01", `"q"`),
		claude("assistant", "a1", "u1", "02", `[{"type":"text","text":"a"}]`),
		`{"type":"ai-title","aiTitle":"T","sessionId":"s"}`,
		`{"type":"some-day","sessionId":"s"}`,
	}
	var hashes [][32]byte
	for n := 1; n <= len(lines); n++ {
		runs, _ := readLines(t, "s.jsonl", nil, lines[:n]...)
		if len(runs) != 1 || runs[0].Key != "s" {
			t.Fatalf("%+v", runs)
		}
		hashes = append(hashes, runs[0].Hash)
	}
	if hashes[0] == hashes[1] || hashes[1] == hashes[2] || hashes[2] != hashes[3] {
		t.Errorf("hashes %x", hashes)
	}
}

func TestCodex(t *testing.T) {
	t.Parallel()
	item := func(second, payload string) string {
		return `{"timestamp":"2026-01-01T00:00:` + second + `Z","type":"response_item","payload":` + payload + `}`
	}
	event := func(second, payload string) string {
		return `{"timestamp":"2026-01-01T00:00:` + second + `Z","type":"event_msg","payload":` + payload + `}`
	}
	user := func(text string) string {
		return `{"type":"message","role":"user","content":[{"type":"input_text","text":` + quoted(text) + `}]}`
	}
	runSessionTests(t, []sessionTest{
		{
			name: "what a sub-agent was given",
			lines: []string{
				`{"timestamp":"2026-01-01T00:00:00Z","ordinal":0,"type":"session_meta","payload":{"id":"child","cwd":"/w/app","source":{"subagent":{"thread_spawn":{"parent_thread_id":"top"}}},"subagent_history_start_ordinal":3}}`,
				`{"timestamp":"2026-01-01T00:00:00Z","ordinal":1,"type":"session_meta","payload":{"id":"top","cwd":"/w/other"}}`,
				`{"timestamp":"2026-01-01T00:00:00Z","ordinal":2,"type":"response_item","payload":` + user("the parent's task") + `}`,
				`{"timestamp":"2026-01-01T00:00:01Z","ordinal":3,"type":"response_item","payload":` + user("find it") + `}`,
				`{"timestamp":"2026-01-01T00:00:02Z","ordinal":4,"type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"found"}]}}`,
			},
			want: "key child of top\ntask find it\nlast found\n",
		},
		{
			name: "prompts by events, and failures however they are told",
			lines: []string{
				`{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"i"}}`,
				item("01", user("<environment_context>x</environment_context>")),
				item("01", user("fix it <image>")),
				event("01", `{"type":"user_message","message":"fix it","images":["data:"]}`),
				item("02", `{"type":"function_call","name":"shell","arguments":"{\"a\":1}","call_id":"c1"}`),
				item("03", `{"type":"function_call_output","call_id":"c1","output":"Exit code: 2\nWall time: 1 seconds\nOutput:\nno"}`),
				item("04", `{"type":"function_call","name":"shell","arguments":"not json","call_id":"c2"}`),
				item("05", `{"type":"function_call_output","call_id":"c2","output":"Output:\nExit code: 2"}`),
				item("06", `{"type":"custom_tool_call","name":"apply_patch","input":"p","call_id":"c3"}`),
				item("07", `{"type":"custom_tool_call_output","call_id":"c3","output":"ok"}`),
				event("08", `{"type":"patch_apply_end","call_id":"c3","success":false}`),
				item("08", `{"type":"function_call","name":"find","namespace":"mcp__db","arguments":"{}","call_id":"c4"}`),
				event("09", `{"type":"mcp_tool_call_end","call_id":"c4","result":{"Err":"gone"},"duration":{"secs":3,"nanos":0}}`),
				item("09", `{"type":"function_call_output","call_id":"c4","output":{"content":"gone","success":false}}`),
				item("10", user("and then?")),
				event("10", `{"type":"user_message","message":"and then?"}`),
				item("11", `{"type":"reasoning","summary":[{"text":"hm"}],"encrypted_content":"zz"}`),
				item("12", `{"type":"local_shell_call","call_id":"c5","action":{"type":"exec"}}`),
				event("13", `{"type":"turn_aborted","reason":"interrupted"}`),
			},
			want: `key i
task fix it
  step shell||{"a":1} -> error Exit code: 2
Wall time: 1 seconds
Output:
no 1s
  step shell||"not json" -> output Output:
Exit code: 2 1s
  step apply_patch||"p" -> error ok 1s
  step mcp__db__find||{} -> error gone 3s
  prompt and then?
  thought hm
  step local_shell||{"type":"exec"}
left 1 encrypted reasoning
left 1 image
left 1 note of the agent program
`,
		},
		{
			name: "prompts and ends in items",
			lines: []string{
				`{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"session_id":"i","history_mode":"paginated"}}`,
				item("01", user("<recommended_plugins>x</recommended_plugins>")),
				item("01", user("fix it")),
				event("01", `{"type":"item_completed","item":{"type":"UserMessage","id":"u","content":[{"type":"text","text":"fix it"}]}}`),
				item("02", `{"type":"function_call","name":"exec_command","arguments":"{}","call_id":"c1"}`),
				event("03", `{"type":"item_completed","item":{"type":"CommandExecution","id":"c1","status":"failed","exit_code":1}}`),
				item("04", `{"type":"function_call_output","call_id":"c1","output":"no"}`),
			},
			want: "key i\ntask fix it\n  step exec_command||{} -> error no 2s\nleft 1 note of the agent program\n",
		},
		{
			name: "what codex exec prints",
			lines: []string{
				`{"type":"thread.started","thread_id":"t"}`,
				`{"type":"turn.started"}`,
				`{"type":"item.completed","item":{"id":"0","type":"reasoning","text":"hm"}}`,
				`{"type":"item.started","item":{"id":"1","type":"command_execution","command":"ls","status":"in_progress"}}`,
				`{"type":"item.completed","item":{"id":"1","type":"command_execution","command":"ls","aggregated_output":"no","exit_code":2,"status":"failed"}}`,
				`{"type":"item.completed","item":{"id":"2","type":"mcp_tool_call","server":"db","tool":"find","arguments":{"q":1},"result":{"content":[{"type":"text","text":"one"}]},"status":"completed"}}`,
				`{"type":"item.started","item":{"id":"3","type":"web_search","query":"x"}}`,
				`{"type":"item.completed","item":{"id":"4","type":"agent_message","text":"listed"}}`,
			},
			want: `key t
task listed
  thought hm
  step command_execution||{"command":"ls"} -> error no
  step db__find||{"q":1} -> output one
  step web_search|listed|{"query":"x"}
last listed
`,
		},
		{
			name:  "an unfinished first line",
			file:  "rollout-2026-01-01T00-00-00-x.jsonl",
			lines: []string{`{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"i"}}`, `{"timesta`},
			want:  "key i\nleft 1 record without a task or a step\nleft 1 unfinished line\n",
		},
	})
}

func TestOtherSessions(t *testing.T) {
	t.Parallel()
	runSessionTests(t, []sessionTest{
		{
			name: "a saved chat of Gemini CLI",
			file: "checkpoint-before.json",
			lines: []string{`[{"role":"user","parts":[{"text":"This is the Gemini CLI. We are setting up"}]},`,
				`{"role":"user","parts":[{"text":"read a"},{"inlineData":{"mimeType":"image/png"}}]},`,
				`{"role":"model","parts":[{"text":"hm","thought":true},{"text":"I will"},{"functionCall":{"name":"read","args":{"p":"a"}}},{"functionCall":{"name":"read","args":{"p":"b"}}}]},`,
				`{"role":"user","parts":[{"functionResponse":{"name":"read","response":{"output":"A"}}},{"functionResponse":{"name":"read","response":{"error":"B"}}}]},`,
				`{"role":"model","parts":[{"text":"A it is"}]}]`},
			want: `key 
task read a
  thought hm
  step read|I will|{"p":"a"} -> output A
  step read||{"p":"b"} -> error B
last A it is
left 1 image
left 1 note of the agent program
`,
		},
		{
			name: "a sub-agent of Gemini CLI whose call is under way",
			file: "/h/.gemini/tmp/app/chats/top/session-x.jsonl",
			lines: []string{
				`{"sessionId":"sub","projectHash":"h","startTime":"2026-01-01T00:00:00Z","kind":"subagent","directories":["/w/app"]}`,
				`{"id":"1","type":"user","content":"look","timestamp":"2026-01-01T00:00:01Z"}`,
				`{"id":"2","type":"gemini","content":"","toolCalls":[{"id":"c","name":"ls","args":{},"status":"executing"}],"timestamp":"2026-01-01T00:00:02Z"}`,
			},
			want: "key sub of top\ntask look\n  step ls||{}\n",
		},
		{
			name: "commands of Gemini CLI, which failed although their status says success",
			lines: []string{
				`{"sessionId":"i","projectHash":"h"}`,
				`{"id":"1","type":"user","content":[{"text":"list"}]}`,
				`{"id":"2","type":"gemini","content":"","toolCalls":[{"id":"a","name":"run_shell_command","args":{},"status":"success","result":[{"functionResponse":{"id":"a","name":"run_shell_command","response":{"output":"Output: no\nExit Code: 3\nProcess Group PGID: 7"}}}]},{"id":"b","name":"run_shell_command","args":{},"status":"success"},{"id":"c","name":"run_shell_command","args":{},"status":"success","result":[{"functionResponse":{"response":{"output":"Output: Exit Code: 3\nno more"}}}]}]}`,
				`{"id":"3","type":"user","content":[{"functionResponse":{"id":"b","name":"run_shell_command","response":{"output":"<untrusted_context>\nOutput: (empty)\nExit Code: 127\n</untrusted_context>"}}}]}`,
			},
			want: "key i\ntask list\n" +
				"  step run_shell_command||{} -> error Output: no\nExit Code: 3\nProcess Group PGID: 7\n" +
				"  step run_shell_command||{} -> error <untrusted_context>\nOutput: (empty)\nExit Code: 127\n</untrusted_context>\n" +
				"  step run_shell_command||{} -> output Output: Exit Code: 3\nno more\n",
		},
		{
			name: "messages of Gemini CLI that are changed later",
			lines: []string{
				`{"sessionId":"i","projectHash":"h"}`,
				`{"id":"0","type":"user","content":[{"text":"<session_context>\nThis is the Gemini CLI.\n</session_context>"}]}`,
				`{"id":"1","type":"user","content":[{"text":"list"}]}`,
				`{"id":"2","type":"gemini","content":"","toolCalls":[{"id":"a","name":"ls","args":{},"status":"success","result":null},{"id":"b","name":"cat","args":{},"status":"success"}]}`,
				`{"id":"3","type":"user","content":[{"functionResponse":{"id":"b","name":"cat","response":{"output":"text"}}}]}`,
				`{"id":"4","type":"gemini","content":"no"}`,
				`{"id":"5","type":"gemini","content":"draft"}`,
				`{"$patch":{"updates":[{"id":"2","toolCalls":[{"id":"a","result":[{"functionResponse":{"response":{"output":"files"}}}]}]},{"id":"5","content":"done"}],"removeIds":["4"]}}`,
			},
			want: "key i\ntask list\n  step ls||{} -> output files\n  step cat||{} -> output text\nlast done\nleft 1 note of the agent program\n",
		},
		{
			name: "a sub-agent of Cursor",
			file: "/h/.cursor/projects/w-app/agent-transcripts/top/subagents/sub.jsonl",
			lines: []string{
				`{"role":"user","message":{"content":[{"type":"text","text":"<timestamp>Thursday, Feb 5, 2026, 9:00 AM (UTC+5:30)</timestamp>\n<user_query>look</user_query>"}]}}`,
				`{"role":"assistant","message":{"content":[{"type":"tool_use","name":"Shell","input":{}}]}}`,
			},
			want: "key sub of top\ntask look\n  step Shell||{}\n",
		},
		{
			name: "what opencode run prints",
			lines: []string{
				`{"type":"step_start","timestamp":1775000000000,"sessionID":"ses_1","part":{"type":"step-start"}}`,
				`{"type":"tool_use","timestamp":1775000001000,"sessionID":"ses_1","part":{"type":"tool","tool":"bash","state":{"status":"completed","input":{"c":1},"output":"no","metadata":{"exit":1},"time":{"start":1775000000000,"end":1775000001000}}}}`,
				`{"type":"text","timestamp":1775000002000,"sessionID":"ses_1","part":{"type":"text","text":"tried"}}`,
				`{"type":"step_finish","timestamp":1775000002000,"sessionID":"ses_1","part":{"type":"step-finish","tokens":{"input":1,"output":2}}}`,
			},
			want: "key ses_1\ntask tried\n  step bash||{\"c\":1} -> error no 1s\nlast tried\n",
		},
	})
}

func TestCursorTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<timestamp>Thursday, Feb 5, 2026, 9:00 AM (UTC+1)</timestamp>":      "2026-02-05T08:00:00Z",
		"<timestamp>Thursday, Feb 5, 2026, 12:30 AM (UTC-3:30)</timestamp>x": "2026-02-05T04:00:00Z",
		"<timestamp>Feb 5, 2026, 9:00 PM (UTC)</timestamp>":                  "2026-02-05T21:00:00Z",
		"<timestamp>yesterday</timestamp>":                                   "0001-01-01T00:00:00Z",
	} {
		if got := cursorTime(text).Format(time.RFC3339); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

// TestSessionSamples: which runs the sample sessions are, and what is left out of them.
func TestSessionSamples(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string][]string{
		"claude_code": {
			"key 5a1c0000-0000-4000-8000-000000000001, 1 error of the API, 1 image, 1 note of the agent program, 1 summary of a compaction",
			"key 5a1c0000-0000-4000-8000-000000000001/ab12cd of 5a1c0000-0000-4000-8000-000000000001",
			"key 77770000-0000-4000-8000-000000000002, 1 record without a task or a step",
		},
		"codex": {
			"key 019c0000-0000-7000-8000-000000000001, 1 encrypted reasoning, 2 note of the agent program, 2 system prompt",
			"key 0b000000-0000-4000-8000-000000000001",
		},
		"cursor": {"key c0000000-0000-4000-8000-000000000001"},
		"gemini_cli": {
			"key 9e000000-0000-4000-8000-000000000001, 1 notice of the agent program",
			"key 9e000000-0000-4000-8000-000000000002, 1 message that was taken back, 1 notice of the agent program",
		},
		"opencode": {"key ses_1, 1 note of the agent program"},
	} {
		path := filepath.Join(samples, dir)
		if _, err := os.Stat(path); err != nil {
			t.Skip("no sample files; they lie in ../shared/data/transcripts, seen from the project")
		}
		runs, _ := readSample(t, path, nil)
		var got []string
		for _, r := range runs {
			head, _, _ := strings.Cut(outline(r), "\n")
			for _, what := range slices.Sorted(maps.Keys(r.Left)) {
				head += fmt.Sprintf(", %d %s", r.Left[what], what)
			}
			got = append(got, head)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", dir, got)
		}
	}
}
