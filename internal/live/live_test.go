package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder returns a folder that Serve has yet to make, near the root: the name of a
// socket has little room.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "live-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "l")
}

func serve(t *testing.T, dir, document string) *Server {
	t.Helper()
	s, err := Serve(dir, func() []byte { return []byte(document) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// looked is what Look says, a line for each server.
func looked(t *testing.T, dir string) string {
	t.Helper()
	answers, err := look(t.Context(), dir, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, a := range answers {
		line := string(a.Document)
		if a.Err != nil {
			line = fmt.Sprintf("%d: %v", a.PID, a.Err)
		} else if a.PID != os.Getpid() {
			t.Errorf("the process is %d, want %d", a.PID, os.Getpid())
		}
		lines = append(lines, line)
	}
	slices.Sort(lines) // names are random
	return strings.Join(lines, "\n")
}

func TestServersAreFoundUntilTheyAreClosed(t *testing.T) {
	dir := folder(t)
	if got := looked(t, dir); got != "" {
		t.Errorf("without a folder Look said %q", got)
	}
	a, b, c := serve(t, dir, "a"), serve(t, dir, "b"), serve(t, dir, "c")
	for range 2 {
		if got := looked(t, dir); got != "a\nb\nc" {
			t.Errorf("Look said %q", got)
		}
	}
	b.Close()
	if got := looked(t, dir); got != "a\nc" {
		t.Errorf("after Close Look said %q", got)
	}
	a.Close()
	c.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, error %v", left, err)
	}
}

func TestOnlyTheOwnerCanConnect(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("has access lists instead of modes")
	}
	dir := folder(t)
	defer serve(t, dir, "").Close()
	sockets, err := os.ReadDir(dir)
	if err != nil || len(sockets) != 1 {
		t.Fatal(sockets, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, sockets[0].Name()): 0o600 | os.ModeSocket} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, error %v; want mode %v", path, info.Mode(), err, want)
		}
	}
}

func TestFoldersOfOthersAreRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("has access lists instead of modes")
	}
	refused := func(dir, why string) {
		t.Helper()
		if s, err := Serve(dir, func() []byte { return nil }); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Serve: error %v, want %q", err, why)
			if s != nil {
				s.Close()
			}
		}
		if _, err := Look(t.Context(), dir); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Look: error %v, want %q", err, why)
		}
	}
	dir := folder(t)
	serve(t, dir, "").Close()

	if err := os.Symlink(dir, dir+"2"); err != nil {
		t.Fatal(err)
	}
	refused(dir+"2", "no folder")
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	refused(dir, "chmod 700")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Skip("only root can give a folder away: ", err)
	}
	refused(dir, "another user (uid 12345")
}

// abandon leaves a socket behind that nobody listens on, as a killed process does.
func abandon(t *testing.T, dir, name string, age time.Duration) {
	t.Helper()
	path := filepath.Join(dir, name)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	then := time.Now().Add(-age)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestSocketsOfTheDeadAreRemoved(t *testing.T) {
	dir := folder(t)
	defer serve(t, dir, "alive").Close()
	abandon(t, dir, "episodic-4711-01234567.sock", time.Hour)
	if got, want := looked(t, dir), "4711: "+ErrDead.Error()+"\nalive"; got != want {
		t.Errorf("Look said %q, want %q", got, want)
	}
	if got := looked(t, dir); got != "alive" {
		t.Errorf("then Look said %q", got)
	}
}

func TestWhatOthersMadeIsLeftAlone(t *testing.T) {
	dir := folder(t)
	serve(t, dir, "").Close()
	abandon(t, dir, "docker.sock", time.Hour)
	// Its process may listen in a moment.
	abandon(t, dir, "episodic-4711-01234567.sock", -time.Minute)
	if err := os.WriteFile(filepath.Join(dir, "episodic-1-notes.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := looked(t, dir); got != "" {
		t.Errorf("Look said %q", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("left are %v, error %v", left, err)
	}
}

func TestAProcessThatDoesNotAnswerIsTold(t *testing.T) {
	dir := folder(t)
	defer serve(t, dir, "alive").Close()
	l, err := net.Listen("unix", filepath.Join(dir, "episodic-4711-01234567.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts nobody
	if got, want := looked(t, dir), "4711: no answer within 200ms; the process may be stopped\nalive"; got != want {
		t.Errorf("Look said %q, want %q", got, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Look(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
}

func TestCloseDoesNotWaitForWhoeverDoesNotRead(t *testing.T) {
	dir := folder(t)
	writing := make(chan struct{})
	s, err := Serve(dir, func() []byte {
		close(writing)
		return bytes.Repeat([]byte("x"), 16<<20) // more than the system takes for the reader
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-writing
	begin := time.Now()
	s.Close()
	if d := time.Since(begin); d > patience/2 {
		t.Errorf("Close took %v", d)
	}
}

func TestWhatIsTooLong(t *testing.T) {
	dir := folder(t)
	if _, err := Serve(filepath.Join(dir, strings.Repeat("x", 90)), nil); err == nil || !strings.Contains(err.Error(), "choose another folder") {
		t.Errorf("error %v for a long path", err)
	}
	defer serve(t, dir, strings.Repeat("x", maxDocument+1)).Close()
	if got, want := looked(t, dir), fmt.Sprintf("%d: the answer is longer than %d bytes", os.Getpid(), maxDocument); got != want {
		t.Errorf("Look said %.100q, want %q", got, want)
	}
}
