package clients

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// The payloads have the form that the clients give them.
var payloads = []struct {
	name    string // on the command line
	payload string
	want    Event // without Key, Name, Model
	key     string
}{
	{"SessionStart", `{"session_id":"s1","transcript_path":"/h/.claude/projects/p/s1.jsonl","cwd":"/w","hook_event_name":"SessionStart","source":"startup","model":"m"}`,
		Event{Client: ClaudeCode, Kind: Start, Session: "s1", Transcript: "/h/.claude/projects/p/s1.jsonl", Folder: "/w", Source: "startup"}, ""},
	{"UserPromptSubmit", `{"session_id":"s1","transcript_path":"/t.jsonl","cwd":"/w","prompt_id":"p1","permission_mode":"default","hook_event_name":"UserPromptSubmit","prompt":"mend the bug"}`,
		Event{Client: ClaudeCode, Kind: Prompt, Session: "s1", Transcript: "/t.jsonl", Folder: "/w", Text: "mend the bug"}, "prompt p1"},
	{"PostToolUse", `{"session_id":"s1","transcript_path":"/t.jsonl","cwd":"/w","hook_event_name":"PostToolUse","tool_name":"Bash","tool_input":{"command":"ls"},"tool_response":{"stdout":"a","stderr":"b","interrupted":false},"tool_use_id":"toolu_1","duration_ms":12}`,
		Event{Client: ClaudeCode, Kind: Tool, Session: "s1", Transcript: "/t.jsonl", Folder: "/w", Tool: "Bash", Input: `{"command":"ls"}`, Result: "a\nb", Took: 12 * time.Millisecond}, "call toolu_1"},
	{"PostToolUseFailure", `{"session_id":"s1","cwd":"/w","agent_id":"a1","hook_event_name":"PostToolUseFailure","tool_name":"Bash","tool_input":{"command":"x"},"tool_use_id":"toolu_2","error":"Exit code 3","is_interrupt":false,"duration_ms":1.5}`,
		Event{Client: ClaudeCode, Kind: Tool, Session: "s1", Agent: "a1", Folder: "/w", Tool: "Bash", Input: `{"command":"x"}`, Result: "Exit code 3", Failed: true, Took: 1500 * time.Microsecond}, "call toolu_2"},
	{"Stop", `{"session_id":"s1","cwd":"/w","hook_event_name":"Stop","stop_hook_active":false,"last_assistant_message":"done"}`,
		Event{Client: ClaudeCode, Kind: Reply, Session: "s1", Folder: "/w", Text: "done"}, ""},
	{"SubagentStop", `{"session_id":"s1","cwd":"/w","hook_event_name":"SubagentStop","agent_id":"a1","transcript_path":"/t.jsonl","agent_transcript_path":"/a.jsonl","last_assistant_message":"found"}`,
		Event{Client: ClaudeCode, Kind: AgentEnd, Session: "s1", Agent: "a1", Folder: "/w", Transcript: "/a.jsonl", Text: "found"}, ""},
	{"PreCompact", `{"session_id":"s1","cwd":"/w","hook_event_name":"PreCompact","trigger":"auto"}`, Event{Client: ClaudeCode, Kind: Compact, Session: "s1", Folder: "/w"}, ""},
	{"SessionEnd", `{"session_id":"s1","cwd":"/w","hook_event_name":"SessionEnd","reason":"other"}`, Event{Client: ClaudeCode, Kind: End, Session: "s1", Folder: "/w"}, ""},
	{"PreToolUse", `{"session_id":"s1","cwd":"/w","hook_event_name":"PreToolUse","tool_name":"Bash"}`, Event{Client: ClaudeCode, Session: "s1", Folder: "/w"}, ""},

	{"SessionStart", `{"session_id":"c1","transcript_path":"/h/.codex/sessions/2026/11/28/rollout-x.jsonl","cwd":"/w","hook_event_name":"SessionStart","model":"m","source":"resume"}`,
		Event{Client: Codex, Kind: Start, Session: "c1", Transcript: "/h/.codex/sessions/2026/11/28/rollout-x.jsonl", Folder: "/w", Source: "resume"}, ""},
	{"PostToolUse", `{"session_id":"c1","turn_id":"t1","cwd":"/w","hook_event_name":"PostToolUse","tool_name":"shell","tool_input":{"command":["ls"]},"tool_response":"a\n","tool_use_id":"call_1"}`,
		Event{Client: Codex, Kind: Tool, Session: "c1", Folder: "/w", Tool: "shell", Input: `{"command":["ls"]}`, Result: "a\n"}, "call call_1"},

	{"BeforeAgent", `{"session_id":"g1","transcript_path":"/g.jsonl","cwd":"/w","hook_event_name":"BeforeAgent","timestamp":"2026-11-28T07:00:00Z","prompt":"do it"}`,
		Event{Client: Gemini, Kind: Prompt, Session: "g1", Transcript: "/g.jsonl", Folder: "/w", Text: "do it"}, ""},
	{"AfterTool", `{"session_id":"g1","cwd":"/w","hook_event_name":"AfterTool","timestamp":"2026-11-28T07:00:00Z","tool_name":"run_shell_command","tool_input":{"command":"ls"},"tool_response":{"llmContent":[{"text":"a"},{"text":"b"}],"returnDisplay":"a","error":null}}`,
		Event{Client: Gemini, Kind: Tool, Session: "g1", Folder: "/w", Tool: "run_shell_command", Input: `{"command":"ls"}`, Result: "a\nb"}, ""},
	{"AfterTool", `{"session_id":"g1","cwd":"/w","hook_event_name":"AfterTool","timestamp":"2026-11-28T07:00:00Z","tool_name":"x","tool_input":{},"tool_response":{"llmContent":"no","error":{"message":"no"}}}`,
		Event{Client: Gemini, Kind: Tool, Session: "g1", Folder: "/w", Tool: "x", Input: `{}`, Result: "no", Failed: true}, ""},
	{"AfterTool", `{"session_id":"g1","cwd":"/w","hook_event_name":"AfterTool","timestamp":"2026-11-28T07:00:00Z","tool_name":"run_shell_command","tool_input":{"command":"x"},"tool_response":{"llmContent":"<untrusted_context>\nOutput: no x\nExit Code: 3\nProcess Group PGID: 22861\n</untrusted_context>","returnDisplay":"no x"}}`,
		Event{Client: Gemini, Kind: Tool, Session: "g1", Folder: "/w", Tool: "run_shell_command", Input: `{"command":"x"}`, Result: "<untrusted_context>\nOutput: no x\nExit Code: 3\nProcess Group PGID: 22861\n</untrusted_context>", Failed: true}, ""},
	{"AfterTool", `{"session_id":"g1","cwd":"/w","hook_event_name":"AfterTool","timestamp":"2026-11-28T07:00:00Z","tool_name":"run_shell_command","tool_input":{"command":"x"},"tool_response":{"llmContent":"Output: a\nExit Code: 3\nb\nProcess Group PGID: 2"}}`,
		Event{Client: Gemini, Kind: Tool, Session: "g1", Folder: "/w", Tool: "run_shell_command", Input: `{"command":"x"}`, Result: "Output: a\nExit Code: 3\nb\nProcess Group PGID: 2"}, ""},
	{"AfterAgent", `{"session_id":"g1","cwd":"/w","hook_event_name":"AfterAgent","timestamp":"2026-11-28T07:00:00Z","prompt":"do it","prompt_response":"did"}`,
		Event{Client: Gemini, Kind: Reply, Session: "g1", Folder: "/w", Text: "did"}, ""},

	{"sessionStart", `{"conversation_id":"u1","generation_id":"n1","hook_event_name":"sessionStart","workspace_roots":["/w"],"session_id":"u1"}`,
		Event{Client: Cursor, Kind: Start, Session: "u1", Folder: "/w"}, ""},
	{"beforeSubmitPrompt", `{"conversation_id":"u1","generation_id":"n1","hook_event_name":"beforeSubmitPrompt","workspace_roots":["/w"],"prompt":"do it","attachments":[]}`,
		Event{Client: Cursor, Kind: Prompt, Session: "u1", Folder: "/w", Text: "do it"}, "prompt n1"},
	{"postToolUse", `{"conversation_id":"u1","hook_event_name":"postToolUse","workspace_roots":["/w"],"tool_name":"Shell","tool_input":{"command":"ls"},"tool_output":"{\"exitCode\":0,\"stdout\":\"a\"}","tool_use_id":"k1","duration":7}`,
		Event{Client: Cursor, Kind: Tool, Session: "u1", Folder: "/w", Tool: "Shell", Input: `{"command":"ls"}`, Result: `{"exitCode":0,"stdout":"a"}`, Took: 7 * time.Millisecond}, "call k1"},
	{"postToolUseFailure", `{"conversation_id":"u1","hook_event_name":"postToolUseFailure","workspace_roots":["/w"],"tool_name":"Shell","tool_input":{"command":"ls"},"error_message":"timed out","failure_type":"timeout","tool_use_id":"k2"}`,
		Event{Client: Cursor, Kind: Tool, Session: "u1", Folder: "/w", Tool: "Shell", Input: `{"command":"ls"}`, Result: "timed out", Failed: true}, "call k2"},
	{"afterAgentResponse", `{"conversation_id":"u1","hook_event_name":"afterAgentResponse","workspace_roots":["/w"],"text":"did"}`, Event{Client: Cursor, Kind: Reply, Session: "u1", Folder: "/w", Text: "did"}, ""},

	{"PostToolUse", `{"timestamp":"2026-11-28T07:00:00Z","sessionId":"v1","hookEventName":"PostToolUse","cwd":"/w","transcript_path":"/v.json","tool_name":"editFiles","tool_input":{"files":["a"]},"tool_use_id":"x1","tool_response":"ok"}`,
		Event{Client: VSCode, Kind: Tool, Session: "v1", Folder: "/w", Transcript: "/v.json", Tool: "editFiles", Input: `{"files":["a"]}`, Result: "ok"}, "call x1"},

	{"postToolUse", `{"timestamp":1764313200000,"cwd":"/w","toolName":"bash","toolArgs":"{\"command\":\"ls\"}","toolResult":{"resultType":"failure","textResultForLlm":"no such file"}}`,
		Event{Client: Copilot, Kind: Tool, Session: "in /w", Folder: "/w", Tool: "bash", Input: `{"command":"ls"}`, Result: "no such file", Failed: true}, ""},

	{"post_run_command", `{"agent_action_name":"post_run_command","trajectory_id":"w1","execution_id":"e1","timestamp":"t","tool_info":{"command_line":"ls","cwd":"/w"}}`,
		Event{Client: Windsurf, Kind: Tool, Session: "w1", Folder: "/w", Tool: "run_command", Input: `{"command_line":"ls","cwd":"/w"}`}, ""},
	{"post_mcp_tool_use", `{"agent_action_name":"post_mcp_tool_use","trajectory_id":"w1","execution_id":"e1","tool_info":{"mcp_server_name":"s","mcp_tool_name":"t","mcp_tool_arguments":{"a":1},"mcp_result":"r"}}`,
		Event{Client: Windsurf, Kind: Tool, Session: "w1", Tool: "t", Input: `{"a":1}`, Result: "r"}, ""},
	{"pre_user_prompt", `{"agent_action_name":"pre_user_prompt","trajectory_id":"w1","tool_info":{"user_prompt":"do it"}}`, Event{Client: Windsurf, Kind: Prompt, Session: "w1", Text: "do it"}, ""},

	{"TaskStart", `{"clineVersion":"3","hookName":"TaskStart","taskId":"l1","workspaceRoots":["/w"],"taskStart":{"taskMetadata":{"taskId":"l1","initialTask":"do it"}}}`,
		Event{Client: Cline, Kind: Start, Session: "l1", Folder: "/w", Text: "do it"}, ""},
	{"PostToolUse", `{"clineVersion":"3","hookName":"PostToolUse","taskId":"l1","workspaceRoots":["/w"],"postToolUse":{"toolName":"execute_command","parameters":{"command":"ls"},"result":"no","success":false,"executionTimeMs":3}}`,
		Event{Client: Cline, Kind: Tool, Session: "l1", Folder: "/w", Tool: "execute_command", Input: `{"command":"ls"}`, Result: "no", Failed: true, Took: 3 * time.Millisecond}, ""},

	{"", `{"client":"opencode","event":"tool.execute.after","sessionID":"o1","directory":"/w","callID":"q1","tool":"bash","args":{"command":"ls"},"output":"a"}`,
		Event{Client: OpenCode, Kind: Tool, Session: "o1", Folder: "/w", Tool: "bash", Input: `{"command":"ls"}`, Result: "a"}, "call q1"},
	{"", `{"client":"opencode","event":"tool.execute.after","sessionID":"o1","directory":"/w","callID":"q2","tool":"bash","args":{"command":"x"},"output":{"output":"no x\n","metadata":{"output":"no x\n","exit":3,"truncated":false}}}`,
		Event{Client: OpenCode, Kind: Tool, Session: "o1", Folder: "/w", Tool: "bash", Input: `{"command":"x"}`, Result: "no x\n", Failed: true}, "call q2"},
	{"", `{"client":"opencode","event":"tool.execute.after","sessionID":"o1","directory":"/w","callID":"q3","tool":"bash","args":{"command":"x"},"output":{"output":"x","metadata":{"exit":0}}}`,
		Event{Client: OpenCode, Kind: Tool, Session: "o1", Folder: "/w", Tool: "bash", Input: `{"command":"x"}`, Result: "x"}, "call q3"},
	{"", `{"client":"opencode","event":"tool.execute.after","sessionID":"o1","directory":"/w","callID":"q4","tool":"read","args":{"filePath":"/x"},"error":"File not found: /x"}`,
		Event{Client: OpenCode, Kind: Tool, Session: "o1", Folder: "/w", Tool: "read", Input: `{"filePath":"/x"}`, Result: "File not found: /x", Failed: true}, "call q4"},
	{"", `{"client":"opencode","event":"chat.message","sessionID":"o1","directory":"/w","messageID":"m1","text":"do it"}`,
		Event{Client: OpenCode, Kind: Prompt, Session: "o1", Folder: "/w", Text: "do it"}, "prompt m1"},
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, tt := range payloads {
		got, err := Decode(tt.name, "", []byte(tt.payload))
		if err != nil {
			t.Errorf("%s: %v", tt.payload, err)
			continue
		}
		if again, _ := Decode(tt.name, got.Client, []byte(tt.payload)); again != got {
			t.Errorf("%s: with its client named it is %+v", tt.payload, again)
		}
		if got.Key == "" || tt.key != "" && got.Key != tt.key {
			t.Errorf("%s: key %q, want %q", tt.payload, got.Key, tt.key)
		}
		got.Key, got.Name, got.Model = "", "", ""
		if got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.payload, got, tt.want)
		}
	}
	for _, bad := range []string{"", "null", "[]", "1", `"x"`, "{", "{}", `{"a":1}`, `{"session_id":""}`, `{"client":"else","session_id":"x"}`, `{"hook_event_name":"Stop","session_id":7}`} {
		if e, err := Decode("Stop", "", []byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, e)
		}
	}
}

