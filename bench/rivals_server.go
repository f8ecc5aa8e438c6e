package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const (
	serverEpisodes = 1000 // in a filled server: enough for the last dictionary
	shortRTT       = 2 * time.Millisecond
	// rivalPatience is how much longer than its window a cell on a server may take,
	// which the rival can make hang. A hanging writer has the lock for 5 s.
	rivalPatience      = 10 * time.Second
	rivalPatienceShort = 2 * time.Second
)

// opener opens one of the sides on a server.
type opener func(ctx context.Context, url string) (side, error)

func openUs(ctx context.Context, url string) (side, error) { return openOurSide(ctx, url, nil) }

func openUncached(ctx context.Context, url string) (side, error) {
	return openOurSide(ctx, url, uncached())
}

// openThem opens libsql-client-go on a filled server.
func openThem(ctx context.Context, url string) (side, error) {
	r, err := openRawServer(url)
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// fillServer runs a server that holds the episodes, in our form or the rival's.
func fillServer(ctx context.Context, b *bench, ours bool, episodes []*episodic.Episode) (_ *hranatest.Server, err error) {
	server, err := startServer(b.dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			server.Kill()
		}
	}()
	return server, fillSide(ctx, server.URL(), ours, episodes)
}

// fillSide stores the episodes on an empty server.
func fillSide(ctx context.Context, url string, ours bool, episodes []*episodic.Episode) error {
	if ours {
		return fillOurs(ctx, url, episodes)
	}
	r, err := openRawServer(url)
	if err != nil {
		return err
	}
	s, err := r.fresh(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.add(ctx, episodes), s.close())
}

// fillOurs stores the episodes in two halves, and trains the dictionary that is due after
// each, as the command does at the end of an import.
func fillOurs(ctx context.Context, url string, episodes []*episodic.Episode) error {
	store, err := episodic.Open(ctx, url, direct())
	if err != nil {
		return err
	}
	half := len(episodes) / 2
	for _, part := range [][]*episodic.Episode{episodes[:half], episodes[half:]} {
		if err == nil {
			_, err = store.AddEpisodes(ctx, part...)
		}
		if err == nil {
			_, err = store.TrainDictionaries(ctx)
		}
	}
	return errors.Join(err, store.Close())
}

// far is a side at the end of a link of its own.
type far struct {
	side
	link *hranatest.Link
}

func openFar(ctx context.Context, b *bench, server *hranatest.Server, open opener) (*far, error) {
	link, err := newFarLink(b, server)
	if err != nil {
		return nil, err
	}
	return openThrough(ctx, link, open)
}

// openThrough opens a side at the end of a link, which it owns.
func openThrough(ctx context.Context, link *hranatest.Link, open opener) (*far, error) {
	s, err := open(ctx, link.URL())
	if err != nil {
		link.Close()
		return nil, err
	}
	return &far{s, link}, nil
}

func newFarLink(b *bench, server *hranatest.Server) (*hranatest.Link, error) {
	link, err := hranatest.NewLink(server.URL())
	if err == nil {
		link.SetRTT(b.farRTT())
	}
	return link, err
}

func (b *bench) farRTT() time.Duration {
	if b.short {
		return shortRTT
	}
	return farRTT
}

// close waits for what is under way, which may need the link.
func (f *far) close() error {
	err := f.side.close()
	f.link.Close()
	return err
}

// serverEpisodes are those that servers are filled with, and their ids.
func (r *repeats) serverEpisodes(b *bench) (list []*episodic.Episode, ids []episodic.ID, err error) {
	list, err = r.episodes(0, min(serverEpisodes, b.n))
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return list, ids, err
}

// farPut is a cell of writers, on a new server in each round.
type farPut struct {
	*cell
	ours         bool
	callers      int
	stored, pool []*episodic.Episode
	ids          []episodic.ID // of those stored
	// broken are the rounds in which a call failed, hung those of them in which one
	// did so by hanging. The rival's count up to the last put before that.
	broken, hung int
}

