package episodic

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// receiptsIn returns a context whose writes' receipts are appended to list.
func receiptsIn(ctx context.Context, list *[]Receipt) context.Context {
	return WithReceipts(ctx, func(r Receipt) { *list = append(*list, r) })
}

// statuses verifies receipts, and fails unless that is possible.
func statuses(t testing.TB, s *Store, receipts ...Receipt) []WriteStatus {
	t.Helper()
	verdicts, err := s.Verify(t.Context(), receipts...)
	ok(t, err)
	all := make([]WriteStatus, len(verdicts))
	for i, v := range verdicts {
		all[i] = v.Status
		if v.Status.Lost() != (v.Reason != "") {
			t.Errorf("%s, and the reason is %q", v.Status, v.Reason)
		}
	}
	return all
}

func wantStatus(t testing.TB, s *Store, r Receipt, want WriteStatus) Verdict {
	t.Helper()
	verdicts, err := s.Verify(t.Context(), r)
	ok(t, err)
	if verdicts[0].Status != want {
		t.Errorf("%v is %+v, want %s", r, verdicts[0], want)
	}
	return verdicts[0]
}

// everyWrite makes each write once, so that all of them are still as they were made.
func everyWrite(t testing.TB, ctx context.Context, s *Store) {
	t.Helper()
	put := &Episode{Description: "put", Steps: []Step{{Action: "a"}, {Action: "b", Time: time.Now()}}, Reflection: Reflection{Insights: []string{}}}
	ok(t, s.PutEpisode(ctx, put))
	started := &Episode{Description: "started", Context: Context{Tags: []string{"x", "x"}}}
	ok(t, s.StartEpisode(ctx, started))
	_, err := s.AppendSteps(ctx, started.ID, Step{Action: "one"}, Step{Action: "two", Parameters: `{"a": 1}`})
	ok(t, err)
	_, err = s.AppendStepsOnce(ctx, started.ID, "key", Step{Action: "three"})
	ok(t, err)
	ok(t, s.AddTags(ctx, started.ID, "y"))
	ended := &Episode{Description: "ended"}
	ok(t, s.StartEpisode(ctx, ended))
	_, err = s.AppendSteps(ctx, ended.ID, Step{Action: "one"})
	ok(t, err)
	_, err = s.AppendSteps(ctx, ended.ID, Step{Action: "two"})
	ok(t, err)
	ok(t, s.CompleteEpisode(ctx, ended.ID, Completion{Outcome: Outcome{Kind: Success, Artifacts: []string{}}}))
	_, err = s.AddEpisodes(ctx, put, &Episode{Description: "added"}, &Episode{Description: "added too", Scope: Scope{User: "u"}})
	ok(t, err)
	p := &Pattern{ErrorRecovery: &ErrorRecovery{Error: "e", Steps: []string{"s"}}, Context: Context{Tags: []string{}}}
	ok(t, s.PutPattern(ctx, p))
	h := &Heuristic{Condition: "c", Action: "a", Evidence: Evidence{Episodes: []ID{}}}
	ok(t, s.PutHeuristic(ctx, h))
	ok(t, s.PutRelation(ctx, &Relation{From: put.ID, Type: RelatedTo, To: ended.ID}))
	ok(t, s.PutRelation(ctx, &Relation{From: put.ID, Type: Follows, To: ended.ID}))
	ok(t, s.DeleteRelation(ctx, put.ID, Follows, ended.ID))
	ok(t, s.PutEmbedding(ctx, &Embedding{Kind: ItemPattern, Item: p.ID, Model: "m", Vector: []float32{1, 2.5}}))
	ok(t, s.PutEmbedding(ctx, &Embedding{Kind: ItemPattern, Item: p.ID, Model: "n", Vector: []float32{1}}))
	ok(t, s.DeleteEmbedding(ctx, ItemPattern, p.ID, "n"))
	gone := &Heuristic{Condition: "c", Action: "a"}
	ok(t, s.PutHeuristic(ctx, gone))
	ok(t, s.DeleteHeuristic(ctx, gone.ID))
}

// statusOfEveryWrite are those of the receipts of everyWrite, in order.
var statusOfEveryWrite = []WriteStatus{
	WriteKept,                             // put
	WriteSuperseded, WriteKept, WriteKept, // started, and appended to
	WriteKept, // tags
	WriteSuperseded, WriteKept, WriteKept, WriteKept,
	WriteKept, WriteKept, // added
	WriteKept, WriteKept, // pattern, heuristic
	WriteKept, WriteDeleted, WriteKept, // relations
	WriteKept, WriteDeleted, WriteKept, // embeddings
	WriteDeleted, WriteKept,
}

