package episodic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// oneByOne skips a test under the race detector that does one thing after another, as
// TestLink does with the same code: there SQLite in Go takes minutes.
func oneByOne(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("without goroutines of its own")
	}
}

// filledFile makes a local memory with all kinds of items, some within a scope, one episode
// running, and enough of the same for dictionaries.
func filledFile(t *testing.T, path string) {
	t.Helper()
	s := open(t, path, &Options{Cache: Cache{Disabled: true}})
	c := &changes{rand: rand.New(rand.NewPCG(7, 0))}
	for range 150 {
		c.change(t, s)
	}
	narrow, err := s.Scoped(Scope{Project: "p"})
	ok(t, err)
	e := &Episode{Description: "scoped valve", Context: Context{Tags: []string{"a", "b"}}, Steps: []Step{{Action: "open the valve"}}}
	ok(t, narrow.PutEpisode(t.Context(), e))
	ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: []float32{1, 2}}))
	ok(t, s.PutPattern(t.Context(), &Pattern{ToolSequence: &ToolSequence{Tools: []string{"bash"}}}))
	running := &Episode{Description: "running valve"}
	ok(t, s.StartEpisode(t.Context(), running))
	for i := range 5 {
		_, err := s.AppendStepsOnce(t.Context(), running.ID, fmt.Sprint(i), Step{Action: fmt.Sprint("turn ", i)})
		ok(t, err)
	}
	ok(t, s.PutRelation(t.Context(), &Relation{From: e.ID, To: running.ID, Type: RelatedTo, Reason: "both leak"}))
	ok(t, s.Close())
}

// contents are all items of a memory, as texts.
func contents(t *testing.T, s *Store) map[string]any {
	t.Helper()
	ctx, all := t.Context(), make(map[string]any)
	episodes, err := collect(s.Episodes(ctx, nil))
	ok(t, err)
	for _, head := range episodes {
		e, err := s.Episode(ctx, head.ID)
		ok(t, err)
		all["episode "+e.ID.String()] = e
		relations, err := collect(s.Relations(ctx, e.ID, nil))
		ok(t, err)
		all["relations "+e.ID.String()] = relations
		embeddings, err := collect(s.Embeddings(ctx, ItemEpisode, e.ID))
		ok(t, err)
		all["embeddings "+e.ID.String()] = embeddings
	}
	patterns, err := collect(s.Patterns(ctx, nil))
	ok(t, err)
	for _, p := range patterns {
		all["pattern "+p.ID.String()] = p
	}
	heuristics, err := collect(s.Heuristics(ctx, nil))
	ok(t, err)
	for _, h := range heuristics {
		all["heuristic "+h.ID.String()] = h
	}
	return all
}

func sameContents(t *testing.T, got, want map[string]any) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d items, want %d", len(got), len(want))
	}
	for name, x := range want {
		if !sameDocument(got[name], x) {
			t.Errorf("%s\n%+v\nwant\n%+v", name, got[name], x)
		}
	}
}

