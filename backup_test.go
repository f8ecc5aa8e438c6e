package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, to := filepath.Join(dir, "m.db"), filepath.Join(dir, "b.db")
	filledFile(t, file)
	s := open(t, file, nil)
	var done, all int64
	report, err := s.Backup(t.Context(), to, &BackupOptions{Progress: func(d, a int64) { done, all = d, a }})
	ok(t, err)
	counts, err := s.Counts(t.Context())
	ok(t, err)
	info, err := os.Stat(to)
	ok(t, err)
	if report.Counts != counts || report.Path != to || report.Source != file || report.Bytes != info.Size() || done != all || done == 0 {
		t.Errorf("%+v of %+v, %d bytes, %d of %d", report, counts, info.Size(), done, all)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := s.Backup(t.Context(), to, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
	alone(t, dir, "b.db", "m.db")
	want := contents(t, s)
	b := open(t, to, nil)
	sameContents(t, contents(t, b), want)
	checkIndex(t, b)
}

// alone fails unless a folder holds these files, and sidecars of them.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	var got []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "-wal") && !strings.HasSuffix(e.Name(), "-shm") {
			got = append(got, e.Name())
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("in the folder: %v, want %v", got, names)
	}
}

// A backup that is made while others write holds all that was acknowledged before it began, and
// what it holds is of one moment.
func TestBackupWhileOthersWrite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "m.db")
	for name, target := range map[string]string{"file": file, "server": hranatest.Start(t).URL()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			acknowledged := make(map[ID]int)
			ctx, stop := context.WithCancel(t.Context())
			var writers sync.WaitGroup
			defer writers.Wait()
			defer stop()
			enough := make(chan struct{}, 1000)
			for range 4 {
				s := open(t, target, nil)
				writers.Go(func() {
					err := writeAndAcknowledge(ctx, s, func(id ID, steps int) {
						mu.Lock()
						acknowledged[id] = steps
						mu.Unlock()
						select {
						case enough <- struct{}{}:
						default:
						}
					})
					if ctx.Err() == nil {
						t.Error(err)
					}
				})
			}
			s := open(t, target, nil)
			for i := range testkit.Effort(1, 2, 4) {
				for range 40 {
					<-enough
				}
				mu.Lock()
				before := make(map[ID]int, len(acknowledged))
				for id, steps := range acknowledged {
					before[id] = steps
				}
				mu.Unlock()
				to := filepath.Join(t.TempDir(), fmt.Sprint("b", i))
				_, err := s.Backup(t.Context(), to, nil)
				ok(t, err)
				checkAcknowledged(t, open(t, to, nil), before)
			}
		})
	}
}

func TestRollingBackups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "m.db"), nil)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
	to := filepath.Join(dir, "b.db")
	other := open(t, filepath.Join(t.TempDir(), "other.db"), nil)
	_, err := other.Backup(t.Context(), rollingName(to, time.UnixMilli(1)), nil)
	ok(t, err)
	for i, text := range []string{"", "no database"} { // files that are no backups
		ok(t, os.WriteFile(rollingName(to, time.UnixMilli(int64(i+2))), []byte(text), 0o600))
	}
	var made, removed []string
	for range 4 {
		r, err := s.Backup(t.Context(), to, &BackupOptions{Keep: 2})
		ok(t, err)
		made, removed = append(made, r.Path), append(removed, r.Removed...)
	}
	if fmt.Sprint(removed) != fmt.Sprint(made[:2]) {
		t.Errorf("removed %v of %v", removed, made)
	}
	left, err := filepath.Glob(filepath.Join(dir, "b-*.db"))
	ok(t, err)
	if len(left) != 5 {
		t.Errorf("left: %v", left)
	}
	if _, err := s.Backup(t.Context(), to, &BackupOptions{Keep: -1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("keep -1: %v", err)
	}
}

// backupMakerEnv makes the test program a process that makes backups of the memory m.db in the
// folder that it names until it is killed; see crashWriter.
const backupMakerEnv = "EPISODIC_BACKUP_MAKER"

func backupMaker() bool {
	dir := os.Getenv(backupMakerEnv)
	if dir == "" {
		return false
	}
	s, err := Open(context.Background(), filepath.Join(dir, "m.db"), nil)
	for i := 0; err == nil; i++ {
		path := filepath.Join(dir, fmt.Sprintf("b-%d-%d", os.Getpid(), i))
		if _, err = s.Backup(context.Background(), path, nil); err == nil {
			fmt.Println(path)
		}
	}
	fmt.Println("error", err)
	return true
}

// A Backup that is killed leaves nothing that looks like one, and all that was told of is whole.
func TestKilledBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filledFile(t, filepath.Join(dir, "m.db"))
	made := make(map[string]bool)
	for range testkit.Effort(1, 3, 8) {
		testkit.Killed(t, backupMakerEnv+"="+dir, 0, 300*time.Millisecond, func(line string) {
			if strings.HasPrefix(line, "error") {
				t.Error(line)
			}
			made[line] = true
		})
	}
	there, err := filepath.Glob(filepath.Join(dir, "b-*"))
	ok(t, err)
	for _, path := range there {
		e, err := embedded.Open(t.Context(), embedded.Config{Path: path, MustExist: true})
		ok(t, err)
		if _, err := e.CheckSeal(t.Context()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		ok(t, e.Close())
		delete(made, path)
	}
	if len(made) > 0 {
		t.Errorf("not there: %v", made)
	}
	// What they have left goes with a later one.
	left, err := filepath.Glob(filepath.Join(dir, temporaryPrefix+"*"))
	ok(t, err)
	for _, folder := range left {
		files, err := filepath.Glob(filepath.Join(folder, "*"))
		ok(t, err)
		for _, name := range append(files, folder) {
			ok(t, os.Chtimes(name, time.Time{}, time.Now().Add(-2*abandoned)))
		}
	}
	s := open(t, filepath.Join(dir, "m.db"), nil)
	_, err = s.Backup(t.Context(), filepath.Join(dir, "last"), nil)
	ok(t, err)
	if left, err = filepath.Glob(filepath.Join(dir, temporaryPrefix+"*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
