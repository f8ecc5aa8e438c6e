package hranatest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func pipeline(t *testing.T, url, token string) (int, string, error) {
	t.Helper()
	body := `{"baton":null,"requests":[{"type":"execute","stmt":{"sql":"SELECT 1","want_rows":true}},{"type":"close"}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v3/pipeline", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

func TestServerIsKilledAndRestartedInPlace(t *testing.T) {
	s := Start(t)
	url := s.URL()
	s.Kill()
	s.Kill()
	if _, _, err := pipeline(t, url, ""); err == nil {
		t.Fatal("a killed server answered")
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if status, body, err := pipeline(t, url, ""); status != http.StatusOK || s.URL() != url {
		t.Fatalf("after a restart: %d %s %v", status, body, err)
	}
}

func TestServerOnATakenPortIsAnError(t *testing.T) {
	s := Start(t)
	second := &Server{program: s.program, dir: t.TempDir(), port: s.port}
	if err := second.Restart(); err == nil || !strings.Contains(err.Error(), "in use") {
		second.Kill()
		t.Fatalf("error is %v", err)
	}
}

func TestServerWithAKeyAsksForAToken(t *testing.T) {
	key := NewKey()
	s := Start(t, WithKey(key))
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name, token string
		status      int
	}{
		{"none", "", http.StatusUnauthorized},
		{"another key's", NewKey().Token(false, hour), http.StatusUnauthorized},
		{"expired", key.Token(false, time.Now().Add(-time.Hour)), http.StatusUnauthorized},
		{"full", key.Token(false, hour), http.StatusOK},
		{"read-only", key.Token(true, hour), http.StatusOK},
	} {
		if status, body, err := pipeline(t, s.URL(), tt.token); status != tt.status {
			t.Errorf("%s token: %d %s %v, want %d", tt.name, status, body, err, tt.status)
		}
	}
}

func TestStartWithoutAServerProgram(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv("EPISODIC_SQLD", "")
	t.Chdir(t.TempDir())
	if _, err := Run(t.TempDir()); !errors.Is(err, ErrNoServer) {
		t.Fatalf("error is %v, want %v", err, ErrNoServer)
	}
}

func TestProxyMakesFaults(t *testing.T) {
	p := NewProxy(t, Start(t).URL())
	ask := func() (int, string, error) { return pipeline(t, p.URL(), "") }

	if status, body, _ := ask(); status != http.StatusOK || !strings.Contains(body, `"value":"1"`) {
		t.Errorf("no fault: %d %s", status, body)
	}

	executed := make(chan bool, 1)
	p.Next(
		func(x *Exchange) {
			status, _, _, err := x.Forward()
			executed <- err == nil && status == http.StatusOK
			x.Reset()
		},
		CutAnswer,
		Refuse(http.StatusTooManyRequests, "later"),
	)
	if _, _, err := ask(); err == nil || !<-executed {
		t.Errorf("own fault: error %v", err)
	}
	if _, _, err := ask(); err == nil {
		t.Error("the answer was not cut")
	}
	if status, body, _ := ask(); status != http.StatusTooManyRequests || body != "later" {
		t.Errorf("refused: %d %s", status, body)
	}

	p.Hide("/v3-protobuf", "/v3/")
	if status, body, _ := ask(); status != http.StatusNotFound || body != "" {
		t.Errorf("hidden: %d %q", status, body)
	}
	p.Hide()

	p.Delay(time.Millisecond)
	if status, _, _ := ask(); status != http.StatusOK {
		t.Errorf("delayed: %d", status)
	}
	if all, other := p.Requests("/v3/"), p.Requests("/v2/"); all != 6 || other != 0 || p.Conns() != 6 {
		t.Errorf("counted %d and %d requests on %d connections", all, other, p.Conns())
	}
}

func TestProxyHoldsARequestUntilTheClientGoes(t *testing.T) {
	p := NewProxy(t, "http://127.0.0.1:1")
	held, released := make(chan struct{}), make(chan struct{})
	p.NextPing(func(x *Exchange) {
		close(held)
		BlackHole(x)
		close(released)
	})
	done := make(chan struct{})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		defer close(done)
		if resp, err := client.Get(p.URL()); err == nil {
			resp.Body.Close()
			t.Error("a black hole answered")
		}
	}()
	<-held
	p.front.CloseClientConnections()
	<-released
	<-done
}

func TestProxyGoesAway(t *testing.T) {
	p := NewProxy(t, echo(t).URL)
	client := newClient(t)
	p.Next(Pass, GoAway)
	for range 2 {
		mustEcho(t, client, p.URL())
	}
	if n := p.Conns(); n != 1 {
		t.Errorf("%d connections before the server went away", n)
	}
	mustEcho(t, client, p.URL())
	if n := p.Conns(); n != 2 {
		t.Errorf("%d connections after the server went away", n)
	}
}

func TestProxyDripsAnAnswer(t *testing.T) {
	const over = 80 * time.Millisecond
	p := NewProxy(t, echo(t).URL)
	for _, body := range []string{"", "x", strings.Repeat("0123456789abcdef", 1000)} {
		p.Next(SlowDrip(over))
		start := time.Now()
		answer, err := post(newClient(t), p.URL(), body)
		if err != nil || answer != body {
			t.Errorf("%d bytes gave %d bytes, error %v", len(body), len(answer), err)
		}
		if took := time.Since(start); took < over && body != "" { // an answer without a body ends with its headers
			t.Errorf("%d bytes took %v, want %v", len(body), took, over)
		}
	}

	p.Next(SlowDrip(time.Hour))
	resp, err := newClient(t).Post(p.URL(), "text/plain", strings.NewReader("hello"))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the headers did not come at once: %v", err)
	}
	resp.Body.Close()
}

func TestProxyCutsAnAnswerWithinItsBody(t *testing.T) {
	ran := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ran++
		if r.URL.Path == "/long" {
			http.NewResponseController(w).Flush() // then nothing declares the length
		}
		_, _ = io.WriteString(w, "0123456789")
	}))
	defer server.Close()
	p := NewProxy(t, server.URL)
	for i, tt := range []struct {
		path    string
		n       int
		body    string
		failure error
	}{
		{"/", 0, "", syscall.ECONNRESET},
		{"/", 4, "0123", syscall.ECONNRESET},
		{"/", 10, "0123456789", nil},
		{"/", 11, "0123456789", nil},
		{"/long", 4, "0123", syscall.ECONNRESET},
	} {
		p.Next(CutAnswerAfter(tt.n))
		resp, err := newClient(t).Post(p.URL()+tt.path, "text/plain", nil)
		if err != nil {
			t.Fatalf("cut after %d: no headers: %v", tt.n, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || string(body) != tt.body || !errors.Is(err, tt.failure) {
			t.Errorf("cut after %d: %s, body %q, error %v", tt.n, resp.Status, body, err)
		}
		if ran != i+1 {
			t.Errorf("cut after %d: the server ran %d requests, want %d", tt.n, ran, i+1)
		}
	}
}

func TestProxyChoosesFaults(t *testing.T) {
	p := NewProxy(t, echo(t).URL)
	client := newClient(t)
	ask := func(method string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, p.URL()+"/v3", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", method, resp.Status, want)
		}
	}
	p.Next(Refuse(429, ""))
	p.NextPing(Refuse(502, ""))
	ask(http.MethodGet, 502)
	ask(http.MethodGet, 200)
	ask(http.MethodPost, 429)
	ask(http.MethodPost, 200)

	p.Always(Refuse(503, ""))
	p.Next(Pass)
	p.NextPing(Pass)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		ask(method, 200)
		ask(method, 503)
		ask(method, 503)
	}
	p.Always(nil)
	ask(http.MethodGet, 200)
	ask(http.MethodPost, 200)
}

func TestProxyMakesAFaultOfAShare(t *testing.T) {
	p := NewProxy(t, echo(t).URL)
	client := newClient(t)
	refused := func() bool {
		resp, err := client.Get(p.URL())
		if err != nil {
			t.Error(err)
			return false
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode == http.StatusTooManyRequests
	}
	const requests = 200
	share := func(percent int, seed uint64) (which [requests]bool, count int) {
		p.Always(Share(percent, seed, Refuse(http.StatusTooManyRequests, "")))
		for i := range which {
			if which[i] = refused(); which[i] {
				count++
			}
		}
		return which, count
	}
	first, n := share(30, 1)
	if n < 30 || n > 90 {
		t.Errorf("%d of %d requests, want 30%%", n, requests)
	}
	if again, _ := share(30, 1); again != first {
		t.Error("the same seed chose others")
	}
	if other, _ := share(30, 2); other == first {
		t.Error("another seed chose the same")
	}
	if _, n := share(0, 1); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
	if _, n := share(100, 1); n != requests {
		t.Errorf("%d requests, want all", n)
	}

	p.Always(Share(30, 1, Refuse(http.StatusTooManyRequests, "")))
	var wg sync.WaitGroup
	var together atomic.Int64
	for range 4 {
		wg.Go(func() {
			for range requests / 4 {
				if refused() {
					together.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if together.Load() != int64(n) {
		t.Errorf("%d requests of four clients, want %d as of one", together.Load(), n)
	}
}

func TestProxyCountsStreams(t *testing.T) {
	p := NewProxy(t, Start(t).URL())
	client := newClient(t)
	ask := func(baton *string, kind string) *string {
		t.Helper()
		body, err := json.Marshal(map[string]any{"baton": baton, "requests": []any{map[string]string{"type": kind}}})
		if err != nil {
			t.Fatal(err)
		}
		text, err := post(client, p.URL()+"/v3/pipeline", string(body))
		var answer struct{ Baton *string }
		if err != nil || json.Unmarshal([]byte(text), &answer) != nil {
			t.Fatalf("answer is %s, error %v", text, err)
		}
		return answer.Baton
	}
	want := func(wantOpen, wantMost int) {
		t.Helper()
		if open, most := p.Streams(); open != wantOpen || most != wantMost {
			t.Errorf("%d streams open, %d at most, want %d and %d", open, most, wantOpen, wantMost)
		}
	}
	ask(nil, "close")
	want(0, 0)
	one := ask(nil, "get_autocommit")
	want(1, 1)
	two := ask(nil, "get_autocommit")
	want(2, 2)
	one = ask(one, "get_autocommit")
	want(2, 2)
	ask(one, "close")
	want(1, 2)
	ask(two, "close")
	want(0, 2)
}
