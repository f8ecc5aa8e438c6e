package episodic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// withReplica opens a Store on a server with a replica in a folder of its own.
func withReplica(t testing.TB, target string, opts *Options) *Store {
	t.Helper()
	o := *orZero(opts)
	if o.Replica.Path == "" {
		o.Replica.Path = filepath.Join(t.TempDir(), "replica.db")
	}
	if o.Cache.PollInterval == 0 {
		o.Cache.PollInterval = time.Nanosecond // every read is to see what others have written
	}
	return open(t, target, &o)
}

// synced waits until a replica is complete and indexed.
func synced(t testing.TB, s *Store) {
	t.Helper()
	ok(t, s.Sync(t.Context(), nil))
}

// TestReplicaReadsAsTheServer compares what a Store with a replica reads with what one
// without reads, while both and one more write.
func TestReplicaReadsAsTheServer(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}, IndexSteps: true})
	path := filepath.Join(t.TempDir(), "replica.db")
	a := withReplica(t, server.URL(), &Options{Replica: Replica{Path: path}})
	b := withReplica(t, server.URL(), &Options{Replica: Replica{Path: path}}) // on the same file
	synced(t, a)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &changes{rand: rand.New(rand.NewPCG(seed, 0))}
	for range 30 {
		writer := []*Store{direct, a, b}[c.rand.IntN(3)]
		for range 3 {
			c.change(t, writer)
		}
		for _, s := range []*Store{a, b} {
			c.compareReads(t, s, direct)
		}
	}
	synced(t, a)
	all, err := collect(direct.Episodes(t.Context(), nil))
	ok(t, err)
	found, err := a.Search(t.Context(), "valve", &SearchOptions{Limit: 1000, EachRun: true})
	if ok(t, err); len(found.Hits) != len(all) || found.Waiting != 0 {
		t.Errorf("finds %d of %d, %d waiting", len(found.Hits), len(all), found.Waiting)
	}
	for _, s := range []*Store{a, b} {
		st := s.Stats().Replica
		if st.Reads == 0 || st.Failures != 0 || !st.Complete || st.Remaining != 0 || st.Down != "" {
			t.Errorf("%+v", st)
		}
		t.Logf("%+v", st)
		if traffic := s.Stats().Server.PullBytes; traffic.Sent == 0 || traffic.Received == 0 {
			t.Errorf("pulled with %+v", traffic)
		}
	}
	if n := number(t, a.replica.inner, "SELECT count(*) FROM dictionaries"); n > number(t, direct, "SELECT count(*) FROM dictionaries") {
		t.Errorf("the replica has %d dictionaries", n)
	}
	if trained := a.replica.inner.Stats().Compression; trained.Trainings != 0 {
		t.Errorf("the replica trains: %+v", trained)
	}
}

// changes are random ones, of the items with the ids.
type changes struct {
	rand *rand.Rand
	ids  []ID
}

func (c *changes) some() ID {
	if len(c.ids) == 0 {
		return NewID()
	}
	return c.ids[c.rand.IntN(len(c.ids))]
}

// change makes one change by a Store.
func (c *changes) change(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	fine := func(err error) {
		t.Helper()
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
			t.Fatal(err)
		}
	}
	switch c.rand.IntN(11) {
	case 0, 1, 2:
		e := anyEpisode.Example(int(c.rand.Int32()))
		e.Description = "valve " + e.Description
		fine(s.PutEpisode(ctx, e))
		c.ids = append(c.ids, e.ID)
	case 3:
		e := &Episode{Description: "running valve", Start: time.Now()}
		fine(s.StartEpisode(ctx, e))
		c.ids = append(c.ids, e.ID)
	case 4:
		_, err := s.AppendSteps(ctx, c.some(), Step{Action: "turn the valve"})
		fine(err)
	case 5:
		fine(s.CompleteEpisode(ctx, c.some(), Completion{Outcome: Outcome{Kind: Success}}))
	case 6:
		fine(s.AddTags(ctx, c.some(), "tag"+string(rune('a'+c.rand.IntN(3)))))
	case 7:
		fine(s.DeleteEpisode(ctx, c.some()))
	case 8:
		if from, to := c.some(), c.some(); from != to {
			fine(s.PutRelation(ctx, &Relation{From: from, To: to, Type: RelatedTo}))
		}
	case 9:
		fine(s.PutEmbedding(ctx, &Embedding{Kind: ItemEpisode, Item: c.some(), Model: "m", Vector: []float32{1, c.rand.Float32()}}))
	case 10:
		fine(s.PutHeuristic(ctx, &Heuristic{Condition: "the valve leaks", Action: "close it"}))
	}
}

