package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// serverEnv makes the test binary a server, of the memory in this folder.
const serverEnv = "EPISODIC_TEST_SERVE"

func serveAsProgram(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, err := episodic.Open(ctx, filepath.Join(dir, "memory.db"), nil)
	if err != nil {
		return err
	}
	server, err := New(Options{Store: store, Tokens: access.NewFile(filepath.Join(dir, "tokens"))})
	if err != nil {
		return err
	}
	debug.SetGCPercent(50) // as the command does
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return errors.Join(server.Serve(ctx, listener), store.Close())
}

// TestHostileConnectionsTakeLittleMemory opens connections that each do something else that is
// bad, also with a token that may read, keeps them as long as they last, and looks at what the server
// takes at most.
func TestHostileConnectionsTakeLittleMemory(t *testing.T) {
	connections := testkit.Effort(0, 0, 1000)
	if connections == 0 || runtime.GOOS != "linux" {
		t.Skip("it takes a while, and asks Linux")
	}
	dir := t.TempDir()
	tokens := access.NewFile(filepath.Join(dir, "tokens"))
	good, err := tokens.Create(t.Context(), access.Token{Name: "good", Rights: access.Read})
	ok(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"="+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	addr, err := bufio.NewReader(out).ReadString('\n')
	ok(t, err)
	addr = strings.TrimSpace(addr)

	before := memoryOf(t, cmd.Process.Pid, "VmRSS")
	head := "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	known := head + "Authorization: Bearer " + good + "\r\n"
	long := strings.Repeat("a", 1<<20)
	attacks := []func(w io.Writer){
		func(io.Writer) {},
		func(w io.Writer) { // a header, a byte at a time
			for i := range head {
				if _, err := io.WriteString(w, head[i:i+1]); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		},
		func(w io.Writer) { fmt.Fprintf(w, "%sX-Long: %s\r\n\r\n", head, long) },
		func(w io.Writer) { fmt.Fprintf(w, "%sContent-Length: 4000000\r\n\r\n%s%s", head, long, long) }, // no token
		func(w io.Writer) { fmt.Fprintf(w, "%sContent-Length: 4000000\r\n\r\n%s%s", known, long, long) },
		func(w io.Writer) { fmt.Fprintf(w, "%sContent-Length: 30000\r\n\r\n%s", known, long[:29_000]) },
		func(w io.Writer) { fmt.Fprintf(w, "%sTransfer-Encoding: chunked\r\n\r\n100000\r\n%s\r\n", known, long) },
		func(w io.Writer) { fmt.Fprintf(w, "%sContent-Length: 99999999999\r\n\r\n", known) },
		func(w io.Writer) {
			body := strings.Repeat("[", 4_000_000)
			fmt.Fprintf(w, "%sContent-Length: %d\r\n\r\n%s", known, len(body), body)
		},
		func(w io.Writer) { // answers that nobody reads
			for range 1000 {
				if _, err := io.WriteString(w, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
					return
				}
			}
		},
		func(w io.Writer) {
			body := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{},` + modern + `}}`
			fmt.Fprintf(w, "%sMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\nContent-Length: %d\r\n\r\n%s", known, len(body), body)
		},
	}
	var attacking sync.WaitGroup
	for i := range connections {
		attacking.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				return // the system's queue is full
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
			attacks[i%len(attacks)](conn)
			_, _ = io.Copy(io.Discard, conn)
		})
	}
	attacking.Wait()
	added := memoryOf(t, cmd.Process.Pid, "VmHWM") - before
	t.Logf("of %d kB, %d were added", added+before, added)
	if added > 40_000 {
		t.Errorf("to %d kB, %d were added", before, added)
	}
	s := &site{t: t, url: "http://" + addr, client: httpClient(t)}
	if text, failed := s.tool(good, "recall", `{"query":"x"}`); failed {
		t.Errorf("afterwards it says %s", text)
	}
	ok(t, cmd.Process.Signal(syscall.SIGTERM))
	ok(t, cmd.Wait())
}

// memoryOf is what a process takes of the memory of this machine, in kB, by one of Linux's names.
func memoryOf(t *testing.T, pid int, name string) (kB int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	ok(t, err)
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, name+": %d kB", &kB); n == 1 {
			return kB
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
