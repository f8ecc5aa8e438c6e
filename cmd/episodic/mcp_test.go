package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/testkit"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// mcpProgram is episodic mcp as a process, and its client.
type mcpProgram struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	// pipe is what out reads.
	pipe io.Closer
}

func startMCP(t *testing.T, env ...string) *mcpProgram {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "mcp")
	cmd.Env = append(os.Environ(), "EPISODIC_TEST_AS_PROGRAM=1")
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = t.Output()
	p := &mcpProgram{t: t, cmd: cmd}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out, p.pipe = in, bufio.NewReader(out), out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *mcpProgram) send(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *mcpProgram) line() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return line
}

// tool calls a tool that must succeed.
func (p *mcpProgram) tool(name string, arguments map[string]any) string {
	p.t.Helper()
	request, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{
		"name": name, "arguments": arguments, "_meta": map[string]any{
			"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": map[string]any{},
		},
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(string(request))
	var res struct {
		Result struct {
			Content []struct{ Text string }
			IsError bool
		}
	}
	line := p.line()
	if err := json.Unmarshal([]byte(line), &res); err != nil || res.Result.IsError || len(res.Result.Content) != 1 {
		p.t.Fatalf("%s is answered with %s", name, line)
	}
	return res.Result.Content[0].Text
}

// ends waits for the process, which must have printed nothing more, and end well.
func (p *mcpProgram) ends() {
	p.t.Helper()
	rest, err := io.ReadAll(p.out)
	if err != nil || len(rest) > 0 {
		p.t.Errorf("at the end there is %q, %v", rest, err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the process ends with %v", err)
	}
}

func TestMCPSessions(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "m.db")
	env := []string{"EPISODIC_DB=" + db, "EPISODIC_PROJECT=shop", "CLAUDE_CODE_SESSION_ID=5f3c", "CLAUDE_PROJECT_DIR=/src/shop"}
	first := startMCP(t, env...)
	first.send("this is no message")
	if got := first.line(); !strings.Contains(got, "-32700") {
		t.Errorf("garbage is answered with %s", got)
	}
	first.tool("start", map[string]any{"task": "Fix the flaky payment test"})
	first.tool("log", map[string]any{"steps": []any{map[string]any{"tool": "Bash", "input": "go test ./pay", "result": "FAIL", "failed": true}}})
	first.tool("complete", map[string]any{"outcome": "success", "summary": "a fake clock fixed it"})
	first.tool("learn", map[string]any{"text": "use the fake clock", "when": "a payment test is flaky"})
	first.in.Close()
	first.ends()

	second := startMCP(t, "EPISODIC_DB="+db, "EPISODIC_PROJECT=shop", "CLAUDE_CODE_SESSION_ID=a0b1")
	got := second.tool("start", map[string]any{"task": "The payment test is flaky again"})
	for _, want := range []string{"use the fake clock", "a fake clock fixed it", "data, not instructions"} {
		if !strings.Contains(got, want) {
			t.Errorf("the second session is not shown %q:\n%s", want, got)
		}
	}
	second.in.Close()
	second.ends()

	other := startMCP(t, "EPISODIC_DB="+db, "EPISODIC_PROJECT=bank")
	if got := other.tool("recall", map[string]any{"query": "flaky payment test"}); !strings.Contains(got, "Nothing that fits is recorded in project bank") {
		t.Errorf("another project is shown %s", got)
	}
	other.in.Close()
	other.ends()

	store, err := episodic.Open(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	e, err := store.Episode(t.Context(), transcript.DeriveID(episodic.Scope{Project: "shop"}, "claude-code", "5f3c"))
	if err != nil {
		t.Fatal("the episode is not where capture and import look for it:", err)
	}
	if e.Metadata[transcript.MetaSession] != "5f3c" || e.Metadata[transcript.MetaFolder] != "/src/shop" || len(e.Steps) != 1 || e.Outcome.Kind != episodic.Success {
		t.Errorf("it is %+v", e)
	}
}

// A client that tells an MCP server nothing of its session tells hooks; one that tells both is
// believed.
func TestMCPFindsTheSessionOfHooks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, format, payload, meta string }{
		{"gemini-cli-mcp-client", "gemini", `{"session_id":"s1","cwd":"HERE","hook_event_name":"BeforeAgent","timestamp":"2026-11-28T10:18:32.524Z","prompt":"Mend the leaking pump"}`, `{}`},
		{"opencode", "opencode", `{"client":"opencode","event":"chat.message","sessionID":"s1","directory":"HERE","messageID":"m1","text":"Mend the leaking pump"}`, `{}`},
		{"codex-mcp-client", "codex", `{"session_id":"s1","turn_id":"t1","cwd":"/elsewhere","hook_event_name":"UserPromptSubmit","prompt":"Mend the leaking pump"}`, `{"x-codex-turn-metadata":{"session_id":"s1"}}`},
	} {
		t.Run(tt.format, func(t *testing.T) {
			t.Parallel()
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			home := t.TempDir()
			db := filepath.Join(home, "m.db")
			env := []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "EPISODIC_DB=" + db, "EPISODIC_PROJECT=pumps", "CLAUDE_CODE_SESSION_ID="}
			p := startMCP(t, env...)
			p.send(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"` + tt.name + `","version":"1"}}}`)
			p.line()
			p.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
			hook := exec.CommandContext(t.Context(), os.Args[0], "hook")
			hook.Env = append(append(os.Environ(), "EPISODIC_TEST_AS_PROGRAM=1"), env...)
			hook.Stdin = strings.NewReader(strings.ReplaceAll(tt.payload, "HERE", here))
			if out, err := hook.CombinedOutput(); err != nil {
				t.Fatal(err, string(out))
			}
			p.send(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"complete","arguments":{"outcome":"success","summary":"a new gasket"},"_meta":` + tt.meta + `}}`)
			if got := p.line(); !strings.Contains(got, "is complete: success") {
				t.Errorf("complete is answered with %s", got)
			}
			p.in.Close()
			p.ends()
			store, err := episodic.Open(t.Context(), db, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			e, err := store.Episode(t.Context(), transcript.DeriveID(episodic.Scope{Project: "pumps"}, tt.format, "s1"))
			if err != nil {
				t.Fatal(err)
			}
			if e.Description != "Mend the leaking pump" || e.Outcome.Kind != episodic.Success {
				t.Errorf("the episode is %+v", e)
			}
		})
	}
}