// compareReads reads all that there is by two Stores.
func (c *changes) compareReads(t *testing.T, s, direct *Store) {
	t.Helper()
	ctx, id := t.Context(), c.some()
	both := func(name string, read func(*Store) (any, error)) {
		got, gotErr := read(s)
		want, wantErr := read(direct)
		if (gotErr == nil) != (wantErr == nil) || gotErr != nil && errors.Is(gotErr, ErrNotFound) != errors.Is(wantErr, ErrNotFound) {
			t.Fatalf("%s: %v, want %v", name, gotErr, wantErr)
		}
		if !sameDocument(got, want) {
			t.Fatalf("%s\n%+v\nwant\n%+v", name, got, want)
		}
	}
	both("counts", func(s *Store) (any, error) { return s.Counts(ctx) })
	both("list", func(s *Store) (any, error) { return collect(s.Episodes(ctx, nil)) })
	both("running", func(s *Store) (any, error) { return collect(s.Episodes(ctx, &EpisodeFilter{State: StateRunning})) })
	both("heuristics", func(s *Store) (any, error) { return collect(s.Heuristics(ctx, nil)) })
	both("tags", func(s *Store) (any, error) { return collect(s.Names(ctx, TagNames)) })
	both("get", func(s *Store) (any, error) { return s.Episode(ctx, id) })
	both("relations", func(s *Store) (any, error) { return collect(s.Relations(ctx, id, nil)) })
	both("embeddings", func(s *Store) (any, error) { return collect(s.Embeddings(ctx, ItemEpisode, id)) })
	both("nearest", func(s *Store) (any, error) {
		found, err := s.Nearest(ctx, NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 1}, Limit: 1000})
		return len(found), err
	})
	both("narrowed", func(s *Store) (any, error) {
		narrow, err := s.Scoped(Scope{Project: "p"})
		if err != nil {
			return nil, err
		}
		return narrow.Counts(ctx)
	})
}

func TestReplicaWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name   string
		silent bool
		cut    func(*hranatest.Link)
	}{
		{"refuses", false, cut},
		{"is silent", true, func(l *hranatest.Link) { l.Blackhole(true) }},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			server := hranatest.Start(t)
			link := newLink(t, server.URL())
			o := &Options{Replica: Replica{Path: filepath.Join(t.TempDir(), "replica.db")}, Cache: Cache{PollInterval: time.Nanosecond}, LockDir: t.TempDir()}
			s := open(t, link.URL(), o)
			e := &Episode{Description: "the valve", Steps: []Step{{Action: "close the valve"}}}
			ok(t, s.PutEpisode(t.Context(), e))
			synced(t, s)
			how.cut(link)
			time.Sleep(time.Millisecond)
			reads := func(s *Store, most time.Duration) {
				t.Helper()
				for i := range 3 {
					for name, read := range map[string]func(*ReadInfo) error{
						"get": func(info *ReadInfo) error { _, err := s.Episode(WithReadInfo(t.Context(), info), e.ID); return err },
						"list": func(info *ReadInfo) error {
							_, err := s.ListEpisodes(WithReadInfo(t.Context(), info), nil, nil)
							return err
						},
						"count": func(info *ReadInfo) error { _, err := s.Counts(WithReadInfo(t.Context(), info)); return err },
						"search": func(info *ReadInfo) error {
							r, err := s.Search(WithReadInfo(t.Context(), info), "valve", &SearchOptions{Steps: true})
							if err == nil && len(r.Hits) != 1 {
								err = fmt.Errorf("%d hits", len(r.Hits))
							}
							return err
						},
					} {
						var info ReadInfo
						begun := time.Now()
						if err := read(&info); err != nil || !info.Replica || !Retryable(info.Stale) || info.Age <= 0 || info.Age > time.Minute {
							t.Errorf("%s: %v, %+v", name, err, info)
						}
						if took := time.Since(begun); i > 0 && took > most {
							t.Errorf("%s took %v", name, took)
						}
					}
				}
			}
			reads(s, 100*time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := s.Episode(WithFresh(ctx), e.ID); err == nil {
				t.Error("a fresh read is served stale")
			}
			if st := s.Stats().Replica; st.OlderReads < 12 {
				t.Errorf("%+v", st)
			}

			// A program that begins now finds all of it, without having been answered once.
			begun := time.Now()
			fresh := open(t, link.URL(), o)
			opened := time.Since(begun)
			reads(fresh, 100*time.Millisecond)
			t.Logf("opened in %v", opened)
			if n := fresh.Stats().Requests; n > 1 || n == 1 && !how.silent { // a pull
				t.Errorf("%d requests", n)
			}

			if how.silent {
				return // what was sent into the silence is given up after 15 s
			}
			link.Refuse(false)
			other := open(t, server.URL(), nil)
			e.Description = "the new valve"
			ok(t, other.PutEpisode(t.Context(), e))
			for back := time.Now(); ; time.Sleep(5 * time.Millisecond) {
				var info ReadInfo
				got, err := s.Episode(WithReadInfo(t.Context(), &info), e.ID)
				if ok(t, err); got.Description == e.Description && info.Stale == nil {
					break
				}
				if time.Since(back) > 20*time.Second {
					t.Fatalf("still %q, %+v, %+v", got.Description, info, s.Stats().Replica)
				}
			}
		})
	}
}

