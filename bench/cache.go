package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const cacheClaim = "What the cache of a Store saves, and what it costs. First, 8 callers read episodes, some far more often than others (Zipf, s = 1.01), from a libSQL server 40 ms away, while another Store rewrites two a second; " +
	"the cache begins empty, and no read may be older than Options.Cache promises. Targets: a p50 of less than 10 µs for a hit, 4 times the rate of no cache. " +
	"Then 64 callers ask at once for an episode that nobody has read. Target: one request. Then what was read before is read again from a local file. Target: an episode 3 times as fast as without."

const (
	cacheRTT      = 40 * time.Millisecond
	cacheEpisodes = 2000
	cacheReaders  = 8
	cacheZipf     = 1.01
	cacheQueries  = 20
	cachePoll     = 5 * time.Second // the default of Cache.PollInterval
	rewriteEvery  = 500 * time.Millisecond

	stampedeCallers = 64
	stampedes       = 20
)

var noCache = uncached()

func caching(ctx context.Context, b *bench) error {
	pool := b.corpus.episodes(0, max(min(b.n, cacheEpisodes), batchSize))
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	if err := fill(ctx, server.URL(), pool); err != nil {
		return err
	}
	if err := farEpisodes(ctx, b, server, pool); err != nil {
		return err
	}
	if err := stampede(ctx, b, server, pool); err != nil {
		return err
	}
	return readAgain(ctx, b, pool)
}

func fill(ctx context.Context, target string, pool []*episodic.Episode) error {
	store, err := episodic.Open(ctx, target, direct())
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(pool, batchSize) {
		if _, err := store.AddEpisodes(ctx, batch...); err != nil {
			return errors.Join(err, store.Close())
		}
	}
	return store.Close()
}

// popular chooses numbers below n, the least ones most often.
func popular(seed uint64, n int) func() int {
	z := rand.NewZipf(rand.New(rand.NewPCG(3, seed)), cacheZipf, 1, uint64(n-1))
	return func() int { return int(z.Uint64()) }
}

func farEpisodes(ctx context.Context, b *bench, server *hranatest.Server, pool []*episodic.Episode) (err error) {
	link, err := hranatest.NewLink(server.URL())
	if err != nil {
		return err
	}
	defer link.Close()
	link.SetRTT(cacheRTT)
	var stores []*episodic.Store
	defer func() { err = errors.Join(err, closeStores(stores)) }()
	for _, t := range []struct {
		url  string
		opts *episodic.Options
	}{{link.URL(), noCache}, {link.URL(), direct()}, {server.URL(), noCache}} {
		s, err := episodic.Open(ctx, t.url, t.opts)
		if err != nil {
			return err
		}
		stores = append(stores, s)
	}
	w := &rewriter{store: stores[2], pool: pool, written: make([][]time.Time, len(pool))}
	without := loadCell("without cache", cacheReaders, w.reader(stores[0], 0))
	with := loadCell("with cache", cacheReaders, w.reader(stores[1], cachePoll))

	writing, stop := context.WithCancel(ctx)
	written := make(chan error, 1)
	go func() { written <- w.run(writing) }()
	err = b.interleave(ctx, without, with)
	stop()
	if err = errors.Join(err, <-written); err != nil {
		return err
	}

	stats := stores[1].Stats().Cache
	var all []time.Duration
	for _, s := range with.rounds {
		all = append(all, s.latencies...)
	}
	slices.Sort(all)
	hits := all[:min(int(stats.Hits), len(all))] // a miss takes longer than a hit
	row := func(c *cell, rest ...string) []string {
		return append([]string{c.name, digits(c.rate()), ms(c.percentile(0.5)), ms(c.percentile(0.99))}, rest...)
	}
	got := with.rate() / without.rate()
	b.table(
		[]string{fmt.Sprintf("%d episodes, %v away", len(pool), cacheRTT), "reads/s", "p50", "p99", "hits", "p50 of hits", "p99 of hits", "against no cache"},
		row(without, "", "", "", "1"),
		row(with, fmt.Sprintf("%.2f %%", 100*float64(stats.Hits)/float64(max(stats.Hits+stats.Misses, 1))), us(percentile(hits, 0.5)), us(percentile(hits, 0.99)), compare(with, without).String()),
	)
	b.printf("The cache made %d loads and %d polls for %d reads, and lost %d entries to the %d writes of the other Store.\n\n",
		stats.Loads, stats.Polls, with.acknowledged(), stats.InvalidationsRemote, w.count())
	b.judge(percentile(hits, 0.5) < 10*time.Microsecond, "p50 of a hit below 10 µs", "%s", us(percentile(hits, 0.5)))
	b.judge(got >= 4, "at least 4 times the rate of no cache, from an empty one on", "%.1f times", got)
	b.judge(stats.InvalidationsRemote > 0, "what others write removes entries", "%d", stats.InvalidationsRemote)
	return nil
}

