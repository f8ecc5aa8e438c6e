package episodic

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
)

// damage changes the last byte of a payload, as a failing disk would.
func damage(t *testing.T, s *Store, table, where string, args ...any) {
	t.Helper()
	r, err := s.engine.Query(t.Context(), stmt("SELECT payload FROM "+table+" WHERE "+where, args...))
	ok(t, err)
	payload := r[0].Rows[0][0].([]byte)
	payload[len(payload)-1] ^= 1
	_, err = s.engine.Batch(t.Context(), stmt("UPDATE "+table+" SET payload = ? WHERE "+where, append([]any{payload}, args...)...))
	ok(t, err)
}

// damagedIDs are the items of a kind that are told to be damaged.
func damagedIDs(list []*DamagedError, kind string) (ids []ID) {
	for _, d := range list {
		if d.Kind == kind {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

func TestADamagedRowCostsItself(t *testing.T) {
	t.Parallel()
	// A replica indexes nothing of what comes damaged to it, so that searches do not miss it.
	onFileAndServer(t, func(t *testing.T, target string) {
		s := open(t, target, nil)
		var episodes []*Episode
		for i := range 4 {
			e := &Episode{
				Description: fmt.Sprint("mend the valve of the boiler, number ", i), Start: time.Now().Add(-time.Hour), End: time.Now(), Outcome: Outcome{Kind: Success},
				Steps: []Step{{Tool: "wrench", Action: "turn the valve", Parameters: JSON(fmt.Sprintf(`{"n":%d}`, i))}},
			}
			ok(t, s.PutEpisode(t.Context(), e))
			episodes = append(episodes, e)
		}
		var patterns []*Pattern
		var heuristics []*Heuristic
		for i := range 3 {
			patterns = append(patterns, &Pattern{Description: "mend the valve of the boiler", ToolSequence: &ToolSequence{Tools: []string{fmt.Sprint("wrench ", i)}}})
			ok(t, s.PutPattern(t.Context(), patterns[i]))
			heuristics = append(heuristics, &Heuristic{Condition: "mend the valve of the boiler", Action: fmt.Sprint("drain it ", i)})
			ok(t, s.PutHeuristic(t.Context(), heuristics[i]))
			ok(t, s.PutRelation(t.Context(), &Relation{From: episodes[0].ID, Type: RelatedTo, To: episodes[i+1].ID}))
		}
		bad, badSteps := episodes[1].ID, episodes[2].ID
		damage(t, s, "episodes", "id = ?", bad.bytes())
		damage(t, s, "runs", "episode = (SELECT seq FROM episodes WHERE id = ?)", badSteps.bytes())
		damage(t, s, "patterns", "id = ?", patterns[1].ID.bytes())
		damage(t, s, "heuristics", "id = ?", heuristics[1].ID.bytes())
		damage(t, s, "relations", "dst = (SELECT seq FROM episodes WHERE id = ?)", episodes[3].ID.bytes())

		page, err := s.ListEpisodes(t.Context(), nil, nil)
		if ok(t, err); len(page.Items) != 3 || !slices.Equal(damagedIDs(page.Damaged, "episode"), []ID{bad}) {
			t.Errorf("listed %d, damaged %v", len(page.Items), page.Damaged)
		}
		again, err := s.ListEpisodes(t.Context(), nil, nil) // from the cache
		if ok(t, err); !reflect.DeepEqual(again, page) {
			t.Errorf("%v and then %v", page.Damaged, again.Damaged)
		}
		var listed, missing int
		for p := (&Paging{Limit: 1}); ; p.Cursor = page.Next {
			page, err = s.ListEpisodes(t.Context(), nil, p)
			ok(t, err)
			listed, missing = listed+len(page.Items), missing+len(page.Damaged)
			if page.Next == "" {
				break
			}
		}
		if listed != 3 || missing != 1 {
			t.Errorf("on pages of one: %d, and %d damaged", listed, missing)
		}
		listed, missing = 0, 0
		for e, err := range s.Episodes(t.Context(), nil) {
			if damage, ok := errors.AsType[*DamagedError](err); ok && damage.ID == bad && e == nil {
				missing++
				continue
			}
			ok(t, err)
			listed++
		}
		if listed != 3 || missing != 1 {
			t.Errorf("iterated over %d, and %d damaged", listed, missing)
		}
		p, err := s.ListPatterns(t.Context(), nil, nil)
		if ok(t, err); len(p.Items) != 2 || !slices.Equal(damagedIDs(p.Damaged, "pattern"), []ID{patterns[1].ID}) {
			t.Errorf("patterns: %d, damaged %v", len(p.Items), p.Damaged)
		}
		h, err := s.ListHeuristics(t.Context(), nil, nil)
		if ok(t, err); len(h.Items) != 2 || !slices.Equal(damagedIDs(h.Damaged, "heuristic"), []ID{heuristics[1].ID}) {
			t.Errorf("heuristics: %d, damaged %v", len(h.Items), h.Damaged)
		}
		r, err := s.ListRelations(t.Context(), episodes[0].ID, nil, nil)
		if ok(t, err); len(r.Items) != 2 || !slices.Equal(damagedIDs(r.Damaged, "relation"), []ID{episodes[0].ID}) || !strings.Contains(r.Damaged[0].Problem, episodes[3].ID.String()) {
			t.Errorf("relations: %d, damaged %v", len(r.Items), r.Damaged)
		}

		// Words of heads are enough for a server, and on a file what it says of the steps is told too.
		found, err := s.Search(t.Context(), "valve boiler", &SearchOptions{EachRun: true})
		if ok(t, err); len(found.Hits) != 3 || !slices.Contains(damagedIDs(found.Damaged, "episode"), bad) {
			t.Errorf("found %d, damaged %v", len(found.Hits), found.Damaged)
		}
		if s.server == nil {
			steps, err := s.Search(t.Context(), `"turn the valve"`, &SearchOptions{Steps: true})
			if ok(t, err); !slices.Contains(damagedIDs(steps.Damaged, "episode"), badSteps) || len(steps.Hits) < 2 {
				t.Errorf("steps: %d, damaged %v", len(steps.Hits), steps.Damaged)
			}
		}
		b, err := s.Brief(t.Context(), "mend the valve of the boiler", nil)
		if ok(t, err); len(b.Tasks) == 0 || len(b.Lessons) == 0 || len(damagedIDs(b.Damaged, "pattern")) != 1 || len(damagedIDs(b.Damaged, "heuristic")) != 1 || !slices.Contains(damagedIDs(b.Damaged, "episode"), bad) {
			t.Errorf("%d tasks, %d lessons, damaged %v", len(b.Tasks), len(b.Lessons), b.Damaged)
		}

		before := s.Stats().Damaged
		for _, id := range []ID{bad, badSteps} {
			_, err = s.Episode(t.Context(), id)
			if damage, ok := errors.AsType[*DamagedError](err); !ok || damage.ID != id || damage.Kind != "episode" {
				t.Errorf("error %v", err)
			}
			wants(t, err, ErrCorrupt, "episodic doctor")
		}
		if n := s.Stats().Damaged; before == 0 || n != before+2 {
			t.Errorf("%d damaged, and then %d", before, n)
		}
		var untold int
		for _, err := range s.RedactStored(t.Context(), true) {
			if _, ok := errors.AsType[*DamagedError](err); !ok {
				t.Errorf("redact: %v", err)
			}
			untold++
		}
		if untold != 5 {
			t.Errorf("redact told of %d damaged items, want 5", untold)
		}
	})
}

// Nearest leaves out a vector that cannot be read, and says so beside what it has found.
// A scope of which a text is damaged shows its items to nobody.
func TestADamagedScopeIsServedNowhere(t *testing.T) {
	t.Parallel()
	onFileAndServer(t, func(t *testing.T, target string) {
		s := open(t, target, direct(nil))
		e := &Episode{Description: "mend the valve", Scope: Scope{Project: "web"}}
		p := &Pattern{Description: "mend the valve", ToolSequence: &ToolSequence{Tools: []string{"wrench"}}, Scope: Scope{Project: "web"}}
		h := &Heuristic{Condition: "mend the valve", Action: "drain it", Scope: Scope{Project: "web"}}
		ok(t, s.PutEpisode(t.Context(), e))
		ok(t, s.PutPattern(t.Context(), p))
		ok(t, s.PutHeuristic(t.Context(), h))
		_, err := s.engine.Batch(t.Context(), stmt("UPDATE scopes SET project = 'wec' WHERE project = 'web'"))
		ok(t, err)
		for _, scope := range []Scope{{}, {Project: "wec"}} {
			n, err := open(t, target, direct(nil)).Scoped(scope)
			ok(t, err)
			_, err = n.Episode(t.Context(), e.ID)
			wants(t, err, ErrCorrupt, `is not that of its scope: project "wec"`)
			_, err = n.Pattern(t.Context(), p.ID)
			wants(t, err, ErrCorrupt, `is not that of its scope: project "wec"`)
			_, err = n.Heuristic(t.Context(), h.ID)
			wants(t, err, ErrCorrupt, `is not that of its scope: project "wec"`)
			page, err := n.ListEpisodes(t.Context(), nil, nil)
			if ok(t, err); len(page.Items) != 0 || !slices.Equal(damagedIDs(page.Damaged, "episode"), []ID{e.ID}) {
				t.Errorf("listed %d, damaged %v", len(page.Items), page.Damaged)
			}
			found, err := n.Search(t.Context(), "valve", nil)
			if ok(t, err); len(found.Hits) != 0 || !slices.Equal(damagedIDs(found.Damaged, "episode"), []ID{e.ID}) {
				t.Errorf("found %d, damaged %v", len(found.Hits), found.Damaged)
			}
		}
	})
}

// An episode whose number of steps is not that of the steps is damaged, either way.
func TestADamagedNumberOfSteps(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Cache: Cache{Disabled: true}})
	e := &Episode{Description: "mend the valve", Steps: []Step{{Action: "a"}, {Action: "b"}}}
	ok(t, s.PutEpisode(t.Context(), e))
	for _, steps := range []int64{0, 1, 3} {
		_, err := s.engine.Batch(t.Context(), stmt("UPDATE episodes SET steps = ?", steps))
		ok(t, err)
		_, err = s.Episode(t.Context(), e.ID)
		wants(t, err, ErrCorrupt, "steps")
	}
}

func TestNearestLeavesOutDamagedVectors(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	var ids []ID
	for i := range 4 {
		e := &Episode{Description: fmt.Sprint("task ", i), Scope: Scope{User: []string{"anna", "bert"}[i/3]}}
		ok(t, s.PutEpisode(t.Context(), e))
		ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: []float32{1, float32(i), 0, 0}}))
		ids = append(ids, e.ID)
	}
	sql(t, s, stmt("UPDATE embeddings SET dim = dim + 1 WHERE item = ?", ids[0].bytes()), stmt("UPDATE embeddings SET vector = CAST(substr(vector, 2) AS BLOB) WHERE item = ?", ids[3].bytes()))
	anna, err := s.Scoped(Scope{User: "anna"})
	ok(t, err)
	check := func(s *Store, q NearestQuery, found int, missing ...ID) {
		t.Helper()
		q.Kind, q.Model = ItemEpisode, "m"
		list, err := s.Nearest(t.Context(), q)
		if damage, ok := errors.AsType[*DamagedError](err); len(list) != found || !ok || !slices.Contains(missing, damage.ID) {
			t.Errorf("%d found, %v", len(list), err)
		}
		for _, id := range ids {
			if told := err != nil && strings.Contains(err.Error(), id.String()); told != slices.Contains(missing, id) {
				t.Errorf("%v is told to be damaged: %v", id, told)
			}
		}
	}
	for _, most := range []int64{s.sets.maxBytes, 0} { // held, and read through
		s.sets.maxBytes = most
		check(s, NearestQuery{Vector: []float32{1, 0, 0, 0}}, 2, ids[0], ids[3])
		check(anna, NearestQuery{Vector: []float32{1, 0, 0, 0}}, 2, ids[0])
		check(anna, NearestQuery{Item: ids[0]}, 0, ids[0])
		s.sets.set(vectorKey{ItemEpisode, "m"}).forget()
	}
	ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: ids[0], Model: "m", Vector: []float32{1, 0, 0, 0}}))
	if list, err := anna.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 0, 0, 0}}); err != nil || len(list) != 3 {
		t.Errorf("after it was mended: %v, %v", list, err)
	}
}

