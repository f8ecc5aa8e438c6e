package episodic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// recordOf is a record of some steps, as a program makes it that goes on.
func recordOf(id ID, steps ...string) Record {
	e := &Episode{ID: id, Description: "the valve", Start: time.Unix(1e9, 0).UTC(), End: time.Unix(1e9+int64(len(steps)), 0).UTC(), Metadata: map[string]string{"agent": "a"}}
	for _, s := range steps {
		e.Steps = append(e.Steps, Step{Tool: "turn", Action: s})
	}
	return Record{Episode: e, Hash: fmt.Append(nil, len(steps), steps)[:min(32, len(fmt.Append(nil, len(steps), steps)))]}
}

// importing imports records, and returns what has become of them.
func importing(t *testing.T, s *Store, records ...Record) []ImportOutcome {
	t.Helper()
	results, err := s.Import(t.Context(), records)
	ok(t, err)
	var outcomes []ImportOutcome
	for i, r := range results {
		if (r.Outcome == ImportFailed) != (r.Err != nil) {
			t.Errorf("record %d: %+v", i, r)
		}
		outcomes = append(outcomes, r.Outcome)
	}
	return outcomes
}

func TestImport(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		a, b := NewID(), NewID()
		check := func(got []ImportOutcome, want ...ImportOutcome) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("outcomes %v, want %v", got, want)
			}
		}
		check(importing(t, s, recordOf(a, "left"), recordOf(b, "right")), ImportAdded, ImportAdded)
		check(importing(t, s, recordOf(a, "left"), recordOf(b, "right")), ImportUnchanged, ImportUnchanged)

		// What was added here stays when the record has grown.
		ok(t, s.AddTags(t.Context(), a, "mine"))
		e, err := s.Episode(t.Context(), a)
		ok(t, err)
		e.Outcome, e.Reward = Outcome{Kind: Success, Verdict: "well"}, &Reward{Total: 0.5}
		e.Reflection.Insights = []string{"turn slowly"}
		e.Metadata["here"] = "1"
		ok(t, s.PutEpisode(t.Context(), e))
		check(importing(t, s, recordOf(a, "left", "left again")), ImportUpdated)
		e, err = s.Episode(t.Context(), a)
		ok(t, err)
		if len(e.Steps) != 2 || !slices.Contains(e.Context.Tags, "mine") || e.Outcome.Kind != Success || e.Reward == nil || len(e.Reflection.Insights) != 1 || e.Metadata["here"] != "1" || e.Metadata["agent"] != "a" {
			t.Errorf("%+v", e)
		}
		check(importing(t, s, recordOf(a, "left", "left again")), ImportUnchanged)

		// Something else under its id is told, and stored if asked.
		check(importing(t, s, recordOf(a, "up")), ImportDiffers)
		if e, err = s.Episode(t.Context(), a); err != nil || len(e.Steps) != 2 {
			t.Errorf("%+v, %v", e, err)
		}
		other := recordOf(a, "up")
		other.Replace = true
		check(importing(t, s, other), ImportUpdated)
		if e, err = s.Episode(t.Context(), a); err != nil || len(e.Steps) != 1 || e.Steps[0].Action != "up" {
			t.Errorf("%+v, %v", e, err)
		}

		// Deleted stays deleted.
		ok(t, s.DeleteEpisode(t.Context(), a))
		check(importing(t, s, recordOf(a, "up"), recordOf(a, "up", "down")), ImportSuperseded, ImportDeleted)
		back := recordOf(a, "up")
		back.Undelete = true
		check(importing(t, s, back), ImportAdded)
		check(importing(t, s, recordOf(a, "up")), ImportUnchanged)
	})
}

