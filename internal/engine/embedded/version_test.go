package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

func insert(t *testing.T, e *Engine) {
	t.Helper()
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "INSERT INTO a(v) VALUES('x')"}); err != nil {
		t.Error(err)
	}
}

func dataVersion(t *testing.T, e *Engine) int64 {
	t.Helper()
	n, err := e.DataVersion(t.Context())
	if err != nil {
		t.Error(err)
	}
	return n
}

// openTable opens a file that has a table.
func openTable(t testing.TB, path string) *Engine {
	t.Helper()
	e := open(t, path)
	if _, err := e.Batch(t.Context(),
		engine.Stmt{SQL: "CREATE TABLE a(k INTEGER PRIMARY KEY, v)"},
		engine.Stmt{SQL: "INSERT INTO a VALUES(1, 'x')"}); err != nil {
		t.Fatal(err)
	}
	return e
}

// rollbackFile makes a file in the journal mode of the beginning, in which a
// writer keeps readers out. The connection is left open.
func rollbackFile(t *testing.T) (string, *conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.db")
	c, err := openConn(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.exec(t.Context(), "CREATE TABLE a(k)"); err != nil {
		t.Fatal(err)
	}
	return path, c
}

func TestDataVersionChangesWithCommitsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	a := openTable(t, path)
	b := open(t, path) // stands for a second process
	for _, tt := range []struct {
		name  string
		do    func()
		grows bool
	}{
		{"nothing", func() {}, false},
		{"own write", func() { insert(t, a) }, true},
		{"a read", func() {
			if _, err := a.Query(t.Context(), engine.Stmt{SQL: "SELECT * FROM a"}, engine.Stmt{SQL: "SELECT 1"}); err != nil {
				t.Error(err)
			}
		}, false},
		{"another's question", func() { dataVersion(t, b) }, false},
		{"another's write", func() { insert(t, b) }, true},
		{"a refused write", func() {
			if _, err := b.Batch(t.Context(), engine.Stmt{SQL: "INSERT INTO a VALUES(1, 'y')"}); engine.KindOf(err) != engine.KindUnique {
				t.Errorf("error %v", err)
			}
		}, false},
		{"another's schema", func() {
			if _, err := b.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE b(k)"}); err != nil {
				t.Error(err)
			}
		}, true},
	} {
		before := dataVersion(t, a)
		tt.do()
		if after := dataVersion(t, a); after < before || after > before != tt.grows {
			t.Errorf("%s: from %d to %d; want it to grow: %v", tt.name, before, after, tt.grows)
		}
	}
}

func TestDataVersionIsNeverOlderThanItsCall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	a := openTable(t, path)
	b := open(t, path)
	var (
		highest atomic.Int64 // number that any call has returned
		floor   atomic.Int64 // highest before the last acknowledged commit was begun
		stop    atomic.Bool
		calls   atomic.Int64
		wg      sync.WaitGroup
	)
	for range 8 {
		wg.Go(func() {
			for !stop.Load() {
				from := floor.Load()
				n := dataVersion(t, a)
				if n <= from {
					t.Errorf("number %d, but %d was returned before the last commit", n, from)
					return
				}
				for old := highest.Load(); n > old && !highest.CompareAndSwap(old, n); old = highest.Load() {
				}
				calls.Add(1)
			}
		})
	}
	for i := range 300 {
		h := highest.Load()
		insert(t, []*Engine{a, b}[i%2])
		floor.Store(h)
	}
	stop.Store(true)
	wg.Wait()
	if floor.Load() == 0 {
		t.Error("no call returned before the last commit")
	}
	t.Logf("%d calls, %d questions", calls.Load(), a.polls.Load())
}

func TestCallsThatWaitShareAQuestion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	synctest.Test(t, func(t *testing.T) {
		e := openTable(t, path)
		first := dataVersion(t, e)
		v := <-e.version
		answers := make(chan int64, 8)
		for range cap(answers) {
			go func() { answers <- dataVersion(t, e) }()
		}
		synctest.Wait()
		e.version <- v
		for range cap(answers) {
			if n := <-answers; n != first {
				t.Errorf("number %d without a commit after %d", n, first)
			}
		}
		if n := e.polls.Load(); n != 2 {
			t.Errorf("%d questions for one call and eight at once, want 2", n)
		}
	})
}