// rewriter rewrites episodes now and then, and knows what a read of them must
// show.
type rewriter struct {
	store *episodic.Store
	pool  []*episodic.Episode

	mu      sync.Mutex
	written [][]time.Time // when each version of each episode was acknowledged
}

// run writes until ctx is done.
func (w *rewriter) run(ctx context.Context) error {
	next := popular(uint64(cacheReaders), len(w.pool))
	tick := time.NewTicker(rewriteEvery)
	defer tick.Stop()
	for {
		i := next()
		e := *w.pool[i]
		e.Metadata = map[string]string{"version": strconv.Itoa(len(w.written[i]) + 1)}
		e.Revision = 0 // whatever was put last
		err := w.store.PutEpisode(ctx, &e)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.written[i] = append(w.written[i], time.Now())
		w.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *rewriter) count() (n int) {
	for _, versions := range w.written {
		n += len(versions)
	}
	return n
}

// acknowledged is the version of an episode that was stored by then.
func (w *rewriter) acknowledged(i int, by time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, _ := slices.BinarySearchFunc(w.written[i], by, time.Time.Compare)
	return n
}

// reader reads episodes that are so old at most.
func (w *rewriter) reader(s *episodic.Store, oldest time.Duration) op {
	var next [cacheReaders]func() int
	for caller := range next {
		next[caller] = popular(uint64(caller), len(w.pool))
	}
	return func(ctx context.Context, caller int) error {
		i := next[caller]()
		least := w.acknowledged(i, time.Now().Add(-oldest))
		e, err := s.Episode(ctx, w.pool[i].ID)
		if err != nil {
			return err
		}
		if version, _ := strconv.Atoi(e.Metadata["version"]); version < least || len(e.Steps) != stepsEach {
			return fmt.Errorf("episode %v is read in version %d with %d steps, version %d was stored %v before", e.ID, version, len(e.Steps), least, oldest)
		}
		return nil
	}
}

func stampede(ctx context.Context, b *bench, server *hranatest.Server, pool []*episodic.Episode) (err error) {
	l, err := newLine(server.URL())
	if err != nil {
		return err
	}
	defer l.close()
	l.link.SetRTT(cacheRTT)
	// Looking for a dictionary takes a request more, and so does the first read of
	// what was written with one that the Store does not know yet.
	store, err := episodic.Open(ctx, l.url(), &episodic.Options{Compression: episodic.Compression{DisableDictionaries: true}, Replica: episodic.Replica{Disabled: true}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	own := asNew(pool[:min(stampedes, len(pool))])
	if _, err := store.AddEpisodes(ctx, own...); err != nil {
		return err
	}
	if _, err := l.take(); err != nil {
		return err
	}
	var s sample
	var counted, passed []int // requests of each stampede, by the Store's count and on the socket
	for _, e := range own {
		before := store.Stats().Requests
		s.burst(ctx, stampedeCallers, func(ctx context.Context, _ int) error {
			_, err := store.Episode(ctx, e.ID)
			return err
		})
		if len(s.errs) > 0 {
			return s.errs[0]
		}
		exchanges, err := l.take()
		if err != nil {
			return err
		}
		counted = append(counted, int(store.Stats().Requests-before))
		passed = append(passed, len(exchanges))
	}
	most, least := max(slices.Max(counted), slices.Max(passed)), min(slices.Min(counted), slices.Min(passed))
	b.table(
		[]string{"", "stampedes", "requests of each", "p50", "p99"},
		[]string{fmt.Sprintf("%d callers of one episode", stampedeCallers), fmt.Sprint(len(own)), fmt.Sprintf("%d to %d", least, most), ms(percentile(s.latencies, 0.5)), ms(percentile(s.latencies, 0.99))},
	)
	b.judge(least == 1 && most == 1, "one request for all callers, on the socket too", "%d to %d", least, most)
	return nil
}

// asNew copies episodes without their IDs.
func asNew(pool []*episodic.Episode) []*episodic.Episode {
	list := make([]*episodic.Episode, len(pool))
	for i, e := range pool {
		c := *e
		c.ID = episodic.ID{}
		list[i] = &c
	}
	return list
}

func readAgain(ctx context.Context, b *bench, pool []*episodic.Episode) (err error) {
	path := filepath.Join(b.dir, "cache.db")
	if err := fill(ctx, path, pool); err != nil {
		return err
	}
	var words tally
	var ids []episodic.ID
	for _, e := range pool {
		ids = append(ids, e.ID)
		if err := words.add(e); err != nil {
			return err
		}
	}
	var queries []string
	for list := words.wordsOf(frequencies[1]); len(queries) < cacheQueries; {
		queries = append(queries, query(list))
	}

	var stores []*episodic.Store
	defer func() { err = errors.Join(err, closeStores(stores)) }()
	for _, opts := range []*episodic.Options{noCache, nil} {
		s, err := episodic.Open(ctx, path, opts)
		if err != nil {
			return err
		}
		stores = append(stores, s)
	}
	with := stores[1]
	for _, id := range ids {
		if _, err := with.Episode(ctx, id); err != nil {
			return err
		}
	}
	var cells []*cell
	for _, u := range []use{
		{name: "Episode", on: func(s *episodic.Store) op { return getter(s, ids) }},
		{name: "Search", on: func(s *episodic.Store) op {
			return func(ctx context.Context, _ int) error {
				_, err := s.Search(ctx, queries[rand.IntN(len(queries))], nil)
				return err
			}
		}},
	} {
		for _, callers := range []int{1, cacheReaders} {
			for _, s := range stores {
				cells = append(cells, loadCell(fmt.Sprintf("%s, callers: %d", u.name, callers), callers, u.on(s)))
			}
		}
	}
	before := with.Stats().Cache
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}
	after := with.Stats().Cache
	table := [][]string{{"local file", "without /s", "p50", "p99", "with cache /s", "p50", "p99", "against no cache"}}
	for pair := range slices.Chunk(cells, 2) {
		row := []string{pair[0].name}
		for _, c := range pair {
			row = append(row, digits(c.rate()), us(c.percentile(0.5)), us(c.percentile(0.99)))
		}
		table = append(table, append(row, compare(pair[1], pair[0]).String()))
	}
	b.table(table...)
	b.printf("%d hits, %d misses.\n\n", after.Hits-before.Hits, after.Misses-before.Misses)
	for i := 0; i < 4; i += 2 {
		got := compare(cells[i+1], cells[i])
		b.judge(got.median >= 3, cells[i].name+": at least 3x no cache", "%v", got)
	}
	return nil
}

func closeStores(stores []*episodic.Store) (err error) {
	for _, s := range stores {
		err = errors.Join(err, s.Close())
	}
	return err
}