// Clients that load Claude Code's hooks are told by what they say, whatever those name.
func TestClaudeCodesHooksElsewhere(t *testing.T) {
	t.Parallel()
	for _, tt := range payloads {
		if c := tt.want.Client; c == VSCode || c == Cursor || c == Gemini {
			if e, err := Decode(tt.name, ClaudeCode, []byte(tt.payload)); err != nil || e.Client != c {
				t.Errorf("%s: it is of %q, %v", tt.payload, e.Client, err)
			}
		}
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		e    Event
		want string
	}{
		{Event{Client: ClaudeCode, Kind: Start, Name: "SessionStart"}, `{"hookSpecificOutput":{"additionalContext":"x\"\u003c","hookEventName":"SessionStart"}}`},
		{Event{Client: Gemini, Kind: Prompt, Name: "BeforeAgent"}, `{"hookSpecificOutput":{"additionalContext":"x\"\u003c","hookEventName":"BeforeAgent"}}`},
		{Event{Client: Cursor, Kind: Start}, `{"additional_context":"x\"\u003c"}`},
		{Event{Client: Cursor, Kind: Prompt}, ``},
		{Event{Client: Cline, Kind: Prompt}, `{"cancel":false,"contextModification":"x\"\u003c"}`},
		{Event{Client: Windsurf, Kind: Prompt}, ``},
		{Event{Client: Copilot, Kind: Start}, ``},
		{Event{Client: ClaudeCode, Kind: End}, ``},
	} {
		if got := strings.TrimSpace(string(tt.e.Answer(`x"<`))); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.e, got, tt.want)
		}
		if got := tt.e.Answer(""); got != nil {
			t.Errorf("%+v: nothing to say is %q", tt.e, got)
		}
	}
}

