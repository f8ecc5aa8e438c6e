package replica_test

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
	"github.com/episodic-memory/episodic/internal/schema"
)

// moody is a server's engine that fails as it is told. It notes when it is asked, once for each
// moment.
type moody struct {
	engine.Engine
	start time.Time

	mu    sync.Mutex
	err   error
	asked []time.Duration
}

func (m *moody) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	m.mu.Lock()
	err := m.err
	if at := time.Since(m.start); !slices.Contains(m.asked, at) {
		m.asked = append(m.asked, at)
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return m.Engine.Query(ctx, stmts...)
}

func (m *moody) fail(kind engine.Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err = nil; kind != engine.KindOther {
		m.err = &engine.Error{Kind: kind, Stmt: -1}
	}
}

// pulled returns when it was asked since the last call.
func (m *moody) pulled() []time.Duration {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked = nil
	return asked
}

// inBubble runs a test of a Replica whose server fails at first.
func inBubble(t *testing.T, kind engine.Kind, test func(*testing.T, *replica.Replica, replica.Config, *moody)) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m := &moody{Engine: openFile(t, filepath.Join(dir, "server.db"))}
		cfg := newLocal(t, m, filepath.Join(dir, "replica.db"))
		m.start = time.Now()
		m.fail(kind)
		r, err := replica.New(cfg)
		ok(t, err)
		defer r.Close()
		test(t, r, cfg, m)
	})
}

func wantPulls(t *testing.T, when string, m *moody, want ...time.Duration) {
	t.Helper()
	for i := range want {
		want[i] *= time.Millisecond
	}
	if got := m.pulled(); !slices.Equal(got, want) {
		t.Errorf("%s: asked at %v, want %v", when, got, want)
	}
}

// Pulls that fail are tried again ever more seldom. Who reads has them tried every three
// seconds, and an answer of the server to something else ends the pause.
func TestPausesAfterFailures(t *testing.T) {
	inBubble(t, engine.KindUnavailable, func(t *testing.T, r *replica.Replica, _ replica.Config, m *moody) {
		time.Sleep(70 * time.Second)
		wantPulls(t, "nobody asks", m, 0, 1_000, 3_000, 7_000, 15_000, 31_000, 61_000)
		for range 70 { // seven seconds of reads
			r.Kick()
			time.Sleep(100 * time.Millisecond)
		}
		wantPulls(t, "who reads", m, 70_000, 73_000, 76_000)
		r.Answered()
		time.Sleep(50 * time.Millisecond)
		wantPulls(t, "an answer", m, 77_020)
		for range 30 { // the server answers, and pulls go on failing
			r.Answered()
			time.Sleep(50 * time.Millisecond)
		}
		wantPulls(t, "answers", m, 78_020)
		m.fail(engine.KindOther)
		r.Answered()
		time.Sleep(time.Second)
		if wantPulls(t, "the server is back", m, 79_020); r.Status().Down != nil || !r.Status().Complete {
			t.Errorf("%+v", r.Status())
		}
		r.Answered()
		time.Sleep(65 * time.Second)
		wantPulls(t, "idle", m, 109_020, 139_020)
		m.fail(engine.KindUnavailable)
		time.Sleep(35 * time.Second)
		wantPulls(t, "away again", m, 169_020, 170_020, 172_020, 176_020)
	})
}

// Since when a server refuses is kept in the file, until it answers again.
func TestRefusalIsNoted(t *testing.T) {
	for _, kind := range []engine.Kind{engine.KindAuth, engine.KindNotFound} {
		inBubble(t, kind, func(t *testing.T, r *replica.Replica, cfg replica.Config, m *moody) {
			since := func(when string, want time.Time) {
				t.Helper()
				synctest.Wait()
				if got, err := replica.RefusedSince(t.Context(), cfg.Local); err != nil || !got.Equal(want) {
					t.Errorf("%s: refused since %v, want %v; %v", when, got, want, err)
				}
			}
			since("at once", m.start)
			time.Sleep(10 * time.Second)
			since("later", m.start)
			m.fail(engine.KindUnavailable)
			time.Sleep(time.Minute)
			since("away, which says nothing", m.start)
			m.fail(engine.KindOther)
			time.Sleep(time.Minute)
			since("answered", time.Time{})
			m.fail(kind)
			time.Sleep(time.Minute)
			again := r.Status().DownSince
			since("again", again)
			if !again.After(m.start.Add(time.Minute)) {
				t.Errorf("it refuses again since %v", again)
			}
			other, err := replica.New(cfg) // of another process
			ok(t, err)
			defer other.Close()
			time.Sleep(time.Minute)
			since("for another process", again)
		})
	}
}

// The server's schema is noted by a pull that finds nothing to fetch.
func TestSchemaOfAServerThatHasNothingNew(t *testing.T) {
	s := newSide(t, t.TempDir())
	add(t, s.Store, 0, 3, 1)
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	r, err := replica.Stopped(cfg, 100, 1<<20)
	ok(t, err)
	defer r.Close()
	settle := func() {
		t.Helper()
		for again := true; again; {
			_, again, err = r.Step(t.Context())
			ok(t, err)
		}
	}
	settle()
	for _, believed := range []int64{0, 3} {
		_, err := cfg.Local.Repeatable(t.Context(), engine.Stmt{SQL: `UPDATE replica SET server_schema = ?`, Args: []engine.Value{believed}})
		ok(t, err)
		settle()
		if known, err := replica.ServerSchema(t.Context(), cfg.Local); err != nil || known != schema.Newest() || r.Status().Schema != known {
			t.Errorf("after a look %d, and %d here, %v; %d was believed", known, r.Status().Schema, err, believed)
		}
	}
}
