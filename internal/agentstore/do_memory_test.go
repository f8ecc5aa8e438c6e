package agentstore

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

var update = flag.Bool("update", false, "write testdata/do_memory/runs.jsonl anew")

// sampleMemory is a database that the crates have made, of which statements have changed
// something; see testdata/do_memory/README.md.
func sampleMemory(t *testing.T, name string, statements ...string) string {
	t.Helper()
	f, err := os.Open("testdata/do_memory/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	text, err := io.ReadAll(r)
	if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	makeDB(t, path, statements...)
	return path
}

// readMemory returns what package transcript makes of a memory, and what it tells of it, with
// the places.
func readMemory(t *testing.T, path string, since time.Time) (runs []*transcript.Run, problems []string) {
	t.Helper()
	r, err := Open(t.Context(), path, since)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for run, err := range transcript.Read(r, path, nil) {
		var p *transcript.Problem
		switch {
		case errors.As(err, &p):
			problems = append(problems, p.Place+": "+p.Text)
		case err != nil:
			problems = append(problems, err.Error())
		default:
			runs = append(runs, run)
		}
	}
	return runs, problems
}

// items are what is in runs, a line of JSON each; long texts are cut.
func items(t *testing.T, runs []*transcript.Run) string {
	t.Helper()
	var lines bytes.Buffer
	for _, run := range runs {
		item := struct {
			Place     string
			Key       string              `json:",omitempty"`
			Episode   *episodic.Episode   `json:",omitempty"`
			Pattern   *episodic.Pattern   `json:",omitempty"`
			Heuristic *episodic.Heuristic `json:",omitempty"`
			Relation  *episodic.Relation  `json:",omitempty"`
			Embedding string              `json:",omitempty"`
			Left      transcript.Left     `json:",omitempty"`
			Odd       []transcript.Field  `json:",omitempty"`
		}{run.Place, run.Key, run.Episode, run.Pattern, run.Heuristic, run.Relation, "", run.Left, run.Odd}
		if e := run.Embedding; e != nil {
			item.Embedding = fmt.Sprintf("%s %v by %s: %v of %d", e.Kind, e.Item, e.Model, e.Vector[:3], len(e.Vector))
		}
		if e := item.Episode; e != nil {
			e.Description = short(e.Description)
			for i := range e.Steps {
				if r := e.Steps[i].Result; r != nil {
					r.Text = short(r.Text)
				}
			}
			for k, v := range e.Metadata {
				e.Metadata[k] = short(v)
			}
		}
		enc := json.NewEncoder(&lines)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(item); err != nil {
			t.Fatal(err)
		}
	}
	return lines.String()
}

func short(text string) string {
	if len(text) < 500 {
		return text
	}
	return fmt.Sprintf("%s... (%d bytes)", text[:20], len(text))
}

func TestDoMemory(t *testing.T) {
	t.Parallel()
	runs, problems := readMemory(t, sampleMemory(t, "memory.db"), time.Time{})
	if len(problems) > 0 {
		t.Errorf("problems %q", problems)
	}
	got := items(t, runs)
	const golden = "testdata/do_memory/runs.jsonl"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, string(want))
}

// same compares lines.
func same(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g):
			t.Errorf("line %d is missing:\n%s", i+1, w[i])
		case i >= len(w):
			t.Errorf("line %d is too many:\n%s", i+1, g[i])
		case g[i] != w[i]:
			t.Errorf("line %d is\n%s\nwant\n%s", i+1, g[i], w[i])
		}
	}
}

// TestPackedDoMemory: what the crate has compressed is read as the rest is.
func TestPackedDoMemory(t *testing.T) {
	t.Parallel()
	const times = "UPDATE patterns SET created_at = 1, updated_at = 1"
	plain, problems := readMemory(t, sampleMemory(t, "memory.db", times), time.Time{})
	packed, more := readMemory(t, sampleMemory(t, "packed.db", times), time.Time{})
	if len(problems)+len(more) > 0 {
		t.Errorf("problems %q, %q", problems, more)
	}
	same(t, items(t, packed), items(t, plain))
}

