package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
)

func row(k string) engine.Stmt {
	return engine.Stmt{SQL: "INSERT INTO t VALUES(?)", Args: []any{k}}
}

func exec1(t testing.TB, e *Engine, s engine.Stmt) {
	t.Helper()
	if _, err := e.Batch(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// content returns the rows of table t in a file, which is to be whole.
func content(t testing.TB, path string) string {
	t.Helper()
	e, err := Open(t.Context(), Config{Path: path, MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT ifnull(group_concat(k, ' '), '') FROM (SELECT k FROM t ORDER BY rowid)"}, engine.Stmt{SQL: "PRAGMA integrity_check"})
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	if r[1].Rows[0][0] != "ok" {
		t.Errorf("integrity: %v", r[1].Rows)
	}
	return r[0].Rows[0][0].(string)
}

// started returns an engine with a table that has a row "first", and another reader of it.
func started(t testing.TB, path string) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, e, engine.Stmt{SQL: "CREATE TABLE t(k)"})
	exec1(t, e, row("first"))
	if _, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT * FROM t"}); err != nil {
		t.Fatal(err)
	}
	return e
}

func remove(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

func move(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// replace puts another file in the place of one.
func replace(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	move(t, path+".new", path)
}

// copyFile copies a file as a program does that knows nothing of databases.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFileLosesItsPlace does something to an open file and its sidecars; then something is
// written, and the engine closed.
func TestFileLosesItsPlace(t *testing.T) {
	type files struct{ db, log, index, other, away string }
	for _, tt := range []struct {
		name   string
		happen func(*testing.T, files)
		// is what the write is refused with; empty: it is stored
		is   string
		want map[string]string // the content of files afterwards; "none": there is none
	}{
		{"nothing", func(*testing.T, files) {}, "", map[string]string{"db": "first second"}},
		{"the index of the log is removed", func(t *testing.T, f files) { remove(t, f.index) },
			"", map[string]string{"db": "first second"}},
		{"the log is removed", func(t *testing.T, f files) { remove(t, f.log) },
			"", map[string]string{"db": "first second"}},
		{"both are removed", func(t *testing.T, f files) { remove(t, f.log, f.index) },
			"", map[string]string{"db": "first second"}},
		{"an empty file takes the place of the log", func(t *testing.T, f files) { replace(t, f.log, nil) },
			"", map[string]string{"db": "first second"}},
		{"something else takes the place of the log", func(t *testing.T, f files) { replace(t, f.log, []byte("garbage")) },
			"", map[string]string{"db": "first second"}},
		{"something else takes the place of the index", func(t *testing.T, f files) { replace(t, f.index, []byte("garbage")) },
			"", map[string]string{"db": "first second"}},
		{"something else takes the place of both", func(t *testing.T, f files) {
			replace(t, f.log, nil)
			replace(t, f.index, nil)
		}, "made a new log", nil},
		{"another program has made a new log", func(t *testing.T, f files) {
			remove(t, f.log, f.index)
			child(t, "hold", f.db)
		}, "made a new log", nil},
		{"all is removed", func(t *testing.T, f files) { remove(t, f.db, f.log, f.index) },
			"was removed or moved", map[string]string{"db": "none"}},
		{"the file is removed", func(t *testing.T, f files) { remove(t, f.db) },
			"was removed or moved", map[string]string{"db": "none", "log": "none", "index": "none"}},
		{"the file is moved away", func(t *testing.T, f files) { move(t, f.db, f.away) },
			"was removed or moved", map[string]string{"db": "none", "log": "none", "away": "first"}},
		{"another file takes its place", func(t *testing.T, f files) { move(t, f.other, f.db) },
			"another file has taken", map[string]string{"db": "other", "log": "none"}},
		{"it is moved away, and another file takes its place", func(t *testing.T, f files) {
			move(t, f.db, f.away)
			move(t, f.other, f.db)
		}, "another file has taken", map[string]string{"db": "other", "away": "first"}},
		{"it is removed and made again by another program", func(t *testing.T, f files) {
			remove(t, f.db, f.log, f.index)
			child(t, "make", f.db)
		}, "another file has taken", map[string]string{"db": "child"}},
		{"it is made again by another program, which uses it", func(t *testing.T, f files) {
			remove(t, f.db, f.log, f.index)
			child(t, "hold", f.db)
			child(t, "make", f.db)
		}, "another file has taken", map[string]string{"db": "child"}},
		{"it is moved away and back", func(t *testing.T, f files) {
			move(t, f.db, f.away)
			move(t, f.away, f.db)
		}, "", map[string]string{"db": "first second"}},
		{"a copy takes its place", func(t *testing.T, f files) {
			copyFile(t, f.other, f.away)
			move(t, f.away, f.db)
		}, "another file has taken", map[string]string{"db": "other"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			f := files{other: filepath.Join(dir, "other.db"), away: filepath.Join(dir, "away.db")}
			f.db = filepath.Join(dir, "m.db")
			f.log, f.index = f.db+logSuffix, f.db+indexSuffix
			o, err := Open(t.Context(), Config{Path: f.other})
			if err != nil {
				t.Fatal(err)
			}
			exec1(t, o, engine.Stmt{SQL: "CREATE TABLE t(k)"})
			exec1(t, o, row("other"))
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			e := started(t, f.db)
			tt.happen(t, f)
			_, err = e.Batch(t.Context(), row("second"))
			_, again := e.Batch(t.Context(), row("third"))
			_, read := e.Query(t.Context(), engine.Stmt{SQL: "SELECT * FROM t"})
			closed := e.Close()
			for _, err := range []error{err, again, read, closed} {
				switch {
				case tt.is == "" && err != nil, tt.is != "" && (err == nil || !strings.Contains(err.Error(), tt.is)):
					t.Errorf("%v, want %q", err, tt.is)
				case tt.is != "" && engine.KindOf(err) != engine.KindReplaced:
					t.Errorf("kind %d: %v", engine.KindOf(err), err)
				}
			}
			for name, want := range tt.want {
				path := map[string]string{"db": f.db, "away": f.away, "log": f.log, "index": f.index}[name]
				if _, err := os.Stat(path); want == "none" {
					if !errors.Is(err, os.ErrNotExist) {
						t.Errorf("%s is there: %v", name, err)
					}
				} else if tt.is == "" {
					if got := content(t, path); got != want+" third" {
						t.Errorf("%s: %q, want %q", name, got, want+" third")
					}
				} else if got := content(t, path); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

// A read that comes alone sees it too.
func TestReaderOfFileThatLosesItsPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	e := started(t, path)
	for _, suffix := range []string{logSuffix, indexSuffix} {
		remove(t, path+suffix)
		e.place.looked.Store(0)
		if r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT k FROM t"}); err != nil || len(r[0].Rows) != 1 {
			t.Errorf("without %s: %v, %v", suffix, r, err)
		}
		if _, err := os.Stat(path + suffix); err != nil {
			t.Errorf("without %s: %v", suffix, err)
		}
	}
	move(t, path, path+".away")
	for range 3 {
		e.place.looked.Store(0)
		if _, err := e.DataVersion(t.Context()); engine.KindOf(err) != engine.KindReplaced {
			t.Errorf("moved away: %v", err)
		}
	}
	move(t, path+".away", path)
	if _, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT k FROM t"}); err != nil {
		t.Errorf("moved back: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// Where a program has opened a file twice, SQLite keeps the index that was removed.
func TestFileOpenTwiceLosesItsIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	e, other := started(t, path), open(t, path)
	remove(t, path+indexSuffix)
	if _, err := e.Batch(t.Context(), row("second")); engine.KindOf(err) != engine.KindReplaced || !strings.Contains(err.Error(), "close all of them") {
		t.Errorf("%v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	exec1(t, e, row("third"))
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if got := content(t, path); got != "first third" {
		t.Errorf("%q", got)
	}
}

func TestSymbolicLinkIsLedElsewhere(t *testing.T) {
	dir := t.TempDir()
	a, b, link := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db"), filepath.Join(dir, "m.db")
	other := started(t, b)
	if err := errors.Join(other.Close(), os.Symlink(a, link)); err != nil {
		t.Skip(err)
	}
	e := started(t, a)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, _ = Open(t.Context(), Config{Path: link}); e == nil {
		t.Fatal("not opened")
	}
	exec1(t, e, row("second"))
	remove(t, link)
	if err := os.Symlink(b, link); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Batch(t.Context(), row("third")); engine.KindOf(err) != engine.KindReplaced {
		t.Errorf("%v", err)
	}
	if err := e.Close(); engine.KindOf(err) != engine.KindReplaced {
		t.Errorf("close: %v", err)
	}
	if got := content(t, a) + ", " + content(t, b); got != "first second, first" {
		t.Error(got)
	}
}

// A disposable file that is removed is used on, and its end leaves its successor alone.
func TestDisposableFileIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	e, err := Open(t.Context(), Config{Path: path, Disposable: true})
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, e, engine.Stmt{SQL: "CREATE TABLE t(k)"})
	exec1(t, e, row("first"))
	remove(t, path, path+logSuffix, path+indexSuffix)
	child(t, "hold", path)
	child(t, "make", path)
	exec1(t, e, row("second"))
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if got := content(t, path); got != "child" {
		t.Errorf("%q", got)
	}
}

// child runs this program as another process on a file: "make" writes a row and ends,
// "hold" stays until the test ends.
func child(t testing.TB, what, path string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EPISODIC_TEST_CHILD="+what, "EPISODIC_TEST_FILE="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("child %s: %v", what, err)
		}
	}
	if _, err := fmt.Fscanln(out); err != nil {
		t.Errorf("child %s: %v", what, err)
	}
	if what == "make" {
		end()
	} else {
		t.Cleanup(end)
	}
}

func beChild(what, path string) error {
	ctx := context.Background()
	e, err := Open(ctx, Config{Path: path})
	if err != nil {
		return err
	}
	if what == "make" {
		_, err = e.Batch(ctx, engine.Stmt{SQL: "CREATE TABLE IF NOT EXISTS t(k)"}, row("child"))
	} else {
		_, err = e.Query(ctx, engine.Stmt{SQL: "SELECT * FROM sqlite_schema"})
	}
	fmt.Println()
	if what == "hold" {
		_, read := io.ReadAll(os.Stdin)
		err = errors.Join(err, read)
	}
	return errors.Join(err, e.Close())
}