func TestReceiptsOfEveryWrite(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(t *testing.T) string{
		"file":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "m.db") },
		"server": func(t *testing.T) string { return hranatest.Start(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := target(t)
			s := open(t, at, direct(nil))
			var receipts []Receipt
			everyWrite(t, receiptsIn(t.Context(), &receipts), s)
			seen := int64(0)
			for i, r := range receipts {
				parsed, err := ParseReceipt(r.String())
				if err != nil || parsed != r {
					t.Errorf("%v is read as %v, %v", r, parsed, err)
				}
				if r.Seq < seen || r.Database == "" {
					t.Errorf("receipt %d: %v after number %d", i, r, seen)
				}
				seen = r.Seq
			}
			everyWrite(t, t.Context(), s) // without receipts
			fresh := open(t, at, direct(nil))
			got := statuses(t, fresh, receipts...)
			for i := range max(len(got), len(statusOfEveryWrite)) {
				if i >= len(got) || i >= len(statusOfEveryWrite) || got[i] != statusOfEveryWrite[i] {
					t.Fatalf("receipts %d: %v, want %v; %v", i, got, statusOfEveryWrite, receipts[min(i, len(receipts)-1)])
				}
			}
		})
	}
}

// The write that a receipt tells of is lost, superseded or changed by somebody who is not episodic.
func TestStatusOfAWrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, s *Store, e *Episode, sql func(string, ...any))
		put  WriteStatus // of the episode
		add  WriteStatus // of the steps
	}{
		{"nothing", func(t *testing.T, s *Store, e *Episode, _ func(string, ...any)) {}, WriteSuperseded, WriteKept},
		{"more steps", func(t *testing.T, s *Store, e *Episode, _ func(string, ...any)) {
			_, err := s.AppendSteps(t.Context(), e.ID, Step{Action: "more"})
			ok(t, err)
		}, WriteSuperseded, WriteKept},
		{"completed", func(t *testing.T, s *Store, e *Episode, _ func(string, ...any)) {
			ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
		}, WriteSuperseded, WriteKept},
		{"replaced", func(t *testing.T, s *Store, e *Episode, _ func(string, ...any)) {
			ok(t, s.PutEpisode(t.Context(), &Episode{ID: e.ID, Description: "other"}))
		}, WriteSuperseded, WriteSuperseded},
		{"steps before them", func(t *testing.T, s *Store, e *Episode, _ func(string, ...any)) {
			stored, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
			ok(t, s.PutEpisode(t.Context(), &Episode{ID: e.ID, Description: "x", Steps: append([]Step{{Action: "before"}}, stored.Steps[1].withoutNumber(), stored.Steps[2].withoutNumber())}))
		}, WriteSuperseded, WriteKept},
		{"deleted", func(t *testing.T, s *Store, e *Episode, _ func(string, ...any)) {
			ok(t, s.DeleteEpisode(t.Context(), e.ID))
		}, WriteDeleted, WriteDeleted},
		{"deleted long ago", func(t *testing.T, s *Store, e *Episode, sql func(string, ...any)) {
			ok(t, s.DeleteEpisode(t.Context(), e.ID))
			sql("DELETE FROM feed WHERE gone_us IS NOT NULL")
		}, WriteMissing, WriteMissing},
		{"lost with its feed", func(t *testing.T, s *Store, e *Episode, sql func(string, ...any)) {
			ok(t, s.DeleteEpisode(t.Context(), e.ID))
			sql("DELETE FROM feed")
			sql("UPDATE feed_state SET forgotten = 0")
		}, WriteMissing, WriteMissing},
		{"an older state", func(t *testing.T, s *Store, e *Episode, sql func(string, ...any)) {
			sql("UPDATE episodes SET rev = 7 WHERE id = ?", e.ID.bytes())
			sql("UPDATE runs SET payload = CAST('[{\"action\":\"x\"},{\"action\":\"y\"}]' AS BLOB) WHERE place & 16777215 = 2")
			sql("UPDATE feed SET n = 1")
		}, WriteMissing, WriteAltered},
		{"changed by hand", func(t *testing.T, s *Store, e *Episode, sql func(string, ...any)) {
			sql("UPDATE runs SET payload = (SELECT payload FROM runs WHERE place & 16777215 = 1)")
		}, WriteSuperseded, WriteAltered},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "m.db")
			s := open(t, path, direct(nil))
			var receipts []Receipt
			ctx := receiptsIn(t.Context(), &receipts)
			e := &Episode{Description: "task", Steps: []Step{{Action: "zero"}}}
			ok(t, s.StartEpisode(ctx, e))
			_, err := s.AppendSteps(ctx, e.ID, Step{Action: "one"}, Step{Action: "two"})
			ok(t, err)
			tt.do(t, s, e, func(sql string, args ...any) {
				t.Helper()
				_, err := s.engine.Batch(t.Context(), stmt(sql, args...))
				ok(t, err)
			})
			fresh := open(t, path, direct(nil))
			wantStatus(t, fresh, receipts[0], tt.put)
			wantStatus(t, fresh, receipts[1], tt.add)
		})
	}
}

