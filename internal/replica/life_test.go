package replica_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
)

func (s *side) close(t *testing.T) {
	ok(t, s.Store.Close())
	ok(t, s.engine.Close())
}

func exec(t *testing.T, e engine.Engine, sql string, args ...any) {
	t.Helper()
	_, err := e.Batch(t.Context(), engine.Stmt{SQL: sql, Args: args})
	ok(t, err)
}

func start(t *testing.T, s *side, texts ...string) (ids []episodic.ID) {
	t.Helper()
	for _, text := range texts {
		e := &episodic.Episode{Description: text, Context: episodic.Context{Tags: []string{text}}}
		ok(t, s.StartEpisode(t.Context(), e))
		ids = append(ids, e.ID)
	}
	return ids
}

// A server whose database is another one, or not the later state of the one that was
// pulled, has the replica made anew, and nothing stays that it does not have. Meanwhile it
// is not taken for new. What both have does not travel again.
func TestServersDatabaseIsReplaced(t *testing.T) {
	oneByOne(t)
	for name, tt := range map[string]struct {
		later func(t *testing.T, s *side) *side // the server after the pull; s was copied before its last changes
		anew  bool
		stay  int // of 5 episodes, how many stay where they are
	}{
		"the same": {stay: 5, later: func(t *testing.T, s *side) *side { return s }},
		"an older copy": {anew: true, stay: 3, later: func(t *testing.T, s *side) *side {
			return sideAt(t, s.path+".copy")
		}},
		"an older copy that has grown": {anew: true, stay: 3, later: func(t *testing.T, s *side) *side {
			s = sideAt(t, s.path+".copy")
			start(t, s, "g", "h", "i", "j", "k", "l", "m", "n")
			return s
		}},
		"another database": {anew: true, later: func(t *testing.T, s *side) *side {
			s = sideAt(t, s.path+".other")
			exec(t, s.engine, "UPDATE feed_state SET life = randomblob(16)")
			start(t, s, "x", "y")
			return s
		}},
		"an empty database": {anew: true, later: func(t *testing.T, s *side) *side {
			s = sideAt(t, s.path+".other")
			exec(t, s.engine, "UPDATE feed_state SET life = randomblob(16)")
			return s
		}},
		"deletions that are forgotten": {anew: true, stay: 4, later: func(t *testing.T, s *side) *side {
			ok(t, s.DeleteEpisode(t.Context(), episodic.ID(query(t, s.engine, "SELECT id FROM episodes WHERE seq = 1")[0][0].([]byte))))
			exec(t, s.engine, "DELETE FROM feed WHERE gone_us IS NOT NULL")
			return s
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newSide(t, dir)
			ids := start(t, s, "a", "b", "c")
			ok(t, s.PutRelation(t.Context(), &episodic.Relation{From: ids[0], To: ids[1], Type: episodic.Follows}))
			ok(t, s.PutEmbedding(t.Context(), &episodic.Embedding{Kind: "episode", Item: ids[1], Model: "m", Vector: []float32{1}}))
			s.close(t)
			content, err := os.ReadFile(s.path)
			ok(t, err)
			ok(t, os.WriteFile(s.path+".copy", content, 0o600))
			s = sideAt(t, s.path)
			ids = append(ids, start(t, s, "d", "e")...)
			ok(t, s.PutRelation(t.Context(), &episodic.Relation{From: ids[3], To: ids[1], Type: episodic.Follows}))
			ok(t, s.PutEmbedding(t.Context(), &episodic.Embedding{Kind: "episode", Item: ids[0], Model: "m", Vector: []float32{2}}))
			ok(t, s.PutHeuristic(t.Context(), &episodic.Heuristic{Condition: "c", Action: "a"}))
			cfg := newLocal(t, s.engine, filepath.Join(dir, "replica.db"))
			r, err := replica.Stopped(cfg, 2, 1)
			ok(t, err)
			settle(t, r)
			sameAs(t, s.engine, cfg.Local)
			ok(t, r.Close())
			before := query(t, cfg.Local, "SELECT seq, id, rev FROM episodes ORDER BY seq")

			s = tt.later(t, s)
			cfg.Server = s.engine
			r, err = replica.Stopped(cfg, 2, 1)
			ok(t, err)
			defer r.Close()
			_, _, err = r.Step(t.Context())
			ok(t, err)
			if st := r.Status(); st.Anew != tt.anew || tt.anew && (!st.AsOf.IsZero() || st.Complete || st.LastAsOf.IsZero()) {
				t.Errorf("after the first look: %+v", st)
			}
			settle(t, r)
			sameAs(t, s.engine, cfg.Local)
			if st := r.Status(); st.Anew || st.AsOf.IsZero() || !st.Complete {
				t.Errorf("in the end: %+v", st)
			}
			stay := 0
			for _, row := range before {
				stay += len(query(t, cfg.Local, "SELECT 1 FROM episodes WHERE seq = ? AND id = ? AND rev = ?", row...))
			}
			if stay != tt.stay {
				t.Errorf("%d episodes stay, want %d", stay, tt.stay)
			}
		})
	}
}

