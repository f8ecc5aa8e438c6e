package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const readsClaim = "One row of 4 KB by its key, chosen at random, from a libSQL server of this machine: the remote engine against libsql-client-go through database/sql. " +
	"A read's CPU is the user and system time of this process, of which the server is a child. " +
	"Targets: with 32 callers at least 10 times the rate, 12000 reads/s and at most 40 µs of CPU a read; with one caller a p50 of at most 0.45 ms."

const (
	readRow  = 4096 // bytes
	readRows = 500
	readBody = `SELECT body FROM rows WHERE id = ?`
)

// reads is a client that is measured with so many callers.
type reads struct {
	*cell
	callers int
	cpu     time.Duration // of all rounds
}

func read(ctx context.Context, b *bench) (err error) {
	server, err := rowServer(ctx, b)
	if err != nil {
		return err
	}
	defer server.Kill()

	var clients []client
	defer func() { err = errors.Join(err, closeAll(clients)) }()
	var cells []*cell
	var official, ours []*reads
	for _, callers := range []int{1, 8, 32, 128} {
		c, err := openOurs(remote.Config{URL: server.URL()})
		if err != nil {
			return err
		}
		clients = append(clients, c)
		ours = append(ours, newReads("engine.Query", callers, c))
		cells = append(cells, ours[len(ours)-1].cell)
		if callers == 128 { // the streams of the other would be all that the server has
			break
		}
		if c, err = openOfficial(server.URL(), callers); err != nil {
			return err
		}
		clients = append(clients, c)
		official = append(official, newReads("libsql-client-go", callers, c))
		cells = append(cells, official[len(official)-1].cell)
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}

	table := [][]string{{"", "callers", "reads/s", "p50", "p99", "CPU a read", "against libsql-client-go"}}
	for i, r := range ours {
		against := ""
		if i < len(official) {
			table = append(table, official[i].row("1"))
			against = compare(r.cell, official[i].cell).String()
		}
		table = append(table, r.row(against))
	}
	b.table(table...)

	one, many := ours[0], ours[2]
	got := compare(many.cell, official[2].cell)
	b.judge(got.median >= 10, "32 callers at least 10x libsql-client-go", "%v", got)
	b.judge(many.rate() >= 12000, "32 callers at least 12000 reads/s", "%s", digits(many.rate()))
	b.judge(many.cpuEach() <= 40*time.Microsecond, "32 callers at most 40 µs of CPU a read", "%s", us(many.cpuEach()))
	b.judge(one.percentile(0.5) <= 450*time.Microsecond, "one caller's p50 at most 0.45 ms", "%s", ms(one.percentile(0.5)))
	return nil
}

// rowServer runs a server that holds readRows rows, with keys from 1 on.
func rowServer(ctx context.Context, b *bench) (_ *hranatest.Server, err error) {
	server, err := startServer(b.dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			server.Kill()
		}
	}()
	e, err := remote.Open(remote.Config{URL: server.URL()})
	if err != nil {
		return nil, err
	}
	stmts := []engine.Stmt{{SQL: createRows}}
	for i := range readRows {
		stmts = append(stmts, engine.Stmt{SQL: insertRow, Args: []any{b.corpus.row(i, readRow)}})
	}
	_, err = e.Batch(ctx, stmts...)
	return server, errors.Join(err, e.Close())
}

// reader reads rows at random.
func reader(c client) op {
	return func(ctx context.Context, _ int) error {
		v, err := c.ask(ctx, readBody, 1+rand.Int64N(readRows))
		if err != nil {
			return err
		}
		if body, ok := v.(string); !ok || len(body) != readRow {
			return fmt.Errorf("a row is %T of %d bytes", v, len(body))
		}
		return nil
	}
}

func newReads(name string, callers int, c client) *reads {
	r := &reads{cell: loadCell(name, callers, reader(c)), callers: callers}
	measure := r.measure
	r.measure = func(ctx context.Context, window time.Duration) (sample, error) {
		before := cpuTime()
		s, err := measure(ctx, window)
		r.cpu += cpuTime() - before
		return s, err
	}
	return r
}

func (r *reads) cpuEach() time.Duration { return r.cpu / time.Duration(max(r.acknowledged(), 1)) }

func (r *reads) row(against string) []string {
	return []string{r.name, fmt.Sprint(r.callers), digits(r.rate()), ms(r.percentile(0.5)), ms(r.percentile(0.99)), us(r.cpuEach()), against}
}

func us(d time.Duration) string { return digits(d.Seconds()*1e6) + " µs" }
