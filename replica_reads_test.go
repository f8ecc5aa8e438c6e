package episodic

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
	"github.com/episodic-memory/episodic/internal/schema"
)

var (
	errAway    = &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: errors.New("nobody is there")}
	errRefused = &engine.Error{Kind: engine.KindAuth, Stmt: -1, Err: errors.New("no")}
	errFull    = &engine.Error{Kind: engine.KindFull, Stmt: -1, Err: errors.New("the disk is full")}
)

func TestDecide(t *testing.T) {
	t.Parallel()
	floor := time.Unix(1000, 0)
	before, after := floor.Add(-1), floor.Add(1)
	item, all, best := reading{kind: readItem}, reading{kind: readAll}, reading{kind: readBest}
	next := func(r reading, cursor string) reading { r.cursor = cursor; return r }
	steps := reading{kind: readBest, steps: true}
	again := reading{kind: readBest, since: floor} // what was not found
	itemAgain := reading{kind: readItem, since: floor}
	full := func(v replicaView) replicaView { v.complete = true; return v }
	for _, c := range []struct {
		name   string
		read   reading
		view   replicaView
		strict bool
		want   route
	}{
		{"exactly as new as asked", item, full(replicaView{asOf: floor}), false, fromReplica},
		{"newer", all, full(replicaView{asOf: after}), true, fromReplica},
		{"newer, and the last pull failed", all, full(replicaView{asOf: after, err: errAway}), true, fromReplica},
		{"older", item, full(replicaView{asOf: before}), false, afterPull},
		{"pages are missing", best, full(replicaView{}), false, afterPull},
		{"older, strict", item, full(replicaView{asOf: before}), true, afterPull},

		{"bounded, held", item, full(replicaView{asOf: after, since: before, held: true}), false, fromReplica},
		{"bounded, not held", item, full(replicaView{asOf: after, since: before}), false, fromServer},
		{"bounded, not held, server away", item, full(replicaView{asOf: after, since: before, waited: true, err: errAway}), false, fromNone},
		{"bounded: a list", all, full(replicaView{asOf: after, since: before}), false, fromServer},
		{"bounded: a list, server away", all, full(replicaView{asOf: after, since: before, err: errAway}), false, fromOlder},
		{"bounded: a search", best, full(replicaView{asOf: after, since: before, few: true}), false, fromReplica},

		{"several pages: an item", item, full(replicaView{waited: true}), false, fromServer},
		{"several pages: a list", all, full(replicaView{waited: true}), false, fromServer},
		{"several pages: a search", best, full(replicaView{waited: true}), false, fromOlder},
		{"several pages: a search after a write", best, full(replicaView{waited: true, wrote: true}), false, fromServer},
		{"several pages: a search for steps after a write", steps, full(replicaView{waited: true, wrote: true}), false, fromOlder},
		{"several pages: what was not found", again, full(replicaView{waited: true}), false, fromServer},
		{"several pages: a fresh search", best, full(replicaView{waited: true}), true, fromServer},
		{"several pages: a fresh search for steps", steps, full(replicaView{waited: true}), true, fromNone},
		{"several pages: the next page", next(all, "rW"), full(replicaView{waited: true}), false, fromOlder},

		{"server away", item, full(replicaView{asOf: before, err: errAway}), false, fromOlder},
		{"server away, pages missing", all, full(replicaView{err: errAway}), false, fromOlder},
		{"server away, after waiting", best, full(replicaView{asOf: before, waited: true, err: errAway}), false, fromOlder},
		{"server away, strict", item, full(replicaView{asOf: before, waited: true, err: errAway}), true, fromNone},
		{"server was away, strict", item, full(replicaView{asOf: before, err: errAway}), true, afterPull},
		{"server away, own write", item, full(replicaView{asOf: before, mine: true, waited: true, err: errAway}), false, fromNone},
		{"server was away, own write", item, full(replicaView{asOf: before, mine: true, err: errAway}), false, afterPull},
		{"server late, own write", item, full(replicaView{asOf: before, mine: true, waited: true, late: true, err: errAway}), false, fromServer},
		{"server late, a list after a write", all, full(replicaView{asOf: before, wrote: true, waited: true, late: true, err: errAway}), false, fromServer},
		{"server away, a list after a write", all, full(replicaView{asOf: before, wrote: true, waited: true, err: errAway}), false, fromOlder},
		{"server late", item, full(replicaView{asOf: before, waited: true, late: true, err: errAway}), false, fromOlder},
		{"server late, what was not found", itemAgain, full(replicaView{asOf: before, waited: true, late: true, err: errAway}), false, fromServer},
		{"server was late, what was not found", itemAgain, full(replicaView{asOf: before, late: true, err: errAway}), false, afterPull},
		{"server late, a neighbour that was not found", again, full(replicaView{asOf: before, waited: true, late: true, err: errAway}), false, fromServer},
		{"server away, what was not found", itemAgain, full(replicaView{asOf: before, waited: true, err: errAway}), false, fromOlder},
		{"server away, nothing here", best, replicaView{unfilled: true, waited: true, err: errAway}, false, fromNone},
		{"server late, nothing here", best, replicaView{unfilled: true, waited: true, late: true, err: errAway}, false, fromServer},
		{"server was away, nothing here", best, replicaView{unfilled: true, err: errAway}, false, afterPull},
		{"server away, the item is not here", item, replicaView{asOf: after, waited: true, err: errAway}, false, fromNone},
		{"server away, the item is here", item, replicaView{asOf: before, held: true, err: errAway}, false, fromOlder},
		{"server away, a list of what is here", all, replicaView{asOf: after, err: errAway}, false, fromOlder},

		{"refused", item, full(replicaView{asOf: after, waited: true, err: errRefused}), false, fromNone},
		{"was refused", item, full(replicaView{asOf: after, err: errRefused}), false, afterPull},
		{"refused, the next page", next(all, "rW"), full(replicaView{asOf: after, waited: true, err: errRefused}), false, fromNone},
		{"the replica's disk is full", item, full(replicaView{asOf: before, err: errFull}), false, fromServer},
		{"the replica's disk is full: a search", best, full(replicaView{asOf: before, err: errFull}), false, fromOlder},

		{"filling: the item is here", item, replicaView{asOf: after, held: true}, false, fromReplica},
		{"filling: the item is not here", item, replicaView{asOf: after}, false, fromServer},
		{"filling: a list", all, replicaView{asOf: after}, false, fromServer},
		{"filling: a search of few", best, replicaView{asOf: after, few: true}, false, fromServer},
		{"filling: a search of many", best, replicaView{asOf: after}, false, fromReplica},
		{"filling: what was not found among many", again, replicaView{asOf: after}, false, fromServer},
		{"complete: what was not found", again, full(replicaView{asOf: after}), false, fromReplica},
		{"filling: a search for steps of few", steps, replicaView{asOf: after, few: true}, false, fromReplica},
		{"filling: a search for steps of none", steps, replicaView{few: true, unfilled: true}, false, afterPull},
		{"filling: the next page", next(all, "rW"), replicaView{asOf: after}, false, fromReplica},

		{"the next page of the server", next(all, "W"), full(replicaView{asOf: after}), false, fromServer},
		{"the next page of the server, refused", next(best, "W"), full(replicaView{err: errRefused}), false, fromServer},
	} {
		if got := decide(&c.read, &c.view, freshness{floor, c.strict}); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		if c.want == afterPull {
			c.view.waited = true
			if got := decide(&c.read, &c.view, freshness{floor, c.strict}); got == afterPull {
				t.Errorf("%s: waits again", c.name)
			}
		}
	}
}

