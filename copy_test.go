package episodic

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// Copied from a file to a server and back, a memory is the same, however often that is
// interrupted.
func TestCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := hranatest.Start(t).URL()
	file, back, last := filepath.Join(dir, "m.db"), filepath.Join(dir, "back.db"), filepath.Join(dir, "last.db")
	filledFile(t, file)
	record := Record{Hash: []byte{1}, Episode: &Episode{ID: NewID(), Description: "imported", TaskType: TaskOther, Start: time.Now()}}
	importing := func(path string) ImportResult {
		results, err := open(t, path, nil).Import(t.Context(), []Record{record})
		ok(t, err)
		return results[0]
	}
	importing(file)
	ok(t, open(t, file, nil).DeleteEpisode(t.Context(), record.Episode.ID))
	want := contents(t, open(t, file, nil))
	var sums []ContentSum
	for _, tt := range []struct {
		from, to string
		opts     *CopyOptions
	}{
		{file, server, nil},
		{server, back, &CopyOptions{From: &Options{CacheDir: t.TempDir()}}},
		{server, last, &CopyOptions{From: &Options{Replica: Replica{Disabled: true}}}},
		{back, last, nil}, // everything is there
	} {
		interrupted(t, tt.from, tt.to, tt.opts)
		var done, all int64
		opts := *orZero(tt.opts)
		opts.Progress = func(d, a int64) { done, all = d, a }
		report, err := Copy(t.Context(), tt.from, tt.to, &opts)
		ok(t, err)
		if sums == nil {
			sums = report.Source
		}
		if !slices.Equal(report.Source, sums) || !slices.Equal(report.Copy, sums) || len(report.Different) > 0 {
			t.Errorf("%s to %s: %+v, want\n%+v", tt.from, tt.to, report, sums)
		}
		if done != all || done != report.Items || done == 0 {
			t.Errorf("%d of %d, %d items", done, all, report.Items)
		}
	}
	for _, s := range sums {
		if s.Items == 0 {
			t.Errorf("nothing of %s is copied", s.Kind)
		}
	}
	if r := importing(last); r.Outcome != ImportDeleted {
		t.Errorf("what was deleted, imported again: %+v", r)
	}
	s := open(t, last, nil)
	sameContents(t, contents(t, s), want)
	checkIndex(t, s)
}

// interrupted copies for a short time, several times.
func interrupted(t *testing.T, from, to string, opts *CopyOptions) {
	t.Helper()
	for range testkit.Effort(1, 3, 8) {
		ctx, cancel := context.WithTimeout(t.Context(), rand.N(100*time.Millisecond))
		_, err := Copy(ctx, from, to, opts)
		if err != nil && ctx.Err() == nil {
			t.Errorf("%s to %s, interrupted: %v", from, to, err)
		}
		cancel()
	}
}

// What the target has under the same ids stays, and is told.
func TestCopyTellsDifferences(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	s := open(t, from, nil)
	e := &Episode{Description: "valve", Context: Context{Tags: []string{"a"}}}
	ok(t, s.PutEpisode(t.Context(), e))
	_, err := Copy(t.Context(), from, to, nil)
	ok(t, err)
	c := open(t, to, nil)
	// An SQL shell changes no revision.
	_, err = c.engine.Batch(t.Context(), stmt("UPDATE tags SET tag = 'b'"))
	ok(t, err)
	report, err := Copy(t.Context(), from, to, nil)
	ok(t, err)
	if len(report.Different) != 1 || report.Different[0].ID != e.ID {
		t.Errorf("%+v", report)
	}
	_, err = Copy(t.Context(), from, from, nil)
	wants(t, err, ErrInvalid, "another one")
	_, err = Copy(t.Context(), filepath.Join(dir, "none.db"), to, nil)
	wants(t, err, ErrNotFound, "no memory")
	_, err = Copy(t.Context(), from, to, &CopyOptions{To: &Options{Scope: Scope{Project: "p"}}})
	wants(t, err, ErrInvalid, "everything is copied")
}
