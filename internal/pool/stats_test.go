package pool

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	bounds := HistogramBounds()
	for _, d := range bounds {
		h.add(d)     // in its bucket
		h.add(d + 1) // in the next one
	}
	for i, n := range h.Buckets {
		want := uint64(2)
		if i == 0 || i == len(bounds) {
			want = 1
		}
		if n != want {
			t.Errorf("bucket %d has %d", i, n)
		}
	}
	bounds[0] = time.Hour
	if h.Count != uint64(2*len(bounds)) || HistogramBounds()[0] == time.Hour {
		t.Errorf("count %d, bounds %v", h.Count, HistogramBounds())
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range CloseReason(CloseReasons) {
		seen["closed "+r.String()] = true
	}
	for r := range StaleReason(StaleReasons) {
		seen["stale "+r.String()] = true
	}
	for r := range SizeIdleShutdown + 1 {
		seen["size "+r.String()] = true
	}
	if want := CloseReasons + StaleReasons + int(SizeIdleShutdown) + 1; len(seen) != want || seen["closed "] || seen["stale "] || seen["size "] {
		t.Errorf("%d names for %d reasons: %v", len(seen), want, seen)
	}
}