// fakePull is a puller that does as it is told.
type fakePull struct {
	puller // for what no test calls
	mu     sync.Mutex
	status replica.Status
	await  func(ctx context.Context, floor time.Time) error
	kicks  int
	told   int // of answers of the server
	wrote  []time.Time
}

func (f *fakePull) set(st replica.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = st
}

func (f *fakePull) Status() replica.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status.LastAsOf.IsZero() {
		f.status.LastAsOf = f.status.AsOf
	}
	return f.status
}

func (f *fakePull) Await(ctx context.Context, floor time.Time) (replica.Status, error) {
	f.mu.Lock()
	await := f.await
	f.mu.Unlock()
	err := await(ctx, floor)
	return f.Status(), err
}

func (f *fakePull) Kick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kicks++
}

func (f *fakePull) Answered() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told++
}

func (f *fakePull) Wrote(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrote = append(f.wrote, at)
}

func (f *fakePull) Close() error { return nil }

// withFake returns a Store whose server is a file, with a replica that nothing keeps in
// step but the test.
func withFake(t *testing.T) (server, here *Store, f *fakePull) {
	t.Helper()
	server, here = onFile(t), onFile(t)
	here.mark = replicaMark
	f = &fakePull{status: replica.Status{Complete: true, AsOf: time.Now()}}
	f.await = func(context.Context, time.Time) error {
		t.Error("a read waits")
		return errAway
	}
	server.replica = &localReplica{path: filepath.Join(t.TempDir(), "replica.db"), inner: here, pull: f, interval: time.Hour, mine: make(map[ID]time.Time)}
	return server, here, f
}

