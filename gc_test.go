package episodic

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// collectedFrom is what GC should delete of episodes that are sorted by their start, as its
// documentation says it.
func collectedFrom(all []*Episode, sizes map[ID]int64, o *GCOptions) (ids []ID) {
	left, bytes := int64(len(all)), int64(0)
	for _, n := range sizes {
		bytes += n
	}
	for _, e := range all {
		if bounded := o.Keep > 0 || o.MaxBytes > 0; bounded && (o.Keep == 0 || left <= o.Keep) && (o.MaxBytes == 0 || bytes <= o.MaxBytes) {
			break
		}
		switch {
		case e.Running(), !o.Before.IsZero() && !e.Start.Before(o.Before), len(o.Outcomes) > 0 && !slices.Contains(o.Outcomes, e.Outcome.Kind),
			slices.ContainsFunc(e.Context.Tags, func(tag string) bool { return slices.Contains(o.Protect, tag) }):
			continue
		}
		ids, left, bytes = append(ids, e.ID), left-1, bytes-sizes[e.ID]
	}
	return ids
}

func TestGCDeletesWhatIsChosen(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, root *Store) {
		scopes := 0
		check := func(t *rapid.T) {
			if scopes++; scopes > testkit.Effort(10, 40, 100) {
				return
			}
			s, err := root.Scoped(Scope{Project: fmt.Sprint("p", scopes)})
			must(t, err)
			ctx := context.Background()
			day := func(n int) time.Time { return time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC) }
			outcomes := []OutcomeKind{Success, Failure, ""}
			var all []*Episode
			for i := range rapid.IntRange(0, 12).Draw(t, "episodes") {
				e := &Episode{Description: fmt.Sprint("task ", i), Start: day(rapid.IntRange(0, 5).Draw(t, "day")),
					Context: Context{Tags: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"keep", "gold", "other"}), 0, 2, rapid.ID).Draw(t, "tags")},
					Steps:   []Step{{Action: strings.Repeat("x", rapid.IntRange(1, 30).Draw(t, "size"))}}}
				if rapid.IntRange(0, 4).Draw(t, "running") == 0 {
					must(t, s.StartEpisode(ctx, e))
				} else {
					e.End = e.Start.Add(time.Hour)
					e.Outcome.Kind = rapid.SampledFrom(outcomes).Draw(t, "outcome")
					must(t, s.PutEpisode(ctx, e))
				}
				all = append(all, e)
			}
			slices.SortStableFunc(all, func(a, b *Episode) int { return a.Start.Compare(b.Start) })
			sizes := make(map[ID]int64)
			var total int64
			r, err := root.engine.Query(ctx, stmt(`SELECT id, length(payload) + `+runBytes+` FROM episodes`))
			must(t, err)
			for _, row := range r[0].Rows {
				id, err := idFrom(row[0])
				must(t, err)
				if slices.ContainsFunc(all, func(e *Episode) bool { return e.ID == id }) {
					sizes[id] = row[1].(int64)
					total += sizes[id]
				}
			}
			o := &GCOptions{Keep: rapid.Int64Range(0, 6).Draw(t, "keep"), MaxBytes: rapid.Int64Range(0, total+10).Draw(t, "bytes"),
				Outcomes: rapid.SliceOfNDistinct(rapid.SampledFrom(outcomes), 0, 2, rapid.ID).Draw(t, "outcomes"),
				Protect:  rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"keep", "gold"}), 0, 2, rapid.ID).Draw(t, "protect")}
			if n := rapid.IntRange(0, 6).Draw(t, "before"); n > 0 {
				o.Before = day(n - 1)
			}
			if rapid.Bool().Draw(t, "no bytes") {
				o.MaxBytes = 0
			}
			if o.validate() != nil {
				return
			}
			want := collectedFrom(all, sizes, o)
			for _, dry := range []bool{true, false} {
				var got []ID
				o.DryRun, o.Each = dry, func(c Collected) { got = append(got, c.ID) }
				done, err := s.GC(ctx, o)
				must(t, err)
				if !slices.Equal(got, want) || done.Episodes != int64(len(want)) || done.Left != int64(len(all)-len(want)) || done.Kept != 0 || done.NotFreed != "" {
					t.Fatalf("GC with %+v deletes %v, want %v: %+v", o, got, want, done)
				}
			}
			for _, e := range all {
				if _, err := s.Episode(ctx, e.ID); (err == nil) == slices.Contains(want, e.ID) {
					t.Fatalf("%v: %v", e.ID, err)
				}
			}
		}
		for range testkit.Effort(1, 1, 20) {
			rapid.Check(t, check)
		}
	})
}

