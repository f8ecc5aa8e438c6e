package episodic

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// settings are all that a database may be written with.
var settings = []Compression{
	{},
	{Threshold: 1, Level: LevelFast},
	{Threshold: 1, Level: LevelBest, DisablePatterns: true},
	{Threshold: 1, Codec: LZ4},
	{Threshold: 1, Codec: Gzip, Level: LevelBest},
	{Threshold: 1, Codec: Gzip, DisableDictionaries: true, DisableEpisodes: true},
	{Threshold: 1, DisableDictionaries: true},
	{Codec: Uncompressed},
	{DisableEpisodes: true, DisablePatterns: true},
}

func openAll(t *testing.T, target string) []*Store {
	var stores []*Store
	for _, c := range settings {
		stores = append(stores, open(t, target, &Options{Compression: c}))
	}
	return stores
}

// Each noun is written by one Store and read by all others, which are open on the
// same database all the time.
func TestEverySettingReadsEveryOther(t *testing.T) {
	t.Parallel()
	onEveryTarget(t, func(t *testing.T, target string) {
		stores := openAll(t, target)
		ctx := t.Context()
		rapid.Check(t, func(t *rapid.T) {
			writer := rapid.SampledFrom(stores).Draw(t, "writer")
			reader := rapid.SampledFrom(stores).Draw(t, "reader")
			e := anyEpisode.Draw(t, "episode")
			e.Description += strings.Repeat(" and so on", rapid.IntRange(0, 200).Draw(t, "more"))
			fine := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			fine(writer.PutEpisode(ctx, e))
			got, err := reader.Episode(ctx, e.ID)
			fine(err)
			same(t, got, e)
			p := &Pattern{ID: NewID(), Description: e.Description, Metadata: e.Metadata, ErrorRecovery: &ErrorRecovery{Error: "x", Steps: []string{"again"}}}
			fine(writer.PutPattern(ctx, p))
			gotPattern, err := reader.Pattern(ctx, p.ID)
			fine(err)
			same(t, gotPattern, p)
			h := &Heuristic{ID: NewID(), Condition: e.Description, Action: "a", Metadata: e.Metadata}
			fine(writer.PutHeuristic(ctx, h))
			gotHeuristic, err := reader.Heuristic(ctx, h.ID)
			fine(err)
			same(t, gotHeuristic, h)
			other := &Episode{Description: "other"}
			fine(reader.PutEpisode(ctx, other))
			r := &Relation{From: e.ID, Type: RelatedTo, To: other.ID, Reason: e.Description, Metadata: e.Metadata}
			fine(writer.PutRelation(ctx, r))
			relations, err := collect(reader.Relations(ctx, e.ID, &RelationFilter{RelatedTo, Outgoing}))
			fine(err)
			same(t, relations, []*Relation{r})
		})
	})
}

