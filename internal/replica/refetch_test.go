package replica_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
)

func isThere(t *testing.T, r *replica.Replica) {
	t.Helper()
	if st := r.Status(); st.Behind || st.AsOf.IsZero() || !st.Complete {
		t.Errorf("status %+v", st)
	}
}

// What is wrong in the file is right after Fetch, and what the server does not have is gone.
func TestFetchAnew(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	ids := start(t, s, "a", "b", "c", "d")
	for _, id := range ids {
		_, err := s.AppendSteps(t.Context(), id, episodic.Step{Action: "x"})
		ok(t, err)
	}
	ok(t, s.PutRelation(t.Context(), &episodic.Relation{From: ids[0], To: ids[1], Type: episodic.Follows}))
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	r, err := replica.Stopped(cfg, 1000, 1<<20)
	ok(t, err)
	defer r.Close()
	settle(t, r)
	exec(t, cfg.Local, "DELETE FROM runs WHERE episode = 1")
	exec(t, cfg.Local, "DELETE FROM relations")
	exec(t, cfg.Local, "UPDATE episodes SET outcome = 'success' WHERE seq = 2")
	exec(t, cfg.Local, "DELETE FROM episodes WHERE seq = 3")
	exec(t, cfg.Local, "INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(?,'','','','',1,0,1,x'017b7d')", make([]byte, 16))
	all := [][16]byte{{}}
	for _, row := range query(t, s.engine, "SELECT id FROM episodes") {
		all = append(all, [16]byte(row[0].([]byte)))
	}
	ok(t, r.Fetch(t.Context(), all...))
	if st := r.Status(); !st.Behind || !st.AsOf.IsZero() {
		t.Errorf("before a pull has followed: %+v", st)
	}
	settle(t, r)
	sameAs(t, s.engine, cfg.Local)
	isThere(t, r)
}

// A dictionary that the server's compaction deletes goes here too, with all that names it.
func TestDictionariesThatAreGone(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	words := []string{"pytest", "traceback", "migration", "unicode", "matrix", "separable", "model", "field", "queryset", "axis", "label", "plot"}
	var list []*episodic.Episode
	for i := range 64 {
		e := &episodic.Episode{Description: fmt.Sprint("task ", i)}
		for range 3 {
			text := ""
			for range 40 {
				text += words[rand.IntN(len(words))] + fmt.Sprint(" /testbed/django/db/models/fields.py:", rand.IntN(900), " ")
			}
			e.Steps = append(e.Steps, episodic.Step{Tool: "bash", Action: text})
		}
		list = append(list, e)
	}
	_, err := s.AddEpisodes(t.Context(), list...)
	ok(t, err)
	_, err = s.TrainDictionaries(t.Context())
	ok(t, err)
	_, err = s.Compact(t.Context(), nil)
	ok(t, err)
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	r, err := replica.Stopped(cfg, 1000, 1<<20)
	ok(t, err)
	defer r.Close()
	settle(t, r)
	sameAs(t, s.engine, cfg.Local)
	const ids = "SELECT id, sha256, content FROM dictionaries ORDER BY id"
	before := fmt.Sprint(query(t, cfg.Local, ids))
	if before == "[]" || before != fmt.Sprint(query(t, s.engine, ids)) {
		t.Fatal("the dictionaries are not the same, or there is none")
	}

	for _, e := range list[:10] {
		ok(t, s.DeleteEpisode(t.Context(), e.ID))
	}
	settle(t, r)
	_, err = s.TrainDictionaries(t.Context())
	ok(t, err)
	_, err = s.Compact(t.Context(), nil)
	ok(t, err)
	settle(t, r)
	sameAs(t, s.engine, cfg.Local)
	isThere(t, r)
	if after := fmt.Sprint(query(t, cfg.Local, ids)); after == before || after != fmt.Sprint(query(t, s.engine, ids)) {
		t.Error("the dictionaries are those of before, or not the same")
	}
	read, err := episodic.Open(t.Context(), cfg.Path, nil)
	ok(t, err)
	defer read.Close()
	for _, e := range list[10:] {
		got, err := read.Episode(t.Context(), e.ID)
		ok(t, err)
		if len(got.Steps) != 3 || got.Steps[2].Action != e.Steps[2].Action {
			t.Fatalf("episode %v is not what was stored", e.ID)
		}
	}
}