func TestReplicaSeesOwnWrites(t *testing.T) {
	t.Parallel()
	s := withReplica(t, hranatest.Start(t).URL(), &Options{Cache: Cache{PollInterval: time.Hour}})
	e := &Episode{Description: "x"}
	ok(t, s.StartEpisode(t.Context(), e))
	for i := range 20 {
		_, err := s.AppendSteps(t.Context(), e.ID, Step{Action: fmt.Sprint("step ", i)})
		ok(t, err)
		got, err := s.Episode(t.Context(), e.ID)
		if ok(t, err); len(got.Steps) != i+1 {
			t.Fatalf("%d of %d steps", len(got.Steps), i+1)
		}
		found, err := s.Search(t.Context(), fmt.Sprint("step ", i), &SearchOptions{Steps: true, Limit: 1})
		if ok(t, err); len(found.Hits) != 1 && found.Waiting == 0 {
			t.Errorf("step %d is not found: %+v", i, found)
		}
	}
	if st := s.Stats().Replica; st.OlderReads != 0 || st.ServerReads > 2 {
		t.Errorf("%+v", st)
	}
}

// What a Store has written is seen by those that are opened after it, such as by the next command.
func TestReplicaSeesWritesOfBefore(t *testing.T) {
	t.Parallel()
	url := hranatest.Start(t).URL()
	opts := &Options{Cache: Cache{PollInterval: time.Hour}, Replica: Replica{Path: filepath.Join(t.TempDir(), "replica.db")}}
	for i := range 3 {
		s := withReplica(t, url, opts)
		synced(t, s)
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "calibrate the valve"}))
		if i < 2 { // an open one as well
			ok(t, s.Close())
		}
		s = withReplica(t, url, opts)
		found, err := s.Search(t.Context(), "valve", &SearchOptions{EachRun: true})
		if ok(t, err); len(found.Hits) != i+1 || s.Stats().Replica.Reads != 1 {
			t.Errorf("finds %d of %d: %+v", len(found.Hits), i+1, s.Stats().Replica)
		}
		ok(t, s.Close())
	}
}

func TestReplicaOfAnotherMemoryIsRefused(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	path := filepath.Join(t.TempDir(), "mine.db")
	mine := open(t, path, nil)
	ok(t, mine.PutEpisode(t.Context(), &Episode{Description: "mine"}))
	o := &Options{Replica: Replica{Path: path}}
	_, err := Open(t.Context(), server.URL(), o)
	wants(t, err, ErrInvalid, "is no replica of this server")
	_, err = RemoveReplica(t.Context(), server.URL(), o)
	wants(t, err, ErrInvalid, "holds no replica")
	if n := number(t, mine, "SELECT count(*) FROM episodes"); n != 1 {
		t.Errorf("%d episodes are left", n)
	}

	o.Replica.Path = filepath.Join(t.TempDir(), "r.db")
	s := open(t, server.URL(), o)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "theirs"}))
	synced(t, s)
	o.Scope.Project = "p"
	_, err = Open(t.Context(), server.URL(), o)
	wants(t, err, ErrInvalid, "and scope")
	ok(t, s.Close())
	if removed, err := RemoveReplica(t.Context(), server.URL(), o); err != nil || !removed {
		t.Errorf("removed %v, %v", removed, err)
	}
	if removed, err := RemoveReplica(t.Context(), server.URL(), o); err != nil || removed {
		t.Errorf("removed again: %v, %v", removed, err)
	}
}

