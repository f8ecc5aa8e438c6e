package schema

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
)

func open(t *testing.T, path string) engine.Engine {
	t.Helper()
	e, err := embedded.Open(t.Context(), embedded.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func fresh(t *testing.T) engine.Engine { return open(t, filepath.Join(t.TempDir(), "m.db")) }

func exec(t *testing.T, e engine.Engine, sql string) {
	t.Helper()
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: sql}); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateTwiceChangesNothing(t *testing.T) {
	e := fresh(t)
	all, err := load(files)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Migrate(t.Context(), e, true); err != nil {
			t.Fatal(err)
		}
		if v, err := Version(t.Context(), e); err != nil || v != int64(len(all)) {
			t.Fatalf("version %d, %v", v, err)
		}
	}
}

// Two steps, so that a process can find the first one done and the second not.
func TestConcurrentOpenersApplyEachMigrationOnce(t *testing.T) {
	steps := [][]engine.Stmt{
		split("CREATE TABLE episodic_migrations(version INTEGER PRIMARY KEY, applied_us INTEGER)\n\nCREATE TABLE a(n INTEGER)\n\nINSERT INTO a VALUES(0)"),
		split("UPDATE a SET n = n + 1"),
	}
	for range 10 {
		path := filepath.Join(t.TempDir(), "m.db")
		engines := make([]engine.Engine, 6)
		for i := range engines {
			engines[i] = open(t, path)
		}
		var wg sync.WaitGroup
		for _, e := range engines {
			wg.Go(func() {
				if err := migrate(t.Context(), e, steps, true); err != nil {
					t.Errorf("migrate: %v", err)
				}
			})
		}
		wg.Wait()
		r, err := engines[0].Query(t.Context(), engine.Stmt{SQL: "SELECT n FROM a"})
		if err != nil || fmt.Sprint(r[0].Rows) != "[[1]]" {
			t.Fatalf("after six openers a holds %v, %v", r, err)
		}
	}
}

func TestMigrateRefusesNewerAndForeignDatabases(t *testing.T) {
	newer := fresh(t)
	if err := Migrate(t.Context(), newer, true); err != nil {
		t.Fatal(err)
	}
	exec(t, newer, "INSERT INTO episodic_migrations VALUES(99, 0)")
	if ne, ok := errors.AsType[*NewerError](Migrate(t.Context(), newer, true)); !ok || ne.Found != 99 {
		t.Errorf("newer database: %v", ne)
	}

	foreign := fresh(t)
	exec(t, foreign, "CREATE TABLE users(id)")
	err := Migrate(t.Context(), foreign, true)
	if fe, ok := errors.AsType[*ForeignError](err); !ok || fe.Tables[0] != "users" {
		t.Errorf("foreign database: %v", err)
	}
	r, err := foreign.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM sqlite_schema"})
	if err != nil || r[0].Rows[0][0] != int64(1) {
		t.Errorf("a foreign database was changed: %v, %v", r, err)
	}
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	e := fresh(t)
	bad := [][]engine.Stmt{split("CREATE TABLE episodic_migrations(version INTEGER PRIMARY KEY, applied_us INTEGER)\n\nCREATE TABLE a(n INTEGER)\n\nCREATE TABLE a(n INTEGER)")}
	if err := migrate(t.Context(), e, bad, true); err == nil || !strings.Contains(err.Error(), "apply migration 1") {
		t.Errorf("error %v", err)
	}
	if err := Migrate(t.Context(), e, true); err != nil {
		t.Errorf("after a failed migration: %v", err)
	}
}

func TestMigrateHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Migrate(ctx, fresh(t), true); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestEmptyDatabaseIsNotTouchedUnlessAsked(t *testing.T) {
	e := fresh(t)
	if err := Migrate(t.Context(), e, false); !errors.Is(err, ErrEmpty) {
		t.Errorf("error %v", err)
	}
	r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM sqlite_schema"})
	if err != nil || r[0].Rows[0][0] != int64(0) {
		t.Errorf("it holds %v, %v", r, err)
	}
}

func TestLoadRefusesGaps(t *testing.T) {
	_, err := load(fstest.MapFS{"0001_a.sql": {Data: []byte("x")}, "0003_b.sql": {Data: []byte("x")}})
	if err == nil || !strings.Contains(err.Error(), "0003_b.sql") {
		t.Errorf("error %v", err)
	}
}

func TestDeletingTakesEverythingOfAnEpisode(t *testing.T) {
	e := fresh(t)
	if err := Migrate(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []string{"1", "2"} {
		exec(t, e, "INSERT INTO episodes VALUES("+seq+", x'0"+seq+"', '', '', '', '', 0, 0, 1, 0, x'', 0, 0)")
		exec(t, e, "INSERT INTO runs VALUES(("+seq+" << 24) + 1, 1, NULL, x'')")
		exec(t, e, "INSERT INTO tags VALUES('t', "+seq+", 0)")
		exec(t, e, "INSERT INTO embeddings VALUES('episode', x'0"+seq+"', 'm', 1, x'00')")
		exec(t, e, "INSERT INTO heads(rowid, words) VALUES("+seq+", 'word'), (-("+seq+" << 24) - 1, 'step'), (-("+seq+" << 24) - 16777215, 'last')")
		exec(t, e, "INSERT INTO index_units(place, data) VALUES("+seq+" << 24, x''), (("+seq+" << 24) + 1, x''), ((("+seq+" + 1) << 24) - 1, x'')")
		exec(t, e, "INSERT INTO index_waiting VALUES("+seq+")")
	}
	exec(t, e, "INSERT INTO relations VALUES(1, 'follows', 2, 0, x'')")
	exec(t, e, "INSERT INTO index_segments VALUES(7, 1, 0, 0, x'')")
	exec(t, e, "DELETE FROM episodes WHERE seq = 1")
	for table, want := range map[string]int64{"episodes": 1, "runs": 1, "tags": 1, "embeddings": 1, "relations": 0,
		"heads_docsize": 3, "index_units": 3, "index_waiting": 1, "index_gone": 1} {
		r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM " + table})
		if err != nil || r[0].Rows[0][0] != want {
			t.Errorf("%s holds %v rows, want %d (%v)", table, r, want, err)
		}
	}
}
