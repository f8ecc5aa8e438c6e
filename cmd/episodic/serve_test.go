package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/access"
)

func TestTokensOnTheCommandLine(t *testing.T) {
	c := newCLI(t)
	c.ok("token", "list", "--json")
	made := c.run("--project", "shop", "token", "create", "ada", "--rights", "read", "--expires", "90d")
	secret := strings.TrimSpace(made.stdout)
	if made.code != exitOK || !strings.HasPrefix(secret, "epi_") || !strings.Contains(made.stderr, "ada may read what belongs to project shop until ") {
		t.Fatalf("%+v", made)
	}
	c.fails(exitFailure, "already", "token", "create", "ada")
	c.fails(exitFailure, "name is", "token", "create", "a/b")
	c.fails(exitFailure, "whole server", "--project", "shop", "token", "create", "prom", "--rights", "metrics")
	c.fails(exitUsage, "rights", "token", "create", "bob", "--rights", "all")
	c.fails(exitUsage, "expires", "token", "create", "bob", "--expires", "soon")
	list := decode[struct{ Tokens []access.Token }](t, c.ok("token", "list", "--json"))
	if len(list.Tokens) != 1 || list.Tokens[0].Scope.Project != "shop" || list.Tokens[0].Expires.IsZero() {
		t.Errorf("listed are %+v", list.Tokens)
	}
	if text := c.ok("token", "list"); !strings.Contains(text, "ada") || strings.Contains(text, secret) {
		t.Errorf("list says %s", text)
	}
	c.fails(exitFailure, "no such token", "token", "revoke", "bob")
	c.ok("token", "revoke", "ada")
	c.fails(exitFailure, ":1: ", "token", "list", "--tokens", c.file("bad", "ada\n"))
}

func TestServeRefusesWhatIsNotSafe(t *testing.T) {
	c := newCLI(t)
	fails := func(code int, says string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it serves if it is wrong
		defer cancel()
		if got := c.runContext(ctx, args...); got.code != code || !strings.Contains(got.stderr, says) {
			t.Errorf("episodic %q: exit code %d, stderr %q, want %q", args, got.code, got.stderr, says)
		}
	}
	for _, tt := range []struct {
		says string
		args []string
	}{
		{"--listen: is", []string{"serve", "--listen", "8765"}},
		{"not be encrypted", []string{"serve", "--listen", "0.0.0.0:0"}},
		{"not be encrypted", []string{"serve", "--listen", ":0"}},
		{"not be encrypted", []string{"serve", "--listen", "192.0.2.1:0"}},
		{"--allow-host", []string{"--allow-plaintext", "serve", "--listen", "0.0.0.0:0"}},
		{"--tls-cert", []string{"serve", "--tls-cert", "cert.pem"}},
		{"host", []string{"serve", "--listen", "127.0.0.1:0", "--allow-host", "https://example.com"}},
		{"origin", []string{"serve", "--listen", "127.0.0.1:0", "--allow-origin", "example.com"}},
	} {
		fails(exitUsage, tt.says, tt.args...)
	}
	fails(exitFailure, "read the certificate", "serve", "--tls-cert", "no.pem", "--tls-key", "no.pem")
	fails(exitFailure, ":1: ", "serve", "--tokens", c.file("bad", "ada\n"))
}

// serveProgram is episodic serve as a process.
type serveProgram struct {
	t   *testing.T
	cmd *exec.Cmd
	url string
	log *bufio.Scanner
}

func startServe(t *testing.T, home string, args ...string) *serveProgram {
	t.Helper()
	cmd := program(t, home, append(args, "serve", "--listen", "127.0.0.1:0")...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &serveProgram{t: t, cmd: cmd, log: bufio.NewScanner(out)}
	for p.log.Scan() {
		if _, rest, found := strings.Cut(p.log.Text(), "url="); found {
			p.url, _, _ = strings.Cut(rest, " ")
			return p
		}
	}
	t.Fatal("it does not listen")
	return nil
}

// post sends a message of before 2026, and returns the status and the answer.
func (p *serveProgram) post(token, body string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func call(name string, arguments map[string]any) string {
	text, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{"name": name, "arguments": arguments}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestServeAsAProcess(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	create := func(args ...string) string {
		t.Helper()
		out, err := program(t, home, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	ada := create("--project", "shop", "token", "create", "ada")
	p := startServe(t, home)
	bob := create("--project", "bank", "token", "create", "bob") // while it runs
	if status, text := p.post(ada, call("start", map[string]any{"task": "Fix the till"})); status != http.StatusOK || !strings.Contains(text, "in project shop") {
		t.Errorf("ada is told %d %s", status, text)
	}
	if status, text := p.post(bob, call("recall", map[string]any{"query": "Fix the till"})); status != http.StatusOK || !strings.Contains(text, "Nothing that fits") {
		t.Errorf("bob is told %d %s", status, text)
	}
	create("token", "revoke", "ada")
	if status, text := p.post(ada, call("recall", map[string]any{"query": "Fix the till"})); status != http.StatusUnauthorized {
		t.Errorf("after all ada is told %d %s", status, text)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for p.log.Scan() {
		if strings.Contains(p.log.Text(), ada) || strings.Contains(p.log.Text(), bob) {
			t.Errorf("the log has a secret: %s", p.log.Text())
		}
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(home, "episodic", "*.db-wal")); err != nil || len(left) > 0 {
		t.Errorf("the memory was not closed: %q, %v", left, err)
	}
}
