package episodic

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/schema"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// sick makes a memory with two of everything, and damages it by statements.
func sick(t *testing.T, sql ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "m.db")
	s, err := Open(t.Context(), path, nil)
	ok(t, err)
	for _, project := range []string{"one", "two"} {
		populate(t, s, Scope{Project: project})
	}
	for _, sql := range sql {
		_, err := s.engine.Batch(t.Context(), stmt(sql))
		ok(t, err)
	}
	ok(t, s.Close())
	return path
}

// checks are the checks that found faults.
func checks(x *Examination) (names []string) {
	for _, f := range x.Findings {
		if f.Severity == Fault {
			names = append(names, f.Check)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestFindingsAreRepaired(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage []string
		found  string // the checks
		items  int64  // that are left of eight
	}{
		"nothing":         {nil, "", 8},
		"payload":         {[]string{"UPDATE episodes SET payload = x'0201' WHERE seq = 1"}, "payloads", 7},
		"empty payload":   {[]string{"UPDATE patterns SET payload = x'' WHERE seq = 1"}, "payloads", 7},
		"steps":           {[]string{"UPDATE runs SET count = 2"}, "payloads", 6},
		"no steps":        {[]string{"DELETE FROM runs"}, "payloads", 6},
		"steps behind":    {[]string{"INSERT INTO runs(place, count, payload) SELECT place + 5, count, payload FROM runs"}, "payloads", 6},
		"relation":        {[]string{"UPDATE relations SET payload = x'0201'"}, "payloads", 8},
		"conflict":        {[]string{"UPDATE conflicts SET payload = x'0201' WHERE n = 1"}, "payloads", 8},
		"vector":          {[]string{"UPDATE embeddings SET vector = x'01'"}, "vectors", 8},
		"scope":           {[]string{"DELETE FROM scopes WHERE project = 'one'"}, "scopes", 8},
		"scope's project": {[]string{"UPDATE scopes SET project = 'onf' WHERE project = 'one'"}, "scopes", 8},
		"number of steps": {[]string{"UPDATE episodes SET steps = steps - 1 WHERE steps > 0"}, "payloads", 6},
		"orphaned steps and vectors": {[]string{"INSERT INTO runs(place, count, payload) VALUES(99 << 24 | 1, 1, x'00')",
			"INSERT INTO embeddings(kind, item, model, dim, vector) SELECT 'pattern', randomblob(16), model, dim, vector FROM embeddings"}, "orphans", 8},
		"feed":              {[]string{"DELETE FROM feed WHERE kind = 2", "DELETE FROM feed_state"}, "feed", 8},
		"ghosts in feed":    {[]string{"INSERT INTO feed(kind, item, scope) VALUES(1, randomblob(16), 0)"}, "feed", 8},
		"index":             {[]string{"DELETE FROM index_units WHERE place >> 24 = 1"}, "index", 8},
		"unreadable index":  {[]string{"UPDATE index_units SET data = x'ff'"}, "index", 8},
		"words of nobody":   {[]string{"UPDATE index_units SET place = 77 << 24 WHERE place = (SELECT min(place) FROM index_units WHERE place > 0)"}, "index", 8},
		"unused dictionary": {[]string{"INSERT INTO dictionaries VALUES(70000, x'808001', 'episode', 1, 1, 1, 0, 0, x'00', x'0102')"}, "dictionaries", 8},
	} {
		if testkit.Effort(0, 0, 1) == 0 && len(name)%2 == 0 {
			continue // half of them
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := sick(t, c.damage...)
			before, err := os.ReadFile(path)
			ok(t, err)
			x, err := Examine(t.Context(), path, nil)
			ok(t, err)
			if got := strings.Join(checks(x), " "); got != c.found || x.Clean() != (c.found == "") {
				t.Fatalf("found %q, want %q: %+v", got, c.found, x)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("Examine has changed the file (%v)", err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Errorf("Examine has left %v, %v", entries, err)
			}
			r, err := Repair(t.Context(), path, nil)
			ok(t, err)
			if c.found == "" {
				if r.Repaired || r.After != nil {
					t.Errorf("repaired %+v", r)
				}
				return
			}
			if !r.Repaired || !r.After.Clean() || r.After.Items != c.items || r.Salvaged != nil {
				t.Fatalf("repaired %v (%s), after it %+v", r.Repaired, r.Reason, r.After)
			}
			if kept, err := os.ReadFile(r.Original); err != nil || !bytes.Equal(kept, before) || r.Original != path+".before-repair" {
				t.Errorf("the original is not kept as %s: %v", r.Original, err)
			}
			if x, err := Examine(t.Context(), path, nil); err != nil || !x.Clean() || x.Items != c.items {
				t.Errorf("after the repair: %+v, %v", x, err)
			}
		})
	}
}

// A file of schema 4 is examined as it is, salvaged without its header, and repaired.
func TestDoctorOfAnOlderSchema(t *testing.T) {
	t.Parallel()
	packed, err := os.Open("testdata/schema4.db.gz")
	ok(t, err)
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	ok(t, err)
	data, err := io.ReadAll(unpacked)
	ok(t, err)
	path := filepath.Join(t.TempDir(), "m.db")
	ok(t, os.WriteFile(path, data, 0o600))
	x, err := Examine(t.Context(), path, nil)
	ok(t, err)
	if !x.Clean() || x.Schema != 4 || x.Newest != schema.Newest() || x.Items != int64(len(content4().episodes)+len(content4().patterns)+len(content4().heuristics)) || len(x.Findings) != 1 {
		t.Errorf("found %+v", x)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
		t.Errorf("Examine has changed the file (%v)", err)
	}
	want, c := filepath.Join(t.TempDir(), "migrated.db"), content4()
	ok(t, os.WriteFile(want, data, 0o600))
	for _, lost := range []int{0, 100, 4096} {
		clear(data[:lost])
		ok(t, os.WriteFile(path, data, 0o600))
		to := filepath.Join(t.TempDir(), "saved.db")
		r, err := Salvage(t.Context(), path, to, nil)
		ok(t, err)
		if r.Saved.Episodes != int64(len(c.episodes)) || r.Saved.Patterns != int64(len(c.patterns)) || r.Saved.Heuristics != int64(len(c.heuristics)) ||
			r.Saved.Relations != int64(len(c.relations)) || r.Saved.Embeddings != int64(len(c.embeddings)) || len(r.Left) > 0 || r.LostItems > 0 || r.RefusedRows > 0 {
			t.Errorf("with %d bytes lost: %+v", lost, r)
		}
		if got, expected := everything(t, to), everything(t, want); got != expected {
			at := 0
			for at < min(len(got), len(expected)) && got[at] == expected[at] {
				at++
			}
			t.Errorf("with %d bytes lost it holds %d bytes, want %d: ... %.300s, want %.300s", lost, len(got), len(expected), got[max(at-50, 0):], expected[max(at-50, 0):])
		}
	}
}

// everything is what a file holds, as JSON.
func everything(t *testing.T, path string) string {
	t.Helper()
	s, err := Open(t.Context(), path, &Options{MustExist: true})
	ok(t, err)
	defer s.Close()
	var out strings.Builder
	write := func(v any, err error) {
		ok(t, err)
		text, err := json.Marshal(withoutRevision(v))
		ok(t, err)
		out.Write(append(text, '\n'))
	}
	for e, err := range s.Episodes(t.Context(), nil) {
		ok(t, err)
		write(s.Episode(t.Context(), e.ID))
		for r, err := range s.Relations(t.Context(), e.ID, nil) {
			write(r, err)
		}
		for v, err := range s.Embeddings(t.Context(), ItemEpisode, e.ID) {
			write(v, err)
		}
	}
	for p, err := range s.Patterns(t.Context(), nil) {
		write(p, err)
	}
	for h, err := range s.Heuristics(t.Context(), nil) {
		write(h, err)
	}
	return out.String()
}

func TestDoctorLeavesOpenFilesAlone(t *testing.T) {
	t.Parallel()
	path := sick(t, "UPDATE episodes SET payload = x'0201' WHERE seq = 1")
	s, err := Open(t.Context(), path, nil)
	ok(t, err)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "meanwhile"}))
	x, err := Examine(t.Context(), path, nil)
	if ok(t, err); x.Items != 8 || len(checks(x)) != 1 {
		t.Errorf("while it is open: %+v", x)
	}
	if _, err := Repair(t.Context(), path, nil); !Retryable(err) || !strings.Contains(err.Error(), "close it first") {
		t.Errorf("repair of an open file: %v", err)
	}
	if _, err := Salvage(t.Context(), path, path+"2", nil); !Retryable(err) {
		t.Errorf("salvage of an open file: %v", err)
	}
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "afterwards"})) // its locks are still there
	ok(t, s.Close())
	r, err := Repair(t.Context(), path, nil)
	if ok(t, err); !r.Repaired || r.After.Items != 9 {
		t.Errorf("when it is closed: %+v", r)
	}
}

func TestDoctorRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	foreign := filepath.Join(dir, "foreign.db")
	e, err := embedded.Open(t.Context(), embedded.Config{Path: foreign})
	ok(t, err)
	_, err = e.Batch(t.Context(), stmt("CREATE TABLE users(id)"))
	ok(t, errors.Join(err, e.Close()))
	_, err = Examine(t.Context(), filepath.Join(dir, "none.db"), nil)
	wants(t, err, ErrNotFound, "there is no memory")
	_, err = Examine(t.Context(), file("empty.db", ""), nil)
	wants(t, err, ErrNotFound, "there is no memory")
	_, err = Examine(t.Context(), foreign, nil)
	wants(t, err, ErrSchema, "users")
	_, err = Repair(t.Context(), "http://127.0.0.1:1", nil)
	wants(t, err, ErrInvalid, "is a server")
	_, err = Salvage(t.Context(), file("text", strings.Repeat("not a database\n", 999)), filepath.Join(dir, "new.db"), nil)
	wants(t, err, ErrSchema, "SQLite")
	_, err = Salvage(t.Context(), foreign, file("there", "x"), nil)
	wants(t, err, ErrInvalid, "is there already")
	_, err = Salvage(t.Context(), filepath.Join(dir, "none.db"), filepath.Join(dir, "new.db"), nil)
	wants(t, err, ErrNotFound, "no such file")
	linked := sick(t, sqlMakeLinked, "INSERT INTO linked VALUES('http://127.0.0.1:1')", "DELETE FROM feed WHERE kind = 2")
	_, err = Repair(t.Context(), linked, nil)
	wants(t, err, ErrInvalid, "is linked to a server")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestOthersMayReadTheFile(t *testing.T) {
	t.Parallel()
	path := sick(t)
	ok(t, os.Chmod(path, 0o644))
	x, err := Examine(t.Context(), path, nil)
	ok(t, err)
	if !x.Clean() || len(x.Findings) != 1 || x.Findings[0].Check != checkedPermissions || x.Findings[0].Items[0] != "m.db (644)" {
		t.Errorf("found %+v", x)
	}
	_, err = Repair(t.Context(), path, nil)
	ok(t, err)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}

