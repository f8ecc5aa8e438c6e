package main

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/pool"
)

const millisecond = time.Millisecond

func TestSimulate(t *testing.T) {
	at0 := func(n int, needs time.Duration) []call { return slices.Repeat([]call{{0, needs}}, n) }
	for _, test := range []struct {
		name      string
		min, max  int
		length    time.Duration
		calls     []call
		connTime  time.Duration
		latencies []time.Duration
	}{
		{"no call", 2, 10, time.Second, nil, 2 * time.Second, []time.Duration{}},
		{"one after the other", 1, 1, 100 * millisecond, at0(2, 20*millisecond), 100 * millisecond,
			[]time.Duration{20 * millisecond, 40 * millisecond}},
		{"longer than the trace", 1, 1, 30 * millisecond, at0(2, 20*millisecond), 40 * millisecond,
			[]time.Duration{20 * millisecond, 40 * millisecond}},
		{"the queue is no longer than a dial", 1, 2, 200 * millisecond, at0(2, 50*millisecond), 200 * millisecond,
			[]time.Duration{50 * millisecond, 100 * millisecond}},
		{"the queue outlasts a dial", 1, 2, 200 * millisecond, at0(5, 50*millisecond), 2 * 200 * millisecond,
			[]time.Duration{50 * millisecond, 100 * millisecond, 110 * millisecond, 150 * millisecond, 160 * millisecond}},
		// From 0 to the end of the window.
		{"shrinks", 1, 2, time.Minute, at0(5, 50*millisecond), time.Minute + pool.SizeWindow*pool.SizeTick,
			[]time.Duration{50 * millisecond, 100 * millisecond, 110 * millisecond, 150 * millisecond, 160 * millisecond}},
	} {
		got := simulate(&trace{}, test.length, test.calls, test.min, test.max)
		if got.connTime != test.connTime || !slices.Equal(got.latencies, test.latencies) {
			t.Errorf("%s: %v, %v; not %v, %v", test.name, got.connTime, got.latencies, test.connTime, test.latencies)
		}
	}
}

// What the simulator makes of a load is what the pool makes of it, to the
// nanosecond.
func TestModelIsThePool(t *testing.T) {
	const length = 10 * time.Minute
	size := poolSizes[adaptive]
	for _, tr := range traces {
		if tr.slow != nil && tr.slow(0, 10) > tr.slow(0, 1) {
			continue // the order of callers who get a connection at one moment is not the same twice
		}
		calls := tr.calls(1, length)
		want := simulate(tr, length, calls, size.min, size.max)
		synctest.Test(t, func(t *testing.T) {
			p, err := pool.New(pool.Connector[*int]{
				Dial:  func(ctx context.Context) (*int, error) { return new(int), sleep(ctx, dialTime) },
				Ping:  func(context.Context, *int) error { return nil },
				Close: func(*int) error { return nil },
				Dead:  func(*int) bool { return false },
			}, pool.Options{MinConns: size.min, MaxConns: size.max, MaxWaiters: len(calls), KeepAlive: pool.KeepAlive{Disabled: true}})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Warm(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, failed, err := follow(t.Context(), tr, length, calls, p, func(context.Context, *int) error { return nil })
			if err != nil || len(failed) > 0 {
				t.Fatal(err, failed)
			}
			different := 0
			for i := range calls {
				if got.latencies[i] != want.latencies[i] {
					different++
				}
			}
			if different > 0 || got.connTime != want.connTime {
				t.Errorf("%s: %d of %d latencies differ; connection time %v, simulated %v",
					tr.name, different, len(calls), got.connTime, want.connTime)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
