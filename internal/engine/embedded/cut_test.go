package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
)

// A file that is cut is read as far as it goes, and not written.
func TestCutFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	e := open(t, path)
	batch(t, e, "CREATE TABLE a(k INTEGER PRIMARY KEY, v)", "CREATE TABLE b(v)",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) INSERT INTO a SELECT i, zeroblob(3000) FROM n",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) INSERT INTO b SELECT zeroblob(3000) FROM n")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Path: path, MustExist: true}
	for missing, cutBytes := range []int64{1: 4096, 2: 4096 + 1} {
		if missing == 0 {
			continue
		}
		if err := os.Truncate(path, info.Size()-cutBytes); err != nil {
			t.Fatal(err)
		}
		cfg.Reads = false
		if _, err := Open(t.Context(), cfg); engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(err.Error(), "its end is missing") {
			t.Errorf("%d bytes are missing: %v", cutBytes, err)
		}
		cfg.Reads = true
		e, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if c := e.Cut(); c == nil || c.Missing != int64(missing) || c.Pages != info.Size()/4096 {
			t.Errorf("%d bytes are missing: %+v", cutBytes, c)
		}
		if r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(v) FROM a"}); err != nil || r[0].Rows[0][0] != int64(10) {
			t.Errorf("%v, %v", r, err)
		}
		if _, err := e.DataVersion(t.Context()); err != nil {
			t.Error(err)
		}
		_, readErr := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(v) FROM b"})
		_, writeErr := e.Batch(t.Context(), engine.Stmt{SQL: "DELETE FROM a"})
		for _, err := range []error{readErr, writeErr} {
			if engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(err.Error(), "its end is missing") {
				t.Error(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if now, err := os.Stat(path); err != nil || now.Size() != info.Size()-cutBytes {
			t.Errorf("%v, %v", now, err)
		}
	}
}
