package main

import (
	"os"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestLink(t *testing.T) {
	c := newCLI(t)
	file := c.env["EPISODIC_DB"]
	put := func(episodes ...*episodic.Episode) {
		t.Helper()
		store := c.store()
		for _, e := range episodes {
			if err := store.PutEpisode(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	server := hranatest.Start(t)
	c.fails(exitUsage, "a server is missing", "link")
	c.fails(exitUsage, "is a local file", "link", "elsewhere.db")
	c.fails(exitNotFound, "no such file", "link", server.URL())
	put(sample(1, "Fix the race"), sample(2, "Write the manual"))
	c.fails(exitUsage, "linked to no server", "link", "--undo")

	report := decode[episodic.LinkReport](t, c.ok("link", "--json", server.URL()))
	if report.Server != server.URL() || report.Items < 2 || len(report.Different) != 0 {
		t.Errorf("%+v", report)
	}
	if _, err := os.Stat(report.Kept); err != nil {
		t.Error(err)
	}
	c.fails(exitUsage, "is linked to "+server.URL()+" already", "link", server.URL())
	if out := c.ok("search", "--json", "race"); len(decode[searchOutput](t, out).Hits) != 1 {
		t.Errorf("found %s", out)
	}
	if out := c.ok("sync"); !strings.Contains(out, "replica     "+file+"\n") || !strings.Contains(out, "complete    yes\n") {
		t.Errorf("printed %q", out)
	}
	c.fails(exitUsage, "link --undo", "sync", "reset")
	put(sample(3, "Paint the fence"))
	c.env["EPISODIC_DB"] = server.URL()
	if out := c.ok("search", "--json", "fence"); len(decode[searchOutput](t, out).Hits) != 1 {
		t.Errorf("what was written to the linked file: %s", out)
	}

	server.Kill()
	got := c.run("link", "--undo", file)
	if got.code != exitOK || !strings.Contains(got.stdout, file+" is a local memory") || !strings.Contains(got.stderr, "what is newer on the server is not in it") {
		t.Errorf("%+v", got)
	}
	c.env["EPISODIC_DB"] = file
	c.fails(exitUsage, "nothing to synchronise", "sync")
	if out := c.ok("search", "--json", "race"); len(decode[searchOutput](t, out).Hits) != 1 {
		t.Errorf("found %s", out)
	}
}
