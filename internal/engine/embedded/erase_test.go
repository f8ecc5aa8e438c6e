package embedded

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// withDeleted makes a file with rows of all sizes, half of which are deleted again, and returns
// the engine and the texts that are left and those that are gone.
func withDeleted(t *testing.T, path string, rows int) (e *Engine, kept, gone [][]byte) {
	t.Helper()
	e = open(t, path)
	do := func(sql string, args ...any) {
		t.Helper()
		if _, err := e.Batch(t.Context(), engine.Stmt{SQL: sql, Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	do("CREATE TABLE t(k INTEGER PRIMARY KEY, word TEXT UNIQUE, data BLOB)")
	do("CREATE TABLE keyed(word TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID")
	for i := range rows {
		word := fmt.Appendf(nil, "word-%d-%016x", i, rand.Uint64())
		data := bytes.Repeat(append(word, ' '), 1+rand.IntN(1<<rand.IntN(10)))
		do("INSERT INTO t(word, data) VALUES(?, ?)", string(word), data)
		do("INSERT INTO keyed VALUES(?, ?)", string(word), data)
		if i%2 == 0 {
			kept = append(kept, word)
		} else {
			gone = append(gone, word)
		}
	}
	for _, word := range gone {
		do("DELETE FROM t WHERE word = ?", string(word))
		do("DELETE FROM keyed WHERE word = ?", string(word))
	}
	return e, kept, gone
}

// holds counts those of the texts that a file or its sidecars hold.
func holds(t *testing.T, path string, texts [][]byte) (n int) {
	t.Helper()
	for _, suffix := range []string{"", logSuffix, indexSuffix} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if bytes.Contains(data, text) {
				n++
			}
		}
	}
	return n
}

func TestErase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	e, kept, gone := withDeleted(t, path, testkit.Effort(40, 200, 2000))
	if holds(t, path, gone) == 0 {
		t.Error("what was deleted is nowhere even before: the test shows nothing")
	}
	done, err := e.Erase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if done.Bytes != info.Size() || done.Pages*4096 != done.Bytes || done.Freed <= 0 {
		t.Errorf("%+v of a file of %d bytes", done, info.Size())
	}
	if n := holds(t, path, gone); n > 0 {
		t.Errorf("%d of %d texts that were deleted are left", n, len(gone))
	}
	r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM t JOIN keyed USING (word, data)"}, engine.Stmt{SQL: "PRAGMA integrity_check"})
	if err != nil || r[0].Rows[0][0] != int64(len(kept)) || r[1].Rows[0][0] != "ok" {
		t.Errorf("%v are left of %d, integrity %v: %v", r[0].Rows, len(kept), r[1].Rows, err)
	}
	if n := holds(t, path, kept); n != len(kept) {
		t.Errorf("%d of %d texts are left that were not deleted", n, len(kept))
	}
}

// What was deleted is in the log as long as somebody reads what was there before.
func TestEraseTellsThatOthersRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	e, _, gone := withDeleted(t, path, 20)
	reader, err := openConn(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"BEGIN", "SELECT count(*) FROM t"} {
		if err := reader.run(t.Context(), engine.Stmt{SQL: sql}, new(engine.Result)); err != nil {
			t.Fatal(err)
		}
	}
	e.patience = 0
	if _, err := e.Erase(t.Context()); engine.KindOf(err) != engine.KindBusy {
		t.Errorf("while others read: %v", err)
	}
	if err := reader.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Erase(t.Context()); err != nil {
		t.Error(err)
	}
	if n := holds(t, path, gone); n > 0 {
		t.Errorf("%d texts are left", n)
	}
}

// A file that has taken the place of the open one is left alone.
func TestEraseKeepsAwayFromAnotherFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	e, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	batch(t, e, "CREATE TABLE t(k)")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Erase(t.Context()); engine.KindOf(err) != engine.KindReplaced {
		t.Errorf("with another file in its place: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "another" {
		t.Errorf("the other file is %q, %v", data, err)
	}
	if err := e.Close(); engine.KindOf(err) != engine.KindReplaced {
		t.Errorf("close: %v", err)
	}
}

// Bytes in the space that a page does not use are found, and gone when it is looked again.
func TestSurveyFindsRemnants(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	e, _, _ := withDeleted(t, path, testkit.Effort(20, 40, 400))
	if _, err := e.Erase(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := openConn(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	// remnants writes, and counts the pages in which something is found then, again and again.
	remnants := func(sql string) (n []int) {
		t.Helper()
		if err := c.exec(t.Context(), "BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
		defer c.abandon(t.Context())
		if err := c.run(t.Context(), engine.Stmt{SQL: sql}, new(engine.Result)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s, err := c.space(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sv := newSurvey(c, s)
			if err := sv.all(t.Context()); err != nil {
				t.Error(err)
			}
			n = append(n, sv.remnants)
		}
		return n
	}
	for name, sql := range map[string]string{
		"unused space": "UPDATE sqlite_dbpage SET data = CAST(substr(data, 1, 400) || x'41' || substr(data, 402) AS BLOB) WHERE pgno = 1",
		"a short row":  "UPDATE t SET data = 'short' WHERE k = (SELECT k FROM t WHERE length(data) < 3000 ORDER BY length(data) DESC LIMIT 1)",
	} {
		if n := remnants(sql); n[0] == 0 || n[1] != 0 {
			t.Errorf("%s: remnants in %d pages, and when it is looked again", name, n)
		}
	}
	if n := remnants("SELECT 1"); n[0] != 0 {
		t.Errorf("%d without a change", n)
	}
}
