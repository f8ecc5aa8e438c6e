// Package enginetest is the behaviour that every engine must show, as one suite
// of tests. An engine is done when it passes.
package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Run runs the suite. open returns a fresh engine on an empty database; the
// suite closes it. Engines opened twice on the same database are the business of
// each engine's own tests.
func Run(t *testing.T, open func(t *testing.T) engine.Engine) {
	tests := []struct {
		name string
		run  func(*testing.T, engine.Engine)
	}{
		{"values round-trip", valuesRoundTrip},
		{"any value round-trips", anyValueRoundTrips},
		{"a batch is all or nothing", batchIsAtomic},
		{"errors say what happened", errorsSayWhatHappened},
		{"affected rows and RETURNING", affectedRows},
		{"a query sees one snapshot", querySeesOneSnapshot},
		{"many queries at once", manyQueriesAtOnce},
		{"a query cannot write", queryCannotWrite},
		{"concurrent batches share commits", batchesShareCommits},
		{"a failing batch hurts no other", failureIsPrivate},
		{"cancelling stops the wait and leaves the engine usable", cancelling},
		{"full-text search", fullTextSearch},
		{"closing", closing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := open(t)
			defer func() {
				if err := e.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			tt.run(t, e)
		})
	}
}

func stmt(sql string, args ...engine.Value) engine.Stmt { return engine.Stmt{SQL: sql, Args: args} }

func must(t testing.TB, e engine.Engine, stmts ...engine.Stmt) []engine.Result {
	t.Helper()
	r, err := e.Batch(t.Context(), stmts...)
	if err != nil {
		t.Fatalf("batch: %v", err)
	}
	return r
}

func rows(t testing.TB, e engine.Engine, sql string, args ...engine.Value) [][]engine.Value {
	t.Helper()
	r, err := e.Query(t.Context(), stmt(sql, args...))
	if err != nil {
		t.Fatalf("query %q: %v", sql, err)
	}
	return r[0].Rows
}

func count(t testing.TB, e engine.Engine, sql string, args ...engine.Value) int64 {
	t.Helper()
	return rows(t, e, sql, args...)[0][0].(int64)
}

func equal(a, b engine.Value) bool {
	if x, ok := a.([]byte); ok {
		y, ok := b.([]byte)
		return ok && bytes.Equal(x, y)
	}
	return a == b
}

func valuesRoundTrip(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE v(k INTEGER PRIMARY KEY, x)"))
	big := make([]byte, 4_900_000)
	for i := range big {
		big[i] = byte(i * 7)
	}
	values := []engine.Value{
		nil, int64(0), int64(-1), int64(math.MaxInt64), int64(math.MinInt64),
		0.5, math.MaxFloat64, math.SmallestNonzeroFloat64, 1e15,
		"", "plain", "quote ' \" \\ \x00 NUL and \u2028", "日本語 🙂", strings.Repeat("x", 100_000),
		[]byte{}, []byte{0, 255, 10}, big,
	}
	for i, v := range values {
		must(t, e, stmt("INSERT INTO v VALUES(?,?)", int64(i), v))
		got := rows(t, e, "SELECT x FROM v WHERE k = ?", int64(i))[0][0]
		if !equal(got, v) {
			t.Errorf("stored %.40q (%T), read %.40q (%T)", fmt.Sprint(v), v, fmt.Sprint(got), got)
		}
	}
}

func anyValueRoundTrips(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE v(k INTEGER PRIMARY KEY, x)"))
	value := rapid.OneOf(
		rapid.Int64().AsAny(),
		rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }).AsAny(),
		rapid.String().AsAny(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 300), func(b []byte) []byte { return append([]byte{}, b...) }).AsAny(),
	)
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOfN(value, 1, 5).Draw(rt, "values")
		stmts := []engine.Stmt{stmt("DELETE FROM v")}
		for i, v := range want {
			stmts = append(stmts, stmt("INSERT INTO v VALUES(?,?)", int64(i), v))
		}
		must(t, e, stmts...)
		for i, row := range rows(t, e, "SELECT x FROM v ORDER BY k") {
			if !equal(row[0], want[i]) {
				rt.Fatalf("stored %#v, read %#v", want[i], row[0])
			}
		}
	})
}