func (p *farPut) measure(ctx context.Context, b *bench, window time.Duration) (_ sample, err error) {
	server, err := startServer(b.dir)
	if err != nil {
		return sample{}, err
	}
	defer server.Kill()
	link, err := hranatest.NewLink(server.URL())
	if err != nil {
		return sample{}, err
	}
	// Through the link: whoever fills the server under another address counts as another
	// machine, which writes for a while.
	if err := fillSide(ctx, link.URL(), p.ours, p.stored); err != nil {
		link.Close()
		return sample{}, fmt.Errorf("fill a server: %w", err)
	}
	link.SetRTT(b.farRTT())
	open := openThem
	if p.ours {
		open = openUs
	}
	f, err := openThrough(ctx, link, open)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, f.close()) }()

	var warm sample
	put := putting(f, p.pool)
	warm.burst(ctx, p.callers, getting(f, p.ids)) // so that there are connections
	warm.burst(ctx, 1, put)                       // what a program does once: see firstCalls
	err = errors.Join(warm.errs...)
	if us, ok := f.side.(*ourSide); ok && err == nil {
		err = us.Sync(ctx, nil) // so that the replica is complete
	}
	if err != nil {
		return warm, err
	}
	have := len(p.stored) + 1
	patience := rivalPatience
	if b.short && !p.ours {
		patience = rivalPatienceShort
	}
	bounded, cancel := context.WithTimeout(ctx, window+patience)
	defer cancel()
	var last atomic.Int64 // put within the window, in ns after the begin
	begin := time.Now()
	s := load(bounded, window, p.callers, func(ctx context.Context, caller int) error {
		err := put(ctx, caller)
		if after := time.Since(begin); err == nil && after <= window {
			last.Store(int64(after))
		}
		return err
	})
	if len(s.errs) == 0 {
		return s, checkHeld(ctx, f, have+len(s.latencies))
	}
	if p.ours || ctx.Err() != nil {
		return s, fmt.Errorf("%d of %d calls failed, the first: %w", len(s.errs), len(s.errs)+len(s.latencies), s.errs[0])
	}
	p.broken++
	if bounded.Err() != nil {
		p.hung++
	}
	if last := time.Duration(last.Load()); last > 0 {
		s.window = last
	}
	server.Kill() // so that nothing waits for an answer that never comes
	return s, nil
}

// serverPuts compares writers on servers of their own.
func serverPuts(ctx context.Context, b *bench, data *repeats) error {
	stored, ids, err := data.serverEpisodes(b)
	if err != nil {
		return err
	}
	pool, err := data.episodes(len(stored), rivalPool)
	if err != nil {
		return err
	}
	newPut := func(callers int, ours bool) *farPut {
		p := &farPut{cell: &cell{name: "put, " + callersOf(callers)}, ours: ours, callers: callers, stored: stored, pool: pool, ids: ids}
		p.cell.measure = func(ctx context.Context, window time.Duration) (sample, error) { return p.measure(ctx, b, window) }
		return p
	}
	var cells []*cell
	var contests []contest
	var rivals []*farPut
	for _, c := range []struct {
		callers int
		least   float64
	}{{1, 1}, {2, 1.3}, {4, 1.3}, {8, 1.5}} {
		us, them := newPut(c.callers, true), newPut(c.callers, false)
		contests = append(contests, contest{us.name, us.cell, them.cell, c.least})
		rivals = append(rivals, them)
		cells = append(cells, us.cell, them.cell)
	}
	many := newPut(manyPuters, true)
	if err := b.interleave(ctx, append(cells, many.cell)...); err != nil {
		return err
	}
	b.printf("\nThe servers hold %d episodes, and are %v away. A program puts one before it is measured, and ours has a complete replica; the table of first calls shows what a new one takes.\n", len(stored), b.farRTT())
	where := fmt.Sprintf("server at %v", b.farRTT())
	b.contests(where, "libsql-client-go", contests)
	for i, p := range rivals {
		if p.broken > 0 {
			b.printf("- %s by libsql-client-go: calls failed in %d of %d rounds, in %d because the server hung; these rounds count up to the last put before that.\n",
				contests[i].name, p.broken, len(p.rounds), p.hung)
		}
	}
	b.printf("- %s: ours %s/s, p50 %s, p99 %s, no errors. Not compared, because the server hangs where as many write by libsql-client-go.\n",
		many.name, digits(many.rate()), ms(many.percentile(0.5)), ms(many.percentile(0.99)))
	return nil
}