// An entry that names a dictionary which never was costs itself too.
func TestADictionaryThatIsNotThereCostsARow(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	for i := range 3 {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: fmt.Sprint("task ", i)}))
	}
	_, err := s.engine.Batch(t.Context(), stmt("DROP TRIGGER episode_rewritten"), stmt("UPDATE episodes SET payload = x'0241c0e1036400000000000000000000000000000000' WHERE seq = 2"))
	ok(t, err)
	page, err := s.ListEpisodes(t.Context(), nil, nil)
	if ok(t, err); len(page.Items) != 2 || len(page.Damaged) != 1 || !strings.Contains(page.Damaged[0].Problem, "dictionary") {
		t.Errorf("%d listed, damaged %v", len(page.Items), page.Damaged)
	}
}

// sealedContents returns what the items of a memory say, but for what no checksum is over, and the
// errors of those that cannot be read.
func sealedContents(t testing.TB, s *Store, ids []ID) (said map[string]any, errs []error) {
	said = make(map[string]any)
	note := func(what string, v any, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		switch v := v.(type) {
		case *Episode:
			v.Revision, v.StepCount, v.Context.Tags, v.Scope = 0, 0, nil, Scope{}
			what += v.ID.String()
		case *Pattern:
			v.Revision, v.Scope = 0, Scope{}
		case *Heuristic:
			v.Revision, v.Scope = 0, Scope{}
		}
		said[what] = v
	}
	for e, err := range s.Episodes(t.Context(), nil) {
		note("head of ", e, err)
	}
	for p, err := range s.Patterns(t.Context(), nil) {
		note("the pattern", p, err)
	}
	for h, err := range s.Heuristics(t.Context(), nil) {
		note("the heuristic", h, err)
	}
	for _, id := range ids {
		e, err := s.Episode(t.Context(), id)
		note("episode ", e, err)
		for r, err := range s.Relations(t.Context(), id, &RelationFilter{Direction: Outgoing}) {
			note("the relation", r, err)
		}
	}
	return said, errs
}

