package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const replicasClaim = "A primary and two replicas as one target with three addresses, each behind a link that counts requests. " +
	"Targets: the reads of 64 callers are spread, each server gets its share within 20 %, at a rate no lower than with the primary alone; " +
	"each server is killed and restarted in turn under 16 readers and 4 writers: no read fails, writes fail only while the primary is down, nothing is lost; " +
	"of 10,000 writes each is seen by the read that follows it."

const (
	replicaCallers  = 64
	replicaWrites   = 10_000 // each read at once
	replicaWriters  = 32     // that make them
	faultReaders    = 16
	faultWriters    = 4
	faultTurns      = 30              // times -duration, of kills
	primaryRecovers = 2 * time.Second // after its restart a write may fail for as long
	replicaFollows  = 5 * time.Second // at most, until a replica has what was stored
	afterFailure    = 10 * time.Millisecond
)

// severalAddresses is a target of a primary and its replicas.
func severalAddresses(primary string, replicas ...string) string {
	for _, url := range replicas {
		_, host, _ := strings.Cut(url, "://")
		primary += "," + host
	}
	return primary
}

// fleet is a primary and two replicas, in this order, and the links to them.
type fleet struct {
	servers []*hranatest.Server
	links   []*hranatest.Link
	alone   *hranatest.Link // another one to the primary
	target  string
	ids     []episodic.ID // of the episodes stored
}

func replicas(ctx context.Context, b *bench) error {
	f, err := newFleet(ctx, b)
	if err != nil {
		return err
	}
	defer f.close()
	for _, part := range []func(context.Context, *bench, *fleet) error{spreadReads, readYourWrites, killInTurn} {
		if err := part(ctx, b, f); err != nil {
			return err
		}
	}
	return nil
}

