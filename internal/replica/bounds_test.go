package replica_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
)

const day = 24 * time.Hour

// putOld stores an episode that began so many days ago, and half an hour.
func putOld(t *testing.T, s *side, id episodic.ID, days int, text string) episodic.ID {
	t.Helper()
	if id.IsZero() {
		id = episodic.NewID()
	}
	begun := time.Now().Add(-time.Duration(days)*day - 30*time.Minute)
	ok(t, s.PutEpisode(t.Context(), &episodic.Episode{
		ID: id, Description: fmt.Sprint(days), Start: begun, End: begun.Add(time.Minute), Outcome: episodic.Outcome{Kind: episodic.Success}, Steps: []episodic.Step{{Action: text}},
	}))
	return id
}

// bounded has a replica pull all within its bounds, and returns the status, and how many days ago the
// episodes began that it holds. Verify must find nothing.
func bounded(t *testing.T, cfg replica.Config, age time.Duration, bytes int64) (replica.Status, []int) {
	t.Helper()
	cfg.MaxAge, cfg.MaxBytes = age, bytes
	r, err := replica.Stopped(cfg, 7, 1<<20)
	ok(t, err)
	defer r.Close()
	settle(t, r)
	found, err := r.Verify(t.Context(), true)
	if err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	return r.Status(), heldDays(t, cfg.Local)
}

func heldDays(t *testing.T, local engine.Engine) (held []int) {
	for _, row := range query(t, local, "SELECT start_us FROM episodes ORDER BY start_us DESC") {
		held = append(held, int(time.Since(time.UnixMicro(row[0].(int64)))/day))
	}
	return held
}

func upTo(n int) (days []int) {
	for i := range n {
		days = append(days, i)
	}
	return days
}

func TestBoundedByAge(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	ids := make([]episodic.ID, 30)
	for _, i := range rand.Perm(len(ids)) {
		ids[i] = putOld(t, s, episodic.ID{}, i, "x")
	}
	ok(t, s.PutPattern(t.Context(), &episodic.Pattern{DecisionPoint: &episodic.DecisionPoint{Condition: "c", Action: "a"}}))
	for _, to := range []int{3, 20} {
		ok(t, s.PutRelation(t.Context(), &episodic.Relation{From: ids[2], To: ids[to], Type: episodic.Follows}))
		ok(t, s.PutEmbedding(t.Context(), &episodic.Embedding{Kind: episodic.ItemEpisode, Item: ids[to], Model: "m", Vector: []float32{1, 2}}))
	}
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	counts := func() string {
		return fmt.Sprint(query(t, cfg.Local, "SELECT (SELECT count(*) FROM patterns), (SELECT count(*) FROM relations), (SELECT count(*) FROM relations_waiting), (SELECT count(*) FROM embeddings)")[0])
	}

	st, held := bounded(t, cfg, 10*day, 0)
	if want := "[1 1 0 1]"; !slices.Equal(held, upTo(10)) || counts() != want || !st.Complete || time.Since(st.Since).Round(time.Minute) != 10*day {
		t.Errorf("days %v, counts %s, %+v", held, counts(), st)
	}
	// What has changed within the bounds comes, what was moved out of them goes, and what is outside stays away.
	putOld(t, s, ids[4], 4, "changed")
	putOld(t, s, ids[5], 15, "x")
	putOld(t, s, ids[21], 21, "changed")
	ok(t, s.DeleteEpisode(t.Context(), ids[6]))
	if _, held = bounded(t, cfg, 10*day, 0); !slices.Equal(held, []int{0, 1, 2, 3, 4, 7, 8, 9}) {
		t.Errorf("after changes: %v", held)
	}
	if _, held = bounded(t, cfg, 3*day, 0); !slices.Equal(held, upTo(3)) {
		t.Errorf("with narrower bounds: %v", held)
	}
	if _, held = bounded(t, cfg, 8*day, 0); !slices.Equal(held, []int{0, 1, 2, 3, 4, 7}) {
		t.Errorf("with wider bounds: %v", held)
	}
	if st, _ = bounded(t, cfg, 0, 0); !st.Since.IsZero() {
		t.Errorf("without bounds: %+v", st)
	}
	sameAs(t, s.engine, cfg.Local)
}

func TestBoundedByBytes(t *testing.T) {
	oneByOne(t)
	s := newSide(t, t.TempDir())
	random := func() string {
		b := make([]byte, 20_000)
		for i := range b {
			b[i] = byte(' ' + 1 + rand.IntN(90))
		}
		return string(b)
	}
	for i := range 60 {
		putOld(t, s, episodic.ID{}, 60-i, random())
	}
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	const most = 1 << 20
	st, held := bounded(t, cfg, 0, most)
	if n := len(held); n < 5 || n > 50 || held[0] != 1 || held[n-1] != n || st.Since.IsZero() {
		t.Errorf("days %v, %+v", held, st)
	}
	size := func() int64 {
		return query(t, cfg.Local, "SELECT ((SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)) * (SELECT page_size FROM pragma_page_size)")[0][0].(int64)
	}
	for range 30 {
		putOld(t, s, episodic.ID{}, 0, random())
	}
	if _, held = bounded(t, cfg, 0, most); size() > most || len(held) < 5 || held[0] != 0 {
		t.Errorf("%d bytes, days %v", size(), held)
	}
	bounded(t, cfg, 0, 0)
	sameAs(t, s.engine, cfg.Local)
}