// someOfAll makes a file with an item of each kind, and returns the ids of its episodes.
func someOfAll(t testing.TB, path string) (ids []ID) {
	s, err := Open(t.Context(), path, nil)
	ok(t, err)
	for i := range 2 {
		e := &Episode{
			Description: fmt.Sprint("pay 100 dollars ", i), TaskType: "payment", Context: Context{Domain: "bank", Language: "go"},
			Start: time.UnixMicro(1_700_000_000_000_000).UTC(), Metadata: map[string]string{"account": "1234"},
		}
		ok(t, s.StartEpisode(t.Context(), e))
		for n := range 2 {
			_, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "transfer", Action: strings.Repeat(fmt.Sprint("send 100 to 1234, part ", n, ". "), 1+9*n), Time: e.Start})
			ok(t, err)
		}
		ids = append(ids, e.ID)
	}
	ok(t, s.CompleteEpisode(t.Context(), ids[0], Completion{Outcome: Outcome{Kind: Success, Verdict: "paid 100"}}))
	ok(t, s.PutPattern(t.Context(), &Pattern{Description: "pay", ToolSequence: &ToolSequence{Tools: []string{"transfer"}}}))
	ok(t, s.PutHeuristic(t.Context(), &Heuristic{Condition: "pay", Action: "ask first", Confidence: 0.5}))
	ok(t, s.PutRelation(t.Context(), &Relation{From: ids[1], Type: Follows, To: ids[0], Reason: "100"}))
	ok(t, s.Close())
	return ids
}