func TestDataVersionOfALockedFile(t *testing.T) {
	path, c := rollbackFile(t)
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		e := open(t, path)
		before := dataVersion(t, e)
		lock := func() {
			if err := c.exec(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
				t.Fatal(err)
			}
		}
		errs, numbers := make(chan error), make(chan int64, 1)
		ask := func(ctx context.Context) {
			go func() {
				n, err := e.DataVersion(ctx)
				if err == nil {
					numbers <- n
				}
				errs <- err
			}()
			synctest.Wait()
		}

		lock()
		start := time.Now()
		ask(t.Context())
		if err := <-errs; engine.KindOf(err) != engine.KindBusy {
			t.Errorf("locked: %v", err)
		}
		if d := time.Since(start); d < busyTimeout || d > busyTimeout+time.Second {
			t.Errorf("gave up after %v, want %v", d, busyTimeout)
		}
		c.abandon(t.Context())
		if n := dataVersion(t, e); n != before {
			t.Errorf("from %d to %d without a commit", before, n)
		}

		lock()
		ctx, cancel := context.WithCancel(t.Context())
		ask(ctx)
		ask(ctx) // behind the first
		cancel()
		for range 2 {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		}

		ask(t.Context())
		if err := errors.Join(c.exec(t.Context(), "INSERT INTO a VALUES(1)"), c.exec(t.Context(), "COMMIT")); err != nil {
			t.Fatal(err)
		}
		if err := <-errs; err != nil {
			t.Fatalf("unlocked: %v", err)
		}
		if n := <-numbers; n <= before {
			t.Errorf("unlocked by a commit: %d after %d", n, before)
		}
	})
}

func TestDataVersionAfterAFailure(t *testing.T) {
	path, c := rollbackFile(t)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, path)
	before := dataVersion(t, e)
	for range 2 {
		if err := os.WriteFile(path, make([]byte, len(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := e.DataVersion(t.Context()); engine.KindOf(err) != engine.KindNotADatabase {
			t.Errorf("overwritten file: %v", err)
		}
		v := <-e.version
		if v.conn != nil {
			t.Error("the connection is kept after a failure")
		}
		e.version <- v
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		n := dataVersion(t, e)
		if n <= before {
			t.Errorf("number %d on a new connection, %d on the old one", n, before)
		}
		if again := dataVersion(t, e); again != n {
			t.Errorf("from %d to %d without a commit", n, again)
		}
		before = n
	}
}

func TestDataVersionChangesNoFile(t *testing.T) {
	path, c := rollbackFile(t)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, path)
	dataVersion(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed (%v)", err)
	}
}

func TestDataVersionEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	for _, asked := range []bool{false, true} {
		e := open(t, path)
		if asked {
			dataVersion(t, e)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := e.DataVersion(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.DataVersion(t.Context()); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the log is left behind: %v", err)
		}
	}
}

func BenchmarkDataVersion(b *testing.B) {
	e := openTable(b, filepath.Join(b.TempDir(), "m.db"))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.DataVersion(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDataVersionOf8(b *testing.B) {
	e := openTable(b, filepath.Join(b.TempDir(), "m.db"))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	b.SetParallelism(4) // on two cores
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := e.DataVersion(ctx); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(e.polls.Load())/float64(b.N), "polls/op")
}

// BenchmarkQuery is what a cache that asks for the version saves at most.
func BenchmarkQuery(b *testing.B) {
	e := openTable(b, filepath.Join(b.TempDir(), "m.db"))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Query(ctx, engine.Stmt{SQL: "SELECT v FROM a WHERE k = ?", Args: []any{int64(1)}}); err != nil {
			b.Fatal(err)
		}
	}
}