func TestReadsGoToTheReplica(t *testing.T) {
	t.Parallel()
	s, here, f := withFake(t)
	e := &Episode{Description: "only here", Steps: []Step{{Action: "tighten the left bolt"}}}
	ok(t, here.PutEpisode(t.Context(), e))
	var info ReadInfo
	ctx := WithReadInfo(t.Context(), &info)
	if got, err := s.Episode(ctx, e.ID); err != nil || got.Description != e.Description {
		t.Errorf("%+v, %v", got, err)
	}
	if !info.Replica || info.Stale != nil || info.Age <= 0 || info.Age > time.Minute {
		t.Errorf("%+v", info)
	}
	for name, read := range map[string]func() (int, error){
		"list":    func() (int, error) { p, err := s.ListEpisodes(ctx, nil, nil); return len(orZero(p).Items), err },
		"iterate": func() (int, error) { all, err := collect(s.Episodes(ctx, nil)); return len(all), err },
		"steps": func() (int, error) {
			r, err := s.Search(ctx, "bolt", &SearchOptions{Steps: true})
			return len(orZero(r).Hits), err
		},
		"brief":   func() (int, error) { b, err := s.Brief(ctx, "only here", nil); return len(orZero(b).Tasks), err },
		"counts":  func() (int, error) { c, err := s.Counts(ctx); return int(c.Episodes), err },
		"resolve": func() (int, error) { _, err := s.ResolveEpisode(ctx, e.ID.String()); return 1, err },
	} {
		info = ReadInfo{}
		if n, err := read(); n != 1 && name != "brief" || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if !info.Replica {
			t.Errorf("%s: %+v", name, info)
		}
	}
	if st := s.Stats().Replica; st.Reads != 7 || st.ServerReads+st.Waits+st.OlderReads+st.Failures != 0 {
		t.Errorf("%+v", st)
	}
	narrow, err := s.Scoped(Scope{Project: "other"})
	ok(t, err)
	f.await = func(_ context.Context, floor time.Time) error { // what is not found is asked for again
		f.set(replica.Status{Complete: true, AsOf: floor})
		return nil
	}
	if _, err := narrow.Episode(ctx, e.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("outside the scope: %v", err)
	}
	if n, err := narrow.Counts(ctx); n.Episodes != 0 || err != nil {
		t.Errorf("outside the scope: %+v, %v", n, err)
	}
	if f.kicks != 0 {
		t.Errorf("%d kicks", f.kicks)
	}
}