// A life in which every call comes from another Store.
func TestSettingsShareAnEpisode(t *testing.T) {
	t.Parallel()
	onEveryTarget(t, func(t *testing.T, target string) {
		stores := openAll(t, target)
		e := task(1)
		steps := e.Steps
		e.Steps, e.Outcome = nil, Outcome{}
		ok(t, stores[0].StartEpisode(t.Context(), e))
		for i, s := range stores {
			_, err := s.AppendSteps(t.Context(), e.ID, steps[i%len(steps)])
			ok(t, err)
		}
		ok(t, stores[1].CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
		for i, s := range stores {
			got, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
			if len(got.Steps) != len(stores) || got.Steps[i].Result.Text != steps[i%len(steps)].Result.Text || got.Description != e.Description {
				t.Errorf("store %d reads %+v", i, got)
			}
		}
	})
}

// task makes episodes of different tasks that have text in common.
func task(i int) *Episode {
	r := rand.New(rand.NewPCG(1, uint64(i)))
	e := &Episode{
		Description: fmt.Sprintf("task %d: find reservation %x of %x", i, r.Uint64(), r.Uint64()),
		Outcome:     Outcome{Kind: Success, Verdict: "the passenger was told about the fee for changes"},
		Metadata:    map[string]string{"agent": "airline support, second line", "customer": fmt.Sprintf("%x", r.Uint32())},
	}
	for n := range 5 {
		e.Steps = append(e.Steps, Step{
			Tool: "search_direct_flight", Action: "look for a flight that the customer has not seen yet",
			Parameters: JSON(fmt.Sprintf(`{"origin":"JFK","destination":"SEA","date":"2024-05-%d","cabin":"basic_economy"}`, 10+n)),
			Result: &Result{Kind: ResultOutput, Text: fmt.Sprintf(`{"flight_number":"HAT%03d","scheduled_departure_time_est":"%02d:00:00","status":"available","available_seats":{"basic_economy":%d,"economy":%d,"business":%d},"prices":{"basic_economy":%d}}`,
				r.IntN(1000), r.IntN(24), r.IntN(20), r.IntN(20), r.IntN(20), r.IntN(300))},
		})
	}
	return e
}

func put(t testing.TB, s *Store, from, to int) (ids []ID) {
	t.Helper()
	for i := from; i < to; i++ {
		e := task(i)
		ok(t, s.PutEpisode(t.Context(), e))
		ids = append(ids, e.ID)
	}
	return ids
}

// readable fails if an episode put by put is not what it was.
func readable(t testing.TB, s *Store, ids []ID) {
	t.Helper()
	for i, id := range ids {
		e, err := s.Episode(t.Context(), id)
		ok(t, err)
		if want := task(i); e.Description != want.Description || len(e.Steps) != 5 || e.Steps[4].Result.Text != want.Steps[4].Result.Text {
			t.Fatalf("episode %d reads %+v", i, e)
		}
	}
}

func dictionaryOf(s *Store) uint32 { return s.Stats().Compression.Episodes.Dictionary }

// waitUntil gives what happens in the background the time it needs.
func waitUntil(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

func TestDictionariesAreTrainedAndAdopted(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		a, b := open(t, target, nil), open(t, target, nil)
		old := open(t, target, &Options{Compression: Compression{DisableDictionaries: true}})
		ids := put(t, a, 0, 10)
		done, err := a.TrainDictionaries(t.Context())
		ok(t, err)
		if len(done) != 0 {
			t.Errorf("trained of 10 episodes: %+v", done)
		}
		ids = append(ids, put(t, old, 10, 25)...)
		done, err = a.TrainDictionaries(t.Context())
		ok(t, err)
		if len(done) != 1 || done[0].Dictionary < codec.MinTrainedID || done[0].After > 0.97*done[0].Before || dictionaryOf(a) != done[0].Dictionary {
			t.Fatalf("training: %+v, used %d", done, dictionaryOf(a))
		}
		ids = append(ids, put(t, a, 25, 27)...)
		readable(t, b, ids)   // which asks for the dictionary
		readable(t, old, ids) // and so does one that uses none
		again, err := b.TrainDictionaries(t.Context())
		ok(t, err)
		if len(again) != 0 {
			t.Errorf("trained twice: %+v", again)
		}
		c := open(t, target, nil)
		ids = append(ids, put(t, c, 27, 28)...)
		waitUntil(t, "adoption", func() bool { return dictionaryOf(c) == done[0].Dictionary })
		s := c.Stats().Compression.Episodes
		ok(t, c.PutEpisode(t.Context(), &Episode{Description: "short"}))
		if after := c.Stats().Compression.Episodes; after.Skipped != s.Skipped+1 || after.Time <= s.Time || s.Time <= 0 {
			t.Errorf("a short payload is counted as %+v after %+v", after, s)
		}
		if s.Payloads != 2 || s.PlainBytes <= s.StoredBytes || s.Ratio != done[0].After {
			t.Errorf("stats are %+v", s)
		}
		readable(t, old, ids)
	})
}

func TestTrainingInTheBackground(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	ids := put(t, open(t, path, nil), 0, 60)
	s := open(t, path, nil) // whose first write starts what is due
	ids = append(ids, put(t, s, 60, 61)...)
	waitUntil(t, "training", func() bool { return dictionaryOf(s) >= codec.MinTrainedID && s.Stats().Compression.Trainings == 1 })
	ids = append(ids, put(t, s, 61, 65)...)
	readable(t, s, ids)
	if c := s.Stats().Compression; c.Trainings != 1 || c.Failures != 0 {
		t.Errorf("stats are %+v", c)
	}
}

