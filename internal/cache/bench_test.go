package cache

import (
	"context"
	"strconv"
	"testing"
	"time"
)

// BenchmarkHit is what a hit costs; poll_each with a poll that costs nothing.
func BenchmarkHit(b *testing.B) {
	for _, test := range []struct {
		name     string
		poll     bool
		interval time.Duration
	}{{"clock", true, 0}, {"ttl_only", false, 0}, {"poll_each", true, -1}} {
		b.Run(test.name, func(b *testing.B) {
			source := Source[string, *int]{Load: func(context.Context, string, int64) (Loaded[*int], error) {
				return Loaded[*int]{Value: new(int), Cost: 8, Look: Look{Seq: 1}}, nil
			}}
			if test.poll {
				source.Poll = func(context.Context, int64) (Look, error) { return Look{Seq: 1}, nil }
			}
			c, err := New(source, Options{PollInterval: test.interval})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			keys := make([]string, 2000)
			for i := range keys {
				keys[i] = strconv.Itoa(i)
				c.Get(b.Context(), keys[i])
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				ctx, i := context.Background(), 0
				for pb.Next() {
					i = (i + 7) % len(keys)
					if _, err := c.Get(ctx, keys[i]); err != nil {
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