// TestImportOfOngoingRecords: a run that is followed is stored as it is now, and what was
// added to it here stays.
func TestImportOfOngoingRecords(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		id := NewID()
		version := 0
		store := func(running bool, want ImportOutcome, steps ...string) *Episode {
			t.Helper()
			r := recordOf(id, steps...)
			version++
			r.Ongoing, r.Hash = true, []byte{byte(version)}
			if running {
				r.Episode.End = time.Time{}
			}
			for i := range r.Episode.Steps {
				if name, result, answered := strings.Cut(steps[i], "="); answered {
					r.Episode.Steps[i].Action = name
					r.Episode.Steps[i].Result = &Result{Kind: ResultOutput, Text: result}
				}
			}
			if got := importing(t, s, r); got[0] != want {
				t.Fatalf("outcome %v, want %v", got, want)
			}
			e, err := s.Episode(t.Context(), id)
			ok(t, err)
			if e.Running() != running || len(e.Steps) != len(steps) {
				t.Fatalf("running %v, want %v; %d steps, want %d", e.Running(), running, len(e.Steps), len(steps))
			}
			return e
		}
		store(true, ImportAdded, "a=1", "b")
		e := store(true, ImportUpdated, "a=1", "b=2") // the result of a step that is stored
		if e.Steps[1].Result == nil || e.Steps[1].Result.Text != "2" {
			t.Errorf("%+v", e.Steps[1])
		}
		store(true, ImportUnchanged, "a=1", "b=2")
		ok(t, s.AddTags(t.Context(), id, "mine"))
		store(true, ImportUpdated, "a=1", "b=2", "c=3")
		e = store(true, ImportUpdated, "a=1", "d=4", "e") // c was taken back, and b is another one
		if e.Steps[1].Action != "d" || !slices.Contains(e.Context.Tags, "mine") {
			t.Errorf("%+v", e)
		}
		store(false, ImportUpdated, "a=1", "d=4", "e=5")
		store(false, ImportUnchanged, "a=1", "d=4", "e=5")
		store(true, ImportUpdated, "a=1", "d=4", "e=5", "f")

		// What was judged has ended.
		ok(t, s.CompleteEpisode(t.Context(), id, Completion{Outcome: Outcome{Kind: Success}}))
		r := recordOf(id, "y", "z")
		r.Ongoing, r.Hash, r.Episode.End = true, []byte("x"), time.Time{}
		if got := importing(t, s, r); got[0] != ImportUpdated {
			t.Errorf("%v", got)
		}
		e, err := s.Episode(t.Context(), id)
		ok(t, err)
		if e.Running() || e.Outcome.Kind != Success || len(e.Steps) != 2 {
			t.Errorf("%+v", e)
		}
	})
}

// TestImportRefusesRecords: what is wrong with one is told, and the others are stored.
func TestImportRefusesRecords(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	long := recordOf(NewID(), "x")
	long.Hash = make([]byte, 33)
	empty := recordOf(NewID())
	empty.Episode.Description = ""
	good := recordOf(NewID(), "x")
	results, err := s.Import(t.Context(), []Record{{}, recordOf(ID{}, "x"), long, empty, good})
	ok(t, err)
	for i, text := range []string{"episode: is missing", "id: is zero", "hash: has 33 bytes", "description: is empty"} {
		wants(t, results[i].Err, ErrInvalid, text)
	}
	if results[4] != (ImportResult{Outcome: ImportAdded, Steps: 1}) {
		t.Errorf("%+v", results[4])
	}
}

// TestImportOfWhatWasStoredOtherwise: an episode that is stored, but was not imported, is
// known for what it is.
func TestImportOfWhatWasStoredOtherwise(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	r := recordOf(NewID(), "left")
	_, err := s.AddEpisodes(t.Context(), r.Episode.clone())
	ok(t, err)
	if got := importing(t, s, r); got[0] != ImportUnchanged {
		t.Errorf("%v", got)
	}
	ok(t, s.DeleteEpisode(t.Context(), r.Episode.ID))
	if got := importing(t, s, r); got[0] != ImportDeleted {
		t.Errorf("%v", got)
	}
}

func TestImportIsCancelled(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := recordOf(NewID(), "left")
	if _, err := s.Import(ctx, []Record{r}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := importing(t, s, r); got[0] != ImportAdded {
		t.Errorf("%v", got)
	}
}

// TestRecordsGrow: however a record grows, and whatever is added to its episode, all of both
// is there in the end.
func TestRecordsGrow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		e := anyEpisode.Draw(rt, "episode")
		record := e.clone()
		here := rapid.Bool().Draw(rt, "steps are added here")
		more := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Step { return Step{Tool: "t", Action: rapid.StringN(1, 5, -1).Draw(t, "action")} }), 0, 3).Draw(rt, "more")
		grows := record
		if here {
			grows = e
		}
		grows.Steps = append(slices.Clone(grows.Steps), more...)
		e.StepCount, record.StepCount = 0, 0
		e.Context.Tags = append(slices.Clone(e.Context.Tags), "here")
		got, how := imported(e, record, false)
		if how == ImportDiffers {
			rt.Fatalf("%+v and %+v differ", e, record)
		}
		if len(got.Steps) != max(len(e.Steps), len(record.Steps)) || !slices.Contains(got.Context.Tags, "here") {
			rt.Fatalf("%+v", got)
		}
		if again, how := imported(got, record, false); how != ImportUnchanged {
			rt.Fatalf("imported again it is %v: %+v", how, again)
		}
	})
}
