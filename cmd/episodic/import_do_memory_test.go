package main

import (
	"compress/gzip"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// doMemory is a database that do-memory-storage-turso has made, changed by statements.
func (c *cli) doMemory(statements ...string) string {
	c.t.Helper()
	f, err := os.Open("../../internal/agentstore/testdata/do_memory/memory.db.gz")
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	path := filepath.Join(c.home, "memory.db")
	if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		c.t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			c.t.Fatal(err)
		}
	}
	return path
}

// TestImportOfDoMemory: everything is there, importing again adds nothing, on a file and on a
// server, in a project and in none.
func TestImportOfDoMemory(t *testing.T) {
	for name, scope := range map[string][]string{"file": nil, "project": {"--project", "p"}, "server": nil} {
		t.Run(name, func(t *testing.T) {
			c := newCLI(t)
			if name == "server" {
				c.env["EPISODIC_DB"] = hranatest.Start(t).URL()
			}
			path := c.doMemory()
			run := func(args ...string) string { return c.ok(append(args, scope...)...) }
			if out := run("import", "--dry-run", path); !strings.HasPrefix(out, "would import at most 9 episodes, 27 steps; 0 were already there; 0 bad lines\n3 heuristics\n16 patterns, relations") {
				t.Errorf("a dry run printed %q", out)
			}
			if out := run("import", path); !strings.HasPrefix(out, "imported 9 episodes, 27 steps; 0 were already there; 0 bad lines\n3 heuristics\n16 patterns, relations, embeddings and deletions\n") ||
				!strings.HasSuffix(out, "left out: 1 x embedding of what is no episode and no pattern, 1 x row of execution_records\n") {
				t.Errorf("import printed %q", out)
			}
			before := c.run(append([]string{"export", "--embeddings"}, scope...)...).stdout
			if n := strings.Count(before, "\n"); n != 9+3+16 {
				t.Errorf("exported are %d lines", n)
			}
			if out := run("import", path); !strings.HasPrefix(out, "imported 0 episodes, 0 steps; 28 were already there; 0 bad lines\n5 have no step\n") {
				t.Errorf("importing again printed %q", out)
			}
			if after := c.run(append([]string{"export", "--embeddings"}, scope...)...).stdout; after != before {
				t.Errorf("after importing again it is\n%s\nwant\n%s", after, before)
			}
			if out := run("search", "deadlock in the pool"); !strings.Contains(out, "Fix the \"deadlock\"") {
				t.Errorf("search printed %q", out)
			}
			if name != "file" {
				return
			}
			// Deleted here, it stays so; what was added here stays.
			const one = "01900000-0000-4000-8000-000000000001"
			c.ok("delete", "01900000-0000-4000-8000-000000000005")
			store := c.store()
			id, _ := episodic.ParseID(one)
			e, err := store.Episode(t.Context(), id)
			if err == nil {
				e.Context.Tags = append(e.Context.Tags, "mine")
				err = store.PutEpisode(t.Context(), e)
			}
			if err != nil {
				t.Fatal(err)
			}
			path = c.doMemory("UPDATE episodes SET steps = json_insert(steps, '$[#]', json('{\"tool\":\"late\"}')) WHERE episode_id = '" + one + "'")
			if out := c.ok("import", path); !strings.Contains(out, "imported 0 episodes, 1 step; 25 were already there") || !strings.Contains(out, "1 had grown") || !strings.Contains(out, "2 were deleted after an earlier import") {
				t.Errorf("importing what has grown printed %q", out)
			}
			if e, err = store.Episode(t.Context(), id); err != nil || len(e.Steps) != 6 || e.Steps[5].Tool != "late" || !strings.Contains(strings.Join(e.Context.Tags, " "), "mine") {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

// TestImportOfDamagedDoMemory: what cannot be taken over is told by table and row, the rest is
// there, and the exit code says so.
func TestImportOfDamagedDoMemory(t *testing.T) {
	c := newCLI(t)
	path := c.doMemory("UPDATE episodes SET outcome = '{' WHERE rowid = 3", "UPDATE heuristics SET heuristic_id = 'x' WHERE rowid = 2", "UPDATE episode_relationships SET relationship_type = 'odd' WHERE rowid = 1",
		"UPDATE episode_relationships SET to_episode_id = from_episode_id WHERE rowid = 2", "PRAGMA foreign_keys = 0", "UPDATE episode_relationships SET to_episode_id = '01900000-0000-4000-8000-0000000000ff' WHERE rowid = 3",
		"UPDATE embeddings SET item_id = '01900000-0000-4000-8000-0000000000ff' WHERE rowid = 1")
	for _, prefix := range []string{"imported 9 episodes, 27 steps; 0 were", "imported 0 episodes, 0 steps; 24 were"} {
		got := c.run("import", path)
		if got.code != exitFailure || !strings.HasPrefix(got.stdout, prefix) || !strings.Contains(got.stdout, "; 6 bad lines\n") {
			t.Errorf("import: %+v", got)
		}
		for _, told := range []string{
			path + ": episodes row 3: outcome: is not JSON; it is kept in the metadata",
			path + ": heuristics row 2: heuristic_id: is no UUID; it is kept in the metadata",
			path + `: episode_relationships row 1: type: is "odd"; it must be one of`,
			path + ": episode_relationships row 2: to: is the same episode as from",
			path + ": episode_relationships row 3: ",
			path + ": and 1 more",
		} {
			if !strings.Contains(got.stderr, told) {
				t.Errorf("%q is not told: %s", told, got.stderr)
			}
		}
	}
}

// TestImportOfDoMemoryBackup: a backup and the database are the same episodes.
func TestImportOfDoMemoryBackup(t *testing.T) {
	c := newCLI(t)
	const backup = "../../internal/agentstore/testdata/do_memory/backup.json"
	for _, want := range []string{"imported 6 episodes, 7 steps; 0 were already there; 0 bad lines\n", "imported 0 episodes, 0 steps; 6 were already there; 0 bad lines\n"} {
		if out := c.ok("import", backup); !strings.HasPrefix(out, want) {
			t.Errorf("import printed %q", out)
		}
	}
	if out := c.ok("import", c.doMemory()); !strings.HasPrefix(out, "imported 3 episodes, 20 steps; ") || strings.Contains(out, "differ") {
		t.Errorf("import of the database printed %q", out)
	}
	if out := c.ok("show", "--json", "01900000-0000-4000-8000-000000000001"); !strings.Contains(out, `"effect":"helped"`) || !strings.Contains(out, "A deadlock was fixed.") {
		t.Errorf("the episode is %s", out)
	}
}