func TestExamineAServer(t *testing.T) {
	t.Parallel()
	url := hranatest.Start(t).URL()
	s, err := Open(t.Context(), url, &Options{Replica: Replica{Disabled: true}})
	ok(t, err)
	populate(t, s, Scope{Project: "one"})
	x, err := Examine(t.Context(), url, nil)
	ok(t, err)
	if !x.Clean() || x.Items != 4 || x.Schema != schema.Newest() {
		t.Errorf("found %+v", x)
	}
	for _, sql := range []string{"UPDATE episodes SET payload = x'0201' WHERE seq = 1", "DELETE FROM feed WHERE kind = 2", "INSERT INTO heads(heads) VALUES('delete-all')"} {
		_, err := s.engine.Batch(t.Context(), engine.Stmt{SQL: sql})
		ok(t, err)
	}
	x, err = Examine(t.Context(), url, nil)
	ok(t, err)
	if got := strings.Join(checks(x), " "); got != "feed index payloads" {
		t.Errorf("found %q: %+v", got, x)
	}
	ok(t, s.Close())
}

func TestExamineHonoursContext(t *testing.T) {
	t.Parallel()
	path := sick(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Examine(ctx, path, nil)
	wants(t, err, context.Canceled, "")
	_, err = Salvage(ctx, path, path+"2", nil)
	wants(t, err, context.Canceled, "")
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}
