package durability

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"time"
)

// server is a libSQL server, which is killed and started again with the same database.
type server struct {
	program, dir, addr string

	mu     sync.Mutex
	cmd    *exec.Cmd
	said   bytes.Buffer // by the program that runs
	exited chan struct{}
}

// serverStarts is how long a server may take to answer.
const serverStarts = 20 * time.Second

// orphaned is after how many seconds without a request a server ends whose parent was killed.
const orphaned = "300"

// startServer starts the program sqld with a database in dir.
func startServer(ctx context.Context, program, dir string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{program: program, dir: dir, addr: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

// start starts the server, and returns when it answers.
func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(s.program, "--db-path", s.dir, "--http-listen-addr", s.addr, "--no-welcome", "--idle-shutdown-timeout-s", orphaned)
	s.said.Reset()
	cmd.Stdout, cmd.Stderr = &s.said, &s.said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.program, err)
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() { // ends when the program does, which stop waits for
		_ = cmd.Wait() // it was killed
		close(exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, serverStarts)
	defer cancel()
	for {
		if s.answers(ctx) {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended: %s", s.program, bytes.TrimSpace(s.said.Bytes()))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer at %s: %w", s.program, s.addr, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *server) answers(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/health", nil)
	if err != nil {
		return false
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// kill ends the server at once, and returns when it is gone.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // fails if it is gone
		<-s.exited
	}
}