// TestDamagedDoMemory: what is damaged is told by table and row, and costs nothing else.
func TestDamagedDoMemory(t *testing.T) {
	t.Parallel()
	before, _ := readMemory(t, sampleMemory(t, "memory.db"), time.Time{})
	for name, test := range map[string]struct {
		change string
		gone   []string // places of which nothing is read any more
		told   string
	}{
		"nothing":                     {change: "SELECT 1"},
		"a column that is not JSON":   {change: "UPDATE episodes SET outcome = '{' WHERE rowid = 3", told: "episodes row 3: outcome: is not JSON; it is kept in the metadata"},
		"bytes for a text":            {change: "UPDATE episodes SET task_description = x'61ff' WHERE rowid = 3", told: "episodes row 3: task_description: is not UTF-8; what is none was replaced"},
		"an id that is none":          {change: "UPDATE heuristics SET heuristic_id = 'x' WHERE rowid = 2", told: "heuristics row 2: heuristic_id: is no UUID; it is kept in the metadata"},
		"a vector that is none":       {change: "DROP INDEX idx_embeddings_vector; UPDATE embeddings SET embedding_data = '[1,', embedding_vector = NULL WHERE rowid = 2", gone: []string{"embeddings row 2"}, told: "embeddings row 2: embedding_data: is not JSON; the embedding is left out"},
		"a relation from nowhere":     {change: "UPDATE episode_relationships SET from_episode_id = 'x' WHERE rowid = 2", gone: []string{"episode_relationships row 2"}, told: "episode_relationships row 2: from_episode_id: is no UUID; the relation is left out"},
		"tags of an episode gone":     {change: "INSERT INTO episode_tags VALUES ('gone', 'tag', 0)", told: "episode_tags row 3: belongs to no episode that is there, and was left out"},
		"feedback on nothing":         {change: "UPDATE recommendation_feedback SET session_id = 'gone'", told: "recommendation_feedback row 1: belongs to no episode that is there, and was left out"},
		"no tags, relations, vectors": {change: "DROP TABLE episode_tags; DROP TABLE episode_relationships; DROP TABLE embeddings; DROP TABLE heuristics", gone: []string{"heuristics", "episode_relationships", "embeddings"}},
		"feedback without sessions":   {change: "DROP TABLE recommendation_sessions", told: "recommendation_feedback row 1: belongs to no episode that is there, and was left out"},
		"an infinite number":          {change: "UPDATE heuristics SET confidence = 9e999 WHERE rowid = 1", told: "heuristics row 1: confidence: does not lie between 0 and 1; it is kept in the metadata"},
		"no episodes": {change: "DROP TABLE episodes; DROP TABLE episode_tags", gone: []string{"episodes", "episode_summaries row 1"},
			told: "episode_summaries row 1: belongs to no episode that is there, and was left out\nepisode_pattern_relationships row 1: belongs to no episode that is there, and was left out\nrecommendation_sessions row 1: belongs to no episode that is there, and was left out\nrecommendation_feedback row 1: belongs to no episode that is there, and was left out"},
		"a version without some columns": {change: "ALTER TABLE episodes DROP COLUMN checkpoints; ALTER TABLE episode_relationships DROP COLUMN weight; ALTER TABLE episodes DROP COLUMN patterns"},
		"a version with more columns":    {change: "ALTER TABLE episodes ADD COLUMN mood TEXT DEFAULT 'good'; ALTER TABLE heuristics ADD COLUMN at DATETIME DEFAULT '2025-01-01 00:00:00'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, problems := readMemory(t, sampleMemory(t, "memory.db", test.change), time.Time{})
			if told := strings.Join(problems, "\n"); told != test.told {
				t.Errorf("told\n%s\nwant\n%s", told, test.told)
			}
			places := make(map[string]bool)
			for _, run := range after {
				places[run.Place] = true
			}
			for _, run := range before {
				table, _, _ := strings.Cut(run.Place, " ")
				gone := slices.Contains(test.gone, run.Place) || slices.Contains(test.gone, table)
				if places[run.Place] == gone {
					t.Errorf("%s is read: %v", run.Place, !gone)
				}
			}
		})
	}
}

