package episodic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

// settings are all that a database may be written with.
var settings = []Compression{
	{},
	{Threshold: 1, Level: LevelFast},
	{Threshold: 1, Level: LevelBest, Patterns: Off},
	{Threshold: 1, Codec: LZ4},
	{Threshold: 1, Codec: Gzip, Level: LevelBest},
	{Threshold: 1, Codec: Gzip, Dictionaries: Off, Episodes: Off},
	{Threshold: 1, Dictionaries: Off},
	{Codec: Uncompressed},
	{Threshold: -1},
	{Episodes: Off, Patterns: Off},
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
			relations, err := reader.Relations(ctx, e.ID, RelatedTo, Outgoing)
			fine(err)
			same(t, relations, []*Relation{r})
		})
	})
}

// A life in which every call comes from another Store.
func TestSettingsShareAnEpisode(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		stores := openAll(t, target)
		e := task(1)
		steps := e.Steps
		e.Steps, e.Outcome = nil, Outcome{}
		ok(t, stores[0].Start(t.Context(), e))
		for i, s := range stores {
			_, err := s.AppendSteps(t.Context(), e.ID, steps[i%len(steps)])
			ok(t, err)
		}
		ok(t, stores[1].Complete(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
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
		old := open(t, target, &Options{Compression: Compression{Dictionaries: Off}})
		ids := put(t, a, 0, 10)
		done, err := a.TrainDictionaries(t.Context())
		ok(t, err)
		if len(done) != 0 {
			t.Errorf("trained of 10 episodes: %+v", done)
		}
		ids = append(ids, put(t, old, 10, 25)...)
		done, err = a.TrainDictionaries(t.Context())
		ok(t, err)
		if len(done) != 1 || done[0].Dictionary < codec.MinTrainedID || done[0].After > better*done[0].Before || dictionaryOf(a) != done[0].Dictionary {
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
	s := onFile(t)
	ids := put(t, s, 0, 45) // 80 payloads are a time to look
	waitUntil(t, "training", func() bool { return dictionaryOf(s) >= codec.MinTrainedID })
	ids = append(ids, put(t, s, 45, 50)...)
	readable(t, s, ids)
	if c := s.Stats().Compression; c.Trainings != 1 || c.Failures != 0 {
		t.Errorf("stats are %+v", c)
	}
}

func TestUselessDictionariesAreNotUsed(t *testing.T) {
	for _, tt := range []struct {
		text   func(i int) string
		reason string
	}{
		{func(int) string { return "the same task every time" }, "too few different tasks"},
		{func(i int) string { // letters at random, and so few in common that a dictionary hardly helps
			r, text := rand.New(rand.NewPCG(7, uint64(i))), make([]byte, 4000)
			for n := range text {
				text[n] = byte('!' + r.IntN(90))
			}
			return "do this, please: " + strings.ReplaceAll(string(text), `\`, "a")
		}, "hardly better"},
	} {
		s := onFile(t)
		var list []*Episode // stored at once, so that nothing is trained in the background
		for i := range 30 {
			list = append(list, &Episode{Description: tt.text(i)})
		}
		_, err := s.AddEpisodes(t.Context(), list...)
		ok(t, err)
		settled(t, s)
		done, err := s.TrainDictionaries(t.Context())
		ok(t, err)
		if len(done) != 1 || done[0].Dictionary != 0 || !strings.Contains(done[0].Reason, tt.reason) {
			t.Errorf("training: %+v, want none because of %q", done, tt.reason)
		}
		if n := number(t, s, "SELECT count(*) FROM dictionaries WHERE retired_us IS NULL OR length(content) > 0"); n != 0 {
			t.Errorf("%d dictionaries are kept", n)
		}
		done, err = s.TrainDictionaries(t.Context())
		ok(t, err)
		if len(done) != 0 {
			t.Errorf("a second attempt: %+v", done)
		}
	}
}

// However much little payloads become, training looks at a bounded part of it.
func TestTrainingLooksAtABoundedPart(t *testing.T) {
	s := onFile(t)
	text := strings.Repeat("the same line of a log, again and again\n", 50_000) // 2 MB
	for range 10 {
		e := &Episode{Description: "x"}
		for range 2 {
			e.Steps = append(e.Steps, Step{Tool: "a", Result: &Result{Kind: ResultOutput, Text: text}})
		}
		ok(t, s.PutEpisode(t.Context(), e))
	}
	samples, _, err := s.dictionaries.sample(t.Context(), episodePayloads)
	ok(t, err)
	if len(samples) < 20 {
		t.Errorf("%d samples", len(samples))
	}
	for _, x := range samples {
		if len(x.Data) > maxSample || cap(x.Data) > 2*maxSample {
			t.Errorf("a sample of %d bytes, which keeps %d", len(x.Data), cap(x.Data))
		}
	}
}

// One kind's new dictionary retires none of the other kind.
func TestRetiringIsByKind(t *testing.T) {
	s := onFile(t)
	for i, d := range []struct {
		kind    string
		created int
		retired bool
	}{{"episode", 1, true}, {"episode", 3, false}, {"pattern", 2, true}, {"pattern", 4, false}} {
		_, err := s.engine.Batch(t.Context(), stmt("INSERT INTO dictionaries VALUES(?, ?, ?, 20, 20, 0.2, NULL, x'00', x'00')", int64(codec.MinTrainedID+i), d.kind, int64(d.created)))
		ok(t, err)
	}
	_, err := s.engine.Batch(t.Context(), stmt(sqlRetireDictionaries))
	ok(t, err)
	if n := number(t, s, "SELECT sum(1 << (id - 32768)) FROM dictionaries WHERE retired_us > 0"); n != 1<<0|1<<2 {
		t.Errorf("retired are the bits of %b", n)
	}
}

// A look at the database that hangs delays the first write a little, and no other.
func TestALookThatHangsDelaysNoWrite(t *testing.T) {
	hanging := &hangingEngine{Engine: onFile(t).engine, free: make(chan struct{})}
	s := newStore(hanging, Compression{})
	start := time.Now()
	for range 50 {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: strings.Repeat("some text ", 20)}))
	}
	if took := time.Since(start); took > 20*firstWait {
		t.Errorf("the write took %v", took)
	}
	close(hanging.free)
	s.dictionaries.close()
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
			exec("UPDATE runs SET payload = CAST(" + c.change + " AS BLOB)")
			_, err := s.Episode(t.Context(), ids[0])
			wants(t, err, ErrCorrupt, c.text)
			wants(t, err, ErrCorrupt, fmt.Sprintf("episode %v: steps from 1", ids[0]))
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
		"UPDATE dictionaries SET sha256 = x''", "DELETE FROM dictionaries",
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
		"Codec": {Codec: 9}, "Level": {Level: 9}, "Episodes": {Episodes: 2}, "Patterns": {Patterns: 2}, "Dictionaries": {Dictionaries: 2}, "Embeddings": {Embeddings: 9},
	} {
		_, err := Open(t.Context(), filepath.Join(t.TempDir(), "m.db"), &Options{Compression: c})
		bad, _ := errors.AsType[*InvalidError](err)
		if bad == nil || bad.Field != "Compression."+field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Steps that compress to next to nothing are read back, however many they were.
func TestVeryCompressibleSteps(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "x"}
	ok(t, s.Start(t.Context(), e))
	text := strings.Repeat("0", 4_400_000)
	for range 16 { // more than the 64 MiB that one call may bring
		_, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "a", Result: &Result{Kind: ResultOutput, Text: text}})
		ok(t, err)
	}
	ok(t, s.Complete(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
	got, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	if len(got.Steps) != 16 || got.Steps[15].Result.Text != text || got.Running() {
		t.Errorf("%d steps", len(got.Steps))
	}
	if n := number(t, s, "SELECT sum(length(payload)) FROM runs"); n > 100_000 {
		t.Errorf("%d bytes are stored", n)
	}
}

func TestCompact(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		plain := open(t, target, &Options{Compression: Compression{Episodes: Off, Patterns: Off}})
		ids := put(t, plain, 0, 40)
		s := open(t, target, nil)
		var last, all int64
		done, err := s.Compact(t.Context(), func(n, of int64) { last, all = n, of })
		ok(t, err)
		if len(done.Trained) != 1 || done.Payloads != 80 || done.Rewritten != 80 || done.After > done.Before/5 || last != 80 || all != 80 {
			t.Errorf("compaction: %+v, progress %d of %d", done, last, all)
		}
		readable(t, plain, ids)
		v, err := s.Savings(t.Context())
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

// A Store that has not looked for long writes what everybody can read.
func TestOldDictionariesAreNotWrittenWith(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, nil)
	put(t, s, 0, 25)
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	trained := dictionaryOf(s)
	use := *s.packer.kinds[episodePayloads].use.Load()
	use.until = time.Now().Add(-time.Second)
	s.packer.kinds[episodePayloads].use.Store(&use)
	begin := func(p []byte) uint32 {
		h, err := codec.Inspect(p)
		ok(t, err)
		return h.Dictionary
	}
	w, err := newEpisodeRow(s.packer, task(1))
	ok(t, err)
	if got := begin(w.payload); got != codec.Builtin().ID() {
		t.Errorf("written with %d", got)
	}
	_, err = s.dictionaries.look(t.Context(), false)
	ok(t, err)
	w, err = newEpisodeRow(s.packer, task(1))
	ok(t, err)
	if got := begin(w.payload); got != trained {
		t.Errorf("after a look written with %d, want %d", got, trained)
	}
}

// A dictionary is forgotten when it was retired long ago and no row needs it, and
// not before.
func TestDictionariesAreRetired(t *testing.T) {
	s := onFile(t)
	ids := put(t, s, 0, 30)
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	first := int64(dictionaryOf(s))
	ids = append(ids, put(t, s, 30, 60)...)
	// As if it had been trained of less.
	_, err = s.engine.Batch(t.Context(), stmt("UPDATE dictionaries SET items = 1"))
	ok(t, err)
	d, err := readDictionary(t.Context(), s.engine, uint32(first))
	ok(t, err)
	content := bytes.Clone(d.Bytes())
	second := uint32(codec.MinTrainedID)
	if first == int64(second) {
		second++
	}
	content[4], content[5] = byte(second), byte(second>>8)
	d, err = codec.NewDictionary(second, content)
	ok(t, err)
	row := &dictionaryRow{kind: episodePayloads, items: 2000, samples: 1, ratio: 0.1, dictionary: d}
	_, err = s.engine.Batch(t.Context(), row.insert(second, time.Now()))
	ok(t, err)
	count := func(sql string) int64 { return number(t, s, "SELECT count(*) FROM dictionaries WHERE "+sql) }

	done, err := s.Compact(t.Context(), nil)
	ok(t, err)
	if done.Retired != 1 || done.Forgotten != 0 || count("length(content) > 0") != 2 || dictionaryOf(s) != second {
		t.Errorf("compaction: %+v, used %d", done, dictionaryOf(s))
	}
	readable(t, s, ids)

	long := func() {
		_, err := s.engine.Batch(t.Context(), stmt("UPDATE dictionaries SET retired_us = ? WHERE id = ?", micros(time.Now().Add(-14*24*time.Hour)), first))
		ok(t, err)
	}
	long()
	// A row of a writer that has not noticed.
	_, err = s.engine.Batch(t.Context(), stmt("INSERT INTO patterns VALUES(1, x'01', '', '', 0, 0, ?)", codec.Prefix(codec.Gzip, uint32(first))))
	ok(t, err)
	done, err = s.Compact(t.Context(), nil)
	ok(t, err)
	if done.Forgotten != 0 || done.Damaged != 1 || !strings.Contains(done.Damage, "patterns 1: damaged data") {
		t.Errorf("compaction: %+v", done)
	}
	_, err = s.engine.Batch(t.Context(), stmt("DELETE FROM patterns"))
	ok(t, err)
	done, err = s.Compact(t.Context(), nil)
	ok(t, err)
	if done.Forgotten != 1 || count("length(content) > 0") != 1 || count(fmt.Sprintf("id = %d AND length(content) = 0", first)) != 1 {
		t.Errorf("compaction: %+v", done)
	}
	readable(t, s, ids)
}

// A dictionary is forgotten when it was retired long ago and no payload of any
// table names it, whatever the codec.
func TestForgettingADictionary(t *testing.T) {
	const id, week = codec.MinTrainedID + 7, 7 * 24 * time.Hour
	s, now := onFile(t), time.Now()
	exec := func(sql string, args ...any) int64 {
		t.Helper()
		r, err := s.engine.Batch(t.Context(), stmt(sql, args...))
		ok(t, err)
		return r[0].Affected
	}
	forgotten := func() bool {
		t.Helper()
		r, err := s.engine.Batch(t.Context(), forget(id))
		ok(t, err)
		return r[0].Affected == 1
	}
	exec("INSERT INTO dictionaries VALUES(?, 'episode', 0, 20, 20, 0.2, NULL, x'00', x'00')", int64(id))
	for _, retired := range []any{nil, micros(now), micros(now.Add(-week + time.Minute))} {
		exec("UPDATE dictionaries SET retired_us = ?", retired)
		if forgotten() {
			t.Errorf("forgotten although it was retired at %v", retired)
		}
	}
	exec("UPDATE dictionaries SET retired_us = ?", micros(now.Add(-week-time.Minute)))
	rows := map[string]string{
		"episodes":   "INSERT INTO episodes VALUES(1, x'01', '', '', '', '', 0, NULL, 0, 0, ?)",
		"runs":       "INSERT INTO runs VALUES(1, 1, 1, NULL, ?)",
		"patterns":   "INSERT INTO patterns VALUES(1, x'01', '', '', 0, 0, ?)",
		"heuristics": "INSERT INTO heuristics VALUES(1, x'01', 0, 0, ?)",
		"relations":  "INSERT INTO relations VALUES(1, 'follows', 1, 0, ?)",
	}
	if len(rows) != len(payloadTables) {
		t.Errorf("%d of %d tables are tried", len(rows), len(payloadTables))
	}
	for _, c := range []codec.Codec{codec.Zstd, codec.Gzip} {
		for table, insert := range rows {
			if table != "episodes" { // which the others refer to
				exec(rows["episodes"], []byte{formatJSON})
			}
			exec(insert, append(codec.Prefix(c, id), 1, 2, 3))
			if forgotten() {
				t.Errorf("forgotten although a row of %s by %v needs it", table, c)
			}
			exec("DELETE FROM " + table)
			exec("DELETE FROM episodes")
		}
	}
	if !forgotten() || number(t, s, "SELECT length(content) FROM dictionaries") != 0 {
		t.Error("not forgotten although nothing needs it")
	}
}

// Somebody replaces, completes and adds to episodes while they are compressed again.
func TestCompactOverwritesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	plain := open(t, path, &Options{Compression: Compression{Episodes: Off}})
	put(t, plain, 0, 150)
	s := open(t, path, nil)
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	page, err := s.ListEpisodes(t.Context(), &EpisodeFilter{Limit: 1000})
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
	s := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Compression: Compression{Episodes: Off}})
	ids := put(t, s, 0, 250)
	for calls := 1; ; calls++ {
		ctx, cancel := context.WithCancel(t.Context())
		c := newStore(&cutEngine{s.engine, calls, cancel}, Compression{})
		done, err := c.Compact(ctx, nil)
		c.dictionaries.close()
		cancel()
		if calls%4 == 0 || err == nil {
			readable(t, s, ids)
		}
		if err == nil {
			if calls < 5 || done.Payloads > 250 {
				t.Errorf("after %d calls: %+v", calls, done)
			}
			break
		}
		wants(t, err, context.Canceled, "compact")
	}
	checkAcknowledged(t, s, nil)
}

const trainEnv = "EPISODIC_CRASH_TRAINER"

// crashTrainer writes, trains, adopts and compacts over and over, as if it was
// always time to, until it is killed. It reports false in an ordinary test run.
func crashTrainer() bool {
	target := os.Getenv(trainEnv)
	if target == "" {
		return false
	}
	ctx := context.Background()
	s, err := Open(ctx, target, nil)
	for i := 0; err == nil; i++ {
		e := task(i % 1000)
		if err = s.PutEpisode(ctx, e); err != nil {
			break
		}
		fmt.Println(e.ID, i%1000)
		if i%10 != 9 {
			continue
		}
		if _, err = s.engine.Batch(ctx, stmt("UPDATE dictionaries SET items = 0, ratio = 1")); err != nil {
			break
		}
		// What is in use is the built-in one again, so that the next one is better.
		s.packer.kinds[episodePayloads].use.Store(s.packer.builtin)
		var due [payloadKinds]int64
		if due, err = s.dictionaries.look(ctx, false); err == nil && due[episodePayloads] > 0 {
			s.packer.kinds[episodePayloads].use.Store(s.packer.builtin)
			_, err = s.dictionaries.train(ctx, episodePayloads, due[episodePayloads])
		}
		if err == nil && i%20 == 19 {
			_, err = s.Compact(ctx, nil)
		}
	}
	fmt.Println("error", err)
	return true
}

func TestKilledTrainerLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	ids := put(t, open(t, path, nil), 0, 25)
	acknowledged := make(map[ID]int)
	for i, id := range ids {
		acknowledged[id] = i
	}
	used := make(map[uint32]bool)
	check := func() {
		s := open(t, path, nil)
		for id, number := range acknowledged {
			e, err := s.Episode(t.Context(), id)
			ok(t, err)
			if want := task(number); e.Description != want.Description || len(e.Steps) != 5 || e.Steps[3].Result.Text != want.Steps[3].Result.Text {
				t.Fatalf("episode %d reads %+v", number, e)
			}
		}
		put(t, s, 0, 1)
		used[dictionaryOf(s)] = true
		checkAcknowledged(t, s, nil)
		ok(t, s.Close())
	}
	kills := 50
	if raceDetector { // which makes training ten times as slow
		kills = 15
	}
	for kill := range kills {
		// It trains after every tenth episode, and compacts after every twentieth.
		// It is killed while it does, or while it writes with what came of it.
		killed(t, trainEnv, path, 9+kill%13, 60*time.Millisecond, acknowledged)
		if kill%5 == 4 {
			check()
		}
	}
	check()
	s := open(t, path, nil)
	trained := number(t, s, "SELECT count(*) FROM dictionaries WHERE length(content) > 0")
	t.Logf("%d episodes, %d dictionaries trained, %d seen in use", len(acknowledged), trained, len(used))
	if trained < 2 {
		t.Errorf("only %d dictionaries were trained", trained)
	}
}
