package agenttest

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// sdks are those of client.cjs.
var sdks = []string{"v1", "v2", "v2-legacy"}

// conversation is what an SDK's client asks, and a part of what it must be answered.
var conversation = []struct {
	ask  []any
	want string
}{
	{[]any{"listTools"}, `"anthropic/alwaysLoad":true`},
	{[]any{"callTool", object{"name": "start", "arguments": object{"task": task}}}, "Recording episode"},
	{[]any{"callTool", object{"name": "log", "arguments": object{"episode": "EPISODE", "steps": []object{{"tool": "go", "result": "FAIL", "failed": true}}}}}, "Logged 1 step"},
	{[]any{"callTool", object{"name": "complete", "arguments": object{"episode": "EPISODE", "outcome": "success", "summary": summary}}}, "is complete: success"},
	{[]any{"callTool", object{"name": "learn", "arguments": object{"text": lesson, "when": "a payment test fails"}}}, "Learnt lesson"},
	{[]any{"callTool", object{"name": "recall", "arguments": object{"query": again}}}, summary},
	{[]any{"callTool", object{"name": "show", "arguments": object{"id": "EPISODE", "steps": "errors"}}}, "FAIL"},
	{[]any{"callTool", object{"name": "feedback", "arguments": object{"id": "EPISODE", "verdict": "helped"}}}, "helped"},
	{[]any{"callTool", object{"name": "forget", "arguments": object{"id": "EPISODE"}}}, "confirm"},
	{[]any{"callTool", object{"name": "recall", "arguments": object{"query": 7, "limit": "many"}}}, `"isError":true`},
	{[]any{"callTool", object{"name": "nothing"}}, `"error":{"code":-32602`},
	{[]any{"listResources"}, "episodic://recent"},
	{[]any{"listResourceTemplates"}, "episodic://episode/{id}"},
	{[]any{"readResource", object{"uri": "episodic://recent"}}, task},
	{[]any{"readResource", object{"uri": "episodic://episode/EPISODE"}}, task},
	{[]any{"readResource", object{"uri": "episodic://nothing"}}, `"error":{"code":-32`},
	{[]any{"listPrompts"}, "retrospective"},
	{[]any{"getPrompt", object{"name": "before", "arguments": object{"task": task}}}, task},
}

// The clients of both TypeScript SDKs, in both eras of the protocol, call everything there is.
func TestSDKs(t *testing.T) {
	Part(t, "@modelcontextprotocol/sdk/package.json")
	Part(t, "@modelcontextprotocol/client/package.json")
	for _, sdk := range sdks {
		t.Run(sdk+" over stdio", func(t *testing.T) {
			h := NewHome(t, program)
			converse(t, h, sdk, text([]string{h.Program, "mcp"}))
		})
		t.Run(sdk+" over HTTP", func(t *testing.T) {
			h := NewHome(t, program)
			url, token := serve(t, h)
			converse(t, h, sdk, url, "TOKEN="+token)
		})
	}
}

func converse(t *testing.T, h *Home, sdk, place string, env ...string) {
	t.Helper()
	// The episode's ID is not known before it is recorded, so what names it is asked by another client.
	ask := func(from, to int, episode string) []json.RawMessage {
		var asks [][]any
		for _, c := range conversation[from:to] {
			asks = append(asks, c.ask)
		}
		script := "testdata/client.cjs"
		asking := strings.ReplaceAll(text(asks), "EPISODE", episode)
		out, err := h.RunWith(t, time.Minute, asking, append(env, "EPISODIC_AGENTS="+os.Getenv("EPISODIC_AGENTS")), Node(t), abs(t, script), sdk, place)
		var answers []json.RawMessage
		if err == nil {
			err = json.Unmarshal([]byte(out), &answers)
		}
		if err != nil || len(answers) != 1+to-from {
			t.Fatalf("%s: %v: %s", sdk, err, out)
		}
		if !strings.Contains(string(answers[0]), `"name":"episodic"`) || !strings.Contains(string(answers[0]), "call recall") {
			t.Errorf("%s: the server is %s", sdk, answers[0])
		}
		for i, c := range conversation[from:to] {
			if !strings.Contains(string(answers[1+i]), c.want) {
				t.Errorf("%s: %s is answered with %s, without %q", sdk, text(c.ask), answers[1+i], c.want)
			}
		}
		return answers[1:]
	}
	const later = 2
	answers := ask(0, later, "")
	episode := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]+`).FindString(string(answers[1]))
	ask(later, len(conversation), episode)
}

// serve starts episodic serve, and returns where it is and a token.
func serve(t *testing.T, h *Home) (url, token string) {
	t.Helper()
	token, err := h.Run(t, time.Minute, nil, h.Program, "token", "create", "tester", "--rights", "admin")
	if err != nil {
		t.Fatal(err)
	}
	token = token[strings.LastIndexAny(token, " \n")+1:]
	cmd := exec.CommandContext(t.Context(), h.Program, "serve", "--listen", "127.0.0.1:0")
	cmd.Dir, cmd.Env = h.Folder, h.Env()
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	log := bufio.NewReader(stderr)
	for {
		line, err := log.ReadString('\n')
		if err != nil {
			t.Fatal("episodic serve has ended:", err)
		}
		if _, rest, ok := strings.Cut(line, "url="); ok {
			go io.Copy(io.Discard, log) // ends with the program
			url, _, _ = strings.Cut(rest, " ")
			return url, token
		}
	}
}

// The inspector finds no fault with the tools, and calls one.
func TestInspector(t *testing.T) {
	Part(t, "@modelcontextprotocol/inspector/package.json")
	inspector := Part(t, ".bin/mcp-inspector")
	h := NewHome(t, program)
	inspect := func(args ...string) string {
		t.Helper()
		out, err := h.Run(t, 2*time.Minute, nil, Node(t), append([]string{inspector, "--cli", h.Program, "mcp", "--transport", "stdio"}, args...)...)
		if err != nil {
			t.Errorf("%s: %v", args, err)
		}
		return out
	}
	for method, want := range map[string]string{
		"resources/list": "episodic://recent", "resources/templates/list": "episodic://episode/{id}", "prompts/list": "retrospective",
	} {
		if got := inspect("--method", method); !strings.Contains(got, want) {
			t.Errorf("%s: %s", method, got)
		}
	}
	if got := inspect("--method", "tools/list", "--strict"); strings.Count(got, `"inputSchema"`) != 8 {
		t.Errorf("the tools are %s", got)
	}
	if got := inspect("--method", "tools/call", "--tool-name", "recall", "--tool-arg", "query=the payment test", "--tool-arg", "limit=3"); !strings.Contains(got, "Nothing that fits") {
		t.Errorf("recall: %s", got)
	}
}

// The conformance suite knows servers of its own tools only. What it asks of every server must
// hold; the rest is in the list of what is expected to fail, with reasons.
func TestConformance(t *testing.T) {
	Part(t, "@modelcontextprotocol/conformance/package.json")
	suite := Part(t, ".bin/conformance")
	h := NewHome(t, program)
	place, token := serve(t, h)
	to, err := url.Parse(strings.TrimSuffix(place, "/mcp"))
	if err != nil {
		t.Fatal(err)
	}
	// The suite has no token.
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.Out.Header.Set("Authorization", "Bearer "+token)
	}})
	defer proxy.Close()
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			out, err := h.Run(t, 10*time.Minute, nil, Node(t), suite, "server", "--url", proxy.URL+"/mcp", "--suite", "all",
				"--spec-version", version, "--expected-failures", abs(t, "testdata/conformance-"+version+".yml"))
			t.Log(out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
