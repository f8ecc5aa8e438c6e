package serve

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
)

const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + modern + `}}`

// TestRefusedRequests sends what must be refused, each with one thing that is wrong.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	s := open(t, func(o *Options) {
		o.Hosts, o.Origins = []string{"memory.example.com", "192.0.2.7:8765"}, []string{"https://App.example.com/"}
	})
	good := s.token("good", access.Admin, episodic.Scope{})
	metrics := s.token("metrics", access.Metrics, episodic.Scope{})
	revoked := s.token("revoked", access.Admin, episodic.Scope{})
	ok(t, s.tokens.Revoke(t.Context(), "revoked"))
	expired, err := s.tokens.Create(t.Context(), access.Token{Name: "expired", Rights: access.Admin, Expires: time.Now().Add(-time.Second)})
	ok(t, err)

	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			if value == "" {
				r.Header.Del(name)
			} else {
				r.Header.Set(name, value)
			}
		}
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		status int
		want   string // in the answer
	}{
		{"nothing wrong", func(*http.Request) {}, 200, `"recall"`},
		{"a name of this machine", host("localhost:1"), 200, `"recall"`},
		{"a name of this server", host("Memory.Example.com."), 200, `"recall"`},
		{"an address of this server", host("192.0.2.7"), 200, `"recall"`},
		{"the address of IPv6", host("[::1]:8765"), 200, `"recall"`},
		{"curl", set("Accept", "*/*"), 200, `"recall"`},
		{"no Accept", set("Accept", ""), 200, `"recall"`},
		{"only JSON", set("Accept", "application/json;q=0.9"), 200, `"recall"`},
		{"a page of this server", set("Origin", s.url), 200, `"recall"`},
		{"a page that is allowed", set("Origin", "https://app.example.com"), 200, `"recall"`},

		{"no token", set("Authorization", ""), 401, "Authorization: Bearer TOKEN"},
		{"no bearer", set("Authorization", "Basic "+good), 401, "must be one"},
		{"an empty token", set("Authorization", "Bearer"), 401, "unknown"},
		{"a wrong token", set("Authorization", "Bearer epi_AAAAAAAAAAAAAAAAAAAAAAAAAA"), 401, "unknown"},
		{"a longer token", set("Authorization", "Bearer "+good+"A"), 401, "unknown"},
		{"a revoked token", set("Authorization", "Bearer "+revoked), 401, "revoked"},
		{"an expired token", set("Authorization", "Bearer "+expired), 401, "has expired"},
		{"two tokens", func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") }, 401, "must be one"},
		{"a token for metrics", set("Authorization", "Bearer "+metrics), 403, "/metrics only"},

		{"a foreign host", host("evil.example"), 403, "--allow-host"},
		{"a host that begins alike", host("localhost.evil.example"), 403, "--allow-host"},
		{"no port, but a colon", host("127.0.0.1.evil.example:80"), 403, "--allow-host"},
		{"a foreign page", set("Origin", "https://evil.example"), 403, "--allow-origin"},
		{"a page of another port", set("Origin", "http://127.0.0.1:1"), 403, "--allow-origin"},
		{"a page of no origin", set("Origin", "null"), 403, "--allow-origin"},
		{"two origins", func(r *http.Request) { r.Header["Origin"] = []string{s.url, "https://evil.example"} }, 403, "--allow-origin"},
		{"a foreign page that hides", set("Sec-Fetch-Site", "cross-site"), 403, "--allow-origin"},

		{"no JSON declared", set("Content-Type", "text/plain"), 415, "Content-Type: application/json"},
		{"no type", set("Content-Type", ""), 415, "Content-Type: application/json"},
		{"a form", set("Content-Type", "application/x-www-form-urlencoded"), 415, "Content-Type"},
		{"HTML wanted", set("Accept", "text/html"), 406, "Accept: application/json"},
		{"a stream by GET", func(r *http.Request) { r.Method = "GET"; body("")(r) }, 405, "POST"},
		{"a session's end", func(r *http.Request) { r.Method = "DELETE" }, 405, "POST"},
		{"another path", func(r *http.Request) { r.URL.Path = "/" }, 404, "/mcp"},

		{"no JSON", body("tools/list"), 400, "-32700"},
		{"nothing", body(""), 400, "-32700"},
		{"nested deeply", body(strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), 400, "-32700"},
		{"a batch", body("[" + list + "]"), 400, "batches are not supported"},
		{"no JSON-RPC", body(`{"id":1,"method":"tools/list"}`), 400, "JSON-RPC 2.0"},
		{"a wrong id", body(`{"jsonrpc":"2.0","id":{},"method":"tools/list"}`), 400, "JSON-RPC 2.0"},
		{"neither method nor id", body(`{"jsonrpc":"2.0"}`), 400, ""},
		{"too long", body(`"` + strings.Repeat("a", maxBody) + `"`), 413, "4194304"},
		{"too long, and it does not say so", func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`"`+strings.Repeat("a", maxBody)+`"`)), -1
		}, 413, "4194304"},

		{"another method in the header", set("Mcp-Method", "tools/call"), 400, "-32020"},
		{"no method in the header", set("Mcp-Method", ""), 400, "-32020"},
		{"another version in the header", set("Mcp-Protocol-Version", "2025-06-18"), 400, "-32020"},
		{"no version in the header", set("Mcp-Protocol-Version", ""), 400, "-32020"},
		{"a version of the past", set("Mcp-Protocol-Version", "2020-01-01"), 400, "Unsupported protocol version"},
		{"a version of the future", func(r *http.Request) {
			set("Mcp-Protocol-Version", "2099-01-01")(r)
			body(strings.ReplaceAll(list, "2026-07-28", "2099-01-01"))(r)
		}, 400, "-32022"},
		{"a method that is none", func(r *http.Request) {
			set("Mcp-Method", "tools/steal")(r)
			body(strings.ReplaceAll(list, "tools/list", "tools/steal"))(r)
		}, 404, "-32601"},
		{"a wrong project", set(projectHeader, "a\tb"), 403, projectHeader},
		{"a long session", set(sessionHeader, strings.Repeat("s", 300)), 400, sessionHeader},
	} {
		r := s.request(good, "tools/list", "", "")
		tt.change(r)
		status, text, header := s.do(r)
		if status != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %.300s, want %d %s", tt.name, status, text, tt.status, tt.want)
		}
		if status >= 400 && !strings.HasPrefix(text, `{"jsonrpc":"2.0"`) {
			t.Errorf("%s: it is no JSON-RPC: %.300s", tt.name, text)
		}
		if challenge := header.Get("WWW-Authenticate"); (status == 401) != strings.HasPrefix(challenge, "Bearer ") {
			t.Errorf("%s: WWW-Authenticate is %q", tt.name, challenge)
		}
	}
	for _, path := range []string{"/healthz", "/metrics"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		ok(t, err)
		for _, tt := range []struct {
			token  string
			status map[string]int
		}{
			{"", map[string]int{"/healthz": 200, "/metrics": 401}},
			{good, map[string]int{"/healthz": 200, "/metrics": 403}},
			{metrics, map[string]int{"/healthz": 200, "/metrics": 200}},
		} {
			r.Header.Set("Authorization", "Bearer "+tt.token)
			if status, text, _ := s.do(r); status != tt.status[path] {
				t.Errorf("%s: %d %s", path, status, text)
			}
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/metrics", nil)
	ok(t, err)
	r.Header.Set("Authorization", "Bearer "+metrics)
	_, text, _ := s.do(r)
	for _, want := range []string{`episodic_http_refused_total{reason="host"} 3`, `episodic_http_answers_total{status="413"} 2`, "episodic_reads_total", "episodic_http_connections"} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	log := s.log.Take()
	for _, secret := range []string{good, metrics, revoked, expired} {
		if strings.Contains(log, secret) || strings.Contains(text, secret) {
			t.Error("a token stands in the log or in the metrics")
		}
	}
	if !strings.Contains(log, "refused") {
		t.Error("the log tells of no refusal")
	}
}

func TestPagesOfAllowedOriginsCanCall(t *testing.T) {
	t.Parallel()
	s := open(t, func(o *Options) { o.Origins = []string{"https://app.example.com"} })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.url+"/mcp", nil)
	ok(t, err)
	r.Header.Set("Origin", "https://app.example.com")
	r.Header.Set("Access-Control-Request-Method", "POST")
	status, _, header := s.do(r)
	if status != http.StatusNoContent || header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || !strings.Contains(header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("%d %v", status, header)
	}
	r.Header.Set("Origin", "https://evil.example")
	if status, _, header = s.do(r); status != http.StatusForbidden || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a foreign page is told %d %v", status, header)
	}
}