func TestWritesAreAwaited(t *testing.T) {
	t.Parallel()
	s, here, f := withFake(t)
	e := &Episode{Description: "x"}
	ok(t, s.PutEpisode(t.Context(), e))
	if len(f.wrote) != 0 {
		t.Fatalf("told of %d writes although nobody reads", len(f.wrote))
	}
	f.await = func(_ context.Context, floor time.Time) error {
		if floor.Before(s.replica.wrote) || s.replica.wrote.IsZero() {
			t.Errorf("waits for what was at %v, wrote at %v", floor, s.replica.wrote)
		}
		copied := *e
		copied.Revision = 0
		ok(t, here.PutEpisode(t.Context(), &copied))
		f.set(replica.Status{Complete: true, AsOf: time.Now()})
		return nil
	}
	_, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	_, err = s.Episode(t.Context(), e.ID)
	ok(t, err)
	if st := s.Stats().Replica; st.Waits != 1 || st.Reads != 2 {
		t.Errorf("%+v", st)
	}
	// Never an older version of an own write, but of others' if it is told.
	ok(t, s.AddTags(t.Context(), e.ID, "a"))
	ok(t, s.AddTags(t.Context(), e.ID, "b"))
	if len(f.wrote) != 1 {
		t.Errorf("told of %d writes after reads, want the first", len(f.wrote))
	}
	f.await = func(context.Context, time.Time) error {
		st := f.Status()
		st.Down = errAway
		f.set(st)
		return errAway
	}
	if _, err := s.Episode(t.Context(), e.ID); !errors.Is(err, errAway) || !Retryable(err) {
		t.Errorf("own write: %v", err)
	}
	var info ReadInfo
	if _, err := s.ListEpisodes(WithReadInfo(t.Context(), &info), nil, nil); err != nil || info.Stale != errAway {
		t.Errorf("list: %v, %+v", err, info)
	}
	if st := s.Stats().Replica; st.Failures != 1 || st.OlderReads != 1 || f.kicks != 1 {
		t.Errorf("%+v, %d kicks", st, f.kicks)
	}
}

func TestReadsGiveUpWaiting(t *testing.T) {
	t.Parallel()
	s, here, f := withFake(t)
	e := &Episode{Description: "x"}
	ok(t, here.PutEpisode(t.Context(), e))
	f.set(replica.Status{Complete: true, AsOf: time.Now().Add(-2 * time.Hour), Took: 50 * time.Millisecond})
	awaits := 0
	f.await = func(ctx context.Context, _ time.Time) error {
		awaits++
		<-ctx.Done()
		return ctx.Err()
	}
	var info ReadInfo
	ctx := WithReadInfo(t.Context(), &info)
	for i := range 3 {
		start := time.Now()
		if _, err := s.Episode(ctx, e.ID); err != nil || !Retryable(info.Stale) || !strings.Contains(info.Stale.Error(), "300ms") {
			t.Errorf("%v, %+v", err, info)
		}
		if took := time.Since(start); i > 0 && took > leastPatience/2 {
			t.Errorf("read %d took %v", i, took)
		}
		if info.Age < 2*time.Hour || info.Age > 3*time.Hour {
			t.Errorf("%+v", info)
		}
	}
	if awaits != 1 || f.kicks != 3 {
		t.Errorf("waited %d times, %d kicks", awaits, f.kicks)
	}
	short, cancel := context.WithTimeout(WithFresh(t.Context()), time.Millisecond)
	defer cancel()
	if _, err := s.Episode(short, e.ID); err == nil {
		t.Error("a fresh read is served stale")
	}
	f.set(replica.Status{Complete: true, AsOf: time.Now()})
	if _, err := s.Episode(ctx, e.ID); err != nil || info.Stale != nil {
		t.Errorf("back: %v, %+v", err, info)
	}
}

