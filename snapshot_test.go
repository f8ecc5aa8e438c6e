package episodic

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// A file with nothing in it, as one that another process is making, is upgraded without a word.
func TestNothingIsUpgradedInSilence(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{true, false} {
		dir := t.TempDir()
		path := filepath.Join(dir, "m.db")
		unpack4(t, path)
		old, err := embedded.Open(t.Context(), embedded.Config{Path: path})
		ok(t, err)
		for _, table := range []string{"relations", "episodes", "patterns", "heuristics"} {
			_, err = old.Batch(t.Context(), stmt("DELETE FROM "+table))
			ok(t, err)
		}
		ok(t, old.Close())
		s := open(t, path, &Options{DisableUpgrade: reads})
		if n := s.Notices(); len(n) > 0 {
			t.Errorf("told: %q", n)
		}
		ok(t, s.Close())
		alone(t, dir, "m.db")
	}
}

// An upgrade leaves the file as it was beside it, and says so; the one before is removed.
func TestSnapshotBeforeUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "m.db")
	unpack4(t, path)
	s, err := Open(t.Context(), path, nil)
	ok(t, err)
	kept := path + ".snapshot-schema-4"
	if n := s.Notices(); len(n) != 1 || !strings.Contains(n[0], "from schema version 4 to ") || !strings.HasSuffix(n[0], kept) {
		t.Errorf("told: %q", n)
	}
	ok(t, s.Close())
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	alone(t, dir, "m.db", "m.db.snapshot-schema-4")
	log := &testkit.Log{}
	s = open(t, path, &Options{Logger: log.Logger()})
	if n := s.Notices(); len(n) > 0 || strings.Contains(log.Take(), "upgraded") {
		t.Errorf("told again: %q", n)
	}
	ok(t, s.Close())

	// It undoes the upgrade, and can be upgraded again.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + suffix)
	}
	_, err = RestoreBackup(t.Context(), kept, path, nil)
	ok(t, err)
	ok(t, os.Rename(kept, path+".snapshot-schema-3"))
	ok(t, os.WriteFile(path+".snapshot-schema-2", nil, 0o600)) // of somebody else
	s = open(t, path, nil)
	if n := s.Notices(); len(n) != 1 {
		t.Errorf("told: %q", n)
	}
	ok(t, s.Close())
	alone(t, dir, "m.db", "m.db.snapshot-schema-2", "m.db.snapshot-schema-4")
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "m.db")
	s := open(t, path, nil)
	for want := int64(1); want <= 2; want++ {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
		name, err := s.Snapshot(t.Context(), "gc")
		ok(t, err)
		if name != path+".snapshot-gc" {
			t.Errorf("named %s", name)
		}
		b := open(t, name, nil)
		if c, err := b.Counts(t.Context()); err != nil || c.Episodes != want {
			t.Errorf("%+v, %v", c, err)
		}
		ok(t, b.Close())
	}
	alone(t, dir, "m.db", "m.db.snapshot-gc")
	for _, label := range []string{"", "../x", "a b"} {
		_, err := s.Snapshot(t.Context(), label)
		wants(t, err, ErrInvalid, "letters, digits")
	}
	ok(t, os.WriteFile(path+".snapshot-mine", []byte("mine"), 0o600))
	if _, err := s.Snapshot(t.Context(), "mine"); err == nil || !strings.Contains(err.Error(), "no snapshot of this memory") {
		t.Errorf("over another file: %v", err)
	}
}

// Who only reads does not upgrade a file.
func TestDisableUpgrade(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "m.db")
	unpack4(t, path)
	before, err := os.ReadFile(path)
	ok(t, err)
	s, err := Open(t.Context(), path, &Options{DisableUpgrade: true})
	ok(t, err)
	c := content4()
	c.reads(t, s)
	if found, err := s.Search(t.Context(), "修复竞争", nil); err != nil || len(found.Hits) == 0 || found.Waiting > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	wants(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}), ErrReadOnly, "upgraded copy")
	if n := s.Notices(); len(n) != 1 || !strings.Contains(n[0], "has schema version 4") {
		t.Errorf("told: %q", n)
	}
	report, err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "b.db"), nil)
	if ok(t, err); report.Source != path {
		t.Errorf("%+v", report)
	}
	ok(t, s.Close())
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %v", err)
	}
	alone(t, filepath.Dir(path), "m.db")
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "episodic-copy-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// A file that needs no upgrade can be written.
	ok(t, open(t, path, nil).Close())
	s = open(t, path, &Options{DisableUpgrade: true})
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
}
