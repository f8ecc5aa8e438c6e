package replica_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
)

// Verify names each item that differs and no other, and Fetch mends it.
func TestVerify(t *testing.T) {
	oneByOne(t)
	real, _ := newServer(t)
	for where, s := range map[string]*side{"file": newSide(t, t.TempDir()), "server": real} {
		t.Run(where, func(t *testing.T) { verify(t, s) })
	}
}

func verify(t *testing.T, s *side) {
	ids := start(t, s, "a", "b", "c", "d")
	for _, id := range ids {
		_, err := s.AppendSteps(t.Context(), id, episodic.Step{Action: strings.Repeat("a step of some length ", 20)})
		ok(t, err)
	}
	ok(t, s.PutRelation(t.Context(), &episodic.Relation{From: ids[0], To: ids[1], Type: episodic.Follows}))
	ok(t, s.PutHeuristic(t.Context(), &episodic.Heuristic{Condition: "c", Action: "a"}))
	ok(t, s.PutPattern(t.Context(), &episodic.Pattern{Description: "p", ContextPattern: &episodic.ContextPattern{Features: []string{"x"}, Approach: "y"}}))
	ok(t, s.PutEmbedding(t.Context(), &episodic.Embedding{Kind: "episode", Item: ids[1], Model: "m", Vector: []float32{1, 2}}))
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	r, err := replica.Stopped(cfg, 1000, 1<<20)
	ok(t, err)
	defer r.Close()
	for _, tt := range []struct {
		damage string
		deep   bool   // only then it is found
		items  int    // that differ
		want   string // one of them
	}{
		{"UPDATE episodes SET rev = 5 WHERE id = ?1", false, 1, "1: revision 5, 1 steps"},
		{"UPDATE episodes SET steps = 2 WHERE id = ?1", false, 1, "2 steps"},
		{"DELETE FROM episodes WHERE id = ?1", false, 2, "1:  | revision "}, // and its relations
		{"INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) SELECT randomblob(16),'','','','',1,0,1,x'017b7d'", false, 1, "1: revision 1, 0 steps"},
		{"UPDATE runs SET payload = x'017b7d'", true, 4, "1: 1 steps from 1, payload "},
		{"UPDATE episodes SET payload = x'017b7d' WHERE id = ?1", true, 1, ", payload "},
		{"DELETE FROM relations", false, 1, "4:  | follows "},
		{"DELETE FROM heuristics", false, 1, "3:  | revision "},
		{"UPDATE patterns SET rev = 7", false, 1, "2: revision 7"},
		{"UPDATE embeddings SET vector = x'00000000'", false, 1, "5: m of 2 numbers"},
		{"UPDATE embeddings SET vector = zeroblob(length(vector))", true, 1, "5: m of 2 numbers, payload "},
	} {
		settle(t, r)
		for _, deep := range []bool{false, true} {
			found, err := r.Verify(t.Context(), deep)
			ok(t, err)
			if len(found) != 0 {
				t.Fatalf("nothing differs, found %s", told(found))
			}
		}
		var args []any
		if strings.Contains(tt.damage, "?1") {
			args = append(args, ids[0][:])
		}
		exec(t, cfg.Local, tt.damage, args...)
		shallow, err := r.Verify(t.Context(), false)
		ok(t, err)
		if (len(shallow) == 0) != tt.deep {
			t.Errorf("%s: found %s without payloads", tt.damage, told(shallow))
		}
		found, err := r.Verify(t.Context(), true)
		ok(t, err)
		var fetch [][16]byte
		for _, d := range found {
			fetch = append(fetch, d.Item)
		}
		if !strings.Contains(told(found), tt.want) || len(found) != tt.items {
			t.Errorf("%s: found %s, want %d with %q", tt.damage, told(found), tt.items, tt.want)
		}
		ok(t, r.Fetch(t.Context(), fetch...))
	}
	settle(t, r)
	sameAs(t, s.engine, cfg.Local)
}

func told(found []replica.Difference) string {
	var b strings.Builder
	for _, d := range found {
		fmt.Fprintf(&b, "%d: %s | %s\n", d.Kind, d.Here, d.There)
	}
	return b.String()
}

// What changes on the server while Verify compares is no difference.
func TestVerifyWhileTheServerChanges(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	ids := start(t, s, "a", "b", "c", "d")
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	cfg.Server = &meddler{Engine: s.engine, do: func(n int) {
		if n > 4 && n < 9 {
			_, err := s.AppendSteps(t.Context(), ids[n%4], episodic.Step{Action: "x"})
			ok(t, err)
		}
	}}
	r, err := replica.Stopped(cfg, 1000, 1<<20)
	ok(t, err)
	defer r.Close()
	settle(t, r)
	cfg.Server.(*meddler).n = 0
	found, err := r.Verify(t.Context(), true)
	if err != nil || len(found) != 0 {
		t.Errorf("found %s, %v", told(found), err)
	}
}

// meddler does something before each query.
type meddler struct {
	engine.Engine
	n  int
	do func(n int)
}

func (m *meddler) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	m.n++
	m.do(m.n)
	return m.Engine.Query(ctx, stmts...)
}
