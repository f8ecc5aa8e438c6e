package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

// What is not damaged is printed, and stderr names the rest.
func TestDamagedEpisodesAreNamed(t *testing.T) {
	t.Parallel()
	c := &cli{t: t, home: t.TempDir(), env: map[string]string{}}
	path := filepath.Join(c.home, "test.db")
	c.env["EPISODIC_DB"] = path
	store, err := episodic.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var bad string
	for _, text := range []string{"pay 100 dollars", "pay 200 dollars", "pay 300 dollars"} {
		e := &episodic.Episode{Description: text, Start: time.Now().Add(-time.Hour), End: time.Now(), Outcome: episodic.Outcome{Kind: episodic.Success}}
		if err := store.PutEpisode(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if text == "pay 200 dollars" {
			bad = e.ID.String()
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte("pay 200"))
	if at < 0 || bytes.Contains(file[at+1:], []byte("pay 200")) {
		t.Fatal("the text does not stand in the file once")
	}
	file[at+4] ^= '2' ^ '9'
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}

	missing := "missing: episode " + bad
	out := filepath.Join(c.home, "all.jsonl")
	for _, args := range [][]string{
		{"list"}, {"list", "--json"}, {"search", "pay", "dollars"}, {"search", "--json", "pay", "dollars"},
		{"export"}, {"export", "--outcome", "success"}, {"export", "-o", out},
	} {
		got := c.fails(exitFailure, missing, args...).stdout
		if args[0] == "export" && len(args) == 3 && args[1] == "-o" {
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			got = string(text)
		}
		if !strings.Contains(got, "pay 100") || !strings.Contains(got, "pay 300") || strings.Contains(got, "pay 900") || strings.Contains(got, "pay 200") {
			t.Errorf("%q printed %s", args, got)
		}
	}
	if got := c.run("brief", "pay 100 dollars"); got.code != exitOK || !strings.Contains(got.stderr, "left out: episode "+bad) || !strings.Contains(got.stdout, "pay 100") {
		t.Errorf("brief: %+v", got)
	}
	if got := c.fails(exitFailure, "episodic doctor", "show", bad); strings.Contains(got.stderr, "delete") || strings.Count(got.stderr, "doctor") != 1 {
		t.Errorf("show says %s", got.stderr)
	}
}
