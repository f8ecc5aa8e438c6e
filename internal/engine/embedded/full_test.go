package embedded

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// Who deletes, or writes where something was deleted, needs no more room than the log has,
// however often.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, "3m")
	path := filepath.Join(dir, "m.db")
	e := open(t, path)
	batch(t, e, "CREATE TABLE a(k INTEGER PRIMARY KEY, v)",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO a SELECT i, zeroblob(3000) FROM n",
		"DELETE FROM a WHERE k % 4 = 0")
	if err := e.emptyLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.FillUp(t, filepath.Join(dir, "others"), 300<<10)

	for i := range 300 {
		if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "UPDATE a SET v = randomblob(3000) WHERE k = ?", Args: []any{int64(4*(i%50) + 1)}}); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	var deleters sync.WaitGroup
	for k := range int64(200) {
		deleters.Go(func() {
			if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "DELETE FROM a WHERE k = ?", Args: []any{k}}); err != nil {
				t.Errorf("delete %d: %v", k, err)
			}
		})
	}
	deleters.Wait()
	r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM a"}, engine.Stmt{SQL: "PRAGMA integrity_check"})
	if err != nil || r[0].Rows[0][0] != int64(0) || r[1].Rows[0][0] != "ok" {
		t.Errorf("%v, %v", r, err)
	}
}

// A file that is closed on a disk without a free byte is read by who only reads.
func TestClosedFileOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, "1m")
	path := filepath.Join(dir, "m.db")
	if err := started(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	testkit.FillUp(t, filepath.Join(dir, "others"), 0)
	cfg := Config{Path: path, MustExist: true}
	if _, err := Open(t.Context(), cfg); engine.KindOf(err) != engine.KindFull {
		t.Error(err)
	}
	cfg.Reads = true
	e, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT k FROM t"}); err != nil || r[0].Rows[0][0] != "first" {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := e.Batch(t.Context(), row("second")); engine.KindOf(err) != engine.KindFull {
		t.Error(err)
	}
}
