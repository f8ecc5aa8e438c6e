package replica_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
)

// steps takes steps until there is nothing more to be done, and calls after behind each.
func steps(t *testing.T, r *replica.Replica, after func()) {
	t.Helper()
	for range 50 {
		_, again, err := r.Step(t.Context())
		ok(t, err)
		if after(); !again {
			return
		}
	}
	t.Fatal("there is always more")
}

// An item that is passed over while it is pinned has its new number as a witness: otherwise a
// server that has not been asked for a while would seem to be an older copy.
func TestPassedOverItemsAreNoContradiction(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	ids := start(t, s, "a", "b")
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	r, err := replica.Stopped(cfg, 100, 1<<20)
	ok(t, err)
	steps(t, r, func() {})
	exec(t, cfg.Local, "INSERT INTO pinned VALUES(1, ?)", ids[0][:])
	ok(t, s.AddTags(t.Context(), ids[0], "new"))
	start(t, s, "c")
	steps(t, r, func() {})
	ok(t, r.Close())

	r, err = replica.Stopped(cfg, 100, 1<<20) // which has not asked yet
	ok(t, err)
	_, _, err = r.Step(t.Context())
	ok(t, err)
	if row := query(t, cfg.Local, "SELECT downto, anew FROM replica")[0]; row[0] != int64(0) || row[1] != int64(0) {
		t.Errorf("the replica is made anew: %v", row)
	}
	exec(t, cfg.Local, "DELETE FROM pinned")
	steps(t, r, func() {})
	sameAs(t, s.engine, cfg.Local)
	ok(t, r.Close())
}

// moving is a server on which something changes before each fetch, or after it has read what is
// fetched.
type moving struct {
	engine.Engine
	before, after func() // nil: nothing
}

func (m moving) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	fetch := len(stmts) > 3 // a look has fewer
	if fetch && m.before != nil {
		m.before()
	}
	res, err := m.Engine.Query(ctx, stmts...)
	if fetch && m.after != nil {
		m.after()
	}
	return res, err
}

// What is written on the server while a replica is made anew is there all the time.
func TestWhatChangesWhileAFillEndsStays(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	ids := start(t, s, "a", "b", "c")
	changes := 0
	server := moving{Engine: s.engine, before: func() {
		if changes++; changes%2 == 0 {
			ok(t, s.AddTags(t.Context(), ids[0], "x"))
		} else {
			ok(t, s.RemoveTags(t.Context(), ids[0], "x"))
			ok(t, s.AddTags(t.Context(), ids[0], "y"))
		}
	}}
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	r, err := replica.Stopped(cfg, 100, 1<<20)
	ok(t, err)
	steps(t, r, func() {})
	ok(t, r.Close())
	exec(t, s.engine, "UPDATE feed_state SET life = randomblob(16)")

	cfg.Server = server
	r, err = replica.Stopped(cfg, 100, 1<<20)
	ok(t, err)
	for range 10 {
		_, _, err = r.Step(t.Context())
		ok(t, err)
		if rows := query(t, cfg.Local, "SELECT count(*) FROM episodes"); rows[0][0] != int64(3) {
			t.Fatalf("%v episodes are here after %d changes", rows[0][0], changes)
		}
	}
	if changes == 0 {
		t.Error("nothing changed meanwhile")
	}
	ok(t, r.Close())
}

// While a page of a fill is fetched the replica is as new as the look before it, unless
// nothing is here yet.
func TestNewWhileAPageIsFetched(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	start(t, s, "a", "b", "c")
	var r *replica.Replica
	var began time.Time // of a step
	pages := 0
	cfg := newLocal(t, moving{Engine: s.engine, before: func() {
		asOf := r.Status().AsOf
		if pages++; pages == 1 && !asOf.IsZero() {
			t.Errorf("as of %v before anything is here", asOf)
		}
		if pages > 1 && asOf.Before(began) {
			t.Errorf("page %d: as of %v, and the look was after %v", pages, asOf, began)
		}
	}}, filepath.Join(t.TempDir(), "replica.db"))
	r, err := replica.Stopped(cfg, 1, 1<<20)
	ok(t, err)
	began = time.Now()
	steps(t, r, func() { began = time.Now() })
	if pages < 3 {
		t.Errorf("%d pages", pages)
	}
	sameAs(t, s.engine, cfg.Local)
	ok(t, r.Close())
}

// A write that was pushed after the server had read what is fetched is not undone here.
func TestWhatWasPushedMeanwhileStays(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, s *side, local engine.Engine, id []byte){
		"the item has changed": func(t *testing.T, s *side, _ engine.Engine, id []byte) {
			exec(t, s.engine, "UPDATE episodes SET domain = 'theirs', rev = 100 WHERE id = ?", id)
		},
		"it was passed over": func(t *testing.T, s *side, local engine.Engine, id []byte) {
			exec(t, s.engine, "UPDATE episodes SET domain = 'theirs', rev = 100 WHERE id = ?", id)
			exec(t, local, "INSERT INTO passed_over VALUES(?)", id)
		},
		"the replica is made anew": func(t *testing.T, s *side, _ engine.Engine, id []byte) {
			exec(t, s.engine, "UPDATE episodes SET domain = 'theirs', rev = 100 WHERE id = ?", id)
			exec(t, s.engine, "UPDATE feed_state SET life = randomblob(16)")
		},
		"it was pushed before as well": func(t *testing.T, s *side, local engine.Engine, id []byte) {
			exec(t, s.engine, "UPDATE episodes SET domain = 'theirs', rev = 100 WHERE id = ?", id)
			exec(t, local, "INSERT INTO was_pinned VALUES(?, 7)", id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			oneByOne(t)
			s := newSide(t, t.TempDir())
			ids := start(t, s, "a", "b")
			cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
			r, err := replica.Stopped(cfg, 100, 1<<20)
			ok(t, err)
			steps(t, r, func() {})
			ok(t, r.Close())

			id := ids[0][:]
			prepare(t, s, cfg.Local, id)
			pushes := 0
			cfg.Server = moving{Engine: s.engine, after: func() {
				if pushes++; pushes > 1 {
					return
				}
				exec(t, cfg.Local, "INSERT INTO pinned VALUES(9, ?)", id)
				for _, e := range []engine.Engine{cfg.Local, s.engine} { // queued here, and pushed
					exec(t, e, "UPDATE episodes SET language = 'ours', rev = rev + 1 WHERE id = ?", id)
				}
				_, err := cfg.Local.Batch(t.Context(), replica.Unpin(9)...)
				ok(t, err)
			}}
			r, err = replica.Stopped(cfg, 100, 1<<20)
			ok(t, err)
			steps(t, r, func() {
				if row := query(t, cfg.Local, "SELECT language FROM episodes WHERE id = ?", id)[0]; pushes > 0 && row[0] != "ours" {
					t.Fatalf("the language is %v", row[0])
				}
			})
			if pushes == 0 {
				t.Error("nothing was fetched")
			}
			sameAs(t, s.engine, cfg.Local)
			if rows := query(t, cfg.Local, "SELECT item FROM passed_over"); len(rows) > 0 {
				t.Errorf("passed over: %x", rows)
			}
			ok(t, r.Close())
		})
	}
}
