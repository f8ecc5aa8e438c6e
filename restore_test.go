package episodic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestRestoreBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, backup := filepath.Join(dir, "m.db"), filepath.Join(dir, "b.db")
	s := open(t, file, nil)
	first, second := &Episode{Description: "first valve"}, &Episode{Description: "second valve"}
	ok(t, s.PutEpisode(t.Context(), first))
	_, err := s.Backup(t.Context(), backup, nil)
	ok(t, err)
	ok(t, s.PutEpisode(t.Context(), second))
	if _, err := RestoreBackup(t.Context(), backup, file, &RestoreOptions{Force: true}); !Retryable(err) {
		t.Errorf("over a file that is open: %v", err)
	}
	ok(t, s.Close())
	_, err = RestoreBackup(t.Context(), backup, file, nil)
	wants(t, err, ErrNewer, "its last change has the number 2, the backup's 1")
	alone(t, dir, "b.db", "m.db")

	report, err := RestoreBackup(t.Context(), backup, file, &RestoreOptions{Force: true})
	ok(t, err)
	if report.Kept != file+".before-restore" || report.Source != file || report.Path != file {
		t.Errorf("%+v", report)
	}
	alone(t, dir, "b.db", "m.db", "m.db.before-restore")
	restored, kept := open(t, file, nil), open(t, report.Kept, nil)
	for _, tt := range []struct {
		s    *Store
		want int64
	}{{restored, 1}, {kept, 2}} {
		if c, err := tt.s.Counts(t.Context()); err != nil || c.Episodes != tt.want {
			t.Errorf("%d episodes, want %d: %v", c.Episodes, tt.want, err)
		}
	}
	// It is an ordinary memory again, and no backup.
	second.Revision = 0
	ok(t, restored.PutEpisode(t.Context(), second))
	ok(t, restored.Close())
	_, err = RestoreBackup(t.Context(), file, filepath.Join(dir, "new.db"), nil)
	wants(t, err, ErrInvalid, "no backup")

	// Nothing was there: what is restored is what the backup holds.
	_, err = RestoreBackup(t.Context(), backup, filepath.Join(dir, "new.db"), nil)
	ok(t, err)
	// The same again is no older, and the one that was kept is kept.
	again, err := RestoreBackup(t.Context(), backup, filepath.Join(dir, "new.db"), nil)
	ok(t, err)
	if again.Kept == "" {
		t.Error("nothing was kept")
	}
	sameContents(t, contents(t, open(t, filepath.Join(dir, "new.db"), nil)), contents(t, open(t, backup, nil)))
}

// A memory that is damaged, or another one, is replaced only if that is forced, and is kept.
func TestRestoreOverOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	backup := filepath.Join(dir, "b.db")
	s := open(t, filepath.Join(dir, "m.db"), nil)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
	_, err := s.Backup(t.Context(), backup, nil)
	ok(t, err)

	other := filepath.Join(dir, "other.db")
	o := open(t, other, nil)
	ok(t, o.PutEpisode(t.Context(), &Episode{Description: "y"}))
	ok(t, o.Close())
	_, err = RestoreBackup(t.Context(), backup, other, nil)
	wants(t, err, ErrNewer, "another memory")

	for name, damage := range map[string]func([]byte) []byte{
		"cut":    func(b []byte) []byte { return b[:len(b)/2] },
		"header": func(b []byte) []byte { copy(b, make([]byte, 16)); return b },
	} {
		bytes, err := os.ReadFile(other)
		ok(t, err)
		damaged := filepath.Join(dir, name)
		ok(t, os.WriteFile(damaged, damage(bytes), 0o600))
		ok(t, os.WriteFile(damaged+"-wal", []byte("log"), 0o600))
		if _, err = RestoreBackup(t.Context(), backup, damaged, nil); !errors.Is(err, ErrNewer) {
			t.Errorf("over one that is %s: %v", name, err)
		}
		report, err := RestoreBackup(t.Context(), backup, damaged, &RestoreOptions{Force: true})
		if err != nil {
			t.Fatalf("over one that is %s, forced: %v", name, err)
		}
		if kept, err := os.ReadFile(report.Kept); err != nil || len(kept) != len(damage(bytes)) {
			t.Errorf("kept: %d bytes, %v", len(kept), err)
		}
		if c, err := open(t, damaged, nil).Counts(t.Context()); err != nil || c.Episodes != 1 {
			t.Errorf("restored: %+v, %v", c, err)
		}
	}
}

// Whatever byte of a backup is damaged: it is not restored, or what is restored is what there was.
func TestRestoreOfDamagedBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "m.db"), nil)
	for range 3 {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "pay 100 for the valve"}))
	}
	want := contents(t, s)
	backup := filepath.Join(dir, "b.db")
	_, err := s.Backup(t.Context(), backup, nil)
	ok(t, err)
	whole, err := os.ReadFile(backup)
	ok(t, err)
	for i := range testkit.Effort(3, 10, 60) {
		damaged := slices.Clone(whole)
		at, by := rand.N(len(damaged)), byte(1+rand.N(255))
		damaged[at] ^= by
		from, to := filepath.Join(dir, fmt.Sprint("damaged", i)), filepath.Join(dir, fmt.Sprint("restored", i))
		ok(t, os.WriteFile(from, damaged, 0o600))
		if _, err := RestoreBackup(t.Context(), from, to, nil); err != nil {
			if _, err := os.Stat(to); err == nil {
				t.Errorf("byte %d ^ %#x: refused, and there is a file", at, by)
			}
			continue
		}
		r := open(t, to, nil)
		sameContents(t, contents(t, r), want)
		ok(t, r.Close())
	}
}

// A backup that is not what it was is not restored.
func TestRestoreDamagedBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "m.db"), nil)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "transfer 100 to the valve"}))
	backup := filepath.Join(dir, "b.db")
	_, err := s.Backup(t.Context(), backup, nil)
	ok(t, err)
	b := open(t, backup, nil)
	ok(t, b.PutEpisode(t.Context(), &Episode{Description: "later"}))
	ok(t, b.Close())
	_, err = RestoreBackup(t.Context(), backup, filepath.Join(dir, "new.db"), nil)
	wants(t, err, ErrCorrupt, "not what it was")
	alone(t, dir, "b.db", "m.db")
	_, err = RestoreBackup(t.Context(), filepath.Join(dir, "none.db"), filepath.Join(dir, "new.db"), nil)
	wants(t, err, ErrNotFound, "no such backup")
	_, err = RestoreBackup(t.Context(), backup, "libsql://host", nil)
	wants(t, err, ErrInvalid, "is a server")
}