// Whatever byte of a file is changed: what is read is what was written, or an error.
func TestNoChangedByteOfAFileIsAnotherText(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	ids := someOfAll(t, path)
	file, err := os.ReadFile(path)
	ok(t, err)
	s := open(t, path, nil)
	want, errs := sealedContents(t, s, ids)
	if len(errs) > 0 || len(want) != 7 {
		t.Fatalf("%d items, %v", len(want), errs)
	}
	ok(t, s.Close())
	var near []int // bytes of the rows
	for at := range file {
		if slices.ContainsFunc(ids, func(id ID) bool { return bytes.HasPrefix(file[at:], id[:]) }) || bytes.HasPrefix(file[at:], []byte(`{"`)) {
			for i := max(0, at-40); i < min(len(file), at+300); i++ {
				near = append(near, i)
			}
		}
	}
	var found int
	rapid.Check(t, func(r *rapid.T) {
		at := rapid.IntRange(0, len(file)-1).Draw(r, "byte")
		if rapid.IntRange(0, 9).Draw(r, "where") > 0 {
			at = near[rapid.IntRange(0, len(near)-1).Draw(r, "byte of a row")]
		}
		damaged := slices.Clone(file)
		damaged[at] ^= byte(rapid.IntRange(1, 255).Draw(r, "change"))
		path := filepath.Join(t.TempDir(), "m.db")
		ok(t, os.WriteFile(path, damaged, 0o600))
		s, err := Open(t.Context(), path, &Options{Cache: Cache{Disabled: true}})
		if err != nil {
			found++
			return
		}
		defer s.Close()
		got, errs := sealedContents(t, s, ids)
		if len(errs) > 0 {
			found++
		}
		for what, v := range got {
			if !reflect.DeepEqual(v, want[what]) {
				r.Errorf("byte %d of page %d: %s is %+v, want %+v", at%4096, at/4096+1, what, v, want[what])
			}
		}
	})
	if found == 0 {
		t.Error("no change was found")
	}
}