func TestGCRefusesToDeleteEverything(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), nil)
	for field, o := range map[string]*GCOptions{
		"before":    {Protect: []string{"a"}},
		"keep":      {Keep: -1},
		"max_bytes": {MaxBytes: -1},
		"outcomes":  {Outcomes: []OutcomeKind{"running"}},
		"protect":   {Keep: 1, Protect: []string{"\xff"}},
		"options":   nil,
	} {
		_, err := s.GC(t.Context(), o)
		wants(t, err, ErrInvalid, field)
	}
}

// What is deleted leaves neither an index nor free pages behind.
func TestGCGivesSpaceBack(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, untrained)
	empty := int64(len(onDisk(t, path)))
	put(t, s, 0, testkit.Effort(60, 100, 3000))
	e := &Episode{Description: "kept", Context: Context{Tags: []string{"gold"}}}
	ok(t, s.PutEpisode(ctx, e))
	done, err := s.GC(ctx, &GCOptions{Before: time.Now().Add(time.Hour), Protect: []string{"gold"}})
	ok(t, err)
	if done.Left != 1 || done.Freed == 0 || done.NotFreed != "" || done.Reusable != 0 {
		t.Errorf("%+v", done)
	}
	if n := number(t, s, "SELECT (SELECT count(*) FROM index_units) + (SELECT count(*) FROM index_gone) + (SELECT count(*) FROM index_blocks)"); n > 2 {
		t.Errorf("the index of one episode has %d rows", n)
	}
	if size := int64(len(onDisk(t, path))); size > 3*empty {
		t.Errorf("the files have %d bytes, and had %d when they were empty", size, empty)
	}
	hits, err := s.searchHits(ctx, "kept", nil)
	if ok(t, err); len(hits) != 1 {
		t.Errorf("%d hits", len(hits))
	}
}

// A Store that reads from a replica, or queues what it writes, deletes the same on the server.
func TestGCThroughAReplica(t *testing.T) {
	t.Parallel()
	for _, offline := range []Offline{Through, Queue} {
		t.Run(fmt.Sprint("offline ", offline), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := hranatest.Start(t)
			o := queueOptions(t.TempDir())
			o.Replica.Offline = offline
			s, err := Open(ctx, server.URL(), o)
			ok(t, err)
			defer func() { ok(t, s.Close()) }()
			put(t, s, 0, 10)
			if offline == Queue {
				ok(t, s.Flush(ctx))
			}
			synced(t, s)
			done, err := s.GC(ctx, &GCOptions{Keep: 4})
			ok(t, err)
			if done.Episodes != 6 || done.Left != 4 || done.NotFreed != "" {
				t.Errorf("%+v", done)
			}
			if offline == Queue {
				ok(t, s.Flush(ctx))
			}
			direct := open(t, server.URL(), nil)
			if n := number(t, direct, "SELECT count(*) FROM episodes"); n != 4 {
				t.Errorf("%d episodes are left on the server", n)
			}
		})
	}
}

// A file that may not grow any more can be collected, and written to again then.
func TestGCOfAFullFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), untrained)
	put(t, s, 0, 20)
	_, err := s.engine.Batch(ctx, stmt(fmt.Sprintf("PRAGMA max_page_count = %d", number(t, s, "PRAGMA page_count")+20)))
	ok(t, err)
	full := func() bool {
		err := s.PutEpisode(ctx, &Episode{Description: "fill", Outcome: Outcome{Kind: Success}, Steps: []Step{{Action: randomText(3000)}}})
		if err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		return err != nil
	}
	for !full() {
	}
	done, err := s.GC(ctx, &GCOptions{Keep: 5})
	ok(t, err)
	if done.Left != 5 || done.Freed == 0 {
		t.Errorf("%+v", done)
	}
	if full() {
		t.Error("the file is still full")
	}
}

// randomText cannot be compressed.
func randomText(n int) string {
	b := make([]byte, n/2)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return hex.EncodeToString(b)
}
