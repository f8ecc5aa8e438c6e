package mcpserver

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// opener opens a memory in a file, as often as it is called.
func opener(file string) func(context.Context) (*episodic.Store, error) {
	return func(ctx context.Context) (*episodic.Store, error) { return episodic.Open(ctx, file, nil) }
}

// peer is the client's side of Serve.
type peer struct {
	t    testing.TB
	in   *io.PipeWriter
	out  *bufio.Reader
	done chan error
}

// serve starts a server of a memory of its own, or of o's.
func serve(t testing.TB, o Options) *peer {
	t.Helper()
	if o.Open == nil {
		o.Open = opener(filepath.Join(t.TempDir(), "memory.db"))
	}
	s := New(o)
	in, write := io.Pipe()
	read, out := io.Pipe()
	p := &peer{t: t, in: write, out: bufio.NewReader(read), done: make(chan error, 1)}
	go func() {
		err := s.Serve(t.Context(), in, out)
		out.Close()
		p.done <- err
	}()
	t.Cleanup(func() {
		write.Close()
		read.Close()
		ok(t, <-p.done)
		ok(t, s.Close())
	})
	return p
}

func (p *peer) send(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) line() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// tool calls a tool, and returns its answer.
func (p *peer) tool(name, arguments string) (text string, failed bool) {
	p.t.Helper()
	p.send(`{"jsonrpc":"2.0","id":"t","method":"tools/call","params":{"name":"` + name + `","arguments":` + arguments + modern + `}}`)
	var res struct {
		Result struct {
			Content []struct{ Text string }
			IsError bool
		}
		Error any
	}
	line := p.line()
	ok(p.t, json.Unmarshal([]byte(line), &res))
	if len(res.Result.Content) != 1 {
		p.t.Fatalf("%s %s is answered with %s", name, arguments, line)
	}
	return res.Result.Content[0].Text, res.Result.IsError
}

// modern is what each request of 2026-07-28 has.
const modern = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"tester","version":"1"}}`

func TestAnEpisodeIsLivedThroughTools(t *testing.T) {
	p := serve(t, Options{Session: Session{"mcp", "s"}, Scope: episodic.Scope{Project: "shop"}})
	for _, step := range []struct{ tool, arguments, want string }{
		{"recall", `{"query":"flaky payment test"}`, "Nothing that fits is recorded in project shop."},
		{"start", `{"task":"Fix the flaky payment test"}`, "Recording episode"},
		{"log", `{"steps":[{"tool":"go","input":"{\"args\":[\"test\"]}","result":"FAIL","failed":true},{"tool":"Edit"}]}`, "from step 1 on"},
		{"recall", `{"query":"flaky payment test"}`, "Nothing that fits is recorded"},
		{"complete", `{"outcome":"success","summary":"a fake clock fixed it"}`, "complete: success"},
		{"complete", `{"outcome":"success","summary":"a fake clock fixed it"}`, "complete: success"},
		{"recall", `{"query":"flaky payment test"}`, "said: a fake clock fixed it"},
	} {
		text, failed := p.tool(step.tool, step.arguments)
		if failed || !strings.Contains(text, step.want) {
			t.Errorf("%s %s: %s, want %q", step.tool, step.arguments, text, step.want)
		}
	}
}
