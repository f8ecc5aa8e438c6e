package replica_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/replica"
)

// newServer starts a real server with a Store, and an engine over a link.
func newServer(t *testing.T) (*side, *hranatest.Link) {
	t.Helper()
	server := hranatest.Start(t)
	link, err := hranatest.NewLink(server.URL())
	ok(t, err)
	t.Cleanup(link.Close)
	s := &side{}
	s.Store, err = episodic.Open(t.Context(), server.URL(), &episodic.Options{Cache: episodic.Cache{Disabled: true}})
	ok(t, err)
	t.Cleanup(func() { _ = s.Store.Close() })
	e, err := remote.Open(remote.Config{URL: link.URL(), LockDir: t.TempDir()})
	ok(t, err)
	t.Cleanup(func() { _ = e.Close() })
	s.engine = e
	return s, link
}

func open(t *testing.T, cfg replica.Config) *replica.Replica {
	t.Helper()
	r, err := replica.New(cfg)
	ok(t, err)
	t.Cleanup(func() { ok(t, r.Close()) })
	return r
}

// await waits until all is here that was there when it was called.
func await(t *testing.T, r *replica.Replica) replica.Status {
	t.Helper()
	for floor := time.Now(); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		s, err := r.Await(ctx, floor)
		cancel()
		ok(t, err)
		if !s.AsOf.IsZero() && s.AsOf.Before(floor) {
			t.Fatalf("asked for %v, got %v", floor, s.AsOf)
		}
		if s.Complete && !s.AsOf.IsZero() {
			return s
		}
		time.Sleep(time.Millisecond) // pages are missing, which is not waited for
	}
}

func add(t *testing.T, s *episodic.Store, from, n, steps int) {
	t.Helper()
	var list []*episodic.Episode
	for i := range n {
		e := &episodic.Episode{Description: fmt.Sprint("task ", from+i), Context: episodic.Context{Tags: []string{"a", "b"}}}
		for k := range steps {
			e.Steps = append(e.Steps, episodic.Step{Tool: "bash", Action: fmt.Sprint("run ", from+i, " ", k), Result: &episodic.Result{Kind: episodic.ResultOutput, Text: strings.Repeat(fmt.Sprint("line ", k, i), 50)}})
		}
		list = append(list, e)
	}
	_, err := s.AddEpisodes(t.Context(), list...)
	ok(t, err)
}

// A server's memory comes newest first and page by page, and what changes then with the
// next pull; a step that is added does not bring the others again.
func TestPullFromAServer(t *testing.T) {
	s, link := newServer(t)
	add(t, s.Store, 0, 50, 20) // from 60 on a dictionary is trained
	ok(t, s.PutHeuristic(t.Context(), &episodic.Heuristic{Condition: "c", Action: "a"}))
	cfg := newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db"))
	r := open(t, cfg)
	await(t, r)
	sameAs(t, s.engine, cfg.Local)

	e := &episodic.Episode{Description: "a long one"}
	ok(t, s.StartEpisode(t.Context(), e))
	for range 30 {
		_, err := s.AppendSteps(t.Context(), e.ID, episodic.Step{Action: "go test", Result: &episodic.Result{Kind: episodic.ResultOutput, Text: fmt.Sprint(time.Now(), strings.Repeat("x", 500))}})
		ok(t, err)
	}
	await(t, r)
	before, payload := link.Counts(), r.Status().Payload
	_, err := s.AppendSteps(t.Context(), e.ID, episodic.Step{Action: "last"})
	ok(t, err)
	await(t, r)
	if down := link.Counts().BytesDown - before.BytesDown; down > 4000 {
		t.Errorf("one step more took %d bytes", down)
	}
	sameAs(t, s.engine, cfg.Local)
	if n := r.Status().Payload - payload; n == 0 || n > 500 {
		t.Errorf("one step more has payloads of %d bytes", n)
	}

	ok(t, s.DeleteEpisode(t.Context(), e.ID))
	await(t, r)
	sameAs(t, s.engine, cfg.Local)
}

