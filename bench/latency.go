package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const latencyClaim = "What a call costs far from the server. First, `SELECT 1` at a round trip (RTT) of 40 ms over TLS, in bursts of 10 calls at once with pauses of 0.1 s; every round is a new client and 80 calls. " +
	"The remote engine against the same requests on a connection each, and against libsql-client-go through database/sql, on HTTP/1.1 and on HTTP/2. " +
	"Requests are counted at the far end, connections on the link. " +
	"Targets: a p50 at least 60 % below the first two and 10 % below the third; at most 1.02 requests a call; never more than 10 connections in a round. " +
	"Then, 32 callers that each read one row of 4 KB after the other at 20 ms, without TLS. Target: a p50 of at most 1.25 RTT once the pool has grown."

const (
	burstRTT     = 40 * time.Millisecond
	burstCallers = 10
	burstsARound = 8
	burstPause   = 100 * time.Millisecond

	farRTT     = 20 * time.Millisecond
	farCallers = 32
	farWarmUp  = 5 * time.Second
)

func latency(ctx context.Context, b *bench) error {
	server, err := rowServer(ctx, b)
	if err != nil {
		return err
	}
	defer server.Kill()
	if err := bursts(ctx, b, server); err != nil {
		return err
	}
	return farReads(ctx, b, server)
}

func bursts(ctx context.Context, b *bench, server *hranatest.Server) error {
	official := func(url string) (client, error) { return openOfficial(url, burstCallers) }
	ours := func(url string) (client, error) { return openOurs(remote.Config{URL: url}) }
	trips := []*trip{
		{cell: &cell{name: "a connection each"}, open: func(url string) (client, error) { return openNetHTTP(url, false) }},
		{cell: &cell{name: "libsql-client-go, HTTP/1.1"}, open: official},
		{cell: &cell{name: "libsql-client-go, HTTP/2"}, open: official, http2: true},
		{cell: &cell{name: "engine.Query"}, open: ours},
	}
	times := burstsARound
	if b.short {
		times = 1
	}
	var cells []*cell
	for _, t := range trips {
		var err error
		if t.road, err = newRoad(server.URL(), burstRTT, t.http2); err != nil {
			return err
		}
		defer t.road.close()
		t.measure = func(ctx context.Context, _ time.Duration) (sample, error) {
			return t.run(ctx, burstCallers, times, burstPause)
		}
		cells = append(cells, t.cell)
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}

	us := trips[len(trips)-1]
	table := [][]string{{"", "p50", "p99", "requests a call", "connections a round", "p50 of the engine"}}
	for _, t := range trips {
		conns := fmt.Sprintf("%d to %d", slices.Min(t.conns), slices.Max(t.conns))
		against := ""
		if t != us {
			against = percents(slower(us.cell, t.cell))
		}
		table = append(table, []string{t.name, ms(t.percentile(0.5)), ms(t.percentile(0.99)), fmt.Sprintf("%.3f", t.requestsEach()), conns, against})
	}
	b.table(table...)
	for i, part := range []float64{0.6, 0.6, 0.1} {
		got := slower(us.cell, trips[i].cell)
		b.judge(got.median <= -part, fmt.Sprintf("p50 at least %.0f %% below %s", 100*part, trips[i].name), "%s", percents(got))
	}
	b.judge(us.requestsEach() <= 1.02, "at most 1.02 requests a call", "%d for %d calls", us.road.requests.Load(), us.acknowledged())
	b.judge(slices.Max(us.conns) <= burstCallers, fmt.Sprintf("never more than %d connections in a round", burstCallers), "at most %d", slices.Max(us.conns))
	return nil
}

func farReads(ctx context.Context, b *bench, server *hranatest.Server) (err error) {
	link, err := hranatest.NewLink(server.URL())
	if err != nil {
		return err
	}
	defer link.Close()
	link.SetRTT(farRTT)
	var clients []client
	defer func() { err = errors.Join(err, closeAll(clients)) }()
	official, err := openOfficial(link.URL(), farCallers)
	if err != nil {
		return err
	}
	clients = append(clients, official)
	ours, err := openOurs(remote.Config{URL: link.URL()})
	if err != nil {
		return err
	}
	clients = append(clients, ours)

	other := loadCell("libsql-client-go", farCallers, reader(official))
	us := loadCell("engine.Query", farCallers, reader(ours))
	warm := farWarmUp
	if b.short {
		warm = 0
	}
	for _, c := range []*cell{other, us} {
		if _, err := c.measure(ctx, warm); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if err := b.interleave(ctx, other, us); err != nil {
		return err
	}
	table := [][]string{{"", "reads/s", "p50", "p99"}}
	for _, c := range []*cell{other, us} {
		table = append(table, []string{c.name, digits(c.rate()), ms(c.percentile(0.5)), ms(c.percentile(0.99))})
	}
	b.table(table...)
	p50 := us.percentile(0.5)
	b.judge(p50 <= farRTT*5/4, fmt.Sprintf("%d callers' p50 at most 1.25 RTT", farCallers), "%s, %.2f RTT", ms(p50), p50.Seconds()/farRTT.Seconds())
	return nil
}