// A look at the database that hangs delays the first write a little, and no other.
func TestALookThatHangsDelaysNoWrite(t *testing.T) {
	hanging := &hangingEngine{Engine: onFile(t).engine, free: make(chan struct{})}
	s := newStore(hanging, &Options{}, nil, false)
	t.Cleanup(s.indexer.close)
	start := time.Now()
	for range 50 {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: strings.Repeat("some text ", 20)}))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the write took %v", took)
	}
	close(hanging.free)
	s.payloads.Close()
}

// hangingEngine answers no question until it is freed.
type hangingEngine struct {
	engine.Engine
	free chan struct{}
}

func (e *hangingEngine) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	<-e.free
	return e.Engine.Query(ctx, stmts...)
}

func TestUnreadablePayloadsNameTheRow(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		ids := put(t, s, 0, 1)
		p := &Pattern{Description: strings.Repeat("text ", 50), ContextPattern: &ContextPattern{Features: []string{"a"}, Approach: "b"}}
		ok(t, s.PutPattern(t.Context(), p))
		exec := func(sql string) {
			_, err := s.engine.Batch(t.Context(), stmt(sql))
			ok(t, err)
		}
		for _, c := range []struct{ change, text string }{
			{"substr(payload, 1, length(payload) - 3)", "damaged frame"},
			{"substr(payload, 1, 8) || x'00' || substr(payload, 10)", "damaged frame"},
			{"x'0201c0e10364' || substr(payload, 6)", "dictionary 61632 is not in the database"},
			{"x'0201019cff9c40' || substr(payload, 6)", "frame holds"},
		} {
			exec("CREATE TABLE kept AS SELECT payload FROM runs")
			exec("DROP TRIGGER IF EXISTS run_rewritten") // which refuses one that names no dictionary
			exec("UPDATE runs SET payload = CAST(" + c.change + " AS BLOB)")
			_, err := s.Episode(t.Context(), ids[0])
			wants(t, err, ErrCorrupt, c.text)
			wants(t, err, ErrCorrupt, fmt.Sprintf("episode %v: damaged data: steps from 1", ids[0]))
			exec("UPDATE runs SET payload = (SELECT payload FROM kept)")
			exec("DROP TABLE kept")
		}
		readable(t, s, ids)
		exec("UPDATE patterns SET payload = CAST(substr(payload, 1, 30) AS BLOB)")
		_, err := s.Pattern(t.Context(), p.ID)
		wants(t, err, ErrCorrupt, fmt.Sprintf("pattern %v", p.ID))
	})
}

func TestDictionariesCannotBeChanged(t *testing.T) {
	s := onFile(t)
	put(t, s, 0, 25)
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	for _, sql := range []string{
		"UPDATE dictionaries SET content = x'00'", "UPDATE dictionaries SET content = x''", "UPDATE dictionaries SET id = 7",
		"UPDATE dictionaries SET sha256 = x''", "UPDATE dictionaries SET tag = x''",
	} {
		if _, err := s.engine.Batch(t.Context(), stmt(sql)); err == nil {
			t.Errorf("%s: nobody objects", sql)
		}
	}
}

// A dictionary whose content does not fit its hash is used by nobody.
func TestDamagedDictionary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	a := open(t, path, nil)
	put(t, a, 0, 25)
	_, err := a.TrainDictionaries(t.Context())
	ok(t, err)
	ids := put(t, a, 0, 1)
	_, err = a.engine.Batch(t.Context(), stmt("DROP TRIGGER dictionary_changed"),
		stmt("UPDATE dictionaries SET content = CAST(substr(content, 1, 5000) || x'00' || substr(content, 5002) AS BLOB)"))
	ok(t, err)
	readable(t, a, ids) // which has it still
	b := open(t, path, nil)
	_, err = b.Episode(t.Context(), ids[0])
	wants(t, err, ErrCorrupt, "its hash differs")
	mine := put(t, b, 0, 1)
	readable(t, b, mine)
	if c := b.Stats().Compression; c.Episodes.Dictionary != codec.Builtin().ID() || c.Failures == 0 || !strings.Contains(c.LastFailure, "hash differs") {
		t.Errorf("stats are %+v", c)
	}
}

