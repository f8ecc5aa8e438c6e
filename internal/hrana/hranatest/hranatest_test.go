package hranatest

import (
	"errors"
	"io"
	"net/http"
	"strings"
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
	second := &Server{program: s.program, dir: t.TempDir(), addr: s.addr}
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
	p.Next(func(x *Exchange) {
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