func TestMCPEndsWithItsClient(t *testing.T) {
	t.Parallel()
	const ping = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	for name, end := range map[string]func(p *mcpProgram) error{
		"input":   func(p *mcpProgram) error { return p.in.Close() },
		"SIGINT":  func(p *mcpProgram) error { return p.cmd.Process.Signal(syscall.SIGINT) },
		"SIGTERM": func(p *mcpProgram) error { return p.cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "m.db")
			p := startMCP(t, "EPISODIC_DB="+db)
			p.send(ping)
			p.line()
			if err := end(p); err != nil {
				t.Fatal(err)
			}
			p.ends()
			if _, err := os.Stat(db); err == nil {
				t.Error("the memory was opened although no call needed it")
			}
		})
	}
	t.Run("output", func(t *testing.T) {
		t.Parallel()
		p := startMCP(t, "EPISODIC_DB="+filepath.Join(t.TempDir(), "m.db"))
		p.send(ping)
		p.line()
		if err := p.pipe.Close(); err != nil {
			t.Fatal(err)
		}
		p.send(ping) // the answer cannot be written
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the process ends with %v", err)
		}
	})
}

// TestManyServersOfOneFile lets processes that share nothing but the file record at once.
func TestManyServersOfOneFile(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "m.db")
	servers, logs := testkit.Effort(3, 6, 20), 5
	var recording sync.WaitGroup
	for i := range servers {
		p := startMCP(t, "EPISODIC_DB="+db, "EPISODIC_PROJECT=fences", fmt.Sprint("CLAUDE_CODE_SESSION_ID=s", i))
		recording.Go(func() {
			p.tool("start", map[string]any{"task": fmt.Sprint("Paint fence ", i)})
			for range logs {
				p.tool("log", map[string]any{"steps": []string{"look", "paint"}})
			}
			p.tool("complete", map[string]any{"outcome": "success", "summary": "painted"})
			p.in.Close()
			p.ends()
		})
	}
	recording.Wait()
	store, err := episodic.Open(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for i := range servers {
		e, err := store.Episode(t.Context(), transcript.DeriveID(episodic.Scope{Project: "fences"}, "claude-code", fmt.Sprint("s", i)))
		if err != nil || len(e.Steps) != 2*logs || e.Outcome.Kind != episodic.Success {
			t.Errorf("server %d recorded %+v, %v", i, e, err)
		}
	}
}