// A file of schema version 14 has no checksums. It is read, and what is written gets one.
func TestMemoriesWithoutSeals(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	ids := someOfAll(t, path)
	s := open(t, path, nil)
	want, _ := sealedContents(t, s, ids)
	stmts := []engine.Stmt{stmt("DELETE FROM episodic_migrations WHERE version = 15")}
	for table, key := range map[string]string{"episodes": "seq", "runs": "place", "patterns": "seq", "heuristics": "seq", "relations": "src"} {
		r, err := s.engine.Query(t.Context(), stmt("SELECT "+key+", payload FROM "+table))
		ok(t, err)
		for _, row := range r[0].Rows {
			payload := row[1].([]byte)
			payload = payload[:len(payload)-4]
			if payload[0] == 3 {
				payload[0] = 1
			} else {
				payload[1] &^= 64
			}
			stmts = append(stmts, stmt("UPDATE "+table+" SET payload = ? WHERE "+key+" = ?", payload, row[0]))
		}
	}
	sql(t, s, stmts...)
	ok(t, s.Close())

	s = open(t, path, nil)
	read := func() {
		t.Helper()
		if got, errs := sealedContents(t, s, ids); len(errs) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, %v", got, errs)
		}
	}
	read()
	_, err := s.Compact(t.Context(), nil)
	ok(t, err)
	read()
	if n := number(t, s, "SELECT max(version) FROM episodic_migrations"); n != 15 {
		t.Errorf("schema version %d", n)
	}
	_, err = s.AppendSteps(t.Context(), ids[1], Step{Tool: "x", Time: time.UnixMicro(1_700_000_000_000_000)}) // beside old ones
	ok(t, err)
	e, err := s.Episode(t.Context(), ids[1])
	if ok(t, err); len(e.Steps) != 3 {
		t.Errorf("%d steps", len(e.Steps))
	}
	damage(t, s, "runs", "first = 3 AND episode = (SELECT seq FROM episodes WHERE id = ?)", ids[1].bytes())
	_, err = s.Episode(t.Context(), ids[1])
	wants(t, err, ErrCorrupt, "steps from 3: the checksum")
}
