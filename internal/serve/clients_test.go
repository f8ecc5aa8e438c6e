package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// bearer adds a token to requests.
type bearer struct {
	token string
	to    http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.to.RoundTrip(r)
}

// TestManyClientsAtOnce lets clients of the SDK live an episode each, in two projects.
func TestManyClientsAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	clients := testkit.Effort(10, 40, 100)
	var tokens []string
	for _, project := range []string{"shop", "bank"} {
		tokens = append(tokens, s.token(project, access.Write, episodic.Scope{Project: project}))
	}
	var living sync.WaitGroup
	for i := range clients {
		living.Go(func() {
			if err := live(t.Context(), s, tokens[i%2], i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	living.Wait()
	for i, project := range []string{"shop", "bank"} {
		narrow, err := s.store.Scoped(episodic.Scope{Project: project})
		ok(t, err)
		n := 0
		for e, err := range narrow.Episodes(t.Context(), nil) {
			ok(t, err)
			if e.StepCount != 2 || e.Outcome.Kind != episodic.Success {
				t.Errorf("episode %s has %d steps and ended with %q", e.ID, e.StepCount, e.Outcome.Kind)
			}
			n++
		}
		if want := (clients + 1 - i) / 2; n != want {
			t.Errorf("%d episodes of %s, want %d", n, project, want)
		}
	}
}

// live lives an episode.
func live(ctx context.Context, s *site, token string, i int) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := mcp.NewClient(&mcp.Implementation{Name: "tester", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: s.url + "/mcp", HTTPClient: &http.Client{Transport: bearer{token, transport}}, DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	id := ""
	for _, step := range []struct {
		tool      string
		arguments map[string]any
	}{
		{"start", map[string]any{"task": fmt.Sprintf("Paint fence %d", i)}},
		{"log", map[string]any{"steps": []string{"look", "paint"}}},
		{"complete", map[string]any{"outcome": "success", "summary": "painted"}},
		{"recall", map[string]any{"query": "paint fence"}},
	} {
		if id != "" && step.tool != "recall" {
			step.arguments["episode"] = id
		}
		res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: step.tool, Arguments: step.arguments})
		if err != nil {
			return err
		}
		text := res.Content[0].(*mcp.TextContent).Text
		if res.IsError {
			return fmt.Errorf("%s: %s", step.tool, text)
		}
		if step.tool == "start" {
			id = strings.Fields(text)[2]
		}
	}
	return nil
}

// TestOlderRevisions speaks as clients of before 2026-07-28 do.
func TestOlderRevisions(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	token := s.token("ada", access.Read, episodic.Scope{})
	for _, version := range []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"} {
		for _, tt := range []struct {
			body, want string
			status     int
		}{
			{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + version + `","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, version, 200},
			{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "", 202},
			{`{"jsonrpc":"2.0","id":"two","method":"tools/list"}`, `"recall"`, 200},
			{`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"recall","arguments":{"query":"x"}}}`, "Nothing that fits", 200},
			{`{"jsonrpc":"2.0","id":4,"method":"ping"}`, "{}", 200},
		} {
			r := s.request(token, "", "", "")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(tt.body)), int64(len(tt.body))
			r.Header.Del("Mcp-Method")
			r.Header.Set("MCP-Protocol-Version", version)
			if status, text, header := s.do(r); status != tt.status || !strings.Contains(text, tt.want) || header.Get("Mcp-Session-Id") != "" {
				t.Errorf("%s: %s is answered with %d %s", version, tt.body, status, text)
			}
		}
	}
}

// TestTheEndIsGraceful ends a Server while requests are under way: one whose body is still
// coming, and one that listens.
func TestTheEndIsGraceful(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	token := s.token("ada", access.Write, episodic.Scope{})
	listens, err := s.client.Do(s.request(token, "subscriptions/listen", "", `"notifications":{}`))
	ok(t, err)
	defer listens.Body.Close()
	told, err := bufio.NewReader(listens.Body).ReadString('\n')
	if err != nil || listens.StatusCode != http.StatusOK {
		t.Fatalf("one that listens is told %d %q, %v", listens.StatusCode, told, err)
	}

	conn, err := net.Dial("tcp", s.addr)
	ok(t, err)
	defer conn.Close()
	ok(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"start","arguments":{"task":"Paint the fence"}}}`
	_, err = fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", token, len(body))
	ok(t, err)
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") { // it is being carried out
		t.Fatalf("%q, %v", line, err)
	}
	_, err = answers.ReadString('\n')
	ok(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	if _, err := io.ReadAll(listens.Body); err != nil {
		t.Error("one that listens is cut off:", err)
	}
	_, err = io.WriteString(conn, body)
	ok(t, err)
	res, err := http.ReadResponse(answers, nil)
	ok(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), "Recording episode") {
		t.Errorf("what was asked for is answered with %d %s, %v", res.StatusCode, text, err)
	}
	ok(t, <-ended)
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("it still listens")
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	var server *Server
	s := open(t, func(o *Options) {
		var err error
		server, err = New(*o)
		ok(t, err)
		server.mcp = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a defect") })
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	s.url = "http://" + listener.Addr().String()
	token := s.token("ada", access.Read, episodic.Scope{})
	for range 2 {
		if status, text, _ := s.do(s.request(token, "tools/list", "", "")); status != http.StatusInternalServerError || !strings.Contains(text, "-32603") {
			t.Errorf("%d %s", status, text)
		}
	}
	if log := s.log.Take(); !strings.Contains(log, "a defect") || strings.Contains(log, token) {
		t.Errorf("the log says %s", log)
	}
	cancel()
	ok(t, <-ended)
}
