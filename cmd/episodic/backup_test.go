package main

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestBackupAndRestore(t *testing.T) {
	c := newCLI(t)
	file, backup := c.env["EPISODIC_DB"], filepath.Join(c.home, "b.db")
	c.fails(exitFailure, "nothing has been stored there yet", "backup", backup)
	c.change(putting(t, sample(1, "Fix the race"), sample(2, "Write the manual")))
	if out := c.ok("backup", backup); !strings.HasPrefix(out, backup+" holds 2 episodes and ") {
		t.Errorf("printed %q", out)
	}
	c.fails(exitFailure, "file already exists; name another one", "backup", backup)
	report := decode[episodic.BackupReport](t, c.ok("backup", "--json", "--keep", "1", backup))
	next := c.ok("backup", "--keep", "1", backup)
	if !strings.Contains(next, "removed "+report.Path+"\n") {
		t.Errorf("printed %q", next)
	}
	c.change(putting(t, sample(3, "Paint the fence")))
	c.fails(exitFailure, "is newer than the backup", "restore", backup)
	out := c.ok("restore", "--force", backup)
	if !strings.Contains(out, file+" is as "+file+" was ") || !strings.Contains(out, file+".before-restore\n") {
		t.Errorf("printed %q", out)
	}
	if counts := c.ok("stats"); !strings.Contains(counts, "episodes    2\n") {
		t.Errorf("after it was restored: %s", counts)
	}
	c.env["EPISODIC_DB"] = "http://127.0.0.1:1"
	c.fails(exitUsage, "name a local file", "restore", backup)
}

// change opens the memory for a change, and closes it.
func (c *cli) change(f func(*episodic.Store) error) {
	c.t.Helper()
	store, err := episodic.Open(c.t.Context(), c.env["EPISODIC_DB"], nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := errors.Join(f(store), store.Close()); err != nil {
		c.t.Fatal(err)
	}
}

func putting(t *testing.T, episodes ...*episodic.Episode) func(*episodic.Store) error {
	return func(store *episodic.Store) error {
		_, err := store.AddEpisodes(t.Context(), episodes...)
		return err
	}
}

func TestCopy(t *testing.T) {
	c := newCLI(t)
	c.put(sample(1, "Fix the race"), sample(2, "Write the manual"))
	file, server, back := c.env["EPISODIC_DB"], hranatest.Start(t).URL(), filepath.Join(c.home, "back.db")
	if out := c.ok("copy", file, server); !strings.Contains(out, "episode           2  sha256 ") || strings.Contains(out, "there") {
		t.Errorf("printed %q", out)
	}
	report := decode[episodic.CopyReport](t, c.ok("copy", "--json", server, back))
	if len(report.Different) != 0 || report.Source[0] != report.Copy[0] {
		t.Errorf("%+v", report)
	}
	c.change(func(store *episodic.Store) error {
		page, err := store.ListEpisodes(t.Context(), nil, nil)
		if err != nil {
			return err
		}
		page.Items[0].Description = "Write another manual"
		return store.PutEpisode(t.Context(), page.Items[0])
	})
	got := c.run("copy", file, back)
	if got.code != exitFailure || !strings.Contains(got.stdout, "there: revision") || !strings.Contains(got.stderr, "1 item of "+file+": otherwise in "+back) {
		t.Errorf("%+v", got)
	}
	c.fails(exitUsage, "name another one", "copy", file, file)
	c.fails(exitNotFound, "no memory", "copy", filepath.Join(c.home, "none.db"), back)
}

// A file that others can read is told of once, with what ends that.
func TestFileOfOthersIsTold(t *testing.T) {
	c := newCLI(t)
	t.Setenv("TMPDIR", t.TempDir())
	c.put(sample(1, "Fix the race"))
	file := c.env["EPISODIC_DB"]
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := c.run("list"); got.code != exitOK || !strings.Contains(got.stderr, "chmod 600 "+file) {
		t.Errorf("%+v", got)
	}
	c.ok("list")
}

// Commands that only read do not upgrade a file of an older version; the first that may write does,
// and says so.
func TestReadingDoesNotUpgrade(t *testing.T) {
	c := newCLI(t)
	packed, err := os.Open("../../testdata/schema4.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	old, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	file := c.file("old.db", string(old))
	c.env["EPISODIC_DB"] = file
	for _, args := range [][]string{{"list"}, {"stats"}, {"search", "race"}, {"export"}, {"names", "tags"}, {"brief", "race"}, {"show", "0192"}, {"backup", file + ".backup"}} {
		if got := c.run(args...); !strings.Contains(got.stderr, "was read from a copy") {
			t.Errorf("%q: %+v", args, got)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != string(old) {
			t.Fatalf("%q has changed the file: %v", args, err)
		}
	}
	if got := c.run("compact"); got.code != exitOK || !strings.Contains(got.stderr, "was upgraded from schema version 4") || !strings.Contains(got.stderr, file+".snapshot-schema-4") {
		t.Errorf("%+v", got)
	}
	c.ok("list")
}