func TestServerReadsAreNotTakenBack(t *testing.T) {
	t.Parallel()
	s, _, f := withFake(t)
	s.replica.interval = time.Hour
	f.set(replica.Status{AsOf: time.Now(), Remaining: 5})
	n, err := s.Counts(t.Context())
	if err != nil || n.Episodes != 0 {
		t.Fatal(n, err)
	}
	answered := s.replica.answered
	if answered.IsZero() || s.Stats().Replica.ServerReads != 1 {
		t.Fatalf("answered at %v; %+v", answered, s.Stats().Replica)
	}
	f.set(replica.Status{AsOf: answered.Add(-1), Complete: true})
	waited := false
	f.await = func(_ context.Context, floor time.Time) error {
		waited = !floor.Before(answered)
		f.set(replica.Status{AsOf: floor, Complete: true})
		return nil
	}
	_, err = s.Counts(t.Context())
	if ok(t, err); !waited {
		t.Error("what the server has shown is taken back")
	}
}

func TestReplicaCursors(t *testing.T) {
	t.Parallel()
	s, here, f := withFake(t)
	for i := range 5 {
		ok(t, here.PutEpisode(t.Context(), &Episode{Description: "valve " + string(rune('a'+i))}))
		ok(t, s.engineOnly().PutEpisode(t.Context(), &Episode{Description: "valve " + string(rune('v'+i))}))
	}
	page, err := s.ListEpisodes(t.Context(), nil, &Paging{Limit: 2})
	ok(t, err)
	found, err := s.Search(t.Context(), "valve", &SearchOptions{Limit: 2})
	ok(t, err)
	if !strings.HasPrefix(page.Next, replicaMark) || !strings.HasPrefix(found.Next, replicaMark) {
		t.Fatalf("cursors %q, %q", page.Next, found.Next)
	}
	f.set(replica.Status{AsOf: time.Now()}) // lists would go to the server
	page, err = s.ListEpisodes(t.Context(), nil, &Paging{Limit: 2, Cursor: page.Next})
	if ok(t, err); len(page.Items) != 2 || page.Items[0].Description != "valve c" {
		t.Errorf("the next page begins with %+v", page.Items[0])
	}
	if found, err = s.Search(t.Context(), "valve", &SearchOptions{Limit: 2, Cursor: found.Next}); err != nil || len(found.Hits) != 2 {
		t.Errorf("%+v, %v", found, err)
	}
	page, err = s.ListEpisodes(t.Context(), nil, &Paging{Limit: 2})
	if ok(t, err); strings.HasPrefix(page.Next, replicaMark) || page.Items[0].Description != "valve z" {
		t.Errorf("the server's page: %+v", page)
	}
	f.set(replica.Status{AsOf: time.Now(), Complete: true})
	if page, err = s.ListEpisodes(t.Context(), nil, &Paging{Limit: 2, Cursor: page.Next}); err != nil || page.Items[0].Description != "valve x" {
		t.Errorf("the server's next page: %+v, %v", page, err)
	}
	if _, err := here.ListEpisodes(t.Context(), nil, &Paging{Cursor: page.Next}); !errors.Is(err, ErrInvalid) {
		t.Errorf("the server's cursor on the replica: %v", err)
	}
	if _, err := s.engineOnly().ListEpisodes(t.Context(), nil, &Paging{Cursor: "r" + page.Next}); !errors.Is(err, ErrInvalid) {
		t.Errorf("the replica's cursor on the server: %v", err)
	}
}

// engineOnly is the Store without its replica.
func (s *Store) engineOnly() *Store {
	direct := *s
	direct.replica, direct.borrowed = nil, true
	return &direct
}