func TestAFileOfTokensThatIsWrongLetsNobodyIn(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	good := s.token("good", access.Read, episodic.Scope{})
	content, err := os.ReadFile(s.tokens.Path())
	ok(t, err)
	ok(t, os.WriteFile(s.tokens.Path(), append(content, "bad\n"...), 0o600))
	if status, text, _ := s.do(s.request(good, "tools/list", "", "")); status != http.StatusServiceUnavailable || strings.Contains(text, s.tokens.Path()) {
		t.Errorf("%d %s", status, text)
	}
	if log := s.log.Take(); !strings.Contains(log, "tokens:2: ") {
		t.Errorf("the log says %s", log)
	}
	ok(t, os.WriteFile(s.tokens.Path(), append(content, "# good\n"...), 0o600))
	if status, text, _ := s.do(s.request(good, "tools/list", "", "")); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
}

// TestSlowClientsAreCutOff sends the beginning of a request, and no more.
func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	s := open(t, func(o *Options) {
		o.Limits = Limits{Header: 300 * time.Millisecond, Body: 300 * time.Millisecond, Idle: 300 * time.Millisecond, Connections: 8}
	})
	good := s.token("good", access.Read, episodic.Scope{})
	head := "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + good + "\r\n"
	for name, tt := range map[string]struct{ sent, answer string }{
		"nothing":                       {"", ""},
		"half a header":                 {"POST /mcp HTTP/1.1\r\nHost: localh", ""},
		"no body":                       {head + "Content-Length: 100\r\n\r\n", "408"},
		"half a body":                   {head + "Content-Length: 100\r\n\r\n{", "408"},
		"half a chunk":                  {head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{", "408"},
		"half a body without a token":   {"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", "401"},
		"half a body for another place": {"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", "200"},
		"a header that is too long":     {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		"an answer, and then nothing":   {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", s.addr)
			ok(t, err)
			defer conn.Close()
			ok(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
			_, _ = io.WriteString(conn, tt.sent) // it may be cut off already
			got, err := io.ReadAll(conn)
			if ne, timeout := err.(net.Error); timeout && ne.Timeout() {
				t.Fatal("it may stay for ever")
			}
			if want := "HTTP/1.1 " + tt.answer; tt.answer == "" && len(got) > 0 && !strings.Contains(string(got), " 408 ") || tt.answer != "" && !strings.HasPrefix(string(got), want) {
				t.Errorf("it is answered with %q, %v", got, err)
			}
		})
	}
}

func TestConnectionsAndRequestsAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, func(o *Options) { o.Limits = Limits{Connections: 2, Idle: 200 * time.Millisecond} })
	var conns []net.Conn
	for range 6 {
		conn, err := net.Dial("tcp", s.addr)
		ok(t, err)
		defer conn.Close()
		ok(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		ok(t, err)
		conns = append(conns, conn)
	}
	for i, conn := range conns { // two at a time are answered, when those before them have gone
		got, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") {
			t.Errorf("connection %d: %q, %v", i, got, err)
		}
	}

	w := newWork(Limits{Requests: 1, Connections: 2, Wait: 10 * time.Millisecond})
	done, p := w.begin(t.Context(), 1, false)
	if p != nil {
		t.Fatal(p.text)
	}
	for _, length := range []int{1, maxBody} {
		if _, p := w.begin(t.Context(), length, false); p == nil || p.status != http.StatusServiceUnavailable {
			t.Errorf("a second request: %+v", p)
		}
	}
	if leave, p := w.begin(t.Context(), 1, true); p != nil {
		t.Error("one that only listens has to wait for it")
	} else {
		leave()
	}
	done()
	if done, p = w.begin(t.Context(), maxBody, false); p != nil {
		t.Fatal("there is no room when it is done:", p.text)
	}
	done()
	release, p := w.body(&http.Request{ContentLength: maxBody})
	if p != nil {
		t.Fatal(p.text)
	}
	for length, free := range map[int64]bool{0: true, smallBody: true, smallBody + 1: false, maxBody: false, -1: false} {
		if _, p := w.body(&http.Request{ContentLength: length}); (p == nil) != free {
			t.Errorf("beside a large body one of %d: %+v", length, p)
		}
	}
	release()
	if release, p = w.body(&http.Request{ContentLength: -1}); p != nil {
		t.Fatal("there is no room when it is gone:", p.text)
	}
	release()
}
