package replica_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
)

// Steps that are here already do not come again, unless they may be others.
func TestStepsThatAreKept(t *testing.T) {
	oneByOne(t)
	at := time.Date(2026, 11, 28, 6, 35, 49, 0, time.UTC) // so that payloads of the same texts are as long
	step := func(text string) episodic.Step { return episodic.Step{Action: text, Time: at} }
	for name, tt := range map[string]struct {
		later func(ctx context.Context, s *side, id episodic.ID) error
		kept  int64 // the first step of the last run that is kept
		runs  int   // that come
	}{
		"a step": {func(ctx context.Context, s *side, id episodic.ID) error {
			_, err := s.AppendSteps(ctx, id, step("d"))
			return err
		}, 3, 1},
		"a tag": {func(ctx context.Context, s *side, id episodic.ID) error { return s.AddTags(ctx, id, "new") }, 3, 0},
		"the steps are put together": {func(ctx context.Context, s *side, id episodic.ID) error {
			return s.CompleteEpisode(ctx, id, episodic.Completion{Outcome: episodic.Outcome{Kind: episodic.Success}})
		}, 0, 1},
		"completed, the steps as they are": {func(ctx context.Context, s *side, id episodic.ID) error {
			_, err := s.engine.Batch(ctx, engine.Stmt{SQL: "UPDATE episodes SET end_us = start_us, outcome = 'success', rev = 9 WHERE id = ?", Args: []any{id[:]}})
			return err
		}, 3, 0},
		"put, with steps as long": {func(ctx context.Context, s *side, id episodic.ID) error {
			return s.PutEpisode(ctx, &episodic.Episode{ID: id, Description: "task", Steps: []episodic.Step{step("x"), step("y"), step("z")}})
		}, 0, 1},
		"deleted, and stored again with the same keys, begin and lengths": {func(ctx context.Context, s *side, id episodic.ID) error {
			e, err := s.Episode(ctx, id)
			if err == nil {
				err = s.DeleteEpisode(ctx, id)
			}
			if err == nil {
				err = s.StartEpisode(ctx, &episodic.Episode{ID: id, Description: "task", Start: e.Start})
			}
			for i, text := range []string{"a", "x", "c"} {
				if err == nil {
					_, err = s.AppendStepsOnce(ctx, id, fmt.Sprint(i), step(text))
				}
			}
			return err
		}, 0, 3},
		"deleted, and stored again with the same keys": {func(ctx context.Context, s *side, id episodic.ID) error {
			err := s.DeleteEpisode(ctx, id)
			if err == nil {
				err = s.StartEpisode(ctx, &episodic.Episode{ID: id, Description: "task"})
			}
			for i, text := range []string{"x", "y", "z"} { // as long as before
				if err == nil {
					_, err = s.AppendStepsOnce(ctx, id, fmt.Sprint(i), step(text))
				}
			}
			return err
		}, 0, 3},
		"deleted, and stored again in another scope": {func(ctx context.Context, s *side, id episodic.ID) error {
			err := s.DeleteEpisode(ctx, id)
			if err == nil {
				err = s.StartEpisode(ctx, &episodic.Episode{ID: id, Description: "task", Scope: episodic.Scope{Project: "web"}})
			}
			return err
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t, t.TempDir())
			e := &episodic.Episode{Description: "task"}
			ok(t, s.StartEpisode(t.Context(), e))
			for i, text := range []string{"a", "b", "c"} {
				_, err := s.AppendStepsOnce(t.Context(), e.ID, fmt.Sprint(i), step(text))
				ok(t, err)
			}
			cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
			var pages []*replica.Page
			cfg.Words = func(_ context.Context, p *replica.Page) ([]engine.Stmt, error) {
				pages = append(pages, p)
				return nil, nil
			}
			r, err := replica.Stopped(cfg, 1000, 1<<20)
			ok(t, err)
			defer r.Close()
			settle(t, r)
			ok(t, tt.later(t.Context(), s, e.ID))
			pages = nil
			settle(t, r)
			sameAs(t, s.engine, cfg.Local)
			if len(pages) != 1 || len(pages[0].Heads) != 1 {
				t.Fatalf("%d pages", len(pages))
			}
			if p := pages[0]; p.Heads[0].Kept != tt.kept || len(p.Runs[p.Heads[0].ID]) != tt.runs {
				t.Errorf("kept up to %d, and %d runs came; want %d and %d", p.Heads[0].Kept, len(p.Runs[p.Heads[0].ID]), tt.kept, tt.runs)
			}
		})
	}
}

// The statements of Words see the rows of the page, and are carried out with them or not
// at all; without Words everything is left to be indexed later.
func TestWordsOfAPage(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	start(t, s, "a", "b")
	ok(t, s.PutHeuristic(t.Context(), &episodic.Heuristic{Condition: "c", Action: "a"}))
	ok(t, s.PutPattern(t.Context(), &episodic.Pattern{Description: "p", ContextPattern: &episodic.ContextPattern{Features: []string{"x"}, Approach: "y"}}))
	fail := true
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	cfg.Words = func(_ context.Context, p *replica.Page) (stmts []engine.Stmt, err error) {
		for _, h := range p.Heads {
			stmts = append(stmts, engine.Stmt{SQL: "INSERT INTO index_units(place, data) SELECT seq << 24, x'01' FROM episodes WHERE id = ? AND rev = ?", Args: []any{h.ID[:], h.Rev}})
		}
		if fail {
			stmts = append(stmts, engine.Stmt{SQL: "INSERT INTO no_such_table VALUES(1)"})
		}
		return stmts, nil
	}
	counts := func() string {
		return fmt.Sprint(query(t, cfg.Local, "SELECT (SELECT count(*) FROM episodes), (SELECT count(*) FROM index_units), (SELECT count(*) FROM index_waiting), (SELECT upto FROM replica)")[0])
	}
	r, err := replica.Stopped(cfg, 1000, 1<<20)
	ok(t, err)
	defer r.Close()
	_, _, err = r.Step(t.Context()) // begins the fill
	ok(t, err)
	if _, _, err := r.Step(t.Context()); err == nil || counts() != "[0 0 0 6]" {
		t.Errorf("a page whose index fails: %v, holds %s", err, counts())
	}
	fail = false
	settle(t, r)
	if got := counts(); got != "[2 2 0 6]" {
		t.Errorf("holds %s", got)
	}

	without := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	cfg = without
	r, err = replica.Stopped(without, 1000, 1<<20)
	ok(t, err)
	defer r.Close()
	settle(t, r)
	if got := counts(); got != "[2 0 4 6]" {
		t.Errorf("without Words it holds %s", got)
	}
}