func (s Step) withoutNumber() Step {
	s.Number = 0
	return s
}

// A write that was lost is told from one that a later one has taken the place of.
func TestLostWriteIsNoSupersededOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, direct(nil))
	var receipts []Receipt
	ctx := receiptsIn(t.Context(), &receipts)
	h := &Heuristic{Condition: "c", Action: "first"}
	ok(t, s.PutHeuristic(ctx, h))
	_, err := s.engine.Batch(t.Context(), stmt("CREATE TABLE kept AS SELECT * FROM heuristics"), stmt("CREATE TABLE kept_feed AS SELECT * FROM feed"))
	ok(t, err)
	h.Action = "second"
	ok(t, s.PutHeuristic(ctx, h))
	if v := wantStatus(t, s, receipts[0], WriteSuperseded); v.Revision != receipts[1].Revision || v.Seq != receipts[1].Seq {
		t.Errorf("superseded by %+v, want %v", v, receipts[1])
	}
	_, err = s.engine.Batch(t.Context(), stmt("UPDATE heuristics SET payload = k.payload, rev = k.rev FROM kept k"), stmt("DELETE FROM feed"), stmt("INSERT INTO feed SELECT * FROM kept_feed"))
	ok(t, err)
	wantStatus(t, s, receipts[0], WriteKept)
	wantStatus(t, s, receipts[1], WriteMissing)
}

func TestReceiptsAreOfTheScope(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), direct(nil))
	mine, err := s.Scoped(Scope{User: "me"})
	ok(t, err)
	var receipts []Receipt
	e := &Episode{Description: "task"}
	ok(t, mine.PutEpisode(receiptsIn(t.Context(), &receipts), e))
	if receipts[0].Scope != (Scope{User: "me"}) {
		t.Errorf("%v", receipts[0])
	}
	wantStatus(t, mine, receipts[0], WriteKept)
	wantStatus(t, s, receipts[0], WriteKept)
	other, err := s.Scoped(Scope{User: "you"})
	ok(t, err)
	wantStatus(t, other, receipts[0], WriteMissing)
	// Put without a scope, it keeps the one that it has.
	ok(t, mine.PutEpisode(receiptsIn(t.Context(), &receipts), &Episode{ID: e.ID, Description: "again"}))
	wantStatus(t, s, receipts[1], WriteKept)
}

// What is done again, and changes nothing, has the receipt of what is stored.
func TestReceiptsOfRepeatedWrites(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), direct(nil))
	e := &Episode{Description: "task"}
	ok(t, s.StartEpisode(t.Context(), e))
	_, err := s.AppendStepsOnce(t.Context(), e.ID, "key", Step{Action: "one"})
	ok(t, err)
	_, err = s.AppendSteps(t.Context(), e.ID, Step{Action: "two"})
	ok(t, err)
	var receipts []Receipt
	ctx := receiptsIn(t.Context(), &receipts)
	_, err = s.AppendStepsOnce(ctx, e.ID, "key", Step{Action: "one"})
	ok(t, err)
	done := Completion{Outcome: Outcome{Kind: Success}}
	ok(t, s.CompleteEpisode(t.Context(), e.ID, done))
	ok(t, s.CompleteEpisode(ctx, e.ID, done))
	wants(t, s.StartEpisode(ctx, &Episode{ID: e.ID, Description: "x"}), ErrConflict, "")
	wants(t, s.DeletePattern(ctx, NewID()), ErrNotFound, "")
	if len(receipts) != 2 || receipts[0].Steps != 1 || receipts[1].Seq == 0 {
		t.Fatalf("%v", receipts)
	}
	for _, r := range receipts {
		wantStatus(t, s, r, WriteKept)
	}
}