func TestBadCompressionOptionsAreNamed(t *testing.T) {
	for field, c := range map[string]Compression{
		"Codec": {Codec: 9}, "Level": {Level: 9}, "Threshold": {Threshold: -1}, "Embeddings": {Embeddings: 9},
	} {
		_, err := Open(t.Context(), filepath.Join(t.TempDir(), "m.db"), &Options{Compression: c})
		bad, _ := errors.AsType[*InvalidError](err)
		if bad == nil || bad.Field != "Compression."+field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Steps that compress to next to nothing are read back, and count towards the limit
// of an episode as long as they are.
func TestVeryCompressibleSteps(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	e := &Episode{Description: "x"}
	ok(t, s.StartEpisode(t.Context(), e))
	text := strings.Repeat("0", 4_400_000)
	step := Step{Tool: "a", Result: &Result{Kind: ResultOutput, Text: text}}
	steps := testkit.Effort(3, 3, 15)
	for range steps {
		_, err := s.AppendSteps(t.Context(), e.ID, step)
		ok(t, err)
	}
	if steps == 15 { // 66 MB of the 67.1 that are allowed
		_, err := s.AppendSteps(t.Context(), e.ID, step)
		wants(t, err, ErrInvalid, "steps: bring the episode")
	}
	// What is stored can be stored again.
	again, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	again.ID, again.Revision = ID{}, 0
	ok(t, s.PutEpisode(t.Context(), again))
	ok(t, s.DeleteEpisode(t.Context(), again.ID))
	ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
	got, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	if len(got.Steps) != steps || got.Steps[steps-1].Result.Text != text || got.Running() {
		t.Errorf("%d steps", len(got.Steps))
	}
	if n := number(t, s, "SELECT sum(length(payload)) FROM runs"); n > 100_000 {
		t.Errorf("%d bytes are stored", n)
	}
}

func TestCompact(t *testing.T) {
	t.Parallel()
	onEveryTarget(t, func(t *testing.T, target string) {
		plain := open(t, target, &Options{Compression: Compression{DisableEpisodes: true, DisablePatterns: true}})
		ids := put(t, plain, 0, 40)
		s := open(t, target, nil)
		var last, all int64
		done, err := s.Compact(t.Context(), func(n, of int64) { last, all = n, of })
		ok(t, err)
		if len(done.Trained) != 1 || done.Payloads != 80 || done.Rewritten != 80 || done.After > done.Before/5 || last != 80 || all != 80 {
			t.Errorf("compaction: %+v, progress %d of %d", done, last, all)
		}
		readable(t, plain, ids)
		v, err := s.StorageStats(t.Context())
		ok(t, err)
		if v.Payloads != 80 || v.SamplePayloads != 80 || v.StoredBytes != done.After || v.SampleStored != done.After || v.SamplePlain != done.Before {
			t.Errorf("savings: %+v", v)
		}
		done, err = s.Compact(t.Context(), nil)
		ok(t, err)
		if done.Payloads != 0 || done.Rewritten != 0 || len(done.Trained) != 1 || done.Trained[0].Dictionary != 0 { // it tries once more, since it was asked
			t.Errorf("a second compaction: %+v", done)
		}
		checkAcknowledged(t, s, nil)
	})
}

// What was written fast is found by its mark, once, even if the dictionary is the right one.
func TestCompactFindsWhatWasWrittenFast(t *testing.T) {
	t.Parallel()
	s := onFile(t) // where LevelFast is the default
	ids := put(t, s, 0, 40)
	if trained, err := s.TrainDictionaries(t.Context()); err != nil || len(trained) == 0 {
		t.Fatal(trained, err)
	}
	_, err := s.Compact(t.Context(), nil)
	ok(t, err)
	ids = append(ids, put(t, s, 40, 60)...)
	done, err := s.Compact(t.Context(), nil)
	ok(t, err)
	// How many become smaller depends on the samples that the dictionary was trained from.
	if done.Payloads != 40 || done.Rewritten < 20 || done.After >= done.Before {
		t.Errorf("compaction: %+v", done)
	}
	readable(t, s, ids)
	left := done.Payloads - done.Rewritten // that are no smaller at the better level
	if done, err = s.Compact(t.Context(), nil); err != nil || done.Payloads != left || done.Rewritten != 0 {
		t.Errorf("a second compaction: %+v, %v, want %d payloads", done, err, left)
	}
}

// Somebody replaces, completes and adds to episodes while they are compressed again.
func TestCompactOverwritesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	plain := open(t, path, &Options{Compression: Compression{DisableEpisodes: true}})
	put(t, plain, 0, testkit.Effort(50, 80, 150))
	s := open(t, path, nil)
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	page, err := s.ListEpisodes(t.Context(), nil, &Paging{Limit: 1000})
	ok(t, err)
	var writers sync.WaitGroup
	changed := make([]*Episode, len(page.Items))
	for i, e := range page.Items {
		writers.Go(func() {
			changed[i] = &Episode{ID: e.ID, Description: fmt.Sprint("changed ", i), Steps: task(i + 1000).Steps[:1+i%5]}
			if err := plain.PutEpisode(t.Context(), changed[i]); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		_, err := s.Compact(t.Context(), nil)
		ok(t, err)
	}
	writers.Wait()
	for i, want := range changed {
		got, err := s.Episode(t.Context(), want.ID)
		ok(t, err)
		if got.Description != want.Description || len(got.Steps) != 1+i%5 || got.Steps[0].Result.Text != want.Steps[0].Result.Text {
			t.Fatalf("episode %d is %+v, want %+v", i, got, want)
		}
	}
	checkAcknowledged(t, s, nil)
}

// cutEngine cancels a context at a certain call.
type cutEngine struct {
	engine.Engine
	calls  int
	cancel func()
}

func (e *cutEngine) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	e.cut()
	return e.Engine.Query(ctx, stmts...)
}

func (e *cutEngine) Repeatable(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	e.cut()
	return e.Engine.Repeatable(ctx, stmts...)
}

func (e *cutEngine) cut() {
	if e.calls--; e.calls == 0 {
		e.cancel()
	}
}

func TestInterruptedCompactLosesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Compression: Compression{DisableEpisodes: true}})
	n := testkit.Effort(60, 60, 250)
	ids := put(t, s, 0, n)
	for calls := 1; ; calls++ {
		ctx, cancel := context.WithCancel(t.Context())
		c := newStore(&cutEngine{s.engine, calls, cancel}, &Options{}, nil, false)
		done, err := c.Compact(ctx, nil)
		c.indexer.close()
		c.payloads.Close()
		cancel()
		if calls%4 == 0 || err == nil {
			readable(t, s, ids)
		}
		if err == nil {
			if calls < 5 || done.Payloads > int64(n) {
				t.Errorf("after %d calls: %+v", calls, done)
			}
			break
		}
		wants(t, err, context.Canceled, "compact")
	}
	checkAcknowledged(t, s, nil)
}

