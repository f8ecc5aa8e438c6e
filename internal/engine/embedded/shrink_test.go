package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// filled returns an engine on a file with 400 rows of 8 kB, every second of which is deleted again.
// With old the file is as earlier versions made it.
func filled(t testing.TB, old bool) (*Engine, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.db")
	if old {
		c, err := openConn(t.Context(), path, "journal_mode(WAL)")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.exec(t.Context(), "CREATE TABLE begun(k)"), c.close()); err != nil {
			t.Fatal(err)
		}
	}
	e := open(t, path)
	batch(t, e, "CREATE TABLE a(k INTEGER PRIMARY KEY, v)",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO a SELECT i, zeroblob(8000) FROM n",
		"DELETE FROM a WHERE k % 2 = 0")
	return e, path
}

func batch(t testing.TB, e *Engine, texts ...string) {
	t.Helper()
	var stmts []engine.Stmt
	for _, text := range texts {
		stmts = append(stmts, engine.Stmt{SQL: text})
	}
	if _, err := e.Batch(t.Context(), stmts...); err != nil {
		t.Fatal(err)
	}
}

// spaceOf asks a new connection, and has the file checked.
func spaceOf(t testing.TB, path string) space {
	t.Helper()
	c, err := openConn(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var whole string
	s, err := c.space(t.Context())
	if err = errors.Join(err, c.conn.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&whole), c.close()); err != nil || whole != "ok" {
		t.Fatalf("integrity %q, %v", whole, err)
	}
	return s
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestShrinkGivesFreePagesBack(t *testing.T) {
	for name, old := range map[string]bool{"new": false, "old": true} {
		t.Run(name, func(t *testing.T) {
			e, path := filled(t, old)
			before := spaceOf(t, path)
			if before.shrinks == old || before.free < 400 {
				t.Fatalf("the file is %+v", before)
			}
			if freed, err := e.Shrink(t.Context()); err != nil || freed < (before.free-1)*before.size {
				t.Errorf("freed %d bytes of %+v, %v", freed, before, err)
			}
			after := spaceOf(t, path)
			if !after.shrinks || after.free != 0 || fileSize(t, path) != after.pages*after.size || fileSize(t, path+"-wal") != 0 {
				t.Errorf("the file is %+v, its size %d", after, fileSize(t, path))
			}
			if freed, err := e.Shrink(t.Context()); freed != 0 || err != nil {
				t.Errorf("a second time: %d, %v", freed, err)
			}
			r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*), sum(length(v)) FROM a"})
			if err != nil || r[0].Rows[0][0] != int64(200) || r[0].Rows[0][1] != int64(1_600_000) {
				t.Errorf("left are %v, %v", r, err)
			}
			batch(t, e, "DELETE FROM a") // an old one has been converted
			if freed, err := e.Shrink(t.Context()); err != nil || freed < 1_600_000 {
				t.Errorf("after deleting everything: %d, %v", freed, err)
			}
			if n := fileSize(t, path); n > 6*4096 {
				t.Errorf("%d bytes are left of nothing", n)
			}
		})
	}
}

// An old file is rewritten only if that is worth it.
func TestShrinkLeavesAnOldFileThatIsFull(t *testing.T) {
	e, path := filled(t, true)
	batch(t, e, "INSERT INTO a SELECT k + 1, v FROM a WHERE k < 350")
	before := fileSize(t, path)
	if freed, err := e.Shrink(t.Context()); freed != 0 || err != nil || fileSize(t, path) != before {
		t.Errorf("freed %d, %v", freed, err)
	}
	if s := spaceOf(t, path); s.shrinks || s.free == 0 {
		t.Errorf("the file is %+v", s)
	}
}

