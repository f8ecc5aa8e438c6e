package episodic

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// later makes what a closed machine has in a folder, and what the server has of deletions and
// conflicts, as old as if so much time had passed since.
func later(t *testing.T, server engine.Engine, dir string, d time.Duration) {
	t.Helper()
	ok(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		at := info.ModTime().Add(-d)
		if filepath.Base(filepath.Dir(path)) == "outbox" && filepath.Ext(path) == ".db" {
			file, err := embedded.Open(t.Context(), embedded.Config{Path: path, LockDir: dir})
			if err != nil {
				return err
			}
			_, err = file.Batch(t.Context(), stmt("UPDATE ops SET at_us = at_us - ?", d.Microseconds()))
			if err := errors.Join(err, file.Close()); err != nil {
				return err
			}
		}
		return os.Chtimes(path, at, at)
	}))
	_, err := server.Batch(t.Context(), stmt("UPDATE feed SET gone_us = gone_us - ? WHERE gone_us IS NOT NULL", d.Microseconds()),
		stmt("UPDATE conflicts SET at_us = at_us - ?", d.Microseconds()))
	ok(t, err)
}

// A machine that writes while it is away for a week, or for so long that the server has
// forgotten what was deleted meanwhile, comes to the same as all others. What it wrote is
// pushed, what others have changed as well is merged or kept for 30 days, and what they have
// deleted is gone here.
func TestAwayForLong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		away  time.Duration
		trims bool
	}{{"a week", 7 * 24 * time.Hour, false}, {"forty days", 40 * 24 * time.Hour, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, link := offline(t)
			ctx, dir := t.Context(), t.TempDir()
			m := &machines{t: t, server: server, link: link, a: queueing(t, link.URL(), dir), b: queueing(t, server.URL(), t.TempDir()),
				direct: open(t, server.URL(), &Options{Cache: Cache{Disabled: true}, Replica: Replica{Disabled: true}})}
			names := []string{"grown", "ended", "edited", "deleted here", "deleted there", "gone", "kept"}
			ids := make(map[string]ID)
			for _, name := range names {
				ids[name] = m.shared("one").ID
			}
			link.Refuse(true)
			link.ResetAll()

			ok(t, moreSteps(t, ids["grown"], "ours")(m.a))
			ok(t, moreSteps(t, ids["ended"], "late")(m.a))
			ok(t, puts(t, ids["edited"], func(e *Episode) { e.Description, e.Context.Domain = "ours", "ours" })(m.a))
			ok(t, deletes(t, ids["deleted here"])(m.a))
			ok(t, moreSteps(t, ids["deleted there"], "ours")(m.a))
			lived := life(t, m.a, 1)
			ok(t, m.a.Close())

			ok(t, moreSteps(t, ids["grown"], "theirs")(m.b))
			ok(t, completes(t, ids["ended"], Success, nil)(m.b))
			ok(t, puts(t, ids["edited"], func(e *Episode) { e.Description, e.Context.Language = "theirs", "theirs" })(m.b))
			ok(t, moreSteps(t, ids["deleted here"], "theirs")(m.b))
			ok(t, deletes(t, ids["deleted there"])(m.b))
			ok(t, deletes(t, ids["gone"])(m.b))
			ok(t, m.b.Flush(ctx))

			later(t, m.direct.engine, dir, tt.away)
			for range 3 { // each has the server forget two deletions of more than 30 days ago
				e := &Episode{Description: "new"}
				ok(t, m.direct.PutEpisode(ctx, e))
				ok(t, m.direct.DeleteEpisode(ctx, e.ID))
			}
			if trimmed := number(t, m.direct, "SELECT count(*) FROM feed_state WHERE forgotten > 0") > 0; trimmed != tt.trims {
				t.Fatalf("the server has forgotten deletions: %v", trimmed)
			}

			// A program that begins now answers from what is there, and tells how old it is.
			log := &testkit.Log{}
			opts := queueOptions(dir)
			opts.Logger = log.Logger()
			m.a = open(t, link.URL(), opts)
			var info ReadInfo
			e, err := m.a.Episode(WithReadInfo(ctx, &info), ids["grown"])
			if ok(t, err); wordsOf(e.Steps) != "one ours" || info.Stale == nil || info.Age < tt.away || info.Age > tt.away+time.Hour {
				t.Errorf("without the server: %q, %+v", wordsOf(e.Steps), info)
			}
			box, err := m.a.Outbox(ctx)
			if ok(t, err); box.Waiting != 9 || box.Refused != 0 || time.Since(box.Oldest) < tt.away {
				t.Errorf("%+v", box)
			}

			link.Refuse(false)
			for tries := 0; ; tries++ {
				if err = m.a.Flush(ctx); err == nil {
					break
				}
				if tries == 20 {
					t.Fatal(err)
				}
			}
			m.synced()
			if anew := strings.Contains(log.Take(), "made anew"); anew != tt.trims {
				t.Errorf("the replica was made anew: %v", anew)
			}
			for name, want := range map[string]string{"grown": "one theirs ours", "ended": "one late", "edited": "one", "kept": "one"} {
				if e := m.same(ids[name]); wordsOf(e.Steps) != want {
					t.Errorf("%s has steps %q, want %q", name, wordsOf(e.Steps), want)
				}
			}
			if e := m.same(ids["edited"]); e.Description != "ours" || e.Context.Domain != "ours" || e.Context.Language != "theirs" {
				t.Errorf("merged %+v", e)
			}
			if e := m.same(lived); len(e.Steps) != 2 || e.Running() {
				t.Errorf("what was written meanwhile: %+v", e)
			}
			for _, name := range []string{"deleted here", "deleted there", "gone"} {
				for _, s := range []*Store{m.a, m.b, m.direct} {
					_, err := s.Episode(ctx, ids[name])
					wants(t, err, ErrNotFound, "")
				}
			}
			for _, s := range []*Store{m.a, m.b} {
				differences, err := s.VerifyReplica(ctx, true)
				if ok(t, err); len(differences) > 0 {
					t.Errorf("%+v", differences)
				}
			}

			// What lost is kept for 30 days after that was decided, not after it was written.
			var kinds []string
			conflicts, err := collect(m.direct.Conflicts(ctx))
			ok(t, err)
			for _, c := range conflicts {
				kinds = append(kinds, fmt.Sprint(c.Kind, " ", c.Fields))
			}
			slices.Sort(kinds)
			if want := []string{"changed [description]", "deleted []", "gone []", "late []"}; !slices.Equal(kinds, want) {
				t.Errorf("conflicts %q, want %q", kinds, want)
			}
			for _, c := range conflicts {
				if c.Kind == ConflictGone {
					ok(t, m.a.Restore(ctx, c.Number))
				}
			}
			m.synced()
			if e := m.same(ids["deleted there"]); wordsOf(e.Steps) != "one ours" {
				t.Errorf("restored %q", wordsOf(e.Steps))
			}
		})
	}
}

