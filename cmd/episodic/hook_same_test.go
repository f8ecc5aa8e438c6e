package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/testkit"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// said is a message of a run of tau-bench.
type said struct {
	Role      string
	Content   string
	ToolCalls []struct {
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

// played is a run of tau-bench, played as a session of Claude Code.
type played struct {
	session  string
	messages []said // without the system prompt
}

// calls reports the calls of a message, with the number of the message that answers each.
func (p *played) calls(i int, f func(id, tool, input, result string)) {
	for n, call := range p.messages[i].ToolCalls {
		f(fmt.Sprint("c", i, "-", n), call.Function.Name, call.Function.Arguments, p.messages[i+1+n].Content)
	}
}

// transcript is what Claude Code writes down of its first messages.
func (p *played) transcript(folder string, messages int) []byte {
	var b bytes.Buffer
	at, n := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC), 0
	line := func(role string, content any) {
		at, n = at.Add(time.Second), n+1
		text, err := json.Marshal(map[string]any{
			"type": role, "uuid": fmt.Sprint("u", n), "parentUuid": nil, "sessionId": p.session, "cwd": folder, "timestamp": at.Format(time.RFC3339),
			"message": map[string]any{"role": role, "content": content},
		})
		if err != nil {
			panic(err)
		}
		b.Write(append(text, '\n'))
	}
	for i, m := range p.messages[:messages] {
		switch m.Role {
		case "user":
			line("user", m.Content)
		case "assistant":
			content := []map[string]any{}
			if m.Content != "" {
				content = append(content, map[string]any{"type": "text", "text": m.Content})
			}
			p.calls(i, func(id, tool, input, _ string) {
				content = append(content, map[string]any{"type": "tool_use", "id": id, "name": tool, "input": json.RawMessage(input)})
			})
			line("assistant", content)
			p.calls(i, func(id, _, _, result string) {
				line("user", []map[string]any{{"type": "tool_result", "tool_use_id": id, "content": result}})
			})
		}
	}
	return b.Bytes()
}

// hooks runs what Claude Code's hooks say of it. before is called before what they say of a
// message; it may be nil.
func (p *played) hooks(c *cli, folder string, more map[string]any, before func(message int)) {
	event := func(name string, fields map[string]any) {
		for key, value := range more {
			fields[key] = value
		}
		c.event(p.session, folder, name, fields)
	}
	event("SessionStart", map[string]any{"source": "startup"})
	for i, m := range p.messages {
		if before != nil {
			before(i)
		}
		switch {
		case m.Role == "user":
			event("UserPromptSubmit", map[string]any{"prompt": m.Content, "prompt_id": fmt.Sprint("p", i)})
		case len(m.ToolCalls) > 0:
			p.calls(i, func(id, tool, input, result string) {
				event("PostToolUse", map[string]any{"tool_name": tool, "tool_input": json.RawMessage(input), "tool_response": result, "tool_use_id": id})
			})
		case m.Role == "assistant":
			event("Stop", map[string]any{"last_assistant_message": m.Content})
		}
	}
	event("SessionEnd", map[string]any{"reason": "other"})
}

// tools calls the tools by which a model tells it.
func (p *played) tools(c *cli, folder string) {
	t := c.t
	t.Helper()
	client := startMCP(t, "EPISODIC_DB="+c.env["EPISODIC_DB"], "EPISODIC_PROJECT=", "CLAUDE_CODE_SESSION_ID="+p.session, "CLAUDE_PROJECT_DIR="+folder,
		"XDG_STATE_HOME="+filepath.Join(c.home, "state"), "XDG_CONFIG_HOME="+filepath.Join(c.home, "config"))
	client.tool("start", map[string]any{"task": p.messages[0].Content})
	last := ""
	for i, m := range p.messages[1:] {
		switch {
		case len(m.ToolCalls) > 0:
			p.calls(i+1, func(_, tool, input, result string) {
				client.tool("log", map[string]any{"steps": []any{map[string]any{"tool": tool, "input": json.RawMessage(input), "result": result}}})
			})
		case m.Role == "assistant":
			if last = m.Content; i+1 < len(p.messages)-1 {
				client.tool("log", map[string]any{"steps": []any{map[string]any{"tool": m.Content}}})
			}
		}
	}
	client.tool("complete", map[string]any{"outcome": "success", "summary": last})
	client.in.Close()
	client.ends()
}

// core is what all ways of recording a run know of it: the task, the calls with their results,
// what the model said between them, and what it said last.
func core(e *episodic.Episode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "task %q\nlast %q\n", strings.TrimSpace(e.Description), e.Outcome.Verdict+e.Outcome.Reason)
	for _, st := range e.Steps {
		switch {
		case st.Tool == "":
			fmt.Fprintf(&b, "said %q\n", st.Action)
		default: // what was said with the call no hook tells
			var input bytes.Buffer
			if json.Compact(&input, []byte(st.Parameters)) != nil {
				input.WriteString(string(st.Parameters))
			}
			fmt.Fprintf(&b, "called %s %s", st.Tool, input.String())
			if st.Result != nil && st.Result.Text != "" { // log does not tell an empty one from none
				fmt.Fprintf(&b, " -> %s %q", st.Result.Kind, st.Result.Text)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// A run that is told by hooks, by a model that calls tools, by a session file that capture follows
// or import reads, and by several of them at once, is the same episode.
func TestSameEpisode(t *testing.T) {
	f, err := os.Open(sharedData(t, "tau-bench-airline.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	every := testkit.Effort(100, 100, 20)
	for n := 0; lines.Scan(); n++ {
		if n%every != 5%every {
			continue
		}
		var source struct{ Traj []said }
		if err := json.Unmarshal(lines.Bytes(), &source); err != nil {
			t.Fatal(err)
		}
		p := &played{session: fmt.Sprintf("5a1c0000-0000-4000-8000-%012d", n), messages: source.Traj[1:]}
		id := transcript.DeriveID(episodic.Scope{}, "claude-code", p.session)
		want := ""
		for _, way := range []string{"import", "capture", "hooks", "hooks with a transcript", "hooks while it is captured", "hooks and capture at once", "tools", "import of the run itself"} {
			t.Run(fmt.Sprint(n, " ", way), func(t *testing.T) {
				c := newCLI(t)
				c.env["CLAUDE_CONFIG_DIR"], c.env["HOME"] = filepath.Join(c.home, "claude"), c.home
				const folder = "/not/of/this/machine"
				path := filepath.Join(c.home, "claude", "projects", "x", p.session+".jsonl")
				write := func(percent int) {
					text := p.transcript(folder, len(p.messages))
					text = text[:len(text)*percent/100]
					if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, text, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				switch way {
				case "import":
					write(100)
					c.ok("import", "--from", "claude-code")
				case "capture":
					for _, size := range []int{20, 50, 100} {
						write(size)
						c.ok("capture", "--once", "--from", "claude-code")
					}
					old := time.Now().Add(-3 * time.Hour)
					if err := os.Chtimes(path, old, old); err != nil {
						t.Fatal(err)
					}
					c.ok("capture", "--once", "--from", "claude-code")
				case "hooks":
					p.hooks(c, folder, nil, nil)
				case "hooks with a transcript":
					write(100)
					p.hooks(c, folder, map[string]any{"transcript_path": path}, nil)
				case "hooks while it is captured":
					write(40)
					c.ok("capture", "--once", "--from", "claude-code")
					p.hooks(c, folder, map[string]any{"transcript_path": path}, nil)
					write(100)
					c.ok("capture", "--once", "--from", "claude-code")
				case "hooks and capture at once":
					write(0)
					capture, done := *c, make(chan struct{})
					var capturing sync.WaitGroup
					capturing.Go(func() {
						for {
							select {
							case <-done:
								return
							default:
								capture.ok("capture", "--once", "--from", "claude-code")
							}
						}
					})
					f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					p.hooks(c, folder, map[string]any{"transcript_path": path}, func(message int) {
						if p.messages[message].Role == "tool" {
							return // it was written with its call
						}
						upTo := message + 1 + len(p.messages[message].ToolCalls)
						if _, err := f.Write(p.transcript(folder, upTo)[len(p.transcript(folder, message)):]); err != nil {
							t.Error(err)
						}
					})
					close(done)
					capturing.Wait()
				case "tools":
					p.tools(c, folder)
				}
				store := c.store()
				if way == "import of the run itself" {
					c.ok("import", c.file("run.jsonl", lines.Text()))
					for e, err := range store.Episodes(t.Context(), nil) {
						if err != nil {
							t.Fatal(err)
						}
						id = e.ID
					}
				}
				e, err := store.Episode(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if way == "import of the run itself" { // whose task is an instruction to whoever plays the user
					e.Description = p.messages[0].Content
				}
				if counts, err := store.Counts(t.Context()); err != nil || counts.Episodes != 1 {
					t.Errorf("there are %d episodes, %v", counts.Episodes, err)
				}
				got := core(e)
				if want == "" {
					want = got
				} else if got != want {
					a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
					for i := range min(len(a), len(b)) {
						if a[i] != b[i] {
							t.Fatalf("line %d is\n%.300s\nwant\n%.300s", i, a[i], b[i])
						}
					}
					t.Errorf("it has %d lines, want %d", len(a), len(b))
				}
			})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
