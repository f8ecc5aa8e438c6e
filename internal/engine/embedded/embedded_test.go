package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/enginetest"
)

func TestMain(m *testing.M) {
	if what := os.Getenv("EPISODIC_TEST_CHILD"); what != "" {
		if err := beChild(what, os.Getenv("EPISODIC_TEST_FILE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) engine.Engine {
		e, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "m.db")})
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}

func TestOpenRefusesWhatIsNoDatabaseFile(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("these are my notes\n", 300)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "missing", "m.db"), "does not exist"},
		{dir, "is a folder"},
		{filepath.Join(text, "m.db"), "is not a folder"},
		{text, "file is not a database"},
		{filepath.Join(dir, "n\x00b.db"), "NUL character"},
	} {
		_, err := Open(t.Context(), Config{Path: tt.path})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("open %s: %v, want %q", tt.path, err, tt.want)
		}
	}
	absent := filepath.Join(dir, "absent.db")
	if _, err := Open(t.Context(), Config{Path: absent, MustExist: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open an absent file that must exist: %v", err)
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("a file that had to exist was created")
	}
	if _, err := os.Stat(filepath.Join(dir, "n")); err == nil {
		t.Error("a file was created under the part of its name before NUL")
	}
	if got, err := os.ReadFile(text); err != nil || !strings.HasPrefix(string(got), "these are my notes") {
		t.Error("a file that is no database was changed")
	}
}

func TestPathsWithSpecialCharacters(t *testing.T) {
	for _, name := range []string{"with space.db", "100%.db", "a?b#c&d.db", "ünï.db", "q=1;x.db"} {
		path := filepath.Join(t.TempDir(), name)
		e := open(t, path)
		if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE a(k)"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s was not created under its name: %v", name, err)
		}
	}
}

func TestDurabilityAndReaderSettings(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "m.db"))
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE a(k)"}); err != nil {
		t.Fatal(err)
	}
	var mode string
	var sync, foreign int
	if err := errors.Join(
		e.writer.conn.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode),
		e.writer.conn.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&sync),
		e.writer.conn.QueryRowContext(t.Context(), "PRAGMA foreign_keys").Scan(&foreign),
	); err != nil {
		t.Fatal(err)
	}
	if mode != "wal" || sync != 2 || foreign != 1 {
		t.Errorf("journal_mode %s, synchronous %d, foreign_keys %d; want wal, 2, 1", mode, sync, foreign)
	}
}

func TestOpeningAndReadingChangeNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "foreign.db")
	foreign, err := openConn(t.Context(), path) // in the journal mode of the beginning
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(foreign.exec(t.Context(), "CREATE TABLE users(k)"), foreign.close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, path)
	if _, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT * FROM users"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed (%v)", err)
	}
}

func TestOpenHonoursItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	a := open(t, path)
	if _, err := a.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE a(k)"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.writer.exec(t.Context(), "PRAGMA locking_mode(EXCLUSIVE)"), a.writer.exec(t.Context(), "BEGIN EXCLUSIVE")); err != nil {
		t.Fatal(err)
	}
	defer a.writer.abandon(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b, err := Open(ctx, Config{Path: path})
	if err == nil {
		_, err = b.Query(ctx, engine.Stmt{SQL: "SELECT * FROM a"})
		if cerr := b.Close(); cerr != nil {
			t.Error(cerr)
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A second engine on the same file stands for a second process.
func TestTwoEnginesOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	a, b := open(t, path), open(t, path)
	if _, err := a.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE a(k INTEGER PRIMARY KEY)"}); err != nil {
		t.Fatal(err)
	}
	for i := range int64(50) {
		for j, e := range []*Engine{a, b} {
			if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "INSERT INTO a VALUES(?)", Args: []any{2*i + int64(j)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, err := b.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM a"})
	if err != nil || r[0].Rows[0][0] != int64(100) {
		t.Errorf("b sees %v, %v", r, err)
	}
}

func TestWriterHeldByAnotherProcessIsBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	a, b := open(t, path), open(t, path)
	if err := a.writer.exec(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := b.Batch(ctx, engine.Stmt{SQL: "CREATE TABLE x(k)"})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled behind another writer: %v", err)
	}
	a.writer.abandon(t.Context())
	if _, err := b.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE y(k)"}); err != nil {
		t.Errorf("after the other writer left: %v", err)
	}
}

func TestCloseEndsReadsUnderWay(t *testing.T) {
	const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c"
	e := open(t, filepath.Join(t.TempDir(), "m.db"))
	const reads = readers + 2 // the last ones wait for a connection
	errs := make(chan error, reads)
	for range reads {
		go func() {
			_, err := e.Query(t.Context(), engine.Stmt{SQL: endless}, engine.Stmt{SQL: "SELECT 1"})
			errs <- err
		}()
	}
	for len(e.readers) > 0 {
		runtime.Gosched()
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for range reads {
		if err := <-errs; !errors.Is(err, engine.ErrClosed) {
			t.Errorf("error %v", err)
		}
	}
}

func TestLongGroupsAreSplit(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "m.db"))
	const slow = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 800000) SELECT count(*) FROM c" // longer than maxHold
	group := make([]*engine.Unit, 3)
	for i := range group {
		group[i] = &engine.Unit{Stmts: []engine.Stmt{{SQL: slow}}}
	}
	e.commit(group)
	for i, u := range group {
		if u.Err != nil || len(u.Results) != 1 {
			t.Errorf("unit %d: %v, %v", i, u.Results, u.Err)
		}
	}
	if s := e.Stats(); s.Commits != 3 || s.Batches != 3 {
		t.Errorf("counted %+v", s)
	}
}

// What agents do is nobody else's to read.
func TestNewFilesAreTheirOwnersOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("has other permissions")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "m.db")
	if _, err := open(t, path).Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE t(k)"}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, path + "-wal"} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	// The mode of a file that is there already is its owner's choice.
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A file is forced to the disk with every commit, unless its content can be had again.
func TestDisposable(t *testing.T) {
	for disposable, want := range map[bool]int64{false: 2, true: 1} { // FULL, NORMAL
		e, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "m.db"), Disposable: disposable})
		if err != nil {
			t.Fatal(err)
		}
		r, err := e.Batch(t.Context(), engine.Stmt{SQL: "PRAGMA synchronous"})
		if err != nil || r[0].Rows[0][0] != want {
			t.Errorf("disposable %v: %v, %v, want %d", disposable, r, err, want)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
