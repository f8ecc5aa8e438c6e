package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/pool"
)

const keepaliveClaim = "A call every 9 s over a link that closes connections after 8 s of silence, at a round trip of 40 ms over TLS: net/http with a kept connection, the remote engine without pings, and with a ping after 5 s. " +
	"Both engines have one connection. The first call is not counted. " +
	"Targets: with pings no connection beside the first, and a p50 at least 40 % below that of net/http."

const (
	silentRTT   = 40 * time.Millisecond
	silentAfter = 8 * time.Second // the link closes an idle connection
	silentEach  = 9 * time.Second // a call
	silentPing  = 5 * time.Second
	silentCalls = 5
)

func keepalive(ctx context.Context, b *bench) error {
	server, err := rowServer(ctx, b)
	if err != nil {
		return err
	}
	defer server.Kill()
	one := func(k pool.KeepAlive) func(url string) (client, error) {
		return func(url string) (client, error) {
			return openOurs(remote.Config{URL: url, Pool: pool.Options{MinConns: 1, MaxConns: 1, KeepAlive: k}})
		}
	}
	calls, each := silentCalls, silentEach
	if b.short {
		calls, each = 2, 100*time.Millisecond
	}
	trips := []*trip{
		{cell: &cell{name: "net/http"}, open: func(url string) (client, error) { return openNetHTTP(url, true) }},
		{cell: &cell{name: "engine.Query without pings"}, open: one(pool.KeepAlive{Disabled: true})},
		{cell: &cell{name: "engine.Query with pings"}, open: one(pool.KeepAlive{Interval: silentPing})},
	}
	for _, t := range trips {
		if t.road, err = newRoad(server.URL(), silentRTT, false); err != nil {
			return err
		}
		defer t.road.close()
		t.road.link.IdleClose(silentAfter)
	}
	// All at once: they are silent nearly all of the time.
	var wg sync.WaitGroup
	errs := make([]error, len(trips))
	for i, t := range trips {
		wg.Go(func() {
			s, err := t.run(ctx, 1, calls, each)
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", t.name, err)
				return
			}
			s.latencies = s.latencies[1:] // the first call had to dial
			t.rounds = []sample{s}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}

	plain, pinged := trips[0], trips[2]
	table := [][]string{{"", "p50", "worst", "connections", "requests"}}
	for _, t := range trips {
		table = append(table, []string{t.name, ms(t.percentile(0.5)), ms(t.percentile(1)), fmt.Sprint(t.conns[0]), fmt.Sprint(t.road.requests.Load())})
	}
	b.table(table...)
	b.judge(pinged.conns[0] == 1, "with pings no connection beside the first", "%d connections", pinged.conns[0])
	got := slower(pinged.cell, plain.cell)
	b.judge(got.median <= -0.4, "p50 at least 40 % below net/http", "%s", percents(got))
	return nil
}
