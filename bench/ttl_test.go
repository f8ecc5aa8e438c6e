package main

import (
	"context"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
)

func TestTTLModel(t *testing.T) {
	const s, minute = time.Second, time.Minute
	reads := func(all ...access) []access { return all }
	for _, test := range []struct {
		name   string
		rule   ttlRule
		feed   bool
		room   int
		reads  []access
		writes []time.Duration // of key 0
		want   ttlOutcome
	}{
		{"expires", fixedTTL(minute), false, 9, reads(access{0, 0}, access{59 * s, 0}, access{60 * s, 0}), nil,
			ttlOutcome{hits: 1, loads: 2, held: 2 * minute}},
		{"the one not read for longest goes", fixedTTL(minute), false, 2,
			reads(access{0, 0}, access{1 * s, 1}, access{2 * s, 0}, access{3 * s, 2}, access{4 * s, 0}, access{5 * s, 1}), nil,
			ttlOutcome{hits: 2, loads: 4, held: minute + 2*s + 2*s + minute}},
		{"stale since the first write", fixedTTL(minute), false, 9, reads(access{0, 0}, access{10 * s, 0}, access{30 * s, 0}), []time.Duration{15 * s, 20 * s},
			ttlOutcome{hits: 2, loads: 1, stale: []time.Duration{15 * s}, held: minute}},
		{"a poll shows the write", fixedTTL(minute), true, 9, reads(access{0, 0}, access{10 * s, 0}, access{14 * s, 0}, access{16 * s, 0}), []time.Duration{13 * s},
			ttlOutcome{hits: 2, loads: 2, polls: 2, stale: []time.Duration{1 * s}, held: 16*s + minute}},
		{"so does a load", fixedTTL(minute), true, 9, reads(access{0, 0}, access{2 * s, 1}, access{3 * s, 0}), []time.Duration{s},
			ttlOutcome{hits: 0, loads: 3, held: 2*s + 2*minute}},
		{"the original: two hits shorten", original{}, false, 9, reads(access{0, 0}, access{s, 0}, access{2 * s, 0}, access{169 * s, 0}), nil,
			ttlOutcome{hits: 2, loads: 2, held: 168750*time.Millisecond + 5*minute}},
		{"the original: the tenth lengthens", original{}, false, 9, append(slices.Repeat(reads(access{0, 0}), 11), access{200 * s, 0}, access{220 * s, 0}), nil,
			ttlOutcome{hits: 12, loads: 1, held: 329589843750}},
	} {
		trace := &readTrace{length: time.Hour, reads: test.reads, writesOf: [][]time.Duration{test.writes, nil, nil}}
		for _, at := range test.writes {
			trace.writes = append(trace.writes, access{at, 0})
		}
		test.want.length = time.Hour
		got := trace.simulate(test.rule, test.feed, 5*s, test.room)
		if got.hits != test.want.hits || got.loads != test.want.loads || got.polls != test.want.polls ||
			got.held != test.want.held || !slices.Equal(got.stale, test.want.stale) {
			t.Errorf("%s: %+v, not %+v", test.name, *got, test.want)
		}
	}
}

// What the simulator makes of a trace is what package cache makes of it, but for
// jitter, which is not the same twice.
func TestTTLModelIsTheCache(t *testing.T) {
	const length = 2 * time.Hour
	trace := newReadTrace(writeMixes[0], 1, length)
	o := cache.Options{PollInterval: ttlPoll, MaxBytes: 1 << 40}
	for _, feed := range []bool{true, false} {
		rule := newNextTTL(o.WithDefaults())
		if !feed {
			rule = newNextTTL(o.WithDefaults().WithoutFeed())
		}
		want := trace.simulate(rule, feed, ttlPoll, math.MaxInt)
		synctest.Test(t, func(t *testing.T) {
			versions, seq := make([]uint64, ttlKeys), int64(0)
			read := func(since int64) cache.Feed[int] {
				f := cache.Feed[int]{Seq: seq}
				for i := since; since > 0 && i < seq; i++ {
					f.Changes = append(f.Changes, cache.Change[int]{Key: trace.writes[i].key, Seq: i + 1})
				}
				return f
			}
			poll := func(_ context.Context, since int64) (cache.Feed[int], error) { return read(since), nil }
			if !feed {
				poll = nil
			}
			c, err := cache.New[int, uint64](poll, o)
			if err != nil {
				t.Fatal(err)
			}
			begin, stale := time.Now(), 0
			for _, access := range trace.reads {
				time.Sleep(access.at - time.Since(begin))
				for seq < int64(len(trace.writes)) && trace.writes[seq].at <= access.at {
					versions[trace.writes[seq].key]++
					seq++
				}
				got, err := c.Get(t.Context(), access.key, func(_ context.Context, since int64) (cache.Loaded[int, uint64], error) {
					return cache.Loaded[int, uint64]{Value: versions[access.key], Feed: read(since)}, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if got.Value != versions[access.key] {
					stale++
				}
			}
			stats := c.Stats()
			c.Close()
			for _, count := range []struct {
				name                 string
				got, want, tolerance float64
			}{
				{"hits", float64(stats.Hits), float64(want.hits), 0.003},
				{"loads", float64(stats.Misses), float64(want.loads), 0.003},
				{"stale hits", float64(stale), float64(len(want.stale)), 0.15},
			} {
				if math.Abs(count.got-count.want) > count.tolerance*count.want+10 {
					t.Errorf("feed %v, %s: %.0f, simulated %.0f", feed, count.name, count.got, count.want)
				}
			}
		})
	}
}
