package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

type liveOutput struct {
	Stores []episodic.LiveStore `json:"stores"`
}

// shortHome is a home whose path leaves room for the name of a socket.
func shortHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp("", "home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	return home
}

// importing starts an import that waits for more of its input once it has read some.
func importing(t *testing.T, home, db string) *os.Process {
	t.Helper()
	cmd := program(t, home, "--db", db, "import", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	// More than a pipe holds: when it is written, the program has read some.
	if _, err := io.WriteString(stdin, strings.Repeat("\n", 1<<20)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process
}

func TestStatsLive(t *testing.T) {
	c := newCLI(t)
	home := shortHome(t)
	c.env[liveDirEnv] = filepath.Join(home, "live")

	const none = "no running process of this user publishes"
	if got := c.run("stats", "--live"); got.code != exitOK || got.stdout != "" || !strings.Contains(got.stderr, none) {
		t.Errorf("without a process it says %+v", got)
	}
	if got := c.ok("stats", "--live", "--json"); got != "{\"stores\":[]}\n" {
		t.Errorf("without a process it says %q", got)
	}

	db := filepath.Join(home, "m.db")
	first, second := importing(t, home, db), importing(t, home, db)
	store := c.store()
	if err := store.PublishStats(c.env[liveDirEnv]); err != nil {
		t.Fatal(err)
	}
	got := decode[liveOutput](t, c.ok("stats", "--live", "--json")).Stores
	if len(got) != 3 {
		t.Fatalf("there are %+v", got)
	}
	for _, l := range got {
		switch {
		case l.Stats == nil, l.PID == first.Pid && l.Target != db, l.PID == second.Pid && l.Target != db,
			l.PID == os.Getpid() && l.Target != c.env["EPISODIC_DB"]:
			t.Errorf("it says %+v", l)
		}
	}
	human := c.ok("stats", "--live")
	for _, p := range []*os.Process{first, second} {
		want := regexp.MustCompile(fmt.Sprintf(`(?m)^process     %d %s
database    %s
open since  20[0-9-]+ [0-9:]+, for [0-9]+m?[0-9]*s
reads       [0-9]+
writes      [0-9]+, in [0-9]+ transactions?
cache       0 hits, 0 misses
failures    0
retries     0$`, p.Pid, regexp.QuoteMeta(filepath.Base(os.Args[0])), regexp.QuoteMeta(db)))
		if !want.MatchString(human) {
			t.Errorf("it says %q, want %s", human, want)
		}
	}

	// A process that was killed is told once.
	first.Kill()
	first.Wait()
	sockets, err := filepath.Glob(filepath.Join(c.env[liveDirEnv], fmt.Sprintf("episodic-%d-*.sock", first.Pid)))
	if err != nil || len(sockets) != 1 {
		t.Fatal(sockets, err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(sockets[0], hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	dead := fmt.Sprintf("process     %d: the process ended without closing; its socket was removed\n", first.Pid)
	if human := c.ok("stats", "--live"); !strings.Contains(human, dead) || !strings.Contains(human, fmt.Sprintf("process     %d ", second.Pid)) {
		t.Errorf("it says %q, want %q", human, dead)
	}
	if got := decode[liveOutput](t, c.ok("stats", "--live", "--json")).Stores; len(got) != 2 {
		t.Errorf("there are %+v", got)
	}
}

func TestStatsLiveRefusals(t *testing.T) {
	c := newCLI(t)
	c.fails(exitUsage, "leave --db", "stats", "--live", "--db", "m.db")
	c.env[liveDirEnv] = c.file("nofolder", "")
	c.fails(exitFailure, "$EPISODIC_LIVE_DIR", "stats", "--live")
	// What cannot be published is told, and hinders nothing.
	got := c.fails(exitOK, "stats --live will not show this command", "import", c.file("one.jsonl", `{"description": "Something"}`))
	if !strings.HasPrefix(got.stdout, "imported 1 episode, ") {
		t.Errorf("import printed %q", got.stdout)
	}
}