func TestSearchTellsWhatIsNotHereYet(t *testing.T) {
	t.Parallel()
	s, here, f := withFake(t)
	ok(t, here.PutEpisode(t.Context(), &Episode{Description: "a pump", Steps: []Step{{Action: "prime the pump"}}}))
	f.set(replica.Status{AsOf: time.Now(), Remaining: 40})
	for range 2 { // the second time from the cache
		r, err := s.Search(t.Context(), "pump", &SearchOptions{Steps: true})
		if err != nil || r.Waiting != 40 || len(r.Hits) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	r, err := s.Search(t.Context(), "pump", nil) // there are few: the server answers
	if err != nil || len(r.Hits) != 0 || r.Waiting != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOwnWritesAreForgottenWhenTheyAreHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakePull{}
		r := &localReplica{path: filepath.Join(t.TempDir(), "replica.db"), pull: f, mine: make(map[ID]time.Time)}
		a, b := NewID(), NewID()
		r.noteWrite(nil, []ID{a})
		mine := r.isMine
		if asOf := time.Now().Add(-1); !mine(a, asOf) || mine(b, asOf) || mine(ID{}, asOf) {
			t.Error("of two items the wrong one is mine")
		}
		time.Sleep(time.Second)
		if f.set(replica.Status{AsOf: time.Now()}); mine(a, f.status.AsOf) {
			t.Error("it is here, and still awaited")
		}
		r.noteWrite(nil, []ID{b})
		if len(r.mine) != 1 {
			t.Errorf("%d ids are kept", len(r.mine))
		}
		many := make([]ID, maxMine)
		for i := range many {
			many[i] = NewID()
		}
		r.noteWrite(nil, many)
		if len(r.mine) != 0 || !mine(NewID(), f.status.AsOf) {
			t.Error("too many are kept, or forgotten")
		}
		time.Sleep(time.Second)
		if f.set(replica.Status{AsOf: time.Now()}); mine(many[0], f.status.AsOf) {
			t.Error("all are here, and still awaited")
		}
	})
}

func TestReplicaPath(t *testing.T) {
	dir := t.TempDir()
	server, err := parseTarget("https://h.example", false)
	ok(t, err)
	file, err := parseTarget(filepath.Join(dir, "m.db"), false)
	ok(t, err)
	path := func(o Options, at target, scope Scope) string {
		o.CacheDir = dir
		return o.replicaPath(at, scope)
	}
	whole := path(Options{}, server, Scope{})
	if !strings.HasPrefix(whole, dir) || filepath.Base(whole) != "replica.db" {
		t.Errorf("at %s", whole)
	}
	for name, other := range map[string]string{
		"another scope":     path(Options{}, server, Scope{Project: "p"}),
		"another namespace": path(Options{Namespace: "n"}, server, Scope{}),
		"given":             path(Options{Replica: Replica{Path: "x.db"}}, server, Scope{}),
	} {
		if other == "" || other == whole {
			t.Errorf("%s: %q", name, other)
		}
	}
	for name, none := range map[string]string{
		"disabled":        path(Options{Replica: Replica{Disabled: true, Path: "x.db"}}, server, Scope{}),
		"a file":          path(Options{Replica: Replica{Path: "x.db"}}, file, Scope{}),
		"no cache folder": (&Options{DisableCacheDir: true}).replicaPath(server, Scope{}),
	} {
		if none != "" {
			t.Errorf("%s: %s", name, none)
		}
	}
	t.Setenv(replicaVariable, "0")
	if p := path(Options{}, server, Scope{}); p != "" {
		t.Errorf("with %s=0: %s", replicaVariable, p)
	}
	if p := path(Options{Replica: Replica{Path: "x.db"}}, server, Scope{}); p != "x.db" {
		t.Errorf("with %s=0, and a path: %s", replicaVariable, p)
	}
}

