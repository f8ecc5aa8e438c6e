// Package live shows what goes on in the running processes of a user. A [Server] listens
// on a Unix socket in a folder that only this user can enter, and gives every
// connection one document. [Look] asks all servers of a folder. Nothing is written
// anywhere, and a server that nobody asks does nothing.
package live

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/userdir"
)

const (
	// patience is how long one document may take.
	patience = 2 * time.Second
	// maxDocument bounds what is read of one server, in bytes.
	maxDocument = 1 << 20
	// maxPath is the longest path of a socket that all systems take, in bytes.
	maxPath = 103
	// birth is the age up to which a socket that refuses may be one that its process
	// has made and does not listen on yet.
	birth = time.Second
)

// socketName is the name of a socket: the process and a random part. Other files of the
// folder are left alone.
var socketName = regexp.MustCompile(`^episodic-([0-9]{1,10})-[0-9a-f]{8}\.sock$`)

// Server gives a document to whoever connects to its socket. Close ends it.
type Server struct {
	listener *net.UnixListener
	cancel   context.CancelFunc
	ended    chan struct{} // closed by the serving goroutine, as its last act
}

// Serve makes a socket in dir, and dir, for its owner only. document is called for each
// connection, one after the other.
func Serve(dir string, document func() []byte) (*Server, error) {
	// The socket is removed by its path when it is closed, wherever the process is then.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := userdir.Check(dir); err != nil {
		return nil, err
	}
	var random [4]byte
	rand.Read(random[:])
	path := filepath.Join(dir, fmt.Sprintf("episodic-%d-%s.sock", os.Getpid(), hex.EncodeToString(random[:])))
	if len(path) > maxPath {
		return nil, fmt.Errorf("%s is too long for the name of a socket: %d bytes, at most %d; choose another folder", path, len(path), maxPath)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{listener: l, cancel: cancel, ended: make(chan struct{})}
	go s.serve(ctx, document)
	return s, nil
}

func (s *Server) serve(ctx context.Context, document func() []byte) {
	defer close(s.ended)
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files
			select {
			case <-ctx.Done():
			case <-time.After(patience):
			}
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
		_, _ = conn.Write(document()) // whoever has gone meanwhile does not need it
		stop()
		_ = conn.Close()
	}
}

// Close removes the socket and waits for the goroutine.
func (s *Server) Close() {
	s.cancel()
	_ = s.listener.Close() // fails only if it is closed already
	<-s.ended
}

// ErrDead says that a process has ended without closing its Server.
var ErrDead = errors.New("the process ended without closing; its socket was removed")

// Answer is what one server said.
type Answer struct {
	PID      int // as the process knows itself
	Document []byte
	Err      error // instead of a Document
}

// Look asks all servers of dir, in the order of their sockets' names. Sockets of dead
// processes are removed. A folder that is not there has no servers.
func Look(ctx context.Context, dir string) ([]Answer, error) { return look(ctx, dir, patience) }

func look(ctx context.Context, dir string, patience time.Duration) ([]Answer, error) {
	err := userdir.Check(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	// A process that is stopped does not answer; the others must not wait for it.
	answers := make([]*Answer, len(entries))
	var asked sync.WaitGroup
	for i, e := range entries {
		if name := socketName.FindStringSubmatch(e.Name()); name != nil {
			pid, _ := strconv.Atoi(name[1]) // they are digits
			asked.Go(func() { answers[i] = ask(ctx, filepath.Join(dir, e.Name()), pid, patience) })
		}
	}
	asked.Wait()
	var found []Answer
	for _, a := range answers {
		if a != nil {
			found = append(found, *a)
		}
	}
	return found, ctx.Err()
}

// ask returns what the server of a socket says; nil if there is none, or none yet.
func ask(ctx context.Context, path string, pid int, patience time.Duration) *Answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := read(ctx, path)
	if err == nil {
		return &Answer{PID: pid, Document: text}
	}
	info, statErr := os.Lstat(path)
	switch {
	case errors.Is(statErr, fs.ErrNotExist): // closed meanwhile
		return nil
	case isRefused(err) && statErr == nil && time.Since(info.ModTime()) < birth:
		return nil
	case isRefused(err):
		err = ErrDead
		if removeErr := os.Remove(path); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
			err = fmt.Errorf("the process ended without closing: %w", removeErr)
		}
	case ctx.Err() != nil:
		err = fmt.Errorf("no answer within %v; the process may be stopped", patience)
	}
	return &Answer{PID: pid, Err: err}
}

func read(ctx context.Context, path string) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	text, err := io.ReadAll(io.LimitReader(conn, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = fmt.Errorf("the answer is longer than %d bytes", maxDocument)
	}
	return text, err
}