// Whatever comes is an event that can be stored, or an error.
func FuzzDecode(f *testing.F) {
	for _, tt := range payloads {
		f.Add(tt.name, "", []byte(tt.payload))
		f.Add(tt.name, string(Cline), []byte(tt.payload))
	}
	f.Add("Stop", "", []byte(`{"session_id":"\u0000\ud800","hook_event_name":"PostToolUse","tool_input":"{","tool_response":[{"text":1}],"duration_ms":1e308}`))
	f.Fuzz(func(t *testing.T, name, client string, payload []byte) {
		e, err := Decode(name, Client(client), payload)
		if err != nil {
			return
		}
		if e.Session == "" || e.Key == "" || e.Took < 0 || e.Kind == Tool && e.Tool == "" {
			t.Fatalf("%+v", e)
		}
		if e.Input != "" && !json.Valid([]byte(e.Input)) {
			t.Fatalf("input %q", e.Input)
		}
		for _, s := range []string{e.Session, e.Text, e.Tool, e.Result, e.Folder} {
			if strings.ContainsRune(s, 0) || strings.ToValidUTF8(s, "") != s {
				t.Fatalf("%q cannot be stored", s)
			}
		}
		if out := e.Answer("text"); out != nil && !json.Valid(out) {
			t.Fatalf("answer %q", out)
		}
	})
}