func batchIsAtomic(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE a(k INTEGER PRIMARY KEY)"))
	_, err := e.Batch(t.Context(),
		stmt("INSERT INTO a VALUES(1)"),
		stmt("INSERT INTO a VALUES(2)"),
		stmt("INSERT INTO a VALUES(1)"),
		stmt("INSERT INTO a VALUES(3)"))
	if engine.KindOf(err) != engine.KindUnique {
		t.Fatalf("error is %v, want a unique violation", err)
	}
	if n := count(t, e, "SELECT count(*) FROM a"); n != 0 {
		t.Errorf("%d rows of a failed batch are stored", n)
	}
	must(t, e, stmt("INSERT INTO a VALUES(1)"), stmt("INSERT INTO a VALUES(2)"))
	if n := count(t, e, "SELECT count(*) FROM a"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	_, err = e.Batch(t.Context())
	if err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

func errorsSayWhatHappened(t *testing.T, e engine.Engine) {
	must(t, e,
		stmt("CREATE TABLE p(k INTEGER PRIMARY KEY, u TEXT UNIQUE, n TEXT NOT NULL, c INTEGER CHECK (c > 0))"),
		stmt("CREATE TABLE f(p INTEGER NOT NULL REFERENCES p(k))"),
		stmt("INSERT INTO p VALUES(1,'u','n',1)"))
	tests := []struct {
		sql  string
		kind engine.Kind
	}{
		{"INSERT INTO p VALUES(1,'x','n',1)", engine.KindUnique},
		{"INSERT INTO p VALUES(2,'u','n',1)", engine.KindUnique},
		{"INSERT INTO p VALUES(2,'x',NULL,1)", engine.KindConstraint},
		{"INSERT INTO p VALUES(2,'x','n',0)", engine.KindConstraint},
		{"INSERT INTO f VALUES(7)", engine.KindConstraint},
		{"INSERT INTO nowhere VALUES(7)", engine.KindNoTable},
		{"INSERT INTO p VALUS(7)", engine.KindOther},
		{"INSERT INTO p VALUES(2,zeroblob(2000000000),'n',1)", engine.KindTooLarge},
	}
	for _, tt := range tests {
		_, err := e.Batch(t.Context(), stmt("UPDATE p SET n = 'changed'"), stmt(tt.sql))
		ee, ok := errors.AsType[*engine.Error](err)
		if !ok {
			t.Errorf("%s: error is %v (%T)", tt.sql, err, err)
			continue
		}
		if ee.Kind != tt.kind || ee.Stmt != 1 {
			t.Errorf("%s: kind %d of statement %d, want %d of 1: %v", tt.sql, ee.Kind, ee.Stmt, tt.kind, err)
		}
	}
	if n := count(t, e, "SELECT count(*) FROM p WHERE n = 'changed'"); n != 0 {
		t.Error("a statement before a failing one is stored")
	}
	if _, err := e.Query(t.Context(), stmt("SELECT 1"), stmt("SELECT * FROM nowhere")); engine.KindOf(err) != engine.KindNoTable {
		t.Errorf("query of a missing table: %v", err)
	}
}

func affectedRows(t *testing.T, e engine.Engine) {
	r := must(t, e,
		stmt("CREATE TABLE a(k INTEGER PRIMARY KEY, x TEXT)"),
		stmt("INSERT INTO a VALUES(1,'a'),(2,'b'),(3,'c')"),
		stmt("UPDATE a SET x = 'z' WHERE k > ?", int64(1)),
		stmt("INSERT INTO a VALUES(1,'a') ON CONFLICT DO NOTHING"),
		stmt("INSERT INTO a VALUES(4,'d'),(5,'e') RETURNING k, x"),
		stmt("SELECT count(*) FROM a"),
		stmt("DELETE FROM a"))
	for i, want := range map[int]int64{1: 3, 2: 2, 3: 0, 4: 2, 6: 5} {
		if r[i].Affected != want {
			t.Errorf("statement %d affected %d rows, want %d", i, r[i].Affected, want)
		}
	}
	if got := fmt.Sprint(r[4].Rows, r[5].Rows); got != "[[4 d] [5 e]] [[5]]" {
		t.Errorf("rows within a batch: %s", got)
	}
}

func querySeesOneSnapshot(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE a(n INTEGER)"), stmt("INSERT INTO a VALUES(0)"))
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := e.Batch(context.WithoutCancel(t.Context()), stmt("UPDATE a SET n = n + 1")); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	for range 100 {
		r, err := e.Query(t.Context(), stmt("SELECT n FROM a"), stmt("SELECT n FROM a"), stmt("SELECT n FROM a"))
		if err != nil {
			t.Errorf("query: %v", err)
			break
		}
		if a, b, c := r[0].Rows[0][0], r[1].Rows[0][0], r[2].Rows[0][0]; a != b || b != c {
			t.Errorf("one query saw %v, %v and %v", a, b, c)
		}
	}
	close(stop)
	writer.Wait()
}

// Every caller's statements are new, so none is prepared yet when all connections
// are busy.
func manyQueriesAtOnce(t *testing.T, e engine.Engine) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range int64(64) {
		wg.Go(func() {
			sql := fmt.Sprintf("SELECT %d + ?", i)
			r, err := e.Query(ctx, stmt(sql, int64(1)), stmt(sql+", 0", int64(2)), stmt(sql+", 0, 0", int64(3)))
			if err != nil {
				t.Errorf("query: %v", err)
				return
			}
			for n := range r {
				if got := r[n].Rows[0][0]; got != i+int64(n)+1 {
					t.Errorf("query %d statement %d gave %v", i, n, got)
				}
			}
		})
	}
	wg.Wait()
}

func queryCannotWrite(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE a(k INTEGER)"))
	for _, extra := range [][]engine.Stmt{nil, {stmt("SELECT 1")}} {
		_, err := e.Query(t.Context(), append(extra, stmt("INSERT INTO a VALUES(1)"))...)
		if engine.KindOf(err) != engine.KindReadOnly {
			t.Errorf("an INSERT in a query with %d other statements: %v", len(extra), err)
		}
	}
	if n := count(t, e, "SELECT count(*) FROM a"); n != 0 {
		t.Errorf("%d rows written by a query", n)
	}
}

func batchesShareCommits(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE a(w INTEGER, i INTEGER, x TEXT, PRIMARY KEY(w, i))"))
	before := e.Stats()
	const writers, each = 32, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				_, err := e.Batch(t.Context(),
					stmt("INSERT INTO a VALUES(?,?,?)", int64(w), int64(i), strings.Repeat("x", 500)),
					stmt("UPDATE a SET x = ? WHERE w = ? AND i = ?", "done", int64(w), int64(i)))
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, e, "SELECT count(*) FROM a WHERE x = 'done'"); n != writers*each {
		t.Errorf("%d rows, want %d", n, writers*each)
	}
	after := e.Stats()
	if got := after.Batches - before.Batches; got != writers*each {
		t.Errorf("%d batches counted, want %d", got, writers*each)
	}
	if got := after.Commits - before.Commits; got == 0 || got >= writers*each {
		t.Errorf("%d commits for %d batches: nothing was shared", got, writers*each)
	}
}