// The locks of pulls and those of writes may lie in one folder.
func TestReplicaBesideTheLocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, hranatest.Start(t).URL(), &Options{LockDir: dir, Replica: Replica{Path: filepath.Join(dir, "replica.db")}})
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ok(t, s.Sync(ctx, nil))
}

func TestSyncNeedsAReplica(t *testing.T) {
	t.Parallel()
	wants(t, onFile(t).Sync(t.Context(), nil), ErrInvalid, "local file")
	_, err := RemoveReplica(t.Context(), "memory.db", nil)
	wants(t, err, ErrInvalid, "local file")
}

func TestReplicaFileIsMadeAnew(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	o := &Options{CacheDir: t.TempDir()}
	s := open(t, server.URL(), o)
	e := &Episode{Description: "x"}
	ok(t, s.PutEpisode(t.Context(), e))
	synced(t, s)
	path := s.Stats().Replica.Path
	ok(t, s.Close())
	for name, content := range map[string]string{"damaged": strings.Repeat("no database ", 1000), "empty": ""} {
		ok(t, os.WriteFile(path, []byte(content), 0o600))
		s = open(t, server.URL(), o)
		if s.Stats().Replica == nil {
			t.Fatalf("%s: there is no replica", name)
		}
		synced(t, s)
		if _, err := s.Episode(t.Context(), e.ID); err != nil || s.Stats().Replica.ServerReads != 0 {
			t.Errorf("%s: %v, %+v", name, err, s.Stats().Replica)
		}
		ok(t, s.Close())
	}
	// Where none can be made the server answers, and it is told.
	var records testkit.Log
	o.CacheDir, o.Logger = filepath.Join(path, "no folder"), records.Logger()
	s = open(t, server.URL(), o)
	if _, err := s.Episode(t.Context(), e.ID); err != nil || s.Stats().Replica != nil {
		t.Errorf("%v, %+v", err, s.Stats().Replica)
	}
	if told := records.Take(); !strings.Contains(told, "no replica is kept") {
		t.Errorf("logged %q", told)
	}
}

func TestVerifyReplica(t *testing.T) {
	t.Parallel()
	s := withReplica(t, hranatest.Start(t).URL(), nil)
	e := &Episode{Description: "x", Steps: []Step{{Action: "a"}}}
	ok(t, s.PutEpisode(t.Context(), e))
	if found, err := s.VerifyReplica(t.Context(), true); err != nil || len(found) != 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	_, err := s.replica.inner.engine.Batch(t.Context(), stmt("UPDATE episodes SET rev = 1, domain = 'wrong' WHERE id = ?", e.ID.bytes()))
	ok(t, err)
	found, err := s.VerifyReplica(t.Context(), false)
	if err != nil || len(found) != 1 || found[0].ID != e.ID || found[0].Kind != ChangedEpisode || found[0].Here == found[0].There {
		t.Fatalf("%+v, %v", found, err)
	}
	if got, err := s.Episode(t.Context(), e.ID); err != nil || got.Context.Domain != "" || got.Revision != e.Revision {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = onFile(t).VerifyReplica(t.Context(), false)
	wants(t, err, ErrInvalid, "local file")
}

func TestReplicaOfAnEmptiedServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := hranatest.Run(dir)
	if errors.Is(err, hranatest.ErrNoServer) {
		t.Skip(err)
	}
	ok(t, err)
	defer func() { server.Kill() }()
	o := &Options{Replica: Replica{Path: filepath.Join(t.TempDir(), "replica.db")}}
	s := open(t, server.URL(), o)
	e := &Episode{Description: "gone"}
	ok(t, s.PutEpisode(t.Context(), e))
	synced(t, s)
	server.Kill()
	ok(t, os.RemoveAll(filepath.Join(dir, "data.sqld")))
	ok(t, server.Restart())
	_, err = s.Episode(WithFresh(t.Context()), e.ID)
	wants(t, err, ErrReplaced, "open it anew")
	_, err = s.ListEpisodes(t.Context(), nil, nil)
	wants(t, err, ErrReplaced, "open it anew")
	ok(t, s.Close())

	o.MustExist = true
	_, err = Open(t.Context(), server.URL(), o)
	wants(t, err, ErrNotFound, "there is no memory yet")
	o.MustExist = false
	s = open(t, server.URL(), o)
	other := &Episode{Description: "new"}
	ok(t, s.PutEpisode(t.Context(), other))
	synced(t, s)
	if all, err := collect(s.Episodes(t.Context(), nil)); err != nil || len(all) != 1 || all[0].ID != other.ID {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestWhoOnlyWritesFetchesNothing writes an episode step by step: the next read, and not
// each write, fetches it back.
func TestWhoOnlyWritesFetchesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, hranatest.Start(t).URL(), &Options{Replica: Replica{Path: filepath.Join(t.TempDir(), "replica.db")}})
	synced(t, s)
	synced(t, s) // the round that filled the replica looks once more after the first is told
	before := s.replica.pull.Status()
	e := &Episode{Description: "the valve"}
	ok(t, s.StartEpisode(t.Context(), e))
	for range 40 {
		_, err := s.AppendSteps(t.Context(), e.ID, Step{Action: "turn the valve"})
		ok(t, err)
	}
	if now := s.replica.pull.Status(); now.Items != before.Items {
		t.Errorf("%d items were fetched while nobody read", now.Items-before.Items)
	}
	got, err := s.Episode(t.Context(), e.ID)
	if ok(t, err); len(got.Steps) != 40 {
		t.Errorf("read %d steps of 40", len(got.Steps))
	}
	ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}))
	if got, err = s.Episode(t.Context(), e.ID); err != nil || len(got.Steps) != 40 || got.Outcome.Kind != Success {
		t.Errorf("read %+v, %v", got, err)
	}
}