func TestLink(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	file := filepath.Join(t.TempDir(), "m.db")
	opts := &Options{Cache: Cache{PollInterval: time.Nanosecond}}
	filledFile(t, file)
	local := open(t, file, nil)
	want := contents(t, local)
	if _, err := Link(t.Context(), file, server.URL(), opts, nil); !Retryable(err) {
		t.Fatalf("a file in use is linked: %v", err)
	}
	ok(t, local.Close())

	others := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	theirs := &Episode{Description: "their valve"}
	ok(t, others.PutEpisode(t.Context(), theirs))

	var done, all int64
	report, err := Link(t.Context(), file, server.URL(), opts, func(d, a int64) { done, all = d, a })
	ok(t, err)
	if len(report.Different) != 0 || report.Server != server.URL() || report.Kept != file+".before-link" || report.Items != done || done != all || done == 0 {
		t.Errorf("%+v, %d of %d", report, done, all)
	}
	if _, err := Link(t.Context(), file, server.URL(), opts, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("linked twice: %v", err)
	}
	// What was kept is what there was, and so is what is on the server.
	kept := open(t, report.Kept, nil)
	sameContents(t, contents(t, kept), want)
	ok(t, kept.Close())
	theirsGot, err := others.Episode(t.Context(), theirs.ID)
	ok(t, err)
	want["episode "+theirs.ID.String()], want["relations "+theirs.ID.String()], want["embeddings "+theirs.ID.String()] = theirsGot, []*Relation(nil), []*Embedding(nil)
	sameContents(t, contents(t, others), want)
	found, err := others.Search(t.Context(), "valve", &SearchOptions{Limit: 1000, EachRun: true})
	if ok(t, err); len(found.Hits) == 0 {
		t.Error("the server finds nothing of what was pushed")
	}

	// The file is the server's memory.
	linked := open(t, file, opts)
	if st := linked.Stats(); st.Replica == nil || st.Replica.Path != file || st.Server == nil {
		t.Fatalf("opens %+v", st)
	}
	mine := &Episode{Description: "my valve"}
	ok(t, linked.PutEpisode(t.Context(), mine))
	if _, err := others.Episode(t.Context(), mine.ID); err != nil {
		t.Errorf("what was written to the linked file: %v", err)
	}
	ok(t, linked.Close())
	narrow := open(t, file, &Options{Scope: Scope{Project: "p"}})
	if scoped, err := collect(narrow.Episodes(t.Context(), nil)); err != nil || len(scoped) != 1 {
		t.Errorf("a narrowed one has %d episodes, %v", len(scoped), err)
	}
	if removed, err := RemoveReplica(t.Context(), server.URL(), &Options{Replica: Replica{Path: file}}); removed || !errors.Is(err, ErrInvalid) {
		t.Errorf("removed the linked file: %v, %v", removed, err)
	}
	ok(t, narrow.Close())

	// An append that is repeated after all that is still recognised.
	again := open(t, file, opts)
	running, err := collect(again.Episodes(t.Context(), &EpisodeFilter{State: StateRunning}))
	ok(t, err)
	for _, e := range running {
		if e.Description == "running valve" && e.StepCount == 5 {
			n, err := again.AppendStepsOnce(t.Context(), e.ID, "4", Step{Action: "turn 4"})
			if ok(t, err); n != 5 {
				t.Errorf("appended again as step %d", n)
			}
		}
	}
	ok(t, again.Close())

	want = contents(t, others)
	undone, err := Unlink(t.Context(), file, opts)
	if ok(t, err); undone.Server != server.URL() || undone.NotAsked != "" || undone.AsOf.IsZero() {
		t.Errorf("%+v", undone)
	}
	if _, err := Unlink(t.Context(), file, opts); !errors.Is(err, ErrInvalid) {
		t.Errorf("undone twice: %v", err)
	}
	server.Kill()
	plain := open(t, file, nil)
	if st := plain.Stats(); st.Replica != nil || st.Server != nil {
		t.Fatalf("opens %+v", st)
	}
	sameContents(t, contents(t, plain), want)
	ok(t, plain.PutEpisode(t.Context(), &Episode{Description: "local again"}))
	fresh, tables := open(t, filepath.Join(t.TempDir(), "fresh.db"), nil), "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'"
	if got, want := number(t, plain, tables), number(t, fresh, tables); got != want {
		t.Errorf("has %d tables and so on, a fresh one %d", got, want)
	}
	ok(t, plain.Close())
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestLinkKeepsWhatDiffers links a file with an episode that the server has otherwise.
func TestLinkKeepsWhatDiffers(t *testing.T) {
	oneByOne(t)
	t.Parallel()
	server := hranatest.Start(t)
	file := filepath.Join(t.TempDir(), "m.db")
	filledFile(t, file)
	opts := &Options{}
	_, err := Link(t.Context(), file, server.URL(), opts, nil)
	ok(t, err)
	_, err = Unlink(t.Context(), file, opts)
	ok(t, err)
	local := open(t, file, nil)
	page, err := local.ListEpisodes(t.Context(), nil, nil)
	ok(t, err)
	id := page.Items[0].ID
	ok(t, local.AddTags(t.Context(), id, "here"))
	added := &Episode{Description: "since"}
	ok(t, local.PutEpisode(t.Context(), added))
	ok(t, local.Close())

	report, err := Link(t.Context(), file, server.URL(), opts, nil)
	ok(t, err)
	if len(report.Different) != 1 || report.Different[0].ID != id || report.Different[0].Kind != ChangedEpisode || report.Kept != file+".before-link-2" {
		t.Errorf("%+v", report)
	}
	direct := open(t, server.URL(), nil)
	if _, err := direct.Episode(t.Context(), added.ID); err != nil {
		t.Errorf("what was added since: %v", err)
	}
	kept := open(t, report.Kept, nil)
	if e, err := kept.Episode(t.Context(), id); err != nil || len(e.Context.Tags) == 0 || e.Context.Tags[len(e.Context.Tags)-1] != "here" {
		t.Errorf("kept %+v, %v", e, err)
	}
}

// TestLinkTellsContentsApart links two files that were given the same episodes, each by writes
// of its own, and copies one: only the episode that has another content is told of.
func TestLinkTellsContentsApart(t *testing.T) {
	oneByOne(t)
	t.Parallel()
	server := hranatest.Start(t)
	ids := []ID{NewID(), NewID(), NewID()}
	start := time.Now()
	for i, verdict := range []string{"as here", "as there"} {
		file := filepath.Join(t.TempDir(), "m.db")
		s := open(t, file, nil)
		for n, id := range ids {
			e := &Episode{ID: id, Start: start, End: start, Description: fmt.Sprint("valve ", n), Context: Context{Tags: []string{"leak"}},
				Steps: []Step{{Action: "open the valve"}}, Outcome: Outcome{Kind: Success, Verdict: "as ever"}}
			if n == 2 {
				e.Outcome.Verdict = verdict
			}
			ok(t, s.PutEpisode(t.Context(), e))
		}
		ok(t, s.Close())
		report, err := Link(t.Context(), file, server.URL(), nil, nil)
		ok(t, err)
		if i == 0 {
			continue
		}
		copied, err := Copy(t.Context(), report.Kept, server.URL(), nil)
		ok(t, err)
		for _, different := range [][]ReplicaDifference{report.Different, copied.Different} {
			if len(different) != 1 || different[0].ID != ids[2] {
				t.Errorf("different: %+v", different)
			}
		}
	}
}

// TestLinkGoesOn interrupts linking again and again, each time later.
func TestLinkGoesOn(t *testing.T) {
	oneByOne(t)
	t.Parallel()
	server := hranatest.Start(t)
	file := filepath.Join(t.TempDir(), "m.db")
	filledFile(t, file)
	before := open(t, file, nil)
	want := contents(t, before)
	ok(t, before.Close())
	for i := 1; ; i++ {
		proxy := hranatest.NewProxy(t, server.URL())
		ctx, cancel := context.WithCancel(t.Context())
		var n int
		proxy.Always(func(x *hranatest.Exchange) {
			if n++; n > 2<<i {
				cancel()
				x.Reset()
				return
			}
			hranatest.Pass(x)
		})
		_, err := Link(ctx, file, proxy.URL(), &Options{}, nil)
		cancelled := ctx.Err() != nil
		cancel()
		if err == nil {
			t.Logf("linked at try %d", i)
			break
		}
		if !cancelled {
			t.Fatal(err)
		}
		if i > 20 {
			t.Fatal("never linked")
		}
		local := open(t, file, nil)
		if st := local.Stats(); st.Replica != nil {
			t.Fatal("linked though it failed")
		}
		ok(t, local.Close())
	}
	direct := open(t, server.URL(), nil)
	sameContents(t, contents(t, direct), want)
}

func TestLinkRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, other := filepath.Join(dir, "m.db"), filepath.Join(dir, "x.db")
	ok(t, open(t, file, nil).Close())
	ok(t, os.WriteFile(other, []byte("no database, and longer than a header of SQLite could be, so that it is not empty"), 0o600))
	for _, c := range []struct {
		name, file, server string
		opts               *Options
		want               error
	}{
		{"a file as server", file, other, nil, ErrInvalid},
		{"a scope", file, "http://127.0.0.1:1", &Options{Scope: Scope{Project: "p"}}, ErrInvalid},
		{"no file", filepath.Join(dir, "none.db"), "http://127.0.0.1:1", nil, ErrNotFound},
		{"no database", other, "http://127.0.0.1:1", nil, ErrSchema},
	} {
		if _, err := Link(t.Context(), c.file, c.server, c.opts, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := Link(t.Context(), file, "http://127.0.0.1:1", nil, nil); !Retryable(err) {
		t.Errorf("no server: %v", err)
	}
	if _, err := Unlink(t.Context(), file, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("undo of a plain file: %v", err)
	}
}

// TestLinkAfterAKill links a file whose linking ended just before the replica took its place.
func TestLinkAfterAKill(t *testing.T) {
	oneByOne(t)
	t.Parallel()
	server := hranatest.Start(t)
	file := filepath.Join(t.TempDir(), "m.db")
	filledFile(t, file)
	from := open(t, file, nil)
	want := contents(t, from)
	shared, err := openLinking(t.Context(), file+".linking", server.URL(), &Options{})
	ok(t, err)
	report := &LinkReport{Server: server.URL()}
	ok(t, report.share(t.Context(), from, shared, nil))
	ok(t, shared.Close())
	ok(t, from.Close())
	_, err = keepBeside(file, ".before-link")
	ok(t, err)

	report, err = Link(t.Context(), file, server.URL(), nil, nil)
	if ok(t, err); report.Kept != file+".before-link" || len(report.Different) != 0 {
		t.Errorf("%+v", report)
	}
	linked := open(t, file, nil)
	synced(t, linked)
	sameContents(t, contents(t, linked), want)
	ok(t, linked.Close())

	// One that was begun for another server.
	other := filepath.Join(filepath.Dir(file), "o.db")
	filledFile(t, other)
	elsewhere, err := openLinking(t.Context(), other+".linking", hranatest.Start(t).URL(), &Options{})
	ok(t, err)
	ok(t, elsewhere.Close())
	_, err = Link(t.Context(), other, server.URL(), nil, nil)
	ok(t, err)
}

// TestLinkedFileIsMadeAnew opens linked files whose replica cannot be used.
func TestLinkedFileIsMadeAnew(t *testing.T) {
	oneByOne(t)
	t.Parallel()
	server := hranatest.Start(t)
	file := filepath.Join(t.TempDir(), "m.db")
	filledFile(t, file)
	_, err := Link(t.Context(), file, server.URL(), nil, nil)
	ok(t, err)
	linked := open(t, file, nil)
	synced(t, linked)
	want := contents(t, linked)
	_, err = linked.replica.inner.engine.Batch(t.Context(), engine.Stmt{SQL: "UPDATE replica SET version = 1000"}) // of a newer program
	ok(t, err)
	ok(t, linked.Close())

	for range 2 {
		linked = open(t, file, nil)
		synced(t, linked)
		sameContents(t, contents(t, linked), want)
		if st := linked.Stats(); st.Replica == nil || st.Replica.Path != file {
			t.Fatalf("opens %+v", st)
		}
		ok(t, linked.Close())
		ok(t, remakeLinked(t.Context(), file, server.URL()))
	}
}
