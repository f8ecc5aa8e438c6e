package cache

import (
	"context"
	"strconv"
	"testing"
)

// BenchmarkHit is what a hit costs; poll_each with a poll that costs nothing.
func BenchmarkHit(b *testing.B) {
	for _, test := range []struct {
		name string
		poll bool
		each bool
	}{{"polling", true, false}, {"ttl_only", false, false}, {"poll_each", true, true}} {
		b.Run(test.name, func(b *testing.B) {
			load := func(context.Context, int64) (Loaded[string, *int], error) {
				return Loaded[string, *int]{Value: new(int), Size: 8, Feed: Feed[string]{Seq: 1}}, nil
			}
			var poll Poll[string]
			if test.poll {
				poll = func(context.Context, int64) (Feed[string], error) { return Feed[string]{Seq: 1}, nil }
			}
			c, err := New[string, *int](poll, Options{PollEveryHit: test.each})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			keys := make([]string, 2000)
			for i := range keys {
				keys[i] = strconv.Itoa(i)
				c.Get(b.Context(), keys[i], load)
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				ctx, i := context.Background(), 0
				for pb.Next() {
					i = (i + 7) % len(keys)
					if _, err := c.Get(ctx, keys[i], load); err != nil {
						b.Error(err)
					}
				}
			})
			if s := c.Stats(); s.Hits < uint64(b.N) {
				b.Errorf("%+v", s)
			}
		})
	}
}