// What a replica does not have others may just have stored: it is looked for again.
func TestReplicaLooksAgainForWhatIsNotThere(t *testing.T) {
	t.Parallel()
	url := hranatest.Start(t).URL()
	other := open(t, url, nil)
	for name, read := range map[string]func(s *Store, id ID) error{
		"embedding": func(s *Store, id ID) error { _, err := s.Embedding(t.Context(), ItemEpisode, id, "m"); return err },
		"prefix": func(s *Store, id ID) error {
			got, err := s.ResolveEpisode(t.Context(), id.String())
			if err == nil && got != id {
				err = fmt.Errorf("found %v", got)
			}
			return err
		},
		"nearest": func(s *Store, id ID) error {
			got, err := s.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: id.String(), Vector: []float32{1, 2}})
			if err == nil && (len(got) != 1 || got[0].Item != id) {
				err = fmt.Errorf("found %v", got)
			}
			return err
		},
	} {
		s := withReplica(t, url, &Options{Cache: Cache{PollInterval: time.Hour}})
		synced(t, s)
		e := &Episode{Description: "x"}
		wants(t, read(s, NewID()), ErrNotFound, "")
		ok(t, other.PutEpisode(t.Context(), e))
		for _, model := range []string{"m", e.ID.String()} {
			ok(t, other.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: model, Vector: []float32{2, 4}}))
		}
		if err := read(s, e.ID); err != nil || s.Stats().Replica.ServerReads != 0 {
			t.Errorf("%s: %v, %+v", name, err, s.Stats().Replica)
		}
	}
}

// A fresh replica has no vectors yet: the server compares them, and what it did is counted.
func TestNearestOfAFreshReplica(t *testing.T) {
	t.Parallel()
	url := hranatest.Start(t).URL()
	w := putVectors(t, open(t, url, nil), 300, 2, nil)
	s := withReplica(t, url, &Options{Cache: Cache{PollInterval: time.Hour}})
	q := NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 0}, Limit: 5}
	for range 2 {
		got, err := s.Nearest(t.Context(), q)
		ok(t, err)
		w.sameNeighbors(t, got, w.want(q.Vector, ID{}, 5, all), q.Vector)
		synced(t, s)
	}
	if v := s.Stats().Vectors; v.Searches != 2 || v.Held < 300 {
		t.Errorf("%+v", v)
	}
}

// What is fetched in the background may fail for good, while looks at the server are answered.
func TestSyncEndsIfTheFillFails(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	w := open(t, proxy.URL(), nil)
	for range 4 { // more than the first page of a fill takes
		ok(t, w.PutEpisode(t.Context(), &Episode{Description: noise(900_000)}))
	}
	var pages atomic.Int32
	proxy.Always(func(x *hranatest.Exchange) {
		if bytes.Contains(x.Body(), []byte("CROSS JOIN runs")) && pages.Add(1) > 1 {
			x.Answer(http.StatusBadRequest, nil, []byte(`{"error":"no such thing"}`))
		} else {
			hranatest.Pass(x)
		}
	})
	s := open(t, proxy.URL(), &Options{CacheDir: t.TempDir()})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Sync(ctx, nil); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("error is %v", err)
	}
}
