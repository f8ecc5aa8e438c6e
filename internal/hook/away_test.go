package hook

import (
	"context"
	"database/sql"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// An event waits while another program has the memory locked.
func TestLocked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Open = recorderOf(b.Dir, b.path).Open
	b.prompt("s", "mend it")
	db, err := sql.Open("sqlite", b.path) // the driver is the Store's
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if _, err := b.Record(ctx, event(t, callPayload("s", "a", "x"))); err == nil {
		t.Error("it was stored")
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	b.want("s", "mend it, running")
	if err := b.Sweep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	b.want("s", "mend it, running\n"+`Bash{"command":"run a"} -> output x`)
}

// A memory on a server has what hooks have put down since it was away.
func TestServer(t *testing.T) {
	t.Parallel()
	url := hranatest.Start(t).URL()
	down := httptest.NewServer(nil)
	down.Close()
	b := newBench(t)
	b.Open, b.Remote = recorderOf(b.Dir, down.URL).Open, true
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := b.Record(ctx, event(t, payload("s", "UserPromptSubmit", map[string]any{"prompt": "mend it"}))); err == nil {
		t.Error("it was stored")
	}
	b.call("s", "a", "x")
	b.stop("s", "did")
	b.Open = recorderOf(b.Dir, url).Open
	if err := os.Remove(filepath.Join(b.Dir, awayFile)); err != nil {
		t.Fatal(err)
	}
	b.call("s", "b", "y")
	b.end("s")
	store, err := episodic.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	e, err := store.Episode(t.Context(), idOf(clients.ClaudeCode, "s"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := told(e), "mend it, ended: did\n"+`Bash{"command":"run a"} -> output x`+"\n"+`Bashdid{"command":"run b"} -> output y`; got != want {
		t.Errorf("it is\n%s\n\nwant\n%s", got, want)
	}
}

// Where too much waits, steps are lost, which is told; what comes later is not.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.prompt("s", "mend it")
	folder := filepath.Join(b.Dir, name(clients.ClaudeCode, "s"))
	s, err := loadSession(folder)
	if err != nil {
		t.Fatal(err)
	}
	large := event(t, callPayload("s", "", strings.Repeat("ü", textBytes)))
	const room = waitingBytes / textBytes
	for i := range room + 2 {
		large.Key = strconv.Itoa(i)
		s.take(&arrival{Event: b.kept(large), At: b.time()})
	}
	if n := len(s.Pending); n != room || s.Lost != 2 || len(s.Pending[0].Step.Result.Text) > textBytes+len("…") {
		t.Errorf("%d steps wait, %d are lost, a result has %d bytes", n, s.Lost, len(s.Pending[0].Step.Result.Text))
	}
	s.Pending = nil
	if err := s.save(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Record(t.Context(), event(t, callPayload("s", "a", "x"))); err == nil || !strings.Contains(err.Error(), "2 steps are lost") {
		t.Errorf("error %v", err)
	}
	b.call("s", "b", "y")
	b.want("s", "mend it, running\n"+`Bash{"command":"run a"} -> output x`+"\n"+`Bash{"command":"run b"} -> output y`)
}

// Whatever a payload holds, its session can be stored.
func TestOddTexts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i, odd := range []string{`\u0000`, `\u0007 \u202e`, `\ud800`, strings.Repeat("ü", 10_000), strings.Repeat("a/", 1000), ""} {
		session := "s" + strconv.Itoa(i)
		for _, p := range []string{
			`{"session_id":"` + session + `","cwd":"/w/` + odd + `","hook_event_name":"UserPromptSubmit","prompt":"do ` + odd + `"}`,
			`{"session_id":"` + session + `","cwd":"/w/` + odd + `","hook_event_name":"PostToolUse","tool_name":"T` + odd + `","tool_input":{"a":"` + odd + `"},"tool_response":"` + odd + `","tool_use_id":"` + odd + `"}`,
			`{"session_id":"` + session + `","hook_event_name":"SessionEnd"}`,
		} {
			if _, err := b.Record(t.Context(), event(t, []byte(p))); err != nil {
				t.Errorf("%.80s: %v", p, err)
			}
		}
		if e := b.episode(session); e == nil || e.StepCount != 1 || e.Running() {
			t.Errorf("%.20q: it is %.300s", odd, told(e))
		}
	}
}