func TestCannotBeUsed(t *testing.T) {
	s := newSide(t, t.TempDir())
	path := filepath.Join(t.TempDir(), "replica.db")
	cfg := newLocal(t, s.engine, path)
	r, err := replica.New(cfg)
	ok(t, err)
	for range 2 {
		ok(t, r.Close())
	}
	if err := r.Fetch(t.Context(), [16]byte{1}); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Fetch after Close: %v", err)
	}
	if _, err := r.Verify(t.Context(), false); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Verify after Close: %v", err)
	}
	if _, err := r.Await(t.Context(), time.Now()); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Await after Close: %v", err)
	}

	exec(t, cfg.Local, "UPDATE replica SET version = version + 1")
	if err := replica.Prepare(t.Context(), cfg.Local); !errors.Is(err, replica.ErrReset) {
		t.Errorf("tables of another version: %v", err)
	}
	exec(t, cfg.Local, "DELETE FROM replica")
	if _, err := replica.New(cfg); !errors.Is(err, replica.ErrReset) {
		t.Errorf("no position: %v", err)
	}
	ok(t, cfg.Local.Close())
	ok(t, replica.Remove(path))
	ok(t, replica.Remove(path))
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

// What comes between a look and its fetch is not missed, though the look did not tell of its
// kind, scope or dictionary.
func TestChangesAfterTheLook(t *testing.T) {
	oneByOne(t)
	for name, sql := range map[string][]string{
		"a heuristic": {"INSERT INTO heuristics(id, confidence, created_us, payload) VALUES(randomblob(16), 0, 1, x'017b7d')"},
		"a pattern":   {"INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload) VALUES(randomblob(16), '', '', 0, 1, x'017b7d')"},
		"a relation":  {"INSERT INTO relations VALUES(1, 'x', 2, 1, x'017b7d')"},
		"a vector":    {"INSERT INTO embeddings SELECT 'episode', id, 'm', 1, x'00000000' FROM episodes"},
		"a scope": {"INSERT INTO scopes(n, project, user, agent) VALUES(7, 'web', '', '')",
			"INSERT INTO heuristics(id, confidence, created_us, payload, scope) VALUES(randomblob(16), 0, 1, x'017b7d', 7)"},
		"a dictionary": {"INSERT INTO dictionaries(id, tag, kind, created_us, samples, ratio, removals, sha256, content) VALUES(40000, x'C0B802', 'episode', 1, 1, 1, 0, x'01', x'02')",
			"UPDATE episodes SET payload = x'0201C0B80200', rev = 5 WHERE seq = 2"},
		"a deletion": {"DELETE FROM episodes WHERE seq = 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t, t.TempDir())
			ids := start(t, s, "a", "b")
			cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
			between := &meddler{Engine: s.engine, do: func(int) {}}
			cfg.Server = between
			r, err := replica.Stopped(cfg, 1000, 1<<20)
			ok(t, err)
			defer r.Close()
			settle(t, r)
			_, err = s.AppendSteps(t.Context(), ids[0], episodic.Step{Action: "x"})
			ok(t, err)
			between.n = 0
			between.do = func(n int) {
				for _, sql := range sql {
					if n == 2 {
						exec(t, s.engine, sql)
					}
				}
			}
			for { // the next look must not be needed for what it would tell of
				asOf, _, err := r.Step(t.Context())
				ok(t, err)
				if !asOf.IsZero() {
					break
				}
			}
			sameAs(t, s.engine, cfg.Local)
			for _, table := range []string{"scopes", "dictionaries"} {
				sql := "SELECT * FROM " + table
				if got, want := fmt.Sprint(query(t, cfg.Local, sql)), fmt.Sprint(query(t, s.engine, sql)); got != want {
					t.Errorf("%s: %s, want %s", table, got, want)
				}
			}
		})
	}
}