func newFleet(ctx context.Context, b *bench) (_ *fleet, err error) {
	f := &fleet{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	var urls []string
	opts := []hranatest.Option{hranatest.WithReplication()}
	for range 3 {
		dir, err := os.MkdirTemp(b.dir, "server-")
		if err != nil {
			return nil, err
		}
		server, err := hranatest.Run(dir, opts...)
		if err != nil {
			return nil, err
		}
		f.servers = append(f.servers, server)
		opts = []hranatest.Option{hranatest.WithPrimary(f.servers[0])}
		link, err := hranatest.NewLink(server.URL())
		if err != nil {
			return nil, err
		}
		f.links = append(f.links, link)
		urls = append(urls, link.URL())
	}
	f.target = severalAddresses(urls[0], urls[1:]...)
	if f.alone, err = hranatest.NewLink(f.servers[0].URL()); err != nil {
		return nil, err
	}
	episodes := b.corpus.episodes(0, min(serverEpisodes, b.n))
	for _, e := range episodes {
		f.ids = append(f.ids, e.ID)
	}
	if err := fillOurs(ctx, f.servers[0].URL(), episodes); err != nil {
		return nil, err
	}
	for _, s := range f.servers[1:] {
		if err := follows(ctx, s.URL(), len(f.ids)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) close() {
	for _, l := range f.links {
		l.Close()
	}
	if f.alone != nil {
		f.alone.Close()
	}
	for _, s := range f.servers {
		s.Kill()
	}
}

// follows waits until a replica has as many episodes.
func follows(ctx context.Context, url string, want int) error {
	store, err := openOurSide(ctx, url, uncached())
	if err != nil {
		return err
	}
	n := 0
	for begin := time.Now(); n < want && err == nil && time.Since(begin) < replicaFollows; err = errors.Join(err, rest(ctx, 10*time.Millisecond)) {
		n, err = store.count(ctx)
	}
	if err == nil && n < want {
		err = fmt.Errorf("a replica has %d of %d episodes after %v", n, want, replicaFollows)
	}
	return errors.Join(err, store.close())
}

// requests are those that came to each server.
func (f *fleet) requests() (all []int) {
	for _, l := range f.links {
		all = append(all, l.Counts().Requests)
	}
	return all
}

// spreadReads compares readers of all servers with those of the primary.
func spreadReads(ctx context.Context, b *bench, f *fleet) error {
	many, err := openOurSide(ctx, f.target, uncached())
	if err != nil {
		return err
	}
	defer many.close()
	one, err := openOurSide(ctx, f.alone.URL(), uncached())
	if err != nil {
		return err
	}
	defer one.close()
	all := loadCell("primary and two replicas", replicaCallers, getting(many, f.ids))
	alone := loadCell("primary alone", replicaCallers, getting(one, f.ids))
	before := f.requests()
	if err := b.interleave(ctx, all, alone); err != nil {
		return err
	}
	got, sum := f.requests(), 0
	for i := range got {
		got[i] -= before[i]
		sum += got[i]
	}
	b.table([]string{"64 readers", "reads /s", "p50", "p99", "requests to the primary", "replica 1", "replica 2"},
		[]string{all.name, digits(all.rate()), ms(all.percentile(0.5)), ms(all.percentile(0.99)), fmt.Sprint(got[0]), fmt.Sprint(got[1]), fmt.Sprint(got[2])},
		[]string{alone.name, digits(alone.rate()), ms(alone.percentile(0.5)), ms(alone.percentile(0.99)), "-", "-", "-"})
	worst := 0.0
	for _, n := range got {
		share := float64(n) * float64(len(got)) / float64(max(sum, 1))
		worst = max(worst, share-1, 1-share)
	}
	b.judge(worst <= 0.2, "each server gets its share of the requests within 20 %", "the worst is off by %.0f %%", 100*worst)
	ratio := compare(all, alone)
	b.judge(ratio.median >= 0.97, "a rate no lower than with the primary alone (0.97)", "%v", ratio)
	return nil
}

// readYourWrites reads each episode once it is acknowledged.
func readYourWrites(ctx context.Context, b *bench, f *fleet) error {
	store, err := episodic.Open(ctx, f.target, uncached())
	if err != nil {
		return err
	}
	defer store.Close()
	writes := replicaWrites
	if b.short {
		writes = replicaWriters
	}
	next := counter()
	var stale atomic.Int64
	var failed error
	var mu sync.Mutex // guards failed and f.ids
	var wg sync.WaitGroup
	begin, before := time.Now(), f.requests()
	for range replicaWriters {
		wg.Go(func() {
			for n := next(); n < writes && ctx.Err() == nil; n = next() {
				e := &episodic.Episode{Description: fmt.Sprintf("task %d", n)}
				err := store.PutEpisode(ctx, e)
				if err == nil {
					_, err = store.Episode(ctx, e.ID)
				}
				switch {
				case errors.Is(err, episodic.ErrNotFound):
					stale.Add(1)
				case err != nil:
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	got := f.requests()
	b.printf("%d writes by %d callers, each read at once, took %v; requests to the primary: %d, to the replicas: %d and %d.\n\n", writes, replicaWriters,
		time.Since(begin).Round(time.Millisecond), got[0]-before[0], got[1]-before[1], got[2]-before[2])
	b.judge(stale.Load() == 0, fmt.Sprintf("of %d reads behind a write none is stale", writes), "%d are", stale.Load())
	return nil
}

// downtime is when a server was killed and when it was there again.
type downtime struct {
	server   int
	from, to time.Time
}

// failure is a call that failed.
type failure struct {
	begin, end time.Time
	err        error
}

// within reports whether the call was under way while the primary was down.
func (x failure) within(down []downtime) bool {
	for _, d := range down {
		if d.server == 0 && x.end.After(d.from) && x.begin.Before(d.to.Add(primaryRecovers)) {
			return true
		}
	}
	return false
}

// attempts is what became of calls of a kind.
type attempts struct {
	mu     sync.Mutex
	ok     []time.Duration
	failed []failure
}

// try calls f and notes what became of it. Who has failed waits before trying again.
func (a *attempts) try(ctx context.Context, f func() error) error {
	begin := time.Now()
	err := f()
	end := time.Now()
	a.mu.Lock()
	if err != nil {
		a.failed = append(a.failed, failure{begin, end, err})
	} else {
		a.ok = append(a.ok, end.Sub(begin))
	}
	a.mu.Unlock()
	if err != nil {
		_ = rest(ctx, afterFailure) // its end is the caller's too
	}
	return err
}

// killInTurn kills and restarts each server while others read and write.
func killInTurn(ctx context.Context, b *bench, f *fleet) error {
	store, err := episodic.Open(ctx, f.target, uncached())
	if err != nil {
		return err
	}
	defer store.Close()
	var reads, writes attempts
	var mu sync.Mutex // guards stored
	var stored []episodic.ID
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for range faultReaders {
		wg.Go(func() {
			for loaded.Err() == nil {
				_ = reads.try(loaded, func() error { // which notes the error
					_, err := store.Episode(ctx, f.ids[rand.IntN(len(f.ids))])
					return err
				})
			}
		})
	}
	for range faultWriters {
		wg.Go(func() {
			for loaded.Err() == nil {
				e := &episodic.Episode{Description: "written while servers die"}
				if writes.try(loaded, func() error { return store.PutEpisode(ctx, e) }) == nil {
					mu.Lock()
					stored = append(stored, e.ID)
					mu.Unlock()
				}
			}
		})
	}
	down, err := f.killAll(ctx, b.duration*faultTurns)
	stop()
	wg.Wait()
	if err != nil {
		return err
	}
	unexcused := 0
	texts := map[string]int{}
	for _, x := range writes.failed {
		if !x.within(down) {
			unexcused++
		}
		texts["a write: "+differing.ReplaceAllString(x.err.Error(), "…")]++
	}
	for _, x := range reads.failed {
		texts["a read: "+differing.ReplaceAllString(x.err.Error(), "…")]++
	}
	lost, err := missing(ctx, f.servers[0].URL(), stored)
	if err != nil {
		return err
	}
	b.table([]string{"servers killed in turn", "ended well", "failed", "p50", "p99", "max"},
		append([]string{"reads"}, reads.row()...), append([]string{"writes"}, writes.row()...))
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		b.printf("- %d times %s\n", texts[text], text)
	}
	b.judge(len(reads.failed) == 0, "no read fails", "%d of %d did", len(reads.failed), len(reads.failed)+len(reads.ok))
	b.judge(unexcused == 0, "writes fail only while the primary is down", "%d failed besides", unexcused)
	b.judge(lost == 0, "no acknowledged write is lost", "%d of %d are", lost, len(stored))
	if lost > 0 {
		return fmt.Errorf("%d of %d acknowledged writes are lost", lost, len(stored))
	}
	return nil
}

func (a *attempts) row() []string {
	return []string{fmt.Sprint(len(a.ok)), fmt.Sprint(len(a.failed)), ms(percentile(a.ok, 0.5)), ms(percentile(a.ok, 0.99)), ms(percentile(a.ok, 1))}
}

// killAll kills one server after the other for the time. Each is down for a quarter of
// its turn of 8 s, and then there for the rest.
func (f *fleet) killAll(ctx context.Context, d time.Duration) (down []downtime, err error) {
	turn := min(8*time.Second, d/time.Duration(len(f.servers)))
	for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
		which := i % len(f.servers)
		x := downtime{server: which, from: time.Now()}
		f.servers[which].Kill()
		f.links[which].Refuse(true)
		if err := rest(ctx, turn/4); err != nil {
			return down, err
		}
		if err := f.servers[which].Restart(); err != nil {
			return down, err
		}
		f.links[which].Refuse(false)
		x.to = time.Now()
		down = append(down, x)
		if err := rest(ctx, turn-time.Since(x.from)); err != nil {
			return down, err
		}
	}
	return down, nil
}

// missing counts those of the episodes that a server does not have.
func missing(ctx context.Context, url string, ids []episodic.ID) (n int, err error) {
	store, err := episodic.Open(ctx, url, uncached())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, id := range ids {
		switch _, err := store.Episode(ctx, id); {
		case errors.Is(err, episodic.ErrNotFound):
			n++
		case err != nil:
			return n, err
		}
	}
	return n, nil
}
