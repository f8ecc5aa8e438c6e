package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverEnv); dir != "" {
		if err := serveAsProgram(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func httpClient(t testing.TB) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a Server that listens on a port of its own.
type site struct {
	t      testing.TB
	store  *episodic.Store
	tokens *access.File
	log    *testkit.Log
	url    string
	addr   string
	stop   func() error
	client *http.Client
}

// open starts a Server of a memory of its own; change may change its options.
func open(t testing.TB, change func(*Options)) *site {
	t.Helper()
	dir := t.TempDir()
	store, err := episodic.Open(t.Context(), filepath.Join(dir, "memory.db"), nil)
	ok(t, err)
	s := &site{t: t, store: store, tokens: access.NewFile(filepath.Join(dir, "tokens")), log: &testkit.Log{}}
	o := Options{Store: store, Tokens: s.tokens, Version: "0", Logger: s.log.Logger()}
	if change != nil {
		change(&o)
	}
	server, err := New(o)
	ok(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	s.addr = listener.Addr().String()
	s.url = "http://" + s.addr
	transport := &http.Transport{}
	s.client = &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	stopped := false
	s.stop = func() error {
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if !stopped {
			transport.CloseIdleConnections()
			ok(t, s.stop())
		}
		transport.CloseIdleConnections()
		ok(t, store.Close())
	})
	return s
}

// token makes a token.
func (s *site) token(name string, rights access.Rights, scope episodic.Scope) string {
	s.t.Helper()
	secret, err := s.tokens.Create(s.t.Context(), access.Token{Name: name, Rights: rights, Scope: scope})
	ok(s.t, err)
	return secret
}

// modern is what the parameters of each request of 2026-07-28 have.
const modern = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"tester","version":"1"}}`

// request is a message of 2026-07-28 to the Server; name is the Mcp-Name.
func (s *site) request(token, method, name, params string) *http.Request {
	s.t.Helper()
	if params != "" {
		params += ","
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s%s}}`, method, params, modern)
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/mcp", strings.NewReader(body))
	ok(s.t, err)
	for key, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + token,
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name,
	} {
		if value != "" {
			r.Header.Set(key, value)
		}
	}
	return r
}

// do sends a request, and returns the status and the body of the answer.
func (s *site) do(r *http.Request) (int, string, http.Header) {
	s.t.Helper()
	res, err := s.client.Do(r)
	ok(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ok(s.t, err)
	return res.StatusCode, string(body), res.Header
}

// tool calls a tool with a token, and returns what the model is shown.
func (s *site) tool(token, name, arguments string, header ...string) (text string, failed bool) {
	s.t.Helper()
	r := s.request(token, "tools/call", name, `"name":"`+name+`","arguments":`+arguments)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	status, body, _ := s.do(r)
	var res struct {
		Result struct {
			Content []struct{ Text string }
			IsError bool
		}
		Error *struct{ Message string }
	}
	if err := json.Unmarshal([]byte(body), &res); err != nil || res.Error == nil && len(res.Result.Content) != 1 {
		s.t.Fatalf("%s %s is answered with %d %s", name, arguments, status, body)
	}
	if res.Error != nil {
		return res.Error.Message, true
	}
	return res.Result.Content[0].Text, res.Result.IsError
}

func TestAnEpisodeIsLivedOverHTTP(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	ada := s.token("ada", access.Write, episodic.Scope{Project: "shop"})
	say := func(name, arguments, want string) string {
		t.Helper()
		text, failed := s.tool(ada, name, arguments)
		if failed || !strings.Contains(text, want) {
			t.Errorf("%s %s: %s, want %q", name, arguments, text, want)
		}
		return text
	}
	text := say("start", `{"task":"Fix the flaky payment test"}`, "in project shop")
	id := strings.Fields(text)[2]
	if text, failed := s.tool(ada, "log", `{"steps":["look"]}`); !failed || !strings.Contains(text, id[:13]) {
		t.Errorf("a call that names no episode is told %s", text)
	}
	say("log", `{"episode":"`+id+`","steps":[{"tool":"go","result":"FAIL","failed":true}]}`, "from step 1 on")
	say("complete", `{"episode":"`+id+`","outcome":"success","summary":"a fake clock fixed it"}`, "complete: success")
	say("learn", `{"text":"use the fake clock","when":"a payment test is flaky"}`, "Learnt")
	say("recall", `{"query":"flaky payment test"}`, "a fake clock fixed it")
	say("show", `{"id":"`+id+`"}`, "recorded_by: ada")

	// In a session that the client names, calls need not name it.
	for _, step := range []struct{ tool, arguments, want string }{
		{"start", `{"task":"Write the manual"}`, "Recording"},
		{"log", `{"steps":["write"]}`, "from step 1 on"},
		{"complete", `{"outcome":"success","summary":"done"}`, "complete: success"},
	} {
		if text, failed := s.tool(ada, step.tool, step.arguments, sessionHeader, "s1"); failed || !strings.Contains(text, step.want) {
			t.Errorf("%s in a session: %s", step.tool, text)
		}
	}
	if text, failed := s.tool(ada, "log", `{"steps":["write"]}`, sessionHeader, "s2"); !failed {
		t.Errorf("another session is told %s", text)
	}
}
