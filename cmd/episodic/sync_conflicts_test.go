package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestSyncConflicts(t *testing.T) {
	c := newCLI(t)
	c.fails(exitUsage, "nothing to synchronise", "sync", "conflicts")
	server := hranatest.Start(t)
	c.env["EPISODIC_DB"] = server.URL()
	e := sample(1, "Fix the race")
	c.put(e)
	if out := c.ok("sync", "conflicts"); out != "there are no conflicts\n" {
		t.Errorf("printed %q", out)
	}

	link, err := hranatest.NewLink(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	dir := t.TempDir()
	queueing, err := episodic.Open(t.Context(), link.URL(), &episodic.Options{
		StateDir: dir, CacheDir: dir, LockDir: dir,
		Replica: episodic.Replica{Path: filepath.Join(dir, "replica.db"), Offline: episodic.Queue},
	})
	if err == nil {
		t.Cleanup(func() { _ = queueing.Close() }) // it may be offline
		err = queueing.Sync(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	link.Refuse(true)
	link.ResetAll()
	read, err := queueing.Episode(t.Context(), e.ID)
	if err == nil {
		read.Description = "Fix the deadlock"
		err = queueing.PutEpisode(t.Context(), read)
	}
	if err != nil {
		t.Fatal(err)
	}
	e.Description, e.Revision = "Fix the livelock", 0
	c.put(e)
	link.Refuse(false)
	for tries := 0; ; tries++ {
		if err = queueing.Flush(t.Context()); err == nil {
			break
		}
		if tries == 20 {
			t.Fatal(err)
		}
	}

	listed := decode[map[string][]episodic.Conflict](t, c.ok("sync", "conflicts", "--json"))["conflicts"]
	if len(listed) != 1 || listed[0].Kind != episodic.ConflictChanged || listed[0].Episode.Description != "Fix the livelock" {
		t.Fatalf("conflicts %+v", listed)
	}
	n := fmt.Sprint(listed[0].Number)
	if out := c.ok("sync", "conflicts"); !strings.HasPrefix(out, n+" ") || !strings.Contains(out, `two have changed description; kept of the earlier "Fix the livelock"`) {
		t.Errorf("printed %q", out)
	}
	c.ok("sync", "now") // or it may read what the replica had up to 5 s ago
	if out := c.ok("show", e.ID.String()); !strings.Contains(out, "Fix the deadlock") {
		t.Errorf("printed %q", out)
	}
	if out := c.ok("sync", "conflicts", "--restore", n); out != "conflict "+n+" is restored\n" {
		t.Errorf("printed %q", out)
	}
	c.ok("sync", "now")
	if out := c.ok("show", e.ID.String()); !strings.Contains(out, "Fix the livelock") {
		t.Errorf("printed %q", out)
	}
	c.fails(exitNotFound, "not found", "sync", "conflicts", "--restore", n)
}
