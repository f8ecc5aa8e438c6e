package feed

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a new database that has been migrated.
func open(t *testing.T) engine.Engine {
	t.Helper()
	e, err := embedded.Open(t.Context(), embedded.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := schema.Migrate(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	return e
}

func exec(t *testing.T, e engine.Engine, sql string, args ...any) {
	t.Helper()
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: sql, Args: args}); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func id(n byte) []byte { return slices.Repeat([]byte{n}, 16) }

const insertEpisode = `INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(?,'','','','',1,0,1,x'017b7d')`

// told is what the feed tells after a number: for each change the kind, the first
// byte of the item, and - if it is gone.
func told(t *testing.T, e engine.Engine, since int64) (text string, last int64) {
	t.Helper()
	p, err := Since(t.Context(), e, since, 100, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range p.Changes {
		if i > 0 {
			text += " "
		}
		text += fmt.Sprintf("%d:%d", c.Kind, c.Item[0])
		if c.Gone {
			text += "-"
		}
		if c.Seq <= since || i > 0 && c.Seq <= p.Changes[i-1].Seq {
			t.Errorf("change %d comes after %d and since %d", c.Seq, p.Changes[max(0, i-1)].Seq, since)
		}
	}
	return text, p.Last
}

// Whatever changes an item, from an SQL shell too, is told once.
func TestEveryChangeIsTold(t *testing.T) {
	e := open(t)
	var last int64
	for _, tt := range []struct {
		sql  string
		args []any
		want string
	}{
		{insertEpisode, []any{id(1)}, "1:1"},
		{insertEpisode, []any{id(2)}, "1:2"},
		{"UPDATE episodes SET payload = x'01' WHERE seq < 3", nil, "1:1 1:2"},
		{"INSERT OR IGNORE INTO tags VALUES('a', 1, 0), ('b', 1, 1), ('a', 2, 0)", nil, "1:1 1:2"},
		{"UPDATE tags SET episode = 2 WHERE tag = 'b'", nil, "1:1 1:2"},
		{"DELETE FROM tags WHERE episode = 1", nil, "1:1"},
		{"INSERT INTO runs(place, count, payload) VALUES((1 << 24) + 1, 1, x'01')", nil, ""},
		{"UPDATE runs SET payload = x'02'", nil, "1:1"},
		{"INSERT INTO relations VALUES(1, 'x', 2, 1, x'01'), (1, 'y', 2, 1, x'01'), (2, 'x', 1, 1, x'01')", nil, "4:1 4:2"},
		{"UPDATE relations SET payload = x'02' WHERE src = 2", nil, "4:2"},
		{"DELETE FROM relations WHERE src = 1 AND type = 'x'", nil, "4:1"},
		{"DELETE FROM relations WHERE src = 1", nil, "4:1-"},
		{"INSERT INTO embeddings VALUES('episode', ?, 'm', 1, x'01')", []any{id(1)}, "5:1"},
		{"UPDATE embeddings SET vector = x'02'", nil, "5:1"},
		{"REPLACE INTO episodes(seq, id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(9, ?,'','','','',1,0,1,x'01')", []any{id(9)}, "1:9"},
		{"UPDATE episodes SET id = ? WHERE seq = 9", []any{id(8)}, "1:9- 1:8"},
		{"DELETE FROM episodes WHERE seq = 1", nil, "4:2- 5:1- 1:1-"},
		{"INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload) VALUES(?, '', '', 0, 1, x'01')", []any{id(3)}, "2:3"},
		{"UPDATE patterns SET success_rate = 1", nil, "2:3"},
		{"INSERT INTO embeddings VALUES('pattern', ?, 'm', 1, x'01')", []any{id(3)}, "5:3"},
		{"DELETE FROM patterns", nil, "5:3- 2:3-"},
		{"INSERT INTO heuristics(id, confidence, created_us, payload) VALUES(?, 0, 1, x'01')", []any{id(4)}, "3:4"},
		{"UPDATE heuristics SET confidence = 1", nil, "3:4"},
		{"DELETE FROM heuristics", nil, "3:4-"},
		{insertEpisode, []any{id(1)}, "1:1"}, // again, after it was deleted
	} {
		exec(t, e, tt.sql, tt.args...)
		var got string
		if got, last = told(t, e, last); got != tt.want {
			t.Errorf("%s: told %q, want %q", tt.sql, got, tt.want)
		}
	}
	if got, _ := told(t, e, 0); got != "1:2 4:1- 1:9- 1:8 4:2- 5:1- 5:3- 2:3- 3:4- 1:1" {
		t.Errorf("from the beginning: %q", got)
	}
}

// An item that moves to another scope is gone from its own.
func TestMoveToAnotherScope(t *testing.T) {
	e := open(t)
	exec(t, e, insertEpisode, id(1))
	exec(t, e, "INSERT INTO scopes VALUES(7, 'web', '', '')")
	exec(t, e, "UPDATE episodes SET scope = 7")
	p, err := Since(t.Context(), e, 0, 10, "")
	if err != nil || len(p.Changes) != 2 || !p.Changes[0].Gone || p.Changes[0].Scope != "" || p.Changes[1].Gone || p.Changes[1].Scope != "web\n\n" {
		t.Errorf("told %+v, %v", p.Changes, err)
	}
	exec(t, e, "DELETE FROM episodes")
	p, err = Since(t.Context(), e, 2, 10, " AND scope = ?", int64(7))
	if err != nil || len(p.Changes) != 1 || !p.Changes[0].Gone || p.Changes[0].Scope != "web\n\n" {
		t.Errorf("after its deletion told %+v, %v", p.Changes, err)
	}
}

// What compaction writes says the same as before.
func TestCompactionIsNoChange(t *testing.T) {
	e := open(t)
	exec(t, e, insertEpisode, id(1))
	_, last := told(t, e, 0)
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "INSERT INTO compacting VALUES(1)"},
		engine.Stmt{SQL: "UPDATE episodes SET payload = x'02'"}, engine.Stmt{SQL: "DELETE FROM compacting"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := told(t, e, last); got != "" {
		t.Errorf("told %q", got)
	}
}

// Numbers grow also when the feed has lost its last row, and deletions of more than
// 30 days ago are forgotten by later ones, which readers are told.
func TestOldDeletionsAreForgotten(t *testing.T) {
	e := open(t)
	for n := range byte(6) {
		exec(t, e, insertEpisode, id(n+1))
	}
	for n := range byte(5) {
		exec(t, e, "DELETE FROM episodes WHERE id = ?", id(n+1))
	}
	_, last := told(t, e, 0)
	if last != 11 {
		t.Fatalf("11 changes end with number %d", last)
	}
	const day = 86400 * 1_000_000
	exec(t, e, "UPDATE feed SET gone_us = gone_us - ? WHERE n < 11", 30*day+1_000_000)
	exec(t, e, "UPDATE feed SET gone_us = gone_us - ? WHERE n = 11", 29*day)
	for n := range byte(3) {
		exec(t, e, insertEpisode, id(n+10))
		exec(t, e, "DELETE FROM episodes WHERE id = ?", id(n+10))
	}
	if got, _ := told(t, e, 0); got != "1:6 1:5- 1:10- 1:11- 1:12-" {
		t.Errorf("after the old ones were forgotten: %q", got)
	}
	for since, lost := range map[int64]bool{1: true, 9: true, 10: false, 11: false, 17: false, 18: true} {
		_, err := Since(t.Context(), e, since, 10, "")
		if errors.Is(err, ErrForgotten) != lost || err != nil && !lost {
			t.Errorf("since %d: %v", since, err)
		}
	}
	exec(t, e, "DELETE FROM feed")
	exec(t, e, insertEpisode, id(20))
	p, err := Since(t.Context(), e, 17, 10, "")
	if err != nil || len(p.Changes) != 1 || p.Changes[0].Seq != 18 {
		t.Errorf("after the feed was emptied: %+v, %v", p, err)
	}
}

func TestPagesOfChanges(t *testing.T) {
	e := open(t)
	for n := range byte(5) {
		exec(t, e, insertEpisode, id(n+1))
	}
	var got []int64
	for since := int64(0); ; {
		p, err := Since(t.Context(), e, since, 2, " AND item <> ?", id(3))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Changes {
			got = append(got, c.Seq)
		}
		if since = p.Last; !p.More {
			break
		}
	}
	if !slices.Equal(got, []int64{1, 2, 4, 5}) {
		t.Errorf("changes %v", got)
	}
}

// world is a feed in memory.
type world struct {
	mu      sync.Mutex
	changes []Change
	reads   int
	err     error
}

func (w *world) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		w.changes = append(w.changes, Change{Seq: int64(len(w.changes) + 1)})
	}
}