func failureIsPrivate(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE a(k INTEGER PRIMARY KEY)"), stmt("INSERT INTO a VALUES(-1)"))
	const writers, each = 16, 12
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				k := int64(w*each + i)
				stmts := []engine.Stmt{stmt("INSERT INTO a VALUES(?)", k)}
				switch k % 4 {
				case 1: // fails at its end: all of it must vanish
					stmts = append(stmts, stmt("INSERT INTO a VALUES(?)", k+100_000), stmt("INSERT INTO a VALUES(-1)"))
				case 2:
					stmts = append(stmts, stmt("INSERT INTO a VALUES(?)", k+100_000))
				case 3:
					stmts[0] = stmt("INSERT INTO a VALUES(-1)")
				}
				_, err := e.Batch(t.Context(), stmts...)
				if fails := k%2 == 1; fails != (engine.KindOf(err) == engine.KindUnique) || !fails && err != nil {
					t.Errorf("batch %d: %v", k, err)
				}
			}
		})
	}
	wg.Wait()
	for r, want := range map[int64]int64{0: writers * each / 4, 1: 0, 2: writers * each / 2, 3: 0} {
		got := count(t, e, "SELECT count(*) FROM a WHERE k >= 0 AND k % 100000 % 4 = ?", r)
		if got != want {
			t.Errorf("batches of sort %d stored %d rows, want %d", r, got, want)
		}
	}
}

