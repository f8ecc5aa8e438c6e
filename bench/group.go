package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const groupClaim = "32 concurrent writers of 4 KB on a libSQL server that is new for each cell and round: each write a request of its own, over kept connections, " +
	"against `engine.Batch`, which joins them; and whole episodes by `Store.PutEpisode`, from a Store for each writer, which can join nothing and may wedge the server, against one Store for all, for information. " +
	"Targets for the joined rows: at least 8 times the rate, 6000 rows/s, p99 at most 40 ms, " +
	"no caller sees a locked database, everything acknowledged is stored, and the server then answers a write within 1 s."

const (
	groupWriters = 32
	groupRow     = 4096 // bytes
	groupSteps   = 5    // of an episode that takes so many bytes
	groupPool    = 500
	// writeTimeout lies above the 5 s after which a server takes the lock from a
	// hanging writer.
	writeTimeout = 6 * time.Second

	createRows = `CREATE TABLE rows(id INTEGER PRIMARY KEY, body TEXT NOT NULL)`
	insertRow  = `INSERT INTO rows(body) VALUES(?)`
)

// target is a way of writing to a server.
type target struct {
	cell  *cell
	table string // that the rows go to
	open  func(ctx context.Context, url string) (op, func() error, error)

	stored int // rows found on the servers afterwards
	stuck  int // servers that did not answer a write afterwards
}

func group(ctx context.Context, b *bench) error {
	texts := make([]string, groupPool)
	for i := range texts {
		texts[i] = b.corpus.row(i, groupRow)
	}
	pool := b.corpus.episodes(0, groupPool)
	for _, e := range pool {
		e.Steps = e.Steps[:groupSteps]
	}

	single := &target{cell: &cell{name: "a request each"}, table: "rows", open: func(ctx context.Context, url string) (op, func() error, error) {
		return writeSingly(ctx, url, texts)
	}}
	joined := &target{cell: &cell{name: "engine.Batch"}, table: "rows", open: func(ctx context.Context, url string) (op, func() error, error) {
		return writeJoined(ctx, url, texts)
	}}
	apart := &target{cell: &cell{name: "PutEpisode, a Store each"}, table: "episodes", open: func(ctx context.Context, url string) (op, func() error, error) {
		return putApart(ctx, url, pool)
	}}
	episodes := &target{cell: &cell{name: "PutEpisode, one Store"}, table: "episodes", open: func(ctx context.Context, url string) (op, func() error, error) {
		store, err := episodic.Open(ctx, url, direct())
		if err != nil {
			return nil, nil, err
		}
		return putter(store, pool), store.Close, nil
	}}
	targets := []*target{single, joined, apart, episodes}
	var cells []*cell
	for _, t := range targets {
		t.cell.measure = func(ctx context.Context, window time.Duration) (sample, error) { return t.measure(ctx, b.dir, window) }
		cells = append(cells, t.cell)
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}

	table := [][]string{{"", "a second", "p50", "p99", "errors", "of them locked", "servers stuck", "against not joined"}}
	for _, t := range targets {
		c, baseline := t.cell, single.cell
		if t.table == "episodes" {
			baseline = apart.cell
		}
		errs, locked := c.failures()
		table = append(table, []string{
			c.name, digits(c.rate()), ms(c.percentile(0.5)), ms(c.percentile(0.99)), fmt.Sprint(errs), fmt.Sprint(locked),
			fmt.Sprintf("%d of %d", t.stuck, len(c.rounds)), compare(c, baseline).String(),
		})
	}
	b.table(table...)

	c, got := joined.cell, compare(joined.cell, single.cell)
	errs, locked := c.failures()
	b.judge(got.median >= 8, "joined at least 8x a request each", "%v", got)
	b.judge(c.rate() >= 6000, "at least 6000 rows/s", "%s", digits(c.rate()))
	b.judge(c.percentile(0.99) <= 40*time.Millisecond, "p99 at most 40 ms", "%s", ms(c.percentile(0.99)))
	b.judge(errs == 0, "no caller sees an error", "%d errors, %d of a locked database", errs, locked)
	for _, t := range []*target{joined, episodes} {
		n := t.cell.acknowledged()
		b.judge(t.stored >= n, "every write that "+t.cell.name+" acknowledged is stored", "%d acknowledged, %d stored", n, t.stored)
	}
	b.judge(joined.stuck == 0, "the server then answers a write within 1 s", "%d of %d did not", joined.stuck, len(c.rounds))
	return nil
}