func (w *world) since(_ context.Context, since int64, limit int) (Page, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	rest := w.changes[since:]
	p := Page{Changes: rest[:min(len(rest), limit)]}
	p.Last = since + int64(len(p.Changes))
	p.More = len(rest) > limit
	return p, w.err
}

// Every watcher sees every change, in order, however far behind it begins, and all
// share the looks.
func TestWatchersShareLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.add(2500)
		h := NewHub(Source{Since: w.since, Interval: time.Second})
		const watchers = 100
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var done sync.WaitGroup
		for i := range watchers {
			since := int64(i * 20)
			done.Go(func() {
				next := since
				err := h.Watch(ctx, since, func(c Change) bool {
					if next++; c.Seq != next {
						t.Errorf("watcher %d: change %d, want %d", i, c.Seq, next)
					}
					return c.Seq < 10_000
				})
				if err != nil || next != 10_000 {
					t.Errorf("watcher %d ended at %d: %v", i, next, err)
				}
			})
		}
		synctest.Wait()
		w.mu.Lock()
		caughtUp := w.reads
		w.mu.Unlock()
		for range 7 {
			w.add(1000)
			h.Kick()
			synctest.Wait()
			time.Sleep(coalesce)
		}
		begin := time.Now()
		w.add(499)
		time.Sleep(time.Second + coalesce) // by another process: nobody kicks
		w.add(1)
		h.Kick()
		done.Wait()
		if d := time.Since(begin); d > 3*time.Second {
			t.Errorf("the last changes took %v", d)
		}
		if n := w.reads - caughtUp; n > 40 {
			t.Errorf("%d reads for 10 rounds of changes", n)
		}
		h.Close(errors.New("closed"))
	})
}

func TestWatchingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.add(1)
		h := NewHub(Source{Since: w.since, Interval: time.Second})
		watch := func(ctx context.Context) chan error {
			errs := make(chan error, 1)
			go func() { errs <- h.Watch(ctx, 0, func(Change) bool { return true }) }()
			synctest.Wait()
			return errs
		}
		ctx, cancel := context.WithCancel(t.Context())
		one, two := watch(ctx), watch(t.Context())
		cancel()
		if err := <-one; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		broken := errors.New("broken")
		w.mu.Lock()
		w.err = broken
		w.mu.Unlock()
		if err := <-two; !errors.Is(err, broken) {
			t.Errorf("a read that fails: %v", err)
		}
		w.mu.Lock()
		w.err = nil
		w.mu.Unlock()
		three := watch(t.Context()) // works again
		select {
		case err := <-three:
			t.Errorf("after the failure: %v", err)
		default:
		}
		closed := errors.New("closed")
		h.Close(closed)
		if err := <-three; !errors.Is(err, closed) {
			t.Errorf("closed: %v", err)
		}
		if err := <-watch(t.Context()); !errors.Is(err, closed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