func TestReceiptsOfImports(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), direct(nil))
	var receipts []Receipt
	ctx := receiptsIn(t.Context(), &receipts)
	record := func(steps int) []Record {
		e := &Episode{ID: ID{1}, Description: "run", Start: time.Unix(1, 0)}
		for range steps {
			e.Steps = append(e.Steps, Step{Action: "a", Time: time.Unix(2, 0)})
		}
		return []Record{{Episode: e, Hash: []byte{byte(steps)}}}
	}
	for _, steps := range []int{1, 1, 3} {
		_, err := s.Import(ctx, record(steps))
		ok(t, err)
	}
	if len(receipts) != 2 {
		t.Fatalf("%d receipts of a record that has grown once: %v", len(receipts), receipts)
	}
	wantStatus(t, s, receipts[0], WriteSuperseded)
	wantStatus(t, s, receipts[1], WriteKept)
}

// A queued write's receipt has no number of the server's: it is verified by revision and content.
func TestReceiptsOfQueuedWrites(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	link, err := hranatest.NewLink(server.URL())
	ok(t, err)
	t.Cleanup(link.Close)
	s := queueing(t, link.URL(), t.TempDir())
	synced(t, s)
	link.Refuse(true)
	link.ResetAll()
	var receipts []Receipt
	everyWrite(t, receiptsIn(t.Context(), &receipts), s)
	for _, r := range receipts {
		if r.Queued == 0 || r.Seq != 0 || r.Database != "" {
			t.Errorf("of a queued write: %v", r)
		}
	}
	link.Refuse(false)
	waits, err := s.Verify(t.Context(), receipts...)
	ok(t, err)
	ok(t, s.Flush(t.Context()))
	fresh := open(t, server.URL(), direct(nil))
	got := statuses(t, fresh, receipts...)
	for i, f := range got {
		if w := waits[i].Status; w != WriteQueued && w != f {
			t.Errorf("before all was pushed %v is %s", receipts[i], w)
		}
		if f != statusOfEveryWrite[i] {
			t.Fatalf("%v is %s, want %s", receipts[i], f, statusOfEveryWrite[i])
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), direct(nil))
	_, err := s.Verify(t.Context(), Receipt{})
	wants(t, err, ErrInvalid, "receipt 1 of 1: write: ")
	ok(t, s.Close())
	good := Receipt{Write: deletedItem, Kind: ItemPattern, ID: NewID()}
	_, err = s.Verify(t.Context(), good)
	wants(t, err, ErrClosed, "")
}

// Anything that can be stored has the same hash when it is read back.
func TestReceiptsOfAnything(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "m.db"), direct(nil))
	var receipts []Receipt
	ctx := receiptsIn(t.Context(), &receipts)
	rapid.Check(t, func(rt *rapid.T) {
		before := len(receipts)
		e := anyEpisode.Draw(rt, "episode")
		ok(t, s.PutEpisode(ctx, e))
		p := anyPattern.Draw(rt, "pattern")
		ok(t, s.PutPattern(ctx, p))
		h := anyHeuristic.Draw(rt, "heuristic")
		ok(t, s.PutHeuristic(ctx, h))
		e = &Episode{Description: "running"}
		ok(t, s.StartEpisode(t.Context(), e))
		_, err := s.AppendSteps(ctx, e.ID, rapid.SliceOfN(anyStep, 1, 3).Draw(rt, "steps")...)
		ok(t, err)
		verdicts, err := s.Verify(t.Context(), receipts[before:]...)
		ok(t, err)
		for i, v := range verdicts {
			if v.Status != WriteKept {
				rt.Fatalf("%v is %+v", receipts[before+i], v)
			}
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	f.Add(`{"write":"append steps","kind":"episode","id":"0198c7a2-0000-7000-8000-000000000001","hash":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","revision":5,"seq":7,"database":"00112233445566778899aabbccddeeff","first":1,"steps":2,"scope":{"user":"<u>"}}`)
	f.Add(`{"write":"delete relation","kind":"episode","id":"0198c7a2-0000-7000-8000-000000000001","type":"follows","to":"0198c7a2-0000-7000-8000-000000000002"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseReceipt(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if again, err := ParseReceipt(r.String()); err != nil || again != r {
			t.Fatalf("%q is %v, and that is %v, %v", text, r, again, err)
		}
	})
}