// An episode that an answer cannot hold comes in parts.
func TestEpisodeTooLargeForAnAnswer(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	start(t, s, "small", "large", "other")
	exec(t, s.engine, "INSERT INTO runs(place, count, payload) SELECT (2 << 24) + 1 + value, 1, randomblob(1500000) FROM json_each('[0,1,2,3,4,5,6,7,8]')")
	exec(t, s.engine, "UPDATE episodes SET steps = 9, rev = 7, bytes = 13500000 WHERE seq = 2")
	for _, first := range []bool{true, false} { // by the fill, then by a pull that goes forward
		r, err := replica.Stopped(cfg, 1000, 12<<20)
		ok(t, err)
		settle(t, r)
		const runs = "SELECT e.id, first, count, substr(r.payload, 1, 40), length(r.payload) FROM runs r JOIN episodes e ON seq = r.episode ORDER BY 1, 2"
		if got, want := query(t, cfg.Local, runs), query(t, s.engine, runs); len(want) != 9 || !reflect.DeepEqual(got, want) {
			t.Errorf("%d runs here, %d on the server", len(got), len(want))
		}
		ok(t, r.Close())
		if first {
			start(t, s, "more")
			exec(t, s.engine, "UPDATE episodes SET rev = 8 WHERE seq < 4")
		}
	}
}

// A replica of a scope has what lies in it, and nothing else.
func TestReplicaOfAScope(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	web, err := s.Scoped(episodic.Scope{Project: "web"})
	ok(t, err)
	var inside, outside []episodic.ID
	for i := range 6 {
		in, out := &episodic.Episode{Description: fmt.Sprint("in ", i)}, &episodic.Episode{Description: fmt.Sprint("out ", i)}
		ok(t, web.StartEpisode(t.Context(), in))
		ok(t, s.StartEpisode(t.Context(), out))
		inside, outside = append(inside, in.ID), append(outside, out.ID)
	}
	ok(t, web.PutHeuristic(t.Context(), &episodic.Heuristic{Condition: "c", Action: "a"}))
	ok(t, s.PutHeuristic(t.Context(), &episodic.Heuristic{Condition: "d", Action: "a"}))
	for _, to := range []episodic.ID{inside[1], outside[1]} {
		ok(t, s.PutRelation(t.Context(), &episodic.Relation{From: inside[0], To: to, Type: episodic.Follows}))
	}
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	cfg.Scope = func(column string) (string, []any) {
		return column + " IN (SELECT n FROM scopes WHERE project = ?)", []any{"web"}
	}
	r, err := replica.Stopped(cfg, 2, 1)
	ok(t, err)
	defer r.Close()
	check := func(episodes, relations int64) {
		t.Helper()
		settle(t, r)
		got := fmt.Sprint(query(t, cfg.Local, "SELECT (SELECT count(*) FROM episodes), (SELECT count(*) FROM heuristics), (SELECT count(*) FROM relations), (SELECT count(*) FROM relations_waiting)"),
			query(t, cfg.Local, "SELECT count(*) FROM episodes JOIN scopes ON n = scope WHERE project <> 'web'"))
		if want := fmt.Sprintf("[[%d 1 %d 0]] [[0]]", episodes, relations); got != want {
			t.Errorf("holds %s, want %s", got, want)
		}
	}
	check(6, 1)
	ok(t, s.DeleteEpisode(t.Context(), inside[1]))
	ok(t, s.DeleteEpisode(t.Context(), outside[2]))
	check(5, 0)
	if text := fmt.Sprint(query(t, cfg.Local, "SELECT hex(payload) FROM episodes")); strings.Contains(text, fmt.Sprintf("%X", "out ")) {
		t.Error("holds a text of outside")
	}
}
