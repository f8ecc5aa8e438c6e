package transcript

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// followed are lines of sessions that grow, in each format that does.
var followed = map[string][]string{
	"claude-code": {
		claude("user", "u1", "null", "01", `"build it"`),
		`{"type":"queue-operation","operation":"enqueue","sessionId":"s","timestamp":"2026-01-01T00:00:02Z","content":"and test it"}`,
		claude("assistant", "a1", "u1", "03", `[{"type":"thinking","thinking":"first"}]`),
		claude("assistant", "a2", "a1", "04", fmt.Sprintf(callOf, "c1")),
		claude("assistant", "a3", "a2", "04", fmt.Sprintf(callOf, "c2")),
		claude("user", "r2", "a3", "05", fmt.Sprintf(sessionResult, "c2")),
		claude("user", "r1", "a3", "06", fmt.Sprintf(sessionResult, "c1"), `"toolUseResult":{"agentId":"x"}`),
		claude("user", "s1", "null", "06", `"look around"`, `"isSidechain":true`),
		claude("assistant", "s2", "s1", "07", fmt.Sprintf(callOf, "s"), `"isSidechain":true`),
		claude("user", "n1", "r1", "08", `"<task-notification><task-id>x</task-id><result>found</result></task-notification>"`),
		claude("assistant", "a4", "n1", "09", `[{"type":"text","text":"it is built"}]`),
		claude("user", "u2", "a4", "10", `"once more"`),
		claude("assistant", "a5", "u2", "11", fmt.Sprintf(callOf, "c3")),
		claude("user", "u3", "a4", "12", `"otherwise"`),
		`{"type":"ai-title","aiTitle":"Building","sessionId":"s"}`,
		claude("assistant", "a6", "u3", "13", `[{"type":"text","text":"done"}]`),
	},
	"codex": {
		`{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"s","cwd":"/w/app"}}`,
		`{"timestamp":"2026-01-01T00:00:01Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"build it"}]}}`,
		`{"timestamp":"2026-01-01T00:00:02Z","type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{}","call_id":"c1"}}`,
		`{"timestamp":"2026-01-01T00:00:03Z","type":"response_item","payload":{"type":"function_call_output","call_id":"c1","output":"made"}}`,
		`{"timestamp":"2026-01-01T00:00:03Z","type":"event_msg","payload":{"type":"exec_command_end","call_id":"c1","exit_code":1,"duration":"2s"}}`,
		`{"timestamp":"2026-01-01T00:00:04Z","type":"event_msg","payload":{"type":"agent_message","message":"it failed"}}`,
	},
	"gemini": {
		`{"sessionId":"s","projectHash":"h","startTime":"2026-01-01T00:00:00Z"}`,
		`{"id":"1","timestamp":"2026-01-01T00:00:01Z","type":"user","content":"build it"}`,
		`{"id":"2","timestamp":"2026-01-01T00:00:02Z","type":"gemini","content":"I do","toolCalls":[{"id":"c","name":"sh","args":{}}]}`,
		`{"$patch":{"updates":[{"id":"2","toolCalls":[{"id":"c","status":"success","result":"made"}]}]}}`,
		`{"id":"3","timestamp":"2026-01-01T00:00:03Z","type":"user","content":"other"}`,
		`{"$rewindTo":"3"}`,
		`{"$set":{"summary":"Building"}}`,
	},
	"cursor": {
		`{"role":"user","message":{"content":[{"type":"text","text":"<user_query>build it</user_query>"}]}}`,
		`{"role":"assistant","message":{"content":[{"type":"text","text":"I do"},{"type":"tool_use","name":"Shell","input":{"command":"make"}}]}}`,
		`{"role":"assistant","message":{"content":[{"type":"text","text":"done"}]}}`,
	},
}

// TestSession: however the lines of a file come, a Session has the runs that Read makes of
// them, and to have looked at them before makes no difference.
func TestSession(t *testing.T) {
	t.Parallel()
	for name, lines := range followed {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			s := NewSession("s.jsonl", &Options{Format: name})
			text := ""
			for i, l := range lines {
				text += l + "\n"
				// Parts of lines come too.
				part := rapid.IntRange(0, len(l)).Draw(t, "part")
				upto := len(text) - len(l) - 1 + part
				for _, end := range []int{upto, len(text)} {
					if problems, err := s.Read(strings.NewReader(text[s.Offset():end])); len(problems) > 0 || err != nil {
						t.Fatal(problems, err)
					}
					if end == len(text) && int(s.Offset()) != end {
						t.Fatalf("read to %d of %d", s.Offset(), end)
					}
				}
				if i < len(lines)-1 && rapid.Bool().Draw(t, "not now") {
					continue
				}
				runs, problems := s.Runs()
				if len(problems) > 0 {
					t.Fatal(problems)
				}
				var got, want strings.Builder
				for _, r := range runs {
					fmt.Fprintf(&got, "%s%x\n", outline(r), r.Hash)
				}
				for r, err := range Read(strings.NewReader(text), "s.jsonl", &Options{Format: name}) {
					if err != nil {
						t.Fatal(err)
					}
					delete(r.Left, "reasoning") // it is yet to come to something
					fmt.Fprintf(&want, "%s%x\n", outline(r), r.Hash)
				}
				if got.String() != want.String() {
					t.Fatalf("after line %d\n%s\nwant\n%s", i+1, got.String(), want.String())
				}
			}
		}))
	}
}

func TestSessionOfOthers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		`{"messages":[{"role":"user","content":"x"}]}` + "\n": ErrNotFollowed,
		`{"a":1}` + "\n": ErrUnknown,
		"not JSON\n":     ErrUnknown,
		"":               nil,
		"\n\n":           nil,
	} {
		s := NewSession("x.jsonl", &Options{})
		if _, err := s.Read(strings.NewReader(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
		if runs, problems := s.Runs(); len(runs)+len(problems) > 0 {
			t.Errorf("%q: %v, %v", text, runs, problems)
		}
	}
}

// FuzzSession: a Session never panics, and passes over what it cannot read.
func FuzzSession(f *testing.F) {
	for name, lines := range followed {
		f.Add(name, strings.Join(lines, "\n")+"\n", 100)
	}
	f.Fuzz(func(t *testing.T, name, text string, at int) {
		s := NewSession("s.jsonl", &Options{Format: name})
		at = min(max(at, 0), len(text))
		for _, part := range []string{text[:at], text} {
			if _, err := s.Read(strings.NewReader(part[s.Offset():])); err != nil {
				return
			}
			s.Runs()
		}
	})
}