// Times that a clock has left that was an hour fast, and was set back, are no reason to take the
// replica for new, nor to lose what is in it.
func TestClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "replica.db")
	o := &Options{Replica: Replica{Path: path}, LockDir: filepath.Dir(path), Cache: Cache{PollInterval: time.Hour}}
	e := &Episode{Description: "old", Start: time.Now().Add(time.Hour)}
	s := open(t, link.URL(), o)
	ok(t, s.StartEpisode(ctx, e))
	synced(t, s)
	ok(t, s.Close())
	fast := time.Now().Add(time.Hour)
	for _, suffix := range []string{".asof", wroteSuffix} {
		ok(t, os.Chtimes(path+suffix, fast, fast))
	}
	direct := open(t, server.URL(), &Options{Replica: Replica{Disabled: true}})
	ok(t, direct.CompleteEpisode(ctx, e.ID, Completion{Outcome: Outcome{Kind: Success}}))

	link.Refuse(true)
	s = open(t, link.URL(), o)
	var info ReadInfo
	got, err := s.Episode(WithReadInfo(ctx, &info), e.ID)
	if ok(t, err); !got.Running() || info.Stale == nil || info.Age < 24*time.Hour { // how old it is, nobody knows
		t.Errorf("without the server: %+v, %+v", got, info)
	}
	ok(t, s.Close())
	link.Refuse(false)
	s = open(t, link.URL(), o)
	got, err = s.Episode(WithReadInfo(ctx, &info), e.ID)
	if ok(t, err); got.Running() || info.Stale != nil || got.End.Before(got.Start) {
		t.Errorf("with the server: %+v, %+v", got, info)
	}
}

// What a Store of this machine writes first is noted as exactly as what it writes later: a pull that began
// just before is none that has it.
func TestFirstNoteForOthersIsExact(t *testing.T) {
	t.Parallel()
	r := &localReplica{path: filepath.Join(t.TempDir(), "replica.db")}
	for _, at := range []time.Time{time.Now(), time.Now()} {
		r.noteForOthers(at)
		if noted, err := lastWrote(r.path); err != nil || !noted.Equal(at) {
			t.Errorf("a write at %v is noted at %v, %v", at, noted, err)
		}
	}
}
