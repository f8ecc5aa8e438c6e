package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

func TestGC(t *testing.T) {
	c := newCLI(t)
	for day := range 6 {
		e := sample(day+1, "Task")
		if day == 1 {
			e.Context.Tags = []string{"gold"}
		}
		c.put(e)
	}
	c.fails(exitUsage, "all episodes would be deleted", "gc")
	c.fails(exitUsage, "is no age", "gc", "--older-than", "90")
	c.fails(exitUsage, "is no size", "gc", "--max-size", "much")
	c.fails(exitUsage, "give one of them", "gc", "--older-than", "1d", "--before", "2026-01-01")
	c.fails(exitUsage, "nothing was deleted", "gc", "--keep", "1")

	rule := []string{"gc", "--older-than", "1h", "--protect", "gold", "--keep", "3"}
	if out := c.ok(append(rule, "--dry-run")...); strings.Count(out, "2026-01-0") != 3 || !strings.Contains(out, "3 episodes of ") || !strings.Contains(out, " would be deleted; 3 episodes of ") {
		t.Errorf("with --dry-run gc printed %q", out)
	}
	c.stdin = strings.NewReader("yes\n")
	if out := c.ok(rule...); !strings.Contains(out, "Delete 3 episodes, ") || !strings.Contains(out, " deleted; 3 episodes of ") {
		t.Errorf("gc printed %q", out)
	}
	var left []string
	for _, e := range decode[listOutput](t, c.ok("list", "--json")).Episodes {
		left = append(left, e.Start.Format("02"))
	}
	if got := strings.Join(left, " "); got != "06 05 02" {
		t.Errorf("left are the days %s", got)
	}
	c.stdin = nil
	lines := strings.Split(strings.TrimSpace(c.ok("gc", "--outcome", "success", "--before", "2030-01-01", "--yes", "--no-snapshot", "--json")), "\n")
	var sums episodic.Collection
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sums); err != nil || sums.Episodes != int64(len(lines)-1) {
		t.Errorf("gc --json printed %q: %v", lines, err)
	}
	copied := decode[listOutput](t, c.ok("--db", c.env["EPISODIC_DB"]+".snapshot-gc", "list", "--json")).Episodes
	if len(copied) != 6 {
		t.Errorf("the copy from before the first gc has %d episodes, want 6", len(copied))
	}
	if out := c.ok("compact", "--secure"); !strings.Contains(out, ".snapshot-gc is a copy of the memory as it was before") {
		t.Errorf("compact --secure printed %q", out)
	}
}

func TestAgesAndSizes(t *testing.T) {
	for text, want := range map[string]age{"36h": age(36 * 3600e9), "2d": age(48 * 3600e9), "1w": age(7 * 24 * 3600e9), "": 0, "d": 0, "-1d": 0, "5": 0, "5m": 0, "2000000000w": 0} {
		var got age
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for text, want := range map[string]byteSize{"500": 500, "2kB": 2000, "500MB": 5e8, "2 gb": 2e9, "": 0, "MB": 0, "-5": 0, "9000000TB": 0} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}

func TestCompactSecurely(t *testing.T) {
	c := newCLI(t)
	a, b := sample(1, "Ask the zebracomet about the fee"), sample(2, "Ask the quaggastar about the fee")
	c.put(a, b)
	c.ok("delete", a.ID.String())
	c.fails(exitUsage, "needs --secure", "compact", "--prove", "zebracomet")
	c.fails(exitUsage, "at least 4", "compact", "--secure", "--prove", "fee")
	if out := c.ok("compact", "--secure", "--prove", "zebracomet"); !strings.Contains(out, "memory: all of its ") {
		t.Errorf("compact --secure printed %q", out)
	}
	c.stdin = strings.NewReader("zebracomet\nquaggastar\n")
	c.fails(exitFailure, "texts that were to be gone are in ", "compact", "--secure", "--prove", "-")
	c.stdin = nil
	if got := decode[episodic.Erasure](t, c.ok("compact", "--secure", "--json")); len(got.Files) != 1 || got.Files[0].Pages == 0 {
		t.Errorf("%+v", got)
	}
}
