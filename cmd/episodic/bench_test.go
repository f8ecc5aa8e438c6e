package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/durability"
)

func TestBenchDurability(t *testing.T) {
	t.Setenv("EPISODIC_TEST_AS_PROGRAM", "1") // for the processes that it starts
	c := newCLI(t)
	short := []string{"bench", "durability", "--processes", "2", "--duration", "300ms", "--kill-every", "100ms"}
	got := c.run(short...)
	if got.code != exitOK || !strings.Contains(got.stdout, "\nlost              0\n") || !strings.Contains(got.stdout, "\ndoctor            clean; ") || !strings.Contains(got.stderr, "in a fresh process") {
		t.Errorf("%+v", got)
	}
	path := filepath.Join(c.home, "tried.db")
	got = c.run(append(short, "--json", "--seed", "7", path)...)
	var r durability.Report
	if got.code == exitOK {
		r = decode[durability.Report](t, got.stdout)
	}
	if got.code != exitOK || r.Failed() || r.Seed != 7 || r.Verified != r.Receipts || r.Doctor.Target != path || r.Doctor.Items == 0 || !strings.Contains(got.stderr, "deleting what was written") {
		t.Errorf("%+v", got)
	}
	c.env["EPISODIC_DB"] = path
	if n := len(decode[listOutput](t, c.ok("list", "--json")).Episodes); n != 0 {
		t.Errorf("%d episodes are left", n)
	}
	c.fails(exitUsage, "processes: are 0", "bench", "durability", "--processes", "0")
	c.fails(exitUsage, "cut-every: needs a server", "bench", "durability", "--cut-every", "1s", path)
	c.fails(exitUsage, "sqld: starts a server of its own", "bench", "durability", "--sqld", "sqld", path)
}