// Others, as another process would, write and read while pages are given back or the file is rewritten.
func TestShrinkFailsNobody(t *testing.T) {
	for name, old := range map[string]bool{"new": false, "old": true} {
		t.Run(name, func(t *testing.T) {
			e, path := filled(t, old)
			other := open(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			errs := make(chan error, 3)
			written := int64(0)
			go func() {
				for i := int64(0); ; i++ {
					if _, err := other.Batch(t.Context(), engine.Stmt{SQL: "INSERT INTO a VALUES(?, zeroblob(8000))", Args: []any{1000 + i}}); err != nil || ctx.Err() != nil {
						written = i + 1
						errs <- err
						return
					}
				}
			}()
			for _, reader := range []*Engine{e, other} {
				go func() {
					for ctx.Err() == nil {
						r, err := reader.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*), sum(length(v)) FROM a"})
						if err == nil && r[0].Rows[0][0].(int64)*8000 != r[0].Rows[0][1] {
							err = errors.New("a reader saw half of it")
						}
						if err != nil {
							errs <- err
							return
						}
					}
					errs <- nil
				}()
			}
			freed, err := e.Shrink(t.Context())
			cancel()
			for range 3 {
				err = errors.Join(err, <-errs)
			}
			if err != nil || freed == 0 {
				t.Errorf("freed %d, %v", freed, err)
			}
			r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM a"})
			if err != nil || r[0].Rows[0][0] != 200+written {
				t.Errorf("%v rows, %v, want %d", r, err, 200+written)
			}
			spaceOf(t, path)
		})
	}
}

// A reader that stays keeps the file from getting shorter, not the pages from being given back.
func TestShrinkWaitsForNoReader(t *testing.T) {
	e, path := filled(t, false)
	c, err := openConn(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.checkpoint(t.Context(), c), c.exec(t.Context(), "BEGIN"), c.exec(t.Context(), "SELECT count(*) FROM a")); err != nil {
		t.Fatal(err)
	}
	long := fileSize(t, path)
	if freed, err := e.Shrink(t.Context()); err != nil || freed < 1_600_000 || fileSize(t, path) != long {
		t.Errorf("freed %d, %v", freed, err)
	}
	if err := errors.Join(c.exec(t.Context(), "ROLLBACK"), c.close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if n := fileSize(t, path); n > long-1_600_000 {
		t.Errorf("after the reader left and the file was closed it has %d bytes of %d", n, long)
	}
}

// What cannot be rewritten, because somebody else writes all the time, is as it was.
func TestRewritingThatFailsLeavesTheFile(t *testing.T) {
	e, path := filled(t, true)
	before := spaceOf(t, path)
	c, err := openConn(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, path)
	if err := errors.Join(c.exec(t.Context(), "PRAGMA busy_timeout(0)"), other.writer.exec(t.Context(), "BEGIN IMMEDIATE")); err != nil {
		t.Fatal(err)
	}
	if freed, err := e.rewrite(t.Context(), c); freed != 0 || engine.KindOf(classify(err, -1)) != engine.KindBusy {
		t.Errorf("while another one writes: %d, %v", freed, err)
	}
	other.writer.abandon(t.Context())
	if after := spaceOf(t, path); after != before {
		t.Errorf("the file was %+v and is %+v", before, after)
	}
	if freed, err := e.rewrite(t.Context(), c); freed == 0 || err != nil || c.close() != nil {
		t.Errorf("after the other one: %d, %v", freed, err)
	}
}

// However far it was, the file is whole and another call goes on.
func TestShrinkHonoursItsContext(t *testing.T) {
	for name, old := range map[string]bool{"new": false, "old": true} {
		t.Run(name, func(t *testing.T) {
			e, path := filled(t, old)
			for d := 500 * time.Microsecond; ; d *= 2 {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				_, err := e.Shrink(ctx)
				cancel()
				s := spaceOf(t, path)
				if err == nil {
					if s.free != 0 || !s.shrinks {
						t.Errorf("after %v the file is %+v", d, s)
					}
					break
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("after %v: %v", d, err)
				}
			}
			r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*), sum(length(v)) FROM a"})
			if err != nil || r[0].Rows[0][0] != int64(200) || r[0].Rows[0][1] != int64(1_600_000) {
				t.Errorf("left are %v, %v", r, err)
			}
		})
	}
}

// Close ends it, and leaves nobody at the file.
func TestCloseEndsShrink(t *testing.T) {
	e, path := filled(t, true)
	other := open(t, path)
	if err := other.writer.exec(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := e.Shrink(t.Context())
		done <- err
	}()
	for len(e.shrink) > 0 {
		runtime.Gosched()
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, engine.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if _, err := e.Shrink(t.Context()); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	other.writer.abandon(t.Context())
}