func TestWritesThatFailedAndReads(t *testing.T) {
	t.Parallel()
	s, here, f := withFake(t)
	e := &Episode{Description: "x"}
	ok(t, here.PutEpisode(t.Context(), e))
	read := func(want uint64) {
		t.Helper()
		waits := s.Stats().Replica.Waits
		f.await = func(_ context.Context, floor time.Time) error {
			f.set(replica.Status{Complete: true, AsOf: time.Now()})
			return nil
		}
		_, err := s.Episode(t.Context(), e.ID)
		if ok(t, err); s.Stats().Replica.Waits != waits+want {
			t.Errorf("waited %d times, want %d", s.Stats().Replica.Waits-waits, want)
		}
	}
	for _, c := range []struct {
		name string
		err  error
		want uint64 // how often the next read waits
		mine bool
	}{
		{"stored", nil, 1, true},
		{"perhaps stored", failed(&engine.Error{Kind: engine.KindUnknownOutcome, Err: errAway}, "put"), 1, true},
		{"not sent", failed(errAway, "put"), 0, false},
		{"others were faster", ErrConflict, 1, false},
	} {
		s.wrote(c.err, e.ID)
		if mine := s.replica.isMine(e.ID, f.Status().AsOf); mine != c.mine {
			t.Errorf("%s: mine is %v", c.name, mine)
		}
		read(c.want)
	}
	// Who is told of a change reads it.
	e.Revision = 0
	ok(t, s.engineOnly().PutEpisode(t.Context(), e))
	for range s.Changes(t.Context(), 0) {
		break
	}
	read(1)
	for c, err := range s.Watch(t.Context(), 0) {
		if ok(t, err); c.ID == e.ID {
			read(1)
			break
		}
	}
}

func TestWritesToANewerServerAreRefused(t *testing.T) {
	t.Parallel()
	s, _, f := withFake(t)
	s.engine = checkedWrites{s.engine, s.replica}
	e := &Episode{Description: "x"}
	f.await = func(context.Context, time.Time) error {
		f.set(replica.Status{Complete: true, AsOf: time.Now(), Pulls: 1, Schema: schema.Newest() + 1})
		return nil
	}
	wants(t, s.PutEpisode(t.Context(), e), ErrSchema, "use a newer episodic")
	wants(t, s.DeleteEpisode(t.Context(), e.ID), ErrSchema, "use a newer episodic")
	f.set(replica.Status{Complete: true, AsOf: time.Now(), Pulls: 1, Schema: schema.Newest()})
	ok(t, s.PutEpisode(t.Context(), e))
	f.set(replica.Status{})
	f.await = func(context.Context, time.Time) error { return errAway }
	if err := s.PutEpisode(t.Context(), e); !Retryable(err) {
		t.Errorf("before the first look, which fails: %v", err)
	}
}

func TestWhatIsNotHereMayJustHaveBeenStored(t *testing.T) {
	t.Parallel()
	s, here, f := withFake(t)
	e := &Episode{Description: "x"}
	f.await = func(context.Context, time.Time) error {
		if err := here.PutEpisode(t.Context(), e); err != nil {
			return err
		}
		f.set(replica.Status{Complete: true, AsOf: time.Now()})
		return nil
	}
	e.ID = NewID()
	if got, err := s.Episode(t.Context(), e.ID); err != nil || got.ID != e.ID {
		t.Errorf("%+v, %v", got, err)
	}
	f.await = func(_ context.Context, floor time.Time) error {
		f.set(replica.Status{Complete: true, AsOf: floor})
		return nil
	}
	waits := s.Stats().Replica.Waits
	if _, err := s.Pattern(t.Context(), NewID()); !errors.Is(err, ErrNotFound) || s.Stats().Replica.Waits != waits+1 {
		t.Errorf("%v, waited %d times", err, s.Stats().Replica.Waits-waits)
	}
	f.await = func(context.Context, time.Time) error { return errAway }
	var info ReadInfo
	if _, err := s.Heuristic(WithReadInfo(t.Context(), &info), NewID()); !errors.Is(err, ErrNotFound) || info.Stale != errAway {
		t.Errorf("while the server is away: %v, %+v", err, info)
	}
}