// Stores that write with a dictionary which another one deletes, because it was
// trained on an episode that is gone, store what they are told all the same.
func TestWritersNoticeThatTheirDictionaryIsGone(t *testing.T) {
	t.Parallel()
	onEveryTarget(t, func(t *testing.T, target string) {
		ctx, a := t.Context(), open(t, target, nil)
		ids := put(t, a, 0, 25)
		trained, err := a.TrainDictionaries(ctx)
		ok(t, err)
		running := &Episode{Description: task(1).Description}
		writes := map[string]func(*Store) error{
			"put": func(s *Store) error { return s.PutEpisode(ctx, task(100)) },
			"put again": func(s *Store) error {
				e := task(100)
				e.ID = NewID()
				return s.PutEpisode(ctx, e)
			},
			"add":   func(s *Store) error { _, err := s.AddEpisodes(ctx, task(100), task(101)); return err },
			"start": func(s *Store) error { return s.StartEpisode(ctx, &Episode{Description: task(100).Description}) },
			"append": func(s *Store) error {
				_, err := s.AppendSteps(ctx, running.ID, task(100).Steps...)
				return err
			},
		}
		ok(t, a.StartEpisode(ctx, running))
		stores := make(map[string]*Store)
		for name := range writes {
			stores[name] = open(t, target, nil)
			put(t, stores[name], 0, 1)
			waitUntil(t, "adoption", func() bool { return dictionaryOf(stores[name]) == trained[0].Dictionary })
		}
		ok(t, a.DeleteEpisode(ctx, ids[24]))
		done, err := open(t, target, nil).Compact(ctx, nil)
		ok(t, err)
		if done.Deleted != 1 || number(t, a, "SELECT count(*) FROM dictionaries WHERE id = ?", int64(trained[0].Dictionary)) != 0 {
			t.Fatalf("compaction: %+v", done)
		}
		for name, write := range writes {
			if err := write(stores[name]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		ok(t, a.CompleteEpisode(ctx, running.ID, Completion{Outcome: Outcome{Kind: Success, Verdict: strings.Repeat("done ", 50)}}))
		reader := open(t, target, nil)
		readable(t, reader, ids[:24])
		page, err := reader.ListEpisodes(ctx, nil, nil)
		ok(t, err)
		for _, e := range page.Items {
			_, err := reader.Episode(ctx, e.ID)
			ok(t, err)
		}
	})
}

// swappingEngine calls swap after it has answered a question.
type swappingEngine struct {
	engine.Engine
	swap func()
}

func (e *swappingEngine) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	r, err := e.Engine.Query(ctx, stmts...)
	if swap := e.swap; swap != nil {
		e.swap = nil
		swap()
	}
	return r, err
}

// A dictionary is deleted between the reading of a row and that of the dictionary.
func TestReadersNoticeThatADictionaryIsGone(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	ids := put(t, s, 0, 25)
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	ids = append(ids, put(t, s, 25, 26)...)
	for name, read := range map[string]func(*Store) error{
		"episode": func(s *Store) error { _, err := s.Episode(t.Context(), ids[25]); return err },
		"list":    func(s *Store) error { _, err := s.ListEpisodes(t.Context(), nil, nil); return err },
		"search":  func(s *Store) error { _, err := s.Search(t.Context(), "reservation", nil); return err },
		"complete": func(s *Store) error {
			return s.CompleteEpisode(t.Context(), ids[25], Completion{Outcome: task(25).Outcome})
		},
	} {
		e := &swappingEngine{Engine: s.engine}
		reader := newStore(e, &Options{}, nil, false)
		t.Cleanup(reader.indexer.close)
		e.swap = func() {
			_, err := s.engine.Batch(t.Context(), stmt("UPDATE removals SET n = n + 1"))
			ok(t, err)
			done, err := s.Compact(t.Context(), nil)
			ok(t, err)
			if done.Deleted != 1 {
				t.Errorf("%s: compaction: %+v", name, done)
			}
		}
		err := read(reader)
		if errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		reader.payloads.Close()
	}
}

// goneEngine refuses the first write as naming a dictionary that is gone.
type goneEngine struct {
	engine.Engine
	refused atomic.Bool
}

func (e *goneEngine) Repeatable(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if e.refused.CompareAndSwap(false, true) {
		return nil, &engine.Error{Kind: engine.KindConstraint, Stmt: 0, Err: errors.New("dictionary gone")}
	}
	return e.Engine.Repeatable(ctx, stmts...)
}

// Without the dictionary fewer episodes fit into a unit: those that do not follow in the
// next one, though it may have been encoded before.
func TestEpisodesThatAreEncodedAgainAreAllAdded(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	random := make([]byte, 30_000)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	text := hex.EncodeToString(random)
	var learn, list []*Episode
	for i := range 150 {
		e := &Episode{Description: fmt.Sprint("one of many ", i), Steps: []Step{{Tool: "a", Result: &Result{Kind: ResultOutput, Text: text}}}}
		if i < 30 {
			learn = append(learn, e)
		} else {
			list = append(list, e)
		}
	}
	_, err := s.AddEpisodes(t.Context(), learn...)
	ok(t, err)
	trained, err := s.TrainDictionaries(t.Context())
	if err != nil || len(trained) == 0 || trained[0].Dictionary == 0 {
		t.Fatalf("trained %+v, %v", trained, err)
	}
	s.engine = &goneEngine{Engine: s.engine}
	added, err := s.AddEpisodes(t.Context(), list...)
	if n := number(t, s, "SELECT count(*) FROM episodes"); err != nil || added != len(list) || n != 150 {
		t.Errorf("added %d of %d, %v; %d are stored", added, len(list), err, n)
	}
}
