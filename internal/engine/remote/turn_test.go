package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// writersTable is the part of the schema that turns are made of.
func writersTable(t *testing.T, e *Engine) {
	t.Helper()
	text, err := os.ReadFile("../../schema/0008_writers.sql")
	if err != nil {
		t.Fatal(err)
	}
	var stmts []engine.Stmt
	for part := range strings.SplitSeq(string(text), "\n\n") {
		lines := slices.DeleteFunc(strings.Split(part, "\n"), func(line string) bool { return strings.HasPrefix(line, "--") })
		if sql := strings.Join(lines, "\n"); strings.TrimSpace(sql) != "" {
			stmts = append(stmts, engine.Stmt{SQL: sql})
		}
	}
	if _, err := e.Batch(t.Context(), stmts...); err != nil {
		t.Fatal(err)
	}
	e.Migrated()
}

// openMachine opens an engine of another machine.
func openMachine(t *testing.T, url, lockDir string) *Engine {
	t.Helper()
	e, err := Open(Config{URL: url, LockDir: lockDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // always nil
	return e
}

func store(t *testing.T, e *Engine, v any) {
	t.Helper()
	if _, err := e.Repeatable(t.Context(), engine.Stmt{SQL: "INSERT INTO t(v) VALUES(?)", Args: []engine.Value{v}}); err != nil {
		t.Error(err)
	}
}

// Sixteen machines that write at once made the server stop writing within seconds,
// before they took turns.
func TestManyMachinesWriteAtOnce(t *testing.T) {
	const machines, writes = 16, 10
	server := hranatest.Start(t)
	first := openMachine(t, server.URL(), t.TempDir())
	if _, err := first.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE t(v UNIQUE)"}); err != nil {
		t.Fatal(err)
	}
	writersTable(t, first)
	var all sync.WaitGroup
	var engines []*Engine
	for m := range machines {
		e := openMachine(t, server.URL(), t.TempDir())
		e.Migrated()
		engines = append(engines, e)
		all.Go(func() {
			for w := range writes {
				store(t, e, fmt.Sprint(m, ".", w))
			}
		})
	}
	all.Wait()
	r, err := first.Query(t.Context(), engine.Stmt{SQL: "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM writers)"})
	if err != nil || r[0].Rows[0][0] != int64(machines*writes) || r[0].Rows[0][1] != int64(machines) && r[0].Rows[0][1] != int64(machines+1) {
		t.Errorf("stored and known %v, %v", r, err)
	}
	store(t, first, "after")
	var total engine.TurnStats
	for _, e := range engines {
		s := e.Stats().Turns
		total.Taken += s.Taken
		total.Waited += s.Waited
		total.Unlocked += s.Unlocked
	}
	if total.Taken != machines*writes || total.Waited < time.Second || total.Unlocked != 0 {
		t.Errorf("turns are %+v", total)
	}
}

// What a machine that writes alone sends is what it sent before there were turns, but for
// a check now and then.
func TestLoneMachineIsHardlyChecked(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	e := openMachine(t, proxy.URL(), t.TempDir())
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE t(v)"}); err != nil {
		t.Fatal(err)
	}
	writersTable(t, e)
	store(t, e, "first")
	checks, requests := 0, proxy.Requests("/")
	proxy.Always(func(x *hranatest.Exchange) {
		if bytes.Contains(x.Body(), []byte("turns")) {
			checks++
		}
		hranatest.Pass(x)
	})
	eventually(t, "no longer checked", func() bool { // it might be one of many that were started together
		before := checks
		store(t, e, "calm")
		requests++
		return checks == before
	})
	start := time.Now()
	const writes = 50
	checks = 0
	for i := range writes {
		store(t, e, int64(i))
	}
	if allowed := 1 + int(time.Since(start)/rowAge); checks > allowed {
		t.Errorf("%d checks in %v", checks, time.Since(start))
	}
	if n := proxy.Requests("/") - requests; n != writes {
		t.Errorf("%d requests for %d writes", n, writes)
	}
}