// TestDoMemoryOfAnyDamage: whatever stands in a cell, other rows are read as before, nothing
// panics, and a Store takes what is read.
func TestDoMemoryOfAnyDamage(t *testing.T) {
	t.Parallel()
	path := sampleMemory(t, "memory.db", "DELETE FROM episodes WHERE rowid = 7", "DROP TABLE embeddings") // they are large
	whole, _ := readMemory(t, path, time.Time{})
	before := make(map[string]string)
	for _, run := range whole {
		before[run.Place] = items(t, []*transcript.Run{run})
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m, err := memoryOf(t.Context(), db, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := episodic.Open(t.Context(), filepath.Join(t.TempDir(), "own.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rapid.Check(t, func(rt *rapid.T) {
		table := rapid.SampledFrom(memoryTables[:5]).Draw(rt, "table")
		column := rapid.SampledFrom(m.tables[table.name][1:]).Draw(rt, "column")
		var value any
		switch rapid.IntRange(0, 3).Draw(rt, "kind") {
		case 0:
			value = rapid.String().Draw(rt, "text")
		case 1:
			value = rapid.Int64().Draw(rt, "number")
		case 2:
			value = rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")
		default:
			value = rapid.SampledFrom([]string{`{"a":[1]}`, `[{}]`, `[null]`, `7`, `"x"`, `[{"tool":7,"result":{"Success":{}}}]`, `{"Success":7}`, `{"total":"1","base":{}}`, `A { }`, `ToolSequence { tools: [A], context: B(1) }`}).Draw(rt, "JSON")
		}
		var was any
		set := fmt.Sprintf("UPDATE OR IGNORE %s SET %s = ? WHERE rowid = 1", quote(table.name), quote(column))
		err := errors.Join(db.QueryRow(fmt.Sprintf("SELECT %s FROM %s WHERE rowid = 1", quote(column), quote(table.name))).Scan(&was), func() error { _, err := db.Exec(set, value); return err }())
		if err != nil {
			rt.Fatal(err)
		}
		runs, _ := readMemory(t, path, time.Time{})
		if _, err := db.Exec(set, was); err != nil {
			rt.Fatal(err)
		}
		changed := 0
		for _, run := range runs {
			if items(t, []*transcript.Run{run}) == before[run.Place] {
				continue
			}
			changed++
			var err error
			switch {
			case run.Episode != nil:
				run.Episode.ID = run.ID(episodic.Scope{})
				_, err = store.AddEpisodes(t.Context(), run.Episode)
			case run.Pattern != nil:
				err = store.PutPattern(t.Context(), run.Pattern)
			case run.Heuristic != nil:
				err = store.PutHeuristic(t.Context(), run.Heuristic)
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		// The row itself; and items whose evidence are the episodes that name them.
		if changed > 4 || len(runs) < len(whole)-1 {
			rt.Fatalf("%d of %d rows are read otherwise", changed, len(whole))
		}
	})
}

// TestDamagedPagesOfDoMemory: a page costs the rows on it, and is told.
func TestDamagedPagesOfDoMemory(t *testing.T) {
	t.Parallel()
	path := sampleMemory(t, "memory.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	var root int
	if err := errors.Join(db.QueryRow("SELECT rootpage FROM sqlite_master WHERE name = 'patterns'").Scan(&root), db.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(text[(root-1)*4096 : root*4096])
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	runs, problems := readMemory(t, path, time.Time{})
	if len(problems) != 1 || !strings.HasPrefix(problems[0], "patterns: cannot be read: ") {
		t.Errorf("problems %q", problems)
	}
	if len(runs) != 26 {
		t.Errorf("%d items", len(runs))
	}
}

// TestLiveDoMemory: what is in the write-ahead log of a database that is in use is read, and
// neither file is written to.
func TestLiveDoMemory(t *testing.T) {
	t.Parallel()
	path := sampleMemory(t, "memory.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("UPDATE heuristics SET condition_text = 'in the log' WHERE rowid = 1"); err != nil {
		t.Fatal(err)
	}
	files := func() (texts [2]string) {
		for i, name := range []string{path, path + "-wal"} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(text)
		}
		return texts
	}
	before := files()
	runs, problems := readMemory(t, path, time.Time{})
	if len(problems) > 0 || !strings.Contains(items(t, runs), `"in the log"`) {
		t.Errorf("problems %q, or the log was not read", problems)
	}
	if before[1] == "" || before != files() {
		t.Error("a file was written to, or there was no log")
	}
}

func TestDoMemorySince(t *testing.T) {
	t.Parallel()
	path := sampleMemory(t, "memory.db", "UPDATE episodes SET created_at = 1700000000 WHERE rowid <> 4", "UPDATE episodes SET created_at = 1700000100 WHERE rowid = 4", "UPDATE patterns SET updated_at = 1700000000",
		"DELETE FROM embeddings", "DELETE FROM episode_summaries")
	runs, problems := readMemory(t, path, time.Unix(1700000050, 0))
	var places []string
	for _, run := range runs {
		if run.Episode != nil || run.Pattern != nil {
			places = append(places, run.Place)
		}
	}
	if !slices.Equal(places, []string{"episodes row 4"}) || len(problems) > 0 {
		t.Errorf("read %q, told %q", places, problems)
	}
}

// TestOwnDatabaseIsNoDoMemory: a memory of this program has tables of the same names.
func TestOwnDatabaseIsNoDoMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "own.db")
	store, err := episodic.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, time.Time{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}