// measure writes to a new server, and then looks what became of it.
func (t *target) measure(ctx context.Context, dir string, window time.Duration) (_ sample, err error) {
	dir, err = os.MkdirTemp(dir, "group-")
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := hranatest.Run(dir)
	if err != nil {
		return sample{}, err
	}
	defer server.Kill()
	write, closeWriter, err := t.open(ctx, server.URL())
	if err != nil {
		return sample{}, err
	}
	s := load(ctx, window, groupWriters, func(ctx context.Context, caller int) error {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		return write(ctx, caller)
	})

	after, err := remote.Open(remote.Config{URL: server.URL()})
	if err != nil {
		return s, err
	}
	probe, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := after.Batch(probe, engine.Stmt{SQL: "CREATE TABLE probe(k)"}); err != nil {
		t.stuck++
	} else {
		r, err := after.Query(ctx, engine.Stmt{SQL: "SELECT count(*) FROM " + t.table})
		if err != nil {
			return s, err
		}
		t.stored += int(r[0].Rows[0][0].(int64))
	}
	server.Kill() // so that nothing waits for an answer that never comes
	return s, errors.Join(after.Close(), closeWriter())
}

// putApart stores episodes from a Store for each writer, as if each were a program
// of its own.
func putApart(ctx context.Context, url string, pool []*episodic.Episode) (op, func() error, error) {
	var stores [groupWriters]*episodic.Store
	var puts [groupWriters]op
	closeAll := func() (err error) {
		for _, s := range stores {
			if s != nil {
				err = errors.Join(err, s.Close())
			}
		}
		return err
	}
	for i := range stores {
		var err error
		if stores[i], err = episodic.Open(ctx, url, direct()); err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		puts[i] = putter(stores[i], pool)
	}
	return func(ctx context.Context, caller int) error { return puts[caller](ctx, caller) }, closeAll, nil
}

// writeSingly is how a program writes that sends what it has when it has it.
func writeSingly(ctx context.Context, url string, texts []string) (op, func() error, error) {
	client, err := hrana.NewClient(url, nil)
	if err != nil {
		return nil, nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: groupWriters, DisableCompression: true}
	send := func(ctx context.Context, stmt hrana.Stmt) error {
		answer, err := client.Do(ctx, transport, hrana.Pipeline{Requests: []hrana.Request{hrana.Execute{Stmt: stmt}, hrana.Close{}}})
		if err != nil {
			return err
		}
		if err := answer.Results[0].Err; err != nil {
			return err
		}
		return nil
	}
	next := counter()
	write := func(ctx context.Context, _ int) error {
		return send(ctx, hrana.Stmt{SQL: insertRow, Args: []any{texts[next()%len(texts)]}})
	}
	closeIdle := func() error { transport.CloseIdleConnections(); return nil }
	return write, closeIdle, send(ctx, hrana.Stmt{SQL: createRows})
}

func writeJoined(ctx context.Context, url string, texts []string) (op, func() error, error) {
	e, err := remote.Open(remote.Config{URL: url})
	if err != nil {
		return nil, nil, err
	}
	next := counter()
	write := func(ctx context.Context, _ int) error {
		_, err := e.Batch(ctx, engine.Stmt{SQL: insertRow, Args: []any{texts[next()%len(texts)]}})
		return err
	}
	_, err = e.Batch(ctx, engine.Stmt{SQL: createRows})
	return write, e.Close, err
}