// A write that comes at another machine's turn changes nothing, and comes again.
func TestWriteAtAnothersTurn(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	e := openMachine(t, proxy.URL(), t.TempDir())
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE t(v)"}); err != nil {
		t.Fatal(err)
	}
	writersTable(t, e)
	announce := "INSERT INTO writers VALUES(7, unixepoch('subsec') * 1000, unixepoch('subsec') * 1000, 0, unixepoch('subsec') * 1000 + 300)"
	if _, err := openMachine(t, proxy.URL(), t.TempDir()).Batch(t.Context(), engine.Stmt{SQL: announce}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	store(t, e, int64(1))
	if took := time.Since(start); took < 200*time.Millisecond || took > 3*time.Second {
		t.Errorf("took %v while another had announced a write of 300 ms", took)
	}
	r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM t"})
	if err != nil || r[0].Rows[0][0] != int64(1) {
		t.Errorf("stored %v, %v", r, err)
	}
	if s := e.Stats(); s.Turns.Missed < 1 || s.Retries != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// swallowWrites makes the proxy leave writes without an answer, as a server does that has
// lost its write lock.
func swallowWrites(p *hranatest.Proxy) {
	p.Always(func(x *hranatest.Exchange) {
		if bytes.Contains(x.Body(), []byte("INSERT")) || bytes.Contains(x.Body(), []byte("BEGIN IMMEDIATE")) {
			x.Hold()
			return
		}
		hranatest.Pass(x)
	})
}

func TestServerThatNoLongerWrites(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	dir := t.TempDir()
	e, other := openMachine(t, proxy.URL(), dir), openMachine(t, proxy.URL(), dir)
	e.patience = patience{300 * time.Millisecond, 200 * time.Millisecond, 20 * time.Millisecond}
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE t(v)"}); err != nil {
		t.Fatal(err)
	}
	swallowWrites(proxy)
	write := engine.Stmt{SQL: "INSERT INTO t VALUES(1)"}

	start := time.Now()
	if _, err := e.Repeatable(t.Context(), write); engine.KindOf(err) != engine.KindUnknownOutcome || !errors.Is(err, errStuck) || time.Since(start) > 5*time.Second {
		t.Fatalf("a write under way: %v after %v", err, time.Since(start))
	}
	for name, e := range map[string]*Engine{"the same process": e, "another process": other} {
		start := time.Now()
		if _, err := e.Repeatable(t.Context(), write); engine.KindOf(err) != engine.KindStuck || time.Since(start) > soon() {
			t.Errorf("%s: %v after %v", name, err, time.Since(start))
		}
		if _, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM t"}); err != nil {
			t.Errorf("%s reads: %v", name, err)
		}
	}
	if s := e.ServerStats(); s.Stuck != 1 {
		t.Errorf("found stuck %d times", s.Stuck)
	}

	proxy.Always(hranatest.Pass)
	proxy.CloseConns() // the server is restarted
	for name, e := range map[string]*Engine{"the same process": e, "another process": other} {
		eventually(t, name+" writes again", func() bool {
			_, err := e.Repeatable(t.Context(), write)
			return err == nil
		})
	}
}

// A server that does not answer at all, or one slow write, is no stuck server.
func TestServerThatOnlySeemsStuck(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	e := openMachine(t, proxy.URL(), t.TempDir())
	e.patience = patience{50 * time.Millisecond, 50 * time.Millisecond, 20 * time.Millisecond}
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE t(v)"}); err != nil {
		t.Fatal(err)
	}
	slow := func(x *hranatest.Exchange) {
		if bytes.Contains(x.Body(), []byte("INSERT")) {
			time.Sleep(500 * time.Millisecond)
		}
		hranatest.Pass(x)
	}
	proxy.Always(slow)
	store(t, e, "slow")
	proxy.Always(hranatest.BlackHole)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := e.Repeatable(ctx, engine.Stmt{SQL: "INSERT INTO t VALUES(2)"}); engine.KindOf(err) != engine.KindUnknownOutcome || errors.Is(err, errStuck) {
		t.Errorf("error %v", err)
	}
	if s := e.ServerStats(); s.Stuck != 0 {
		t.Errorf("found stuck %d times", s.Stuck)
	}
	proxy.Always(hranatest.Pass)
	proxy.CloseConns()
}