// A pull scans no table of the server, whatever the planner of the time thinks of it.
func TestPlansOfAServer(t *testing.T) {
	s, _ := newServer(t)
	add(t, s.Store, 0, 30, 3)
	for _, scope := range []func(string) (string, []any){nil, func(column string) (string, []any) {
		return column + " IN (SELECT n FROM scopes WHERE project = ?)", []any{"web"}
	}} {
		r, err := replica.Stopped(replica.Config{Server: s.engine, Local: newLocal(t, s.engine, filepath.Join(t.TempDir(), "r.db")).Local, Scope: scope}, 10, 10)
		ok(t, err)
		for name, st := range r.Statements() {
			st.SQL = "EXPLAIN QUERY PLAN " + st.SQL
			res, err := s.engine.Query(t.Context(), st)
			ok(t, err)
			plan(t, name, res[0].Rows)
		}
		ok(t, r.Close())
	}
}

// small are what may be scanned: what the client has sent, tables of few rows, and the
// ranges of the feed that a subquery has found.
var small = regexp.MustCompile(`^SCAN (json_each|h|feed_state|d|dictionaries|scopes|\(subquery-\d+\)|CONSTANT ROW)( |$)`)

func plan(t *testing.T, name string, rows [][]any) {
	t.Helper()
	for _, row := range rows {
		step := fmt.Sprint(row[3])
		if strings.HasPrefix(step, "SCAN") && !small.MatchString(step) || strings.Contains(step, "AUTOMATIC") && !strings.HasPrefix(step, "SEARCH h ") {
			t.Errorf("%s: %s", name, step)
		}
	}
}

// Several processes share a file. Each sees what it has waited for, whoever pulled it.
func TestSeveralReplicasOfOneFile(t *testing.T) {
	s := newSide(t, t.TempDir())
	add(t, s.Store, 0, 50, 3)
	path := filepath.Join(t.TempDir(), "replica.db")
	var all sync.WaitGroup
	var replicas []*replica.Replica
	for range 4 {
		replicas = append(replicas, open(t, newLocal(t, s.engine, path)))
	}
	for i, r := range replicas {
		all.Go(func() {
			for k := range 5 {
				e := &episodic.Episode{Description: fmt.Sprint("task ", i, k)}
				if err := s.StartEpisode(t.Context(), e); err != nil {
					t.Error(err)
					return
				}
				r.Wrote(time.Now())
				await(t, r)
				reader := newLocal(t, s.engine, path).Local
				if n := query(t, reader, "SELECT count(*) FROM episodes WHERE id = ?", e.ID[:])[0][0]; n != int64(1) {
					t.Errorf("an episode that was waited for is here %d times", n)
				}
			}
		})
	}
	all.Wait()
	for _, r := range replicas {
		await(t, r)
	}
	sameAs(t, s.engine, newLocal(t, s.engine, path).Local)
}

// Without a server waiting ends with the pull's error, not with the caller's patience, and
// the replica says since when.
func TestServerIsGone(t *testing.T) {
	s, link := newServer(t)
	add(t, s.Store, 0, 3, 1)
	r := open(t, newLocal(t, s.engine, filepath.Join(t.TempDir(), "replica.db")))
	await(t, r)
	link.Refuse(true)
	link.ResetAll()
	st, err := r.Await(t.Context(), time.Now())
	if engine.KindOf(err) != engine.KindUnavailable || st.Down == nil || st.DownSince.IsZero() || st.AsOf.IsZero() || !st.Complete {
		t.Errorf("refused: %v, %+v", err, st)
	}
	link.Refuse(false)
	if st = await(t, r); st.Down != nil || !st.DownSince.IsZero() {
		t.Errorf("afterwards: %+v", st)
	}
	link.Blackhole(true)
	defer link.Blackhole(false)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Await(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a network that swallows all: %v", err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := r.Await(context.Background(), time.Now())
		waits <- err
	}()
	time.Sleep(time.Millisecond)
	ok(t, r.Close())
	if err := <-waits; !errors.Is(err, engine.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
