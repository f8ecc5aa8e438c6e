package replica_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/replica"
)

// world changes a memory at random.
type world struct {
	*side
	ids, patterns, heuristics []episodic.ID
	n                         int
}

func pick(t *rapid.T, ids []episodic.ID) episodic.ID {
	return ids[rapid.IntRange(0, len(ids)-1).Draw(t, "item")]
}

// change makes one change, or is refused one.
func (w *world) change(t *rapid.T) {
	ctx, s := t.Context(), w.Store
	w.n++
	op := rapid.SampledFrom([]string{"start", "start", "append", "append", "append", "once", "complete", "put", "delete", "relate", "relate", "unrelate",
		"pattern", "pattern gone", "heuristic", "heuristic gone", "embed", "unembed", "tag", "untag", "again"}).Draw(t, "op")
	if len(w.ids) < 2 {
		op = "start"
	}
	var err error
	steps := func() []episodic.Step {
		list := make([]episodic.Step, rapid.IntRange(1, 3).Draw(t, "steps"))
		for i := range list {
			list[i] = episodic.Step{Tool: "bash", Action: fmt.Sprint("run ", w.n, i)}
		}
		return list
	}
	switch op {
	case "start":
		e := &episodic.Episode{Description: fmt.Sprint("task ", w.n), Context: episodic.Context{Tags: []string{"a", fmt.Sprint(w.n % 3)}}}
		if w.n%4 == 0 {
			e.Scope.Project = "web"
		}
		if err = s.StartEpisode(ctx, e); err == nil {
			w.ids = append(w.ids, e.ID)
		}
	case "append":
		_, err = s.AppendSteps(ctx, pick(t, w.ids), steps()...)
	case "once":
		_, err = s.AppendStepsOnce(ctx, pick(t, w.ids), fmt.Sprint(w.n%3), steps()...)
	case "complete":
		err = s.CompleteEpisode(ctx, pick(t, w.ids), episodic.Completion{Outcome: episodic.Outcome{Kind: episodic.Success}})
	case "put":
		err = s.PutEpisode(ctx, &episodic.Episode{ID: pick(t, w.ids), Description: fmt.Sprint("put ", w.n), Steps: steps()})
	case "again": // deleted, and stored under the same id
		id := pick(t, w.ids)
		if err = s.DeleteEpisode(ctx, id); err == nil || errors.Is(err, episodic.ErrNotFound) {
			err = s.StartEpisode(ctx, &episodic.Episode{ID: id, Description: fmt.Sprint("again ", w.n), Scope: episodic.Scope{Project: []string{"", "web"}[w.n%2]}})
		}
	case "delete":
		err = s.DeleteEpisode(ctx, pick(t, w.ids))
	case "relate":
		err = s.PutRelation(ctx, &episodic.Relation{From: pick(t, w.ids), To: pick(t, w.ids), Type: episodic.DependsOn})
	case "unrelate":
		err = s.DeleteRelation(ctx, pick(t, w.ids), episodic.DependsOn, pick(t, w.ids))
	case "pattern":
		p := &episodic.Pattern{Description: fmt.Sprint("p", w.n), ContextPattern: &episodic.ContextPattern{Features: []string{"x"}, Approach: "y"}}
		if len(w.patterns) > 0 && w.n%2 == 0 {
			p.ID = pick(t, w.patterns)
		}
		if err = s.PutPattern(ctx, p); err == nil {
			w.patterns = append(w.patterns, p.ID)
		}
	case "pattern gone":
		if len(w.patterns) > 0 {
			err = s.DeletePattern(ctx, pick(t, w.patterns))
		}
	case "heuristic":
		h := &episodic.Heuristic{Condition: fmt.Sprint("c", w.n), Action: "do"}
		if len(w.heuristics) > 0 && w.n%2 == 0 {
			h.ID = pick(t, w.heuristics)
		}
		if err = s.PutHeuristic(ctx, h); err == nil {
			w.heuristics = append(w.heuristics, h.ID)
		}
	case "heuristic gone":
		if len(w.heuristics) > 0 {
			err = s.DeleteHeuristic(ctx, pick(t, w.heuristics))
		}
	case "embed":
		err = s.PutEmbedding(ctx, &episodic.Embedding{Kind: "episode", Item: pick(t, w.ids), Model: fmt.Sprint("m", w.n%2), Vector: []float32{1, float32(w.n)}})
	case "unembed":
		err = s.DeleteEmbedding(ctx, "episode", pick(t, w.ids), fmt.Sprint("m", w.n%2))
	case "tag":
		err = s.AddTags(ctx, pick(t, w.ids), fmt.Sprint("t", w.n%5))
	case "untag":
		err = s.RemoveTags(ctx, pick(t, w.ids), fmt.Sprint("t", w.n%5), "a")
	}
	if err != nil && !errors.Is(err, episodic.ErrNotFound) && !errors.Is(err, episodic.ErrConflict) && !errors.Is(err, episodic.ErrInvalid) {
		t.Fatalf("%s: %v", op, err)
	}
}

// Whatever is done to a memory, and however the pulls of one or two processes lie in
// between, in the end the replica holds the same.
func TestReplicaHoldsWhatTheServerHas(t *testing.T) {
	oneByOne(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "replica-")
		ok(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		w := &world{side: newSide(t, dir)}
		cfg := newLocal(t, w.engine, filepath.Join(dir, "replica.db"))
		rows := rapid.SampledFrom([]int{1, 2, 7, 1000}).Draw(t, "rows of a look")
		bytes := rapid.SampledFrom([]int64{1, 20_000, 12 << 20}).Draw(t, "bytes of a page")
		begin := func() *replica.Replica {
			r, err := replica.Stopped(cfg, rows, bytes)
			ok(t, err)
			t.Cleanup(func() { _ = r.Close() })
			return r
		}
		pullers := []*replica.Replica{begin(), begin()}
		for range rapid.IntRange(0, 80).Draw(t, "changes") {
			w.change(t)
			who := rapid.IntRange(0, 1).Draw(t, "who")
			switch rapid.IntRange(0, 9).Draw(t, "pull") {
			case 0, 1, 2:
				_, _, err := pullers[who].Step(t.Context())
				ok(t, err)
			case 3: // killed, and another one in its place
				pullers[who] = begin()
			}
			if s := pullers[who].Status(); s.Anew {
				t.Fatalf("the replica is made anew, though the server is the same: %+v", s)
			}
		}
		settle(t, pullers[0])
		sameAs(t, w.engine, cfg.Local)
		if s := pullers[1].Status(); !s.Complete || s.Behind || s.Anew || s.Remaining != 0 || s.AsOf.IsZero() {
			t.Errorf("status in the end is %+v", s)
		}
	})
}

// settle pulls until nothing is left.
func settle(t tester, r *replica.Replica) {
	t.Helper()
	for range 10_000 {
		_, again, err := r.Step(t.Context())
		ok(t, err)
		if !again {
			return
		}
	}
	t.Fatal("the pull does not end")
}