func cancelling(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE a(k INTEGER PRIMARY KEY)"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Batch(gone, stmt("INSERT INTO a VALUES(1)")); !errors.Is(err, context.Canceled) {
		t.Errorf("batch with a cancelled context: %v", err)
	}
	if _, err := e.Query(gone, stmt("SELECT 1")); !errors.Is(err, context.Canceled) {
		t.Errorf("query with a cancelled context: %v", err)
	}
	if n := count(t, e, "SELECT count(*) FROM a"); n != 0 {
		t.Error("a batch with a cancelled context was stored")
	}

	// Cancelled while they wait or run, at any moment: each call tells the truth.
	const slow = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 4000) SELECT count(*) FROM c"
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := map[int64]error{}
	for i := range int64(40) {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%2 == 0 {
				go cancel()
			}
			_, err := e.Batch(ctx, stmt("INSERT INTO a VALUES(?)", 1000+i), stmt(slow))
			mu.Lock()
			stored[1000+i] = err
			mu.Unlock()
			if _, err := e.Query(ctx, stmt("SELECT 1"), stmt(slow)); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled query: %v", err)
			}
		})
	}
	wg.Wait()
	for range 20 { // on whatever connections the cancelled ones left behind
		if _, err := e.Query(t.Context(), stmt("SELECT 1"), stmt("SELECT 2")); err != nil {
			t.Errorf("query after cancelled ones: %v", err)
		}
	}
	must(t, e, stmt("INSERT INTO a VALUES(2)")) // settles behind all of them
	for k, err := range stored {
		n := count(t, e, "SELECT count(*) FROM a WHERE k = ?", k)
		switch {
		case err == nil && n != 1:
			t.Errorf("batch %d was acknowledged and is not stored", k)
		case err != nil && !errors.Is(err, context.Canceled):
			t.Errorf("batch %d: %v", k, err)
		case err != nil && engine.KindOf(err) != engine.KindUnknownOutcome && n != 0:
			t.Errorf("batch %d claims that nothing was written, but it is stored", k)
		}
	}
}

func fullTextSearch(t *testing.T, e engine.Engine) {
	must(t, e,
		stmt("CREATE VIRTUAL TABLE f USING fts5(a, b, tokenize = 'porter unicode61 remove_diacritics 2')"),
		stmt("INSERT INTO f(rowid, a, b) VALUES(1,'cancelled reservations','x'),(2,'y','reserve a table')"))
	got := rows(t, e, "SELECT rowid, bm25(f, 4.0, 1.0) < 0, snippet(f, -1, '[', ']', '', 8) FROM f WHERE f MATCH ? ORDER BY rank", `"cancel" OR "reserv"`)
	if len(got) != 2 || got[0][2] != "[cancelled] [reservations]" {
		t.Errorf("search gave %v", got)
	}
}

func closing(t *testing.T, e engine.Engine) {
	must(t, e, stmt("CREATE TABLE a(k INTEGER PRIMARY KEY)"))
	var wg sync.WaitGroup
	for i := range int64(50) {
		wg.Go(func() {
			_, err := e.Batch(t.Context(), stmt("INSERT INTO a VALUES(?)", i))
			if err != nil && !errors.Is(err, engine.ErrClosed) {
				t.Errorf("batch beside Close: %v", err)
			}
			_, err = e.Query(t.Context(), stmt("SELECT count(*) FROM a"))
			if err != nil && !errors.Is(err, engine.ErrClosed) {
				t.Errorf("query beside Close: %v", err)
			}
		})
	}
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	wg.Wait()
	if _, err := e.Batch(t.Context(), stmt("INSERT INTO a VALUES(99)")); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("batch after Close: %v", err)
	}
	if _, err := e.Query(t.Context(), stmt("SELECT 1")); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("query after Close: %v", err)
	}
}
