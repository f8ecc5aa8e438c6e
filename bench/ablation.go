package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const ablationClaim = "The same work with each system switched off, one at a time: what does each bring? " +
	"Eight agents, of which each records episodes step by step, and reads: popular episodes (Zipf), the newest ones, searches. " +
	"On a server 20 ms away, with a replica of its memory on the machine and without, and on a local file. Ratios are to the work with everything on, above 1 is more. " +
	"Nothing is judged: a system that brings less than 5 % in every column of every table is named in docs/performance.md."

const (
	ablationRTT      = 20 * time.Millisecond
	ablationEpisodes = 1000
	ablationAgents   = 8
	ablationLives    = 3  // of each agent
	ablationSteps    = 10 // of each life, one call each
	ablationGets     = 40 // of each agent
	ablationLists    = 5
	ablationSearches = 10
	ablationQueries  = 20
)

// system is one that can be switched off.
type system struct {
	name    string
	off     func(*episodic.Options)
	each    bool // each agent has a Store of its own
	onFile  bool // it is at work on a local file
	replica bool // it is at work where there is a replica
}

// None of them is off where off is nil and each is false.
var systems = []system{
	{name: "everything on", onFile: true, replica: true},
	{name: "adaptive pool size: always 10", off: func(o *episodic.Options) { o.Pool = episodic.Pool{MinConns: 10, MaxConns: 10} }, replica: true},
	{name: "adaptive pool size: always 2", off: func(o *episodic.Options) { o.Pool = episodic.Pool{MinConns: 2, MaxConns: 2} }, replica: true},
	{name: "keep-alive pings", off: func(o *episodic.Options) { o.KeepAlive.Disabled = true }, replica: true},
	{name: "sharing: a Store each", each: true, onFile: true, replica: true},
	{name: "compression", off: func(o *episodic.Options) { o.Compression.Codec = episodic.Uncompressed }, onFile: true, replica: true},
	{name: "dictionaries", off: func(o *episodic.Options) { o.Compression.DisableDictionaries = true }, onFile: true, replica: true},
	{name: "cache", off: func(o *episodic.Options) { o.Cache.Disabled = true }, onFile: true, replica: true},
	{name: "redaction", off: func(o *episodic.Options) { o.Redact.Disabled = true }, onFile: true, replica: true},
}

// ablated is what the work took in one round.
type ablated struct {
	writes, reads time.Duration
	link          hranatest.LinkCounts
	disk          int64
}

func ablation(ctx context.Context, b *bench) error {
	n := min(b.n, ablationEpisodes)
	pool := b.corpus.episodes(0, n)
	var words tally
	for _, e := range pool {
		if err := words.add(e); err != nil {
			return err
		}
	}
	var queries []string
	for list := words.wordsOf(frequencies[1]); len(queries) < ablationQueries; {
		queries = append(queries, query(list))
	}
	for _, place := range []struct {
		name string
		has  func(system) bool
		run  func(context.Context, *bench, system, *agentWork) (ablated, error)
	}{
		{"server, no replica", func(s system) bool { return true }, ablateServer},
		{"server, replica", func(s system) bool { return s.replica }, ablateReplica},
		{"local file", func(s system) bool { return s.onFile }, ablateFile},
	} {
		if !b.match.MatchString(place.name) {
			continue
		}
		var chosen []system
		for _, s := range systems {
			if place.has(s) {
				chosen = append(chosen, s)
			}
		}
		results := make([][]ablated, len(chosen))
		for range b.rounds {
			for i, s := range chosen {
				got, err := place.run(ctx, b, s, &agentWork{pool: pool, queries: queries})
				if err != nil {
					return fmt.Errorf("%s, without %s: %w", place.name, s.name, err)
				}
				results[i] = append(results[i], got)
			}
		}
		ablationTable(b, place.name, chosen, results)
	}
	return nil
}

func ablationTable(b *bench, place string, chosen []system, results [][]ablated) {
	table := [][]string{{place, "writes", "time of writes", "reads", "time of reads", "bytes on the socket", "requests", "connections", "bytes on disk"}}
	median := func(list []ablated, of func(ablated) float64) float64 {
		var all []float64
		for _, a := range list {
			all = append(all, of(a))
		}
		return ratioOf(all).median
	}
	against := func(i int, of func(ablated) float64) string {
		var all []float64
		for round := range results[i] {
			if base := of(results[0][round]); base > 0 {
				all = append(all, of(results[i][round])/base)
			}
		}
		if len(all) == 0 {
			return ""
		}
		return ratioOf(all).String()
	}
	writes := func(a ablated) float64 { return a.writes.Seconds() }
	reads := func(a ablated) float64 { return a.reads.Seconds() }
	bytes := func(a ablated) float64 { return float64(a.link.BytesUp + a.link.BytesDown) }
	requests := func(a ablated) float64 { return float64(a.link.Requests) }
	conns := func(a ablated) float64 { return float64(a.link.Accepted) }
	disk := func(a ablated) float64 { return float64(a.disk) }
	for i, s := range chosen {
		name := s.name
		if i > 0 {
			name = "without " + name
		}
		table = append(table, []string{name,
			fmt.Sprintf("%.2f s", median(results[i], writes)), against(i, writes), fmt.Sprintf("%.2f s", median(results[i], reads)), against(i, reads),
			against(i, bytes), against(i, requests), against(i, conns), against(i, disk)})
	}
	b.table(table...)
	if first := results[0]; median(first, bytes) > 0 {
		b.printf("With everything on: %.0f KB on the socket, %.0f requests, %.0f connections, %.0f KB on disk.\n", median(first, bytes)/1000, median(first, requests), median(first, conns), median(first, disk)/1000)
	} else {
		b.printf("With everything on: %.0f KB on disk.\n", median(first, disk)/1000)
	}
}

