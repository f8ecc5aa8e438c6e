package episodic

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// What a bounded replica does not hold comes from the server, and a search tells what it did
// not see.
func TestBoundedReplica(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	var ids []ID
	for i := range 4 {
		begun := time.Now().Add(-time.Duration(i) * 24 * time.Hour)
		e := &Episode{Description: fmt.Sprint("the valve ", i), Start: begun, End: begun.Add(time.Minute), Outcome: Outcome{Kind: Success}}
		ok(t, direct.PutEpisode(t.Context(), e))
		ids = append(ids, e.ID)
	}
	dir := t.TempDir()
	o := Options{LockDir: dir, CacheDir: dir, Replica: Replica{Path: filepath.Join(dir, "replica.db"), MaxAge: 36 * time.Hour}}
	s := open(t, server.URL(), &o)
	synced(t, s)
	if st := s.Stats().Replica; !st.Complete || time.Since(st.Since).Round(time.Hour) != o.Replica.MaxAge {
		t.Errorf("%+v", st)
	}
	for i, id := range ids {
		var info ReadInfo
		_, err := s.Episode(WithReadInfo(t.Context(), &info), id)
		if ok(t, err); info.Replica != (i < 2) {
			t.Errorf("episode %d: %+v", i, info)
		}
	}
	page, err := s.ListEpisodes(t.Context(), nil, nil)
	if ok(t, err); len(page.Items) != len(ids) {
		t.Errorf("%d are listed", len(page.Items))
	}
	found, err := s.Search(t.Context(), "valve", &SearchOptions{EachRun: true})
	if ok(t, err); len(found.Hits) != 2 || found.Since.IsZero() {
		t.Errorf("finds %d, since %v", len(found.Hits), found.Since)
	}
	if differ, err := s.VerifyReplica(t.Context(), true); err != nil || len(differ) > 0 {
		t.Errorf("%v, %v", differ, err)
	}
	ok(t, s.Close())

	o.Replica.MaxAge = 0
	s = open(t, server.URL(), &o)
	synced(t, s)
	found, err = s.Search(t.Context(), "valve", &SearchOptions{EachRun: true})
	if ok(t, err); len(found.Hits) != len(ids) || !found.Since.IsZero() {
		t.Errorf("without bounds: finds %d, since %v", len(found.Hits), found.Since)
	}
}

func TestReplicaBoundsAreChecked(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Replica{
		"Replica.MaxAge":   {MaxAge: -1},
		"Replica.MaxBytes": {MaxBytes: leastBytes - 1},
		"Replica.Offline":  {MaxAge: time.Hour, Offline: Queue},
	} {
		r.Path = filepath.Join(t.TempDir(), "replica.db")
		_, err := Open(t.Context(), "http://127.0.0.1:1", &Options{Replica: r})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a machine has pushed does not come back, and steps that wait travel as one run.
func TestPushedWritesDoNotComeBack(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	dir := t.TempDir()
	o := queueOptions(dir)
	o.Replica.PushEvery = time.Hour
	s := open(t, server.URL(), o)
	synced(t, s)
	pushed := func(what string, requests uint64) {
		t.Helper()
		ok(t, s.Flush(t.Context()))
		synced(t, s)
		st := s.Stats().Replica
		if st.Items != 0 || st.PayloadBytes != 0 || st.Queue.Requests != requests || st.Queue.Refused != 0 {
			t.Errorf("%s: %d items and %d bytes came back, %+v", what, st.Items, st.PayloadBytes, st.Queue)
		}
	}
	id := life(t, s, 1)
	pushed("a life", 1)
	e := &Episode{Description: "running"}
	ok(t, s.StartEpisode(t.Context(), e))
	step := func() {
		_, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "x"})
		ok(t, err)
	}
	step()
	pushed("a start", 2)
	step()
	synced(t, s) // while steps wait
	step()
	pushed("steps", 3)
	step()
	ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
	pushed("an end with steps", 4)
	for table, want := range map[string]int{"pinned": 0, "passed_over": 0} {
		if n := number(t, s.replica.inner, "SELECT count(*) FROM "+table); int(n) != want {
			t.Errorf("%s has %d rows", table, n)
		}
	}
	if differ, err := s.VerifyReplica(t.Context(), true); err != nil || len(differ) > 0 {
		t.Errorf("%v, %v", differ, err)
	}
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	for _, id := range []ID{id, e.ID} {
		here, err := s.Episode(t.Context(), id)
		ok(t, err)
		there, err := direct.Episode(t.Context(), id)
		ok(t, err)
		if !sameDocument(here, there) {
			t.Errorf("%+v, on the server %+v", here, there)
		}
	}
	ok(t, direct.StartEpisode(t.Context(), &Episode{Description: "of another"}))
	synced(t, s)
	if n := s.Stats().Replica.Items; n != 1 {
		t.Errorf("%d items came of what another has written", n)
	}
}
