package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestSync(t *testing.T) {
	c := newCLI(t)
	for _, args := range [][]string{{"sync"}, {"sync", "now"}, {"sync", "reset"}} {
		c.fails(exitUsage, "nothing to synchronise", args...)
	}
	server := hranatest.Start(t)
	c.env["EPISODIC_DB"] = server.URL()
	c.fails(exitFailure, "nothing has been stored", "sync")
	c.put(sample(1, "Fix the race"), sample(2, "Write the manual"))

	now := decode[syncOutput](t, c.ok("sync", "now", "--json"))
	if !now.Complete || now.Remaining != 0 || now.AsOf.IsZero() || now.Down != "" || now.Database != server.URL() || filepath.Base(now.Path) != "replica.db" {
		t.Errorf("now: %+v", now)
	}
	if again := decode[syncOutput](t, c.ok("sync", "now", "--json")); again.Items != 0 || again.Received == 0 {
		t.Errorf("again: %+v", again)
	}
	if out := c.ok("sync"); !strings.Contains(out, "complete    yes\n") || !strings.Contains(out, " ago\n") || strings.Contains(out, "\nserver ") {
		t.Errorf("printed %q", out)
	}
	if out := c.ok("search", "--json", "race"); len(decode[searchOutput](t, out).Hits) != 1 {
		t.Errorf("found %s", out)
	}

	if found := decode[map[string][]any](t, c.ok("sync", "verify", "--deep", "--json")); len(found["differences"]) != 0 {
		t.Errorf("differences %v", found)
	}

	server.Kill()
	c.fails(exitFailure, "what was fetched is kept", "sync", "now")
	if out := c.ok("sync"); !strings.Contains(out, "complete    yes\n") || !strings.Contains(out, "\nserver      ") || !strings.Contains(out, "connection refused") {
		t.Errorf("printed %q", out)
	}
	if out := c.ok("search", "--json", "race"); len(decode[searchOutput](t, out).Hits) != 1 {
		t.Errorf("found %s while the server is away", out)
	}

	c.ok("sync", "reset")
	if got := c.run("sync", "reset"); got.code != exitOK || !strings.Contains(got.stderr, "there was no replica") {
		t.Errorf("reset again: %+v", got)
	}
	if removed := decode[map[string]bool](t, c.ok("sync", "reset", "--json")); removed["removed"] {
		t.Error("removed nothing")
	}
	t.Setenv("EPISODIC_REPLICA", "0")
	ok := server.Restart()
	if ok != nil {
		t.Fatal(ok)
	}
	c.fails(exitUsage, "EPISODIC_REPLICA=0", "sync")
	c.fails(exitUsage, "is not kept", "sync", "reset")
}