func ablateFile(ctx context.Context, b *bench, s system, w *agentWork) (got ablated, err error) {
	dir, err := os.MkdirTemp(b.dir, "ablation-")
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "memory.db")
	got, err = w.run(ctx, s, func(o *episodic.Options) (*episodic.Store, error) { return episodic.Open(ctx, path, o) })
	if err == nil {
		got.disk, err = bytesIn(dir)
	}
	return got, err
}

func ablateServer(ctx context.Context, b *bench, s system, w *agentWork) (ablated, error) {
	return ablateFar(ctx, b, s, w, false)
}

func ablateReplica(ctx context.Context, b *bench, s system, w *agentWork) (ablated, error) {
	return ablateFar(ctx, b, s, w, true)
}

// ablateFar works on a server of its own; the time to get the replica is not counted, its
// bytes are.
func ablateFar(ctx context.Context, b *bench, s system, w *agentWork, replica bool) (got ablated, err error) {
	dir, err := os.MkdirTemp(b.dir, "ablation-")
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := startServer(dir)
	if err != nil {
		return got, err
	}
	defer server.Kill()
	rtt := ablationRTT
	if b.short {
		rtt = shortRTT
	}
	m, err := newMachine(b, server, rtt)
	if err != nil {
		return got, err
	}
	defer m.link.Close()
	got, err = w.run(ctx, s, func(o *episodic.Options) (*episodic.Store, error) { return m.open(ctx, replica, o) })
	if err != nil {
		return got, err
	}
	if got.link, err = m.passed(ctx); err != nil {
		return got, err
	}
	server.Kill()
	got.disk, err = bytesIn(dir)
	return got, err
}

// bytesIn is the size of all files below a folder.
func bytesIn(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// agentWork is what the agents do: the same in every round.
type agentWork struct {
	pool    []*episodic.Episode
	queries []string
}

func (w *agentWork) run(ctx context.Context, s system, open func(*episodic.Options) (*episodic.Store, error)) (got ablated, err error) {
	options := func() *episodic.Options {
		o := new(episodic.Options)
		if s.off != nil {
			s.off(o)
		}
		return o
	}
	filler, err := open(options())
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, filler.Close()) }()
	for batch := range slices.Chunk(w.pool, batchSize) {
		if _, err := filler.AddEpisodes(ctx, batch...); err != nil {
			return got, err
		}
	}
	stores := make([]*episodic.Store, ablationAgents)
	for i := range stores {
		stores[i] = filler
		if s.each {
			if stores[i], err = open(options()); err != nil {
				return got, err
			}
			defer func() { err = errors.Join(err, stores[i].Close()) }()
		}
	}
	if got.writes, err = together(ctx, stores, w.write); err == nil {
		got.reads, err = together(ctx, stores, w.read)
	}
	return got, err
}

// together lets all agents work, and returns how long that takes.
func together(ctx context.Context, stores []*episodic.Store, do func(context.Context, *episodic.Store, int) error) (time.Duration, error) {
	errs := make([]error, len(stores))
	start := time.Now()
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() { errs[i] = do(ctx, s, i) })
	}
	wg.Wait()
	return time.Since(start), errors.Join(errs...)
}

func (w *agentWork) write(ctx context.Context, s *episodic.Store, agent int) error {
	for life := range ablationLives {
		like := w.pool[(agent*ablationLives+life)%len(w.pool)]
		e := &episodic.Episode{Description: fmt.Sprintf("%s, once more by agent %d", like.Description, agent)}
		if err := s.StartEpisode(ctx, e); err != nil {
			return err
		}
		for i := range ablationSteps {
			step := like.Steps[i%len(like.Steps)]
			step.Number = 0
			if _, err := s.AppendSteps(ctx, e.ID, step); err != nil {
				return err
			}
		}
		if err := s.CompleteEpisode(ctx, e.ID, episodic.Completion{Outcome: like.Outcome}); err != nil {
			return err
		}
	}
	return nil
}

func (w *agentWork) read(ctx context.Context, s *episodic.Store, agent int) error {
	next, queries := popular(uint64(agent), len(w.pool)), rand.New(rand.NewPCG(5, uint64(agent)))
	for range ablationGets {
		if _, err := s.Episode(ctx, w.pool[next()].ID); err != nil {
			return err
		}
	}
	for range ablationLists {
		if _, err := s.ListEpisodes(ctx, nil, &episodic.Paging{Limit: 50}); err != nil {
			return err
		}
	}
	for range ablationSearches {
		if _, err := s.Search(ctx, strings.TrimSpace(w.queries[queries.IntN(len(w.queries))]), nil); err != nil {
			return err
		}
	}
	return nil
}
