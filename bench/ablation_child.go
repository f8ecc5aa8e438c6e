package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// ablationVariable makes this program do the agents' work without a system.
const ablationVariable = "EPISODIC_BENCH_ABLATION"

// What an agent does, as often as the place says.
const (
	ablationLives    = 2
	ablationSteps    = 8 // of each life, one call each
	ablationGets     = 30
	ablationLists    = 4
	ablationSearches = 8
)

// ablationTask is what the process is told on its standard input.
type ablationTask struct {
	System  string // the name of the one that is off
	Target  string
	Server  bool // the target is a server's URL, not a path
	Replica bool
	Dir     string // of the machine, for a server

	Agents  int
	Times   int
	IDs     []episodic.ID       // of what is stored
	Like    []*episodic.Episode // what is recorded is like these
	Queries []string
}

// ablated is what the work took in one round. The process answers with the exported fields.
type ablated struct {
	Writes, Reads time.Duration
	CPU           time.Duration // for both
	PeakKB        int           // the most memory that was resident at once

	link hranatest.LinkCounts // from Open to Close
	disk int64
}

func (t *ablationTask) do(ctx context.Context) (got ablated, err error) {
	at := slices.IndexFunc(systems, func(s system) bool { return s.name == t.System })
	if at < 0 {
		return got, fmt.Errorf("there is no system %q", t.System)
	}
	s := &systems[at]
	var stores []*episodic.Store
	defer func() {
		for _, store := range stores {
			err = errors.Join(err, store.Close())
		}
	}()
	open := func() (*episodic.Store, error) {
		o := s.options()
		if t.Server {
			(&machine{dir: t.Dir}).settle(o, t.Replica)
		}
		store, err := episodic.Open(ctx, t.Target, o)
		if err == nil {
			stores = append(stores, store)
		}
		return store, err
	}
	shared, err := open()
	if err != nil {
		return got, err
	}
	if t.Replica { // fetching it is not timed, its bytes count
		if err := shared.Sync(ctx, nil); err != nil {
			return got, err
		}
	}
	writers, readers := slices.Repeat(stores, t.Agents), slices.Repeat(stores, t.Agents)
	for i := range t.Agents {
		if !s.how.ownReaders && (!s.how.ownStores || i == 0) {
			continue
		}
		if readers[i], err = open(); err != nil {
			return got, err
		}
		if s.how.ownStores {
			writers[i] = readers[i]
		}
	}
	inTurn := func(write func() error) error { return write() }
	if s.how.oneWrite {
		var writing sync.Mutex
		inTurn = func(write func() error) error {
			writing.Lock()
			defer writing.Unlock()
			return write()
		}
	}
	before := cpuTime()
	got.Writes, err = together(writers, func(store *episodic.Store, agent int) error { return t.write(ctx, store, agent, inTurn) })
	if err != nil {
		return got, err
	}
	if got.Reads, err = together(readers, func(store *episodic.Store, agent int) error { return t.read(ctx, store, agent) }); err != nil {
		return got, err
	}
	got.CPU = cpuTime() - before
	got.PeakKB, err = peakMemory()
	return got, err
}

// together lets all agents work, and returns how long that takes.
func together(stores []*episodic.Store, do func(*episodic.Store, int) error) (time.Duration, error) {
	errs := make([]error, len(stores))
	start := time.Now()
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() { errs[i] = do(s, i) })
	}
	wg.Wait()
	return time.Since(start), errors.Join(errs...)
}

func (t *ablationTask) write(ctx context.Context, s *episodic.Store, agent int, inTurn func(func() error) error) error {
	for life := range ablationLives * t.Times {
		like := t.Like[(agent*ablationLives+life)%len(t.Like)]
		e := &episodic.Episode{Description: fmt.Sprintf("%s, once more by agent %d", like.Description, agent)}
		if err := inTurn(func() error { return s.StartEpisode(ctx, e) }); err != nil {
			return err
		}
		for i := range ablationSteps {
			step := like.Steps[i%len(like.Steps)]
			step.Number = 0
			if err := inTurn(func() error { _, err := s.AppendSteps(ctx, e.ID, step); return err }); err != nil {
				return err
			}
		}
		if err := inTurn(func() error { return s.CompleteEpisode(ctx, e.ID, episodic.Completion{Outcome: like.Outcome}) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *ablationTask) read(ctx context.Context, s *episodic.Store, agent int) error {
	next, queries := popular(uint64(agent), len(t.IDs)), rand.New(rand.NewPCG(5, uint64(agent)))
	for range t.Times {
		for range ablationGets {
			if _, err := s.Episode(ctx, t.IDs[next()]); err != nil {
				return err
			}
		}
		for range ablationLists {
			if _, err := s.ListEpisodes(ctx, nil, &episodic.Paging{Limit: 50}); err != nil {
				return err
			}
		}
		for range ablationSearches {
			if _, err := s.Search(ctx, t.Queries[queries.IntN(len(t.Queries))], nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// hideProtobuf runs a front of the server at target that knows no Hrana in protobuf.
func hideProtobuf(target string) (*httptest.Server, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v3-protobuf") {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})), nil
}
