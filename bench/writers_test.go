package main

import (
	"testing"
	"time"
)

func TestOverlaps(t *testing.T) {
	const ms = time.Millisecond
	five := []turn{{1, 10, 12}, {2, 11, 14}, {3, 12, 13}, {4, 12, 12}, {1, 12, 13}}
	stall := turn{9, 0, 41}
	tests := []struct {
		name       string
		turns      []turn
		all, quiet overlap
	}{
		{"none", nil, overlap{}, overlap{}},
		{"one of no length", []turn{{1, 5, 5}}, overlap{1, 0}, overlap{1, 0}},
		{"one after the other", []turn{{1, 5, 6}, {2, 7, 8}}, overlap{1, 0}, overlap{1, 0}},
		{"within the same millisecond", []turn{{1, 5, 6}, {2, 6, 8}}, overlap{2, 0}, overlap{2, 0}},
		{"twice the same machine", []turn{{1, 5, 9}, {1, 6, 8}}, overlap{1, 0}, overlap{1, 0}},
		{"four at once", five, overlap{4, ms / 2}, overlap{4, ms / 2}},
		{"in a stall", append(five, stall), overlap{5, 3 * ms / 2}, overlap{}},
		{"before a stall", append(five, turn{9, 13, 60}), overlap{4, ms}, overlap{4, ms / 2}},
	}
	for _, tt := range tests {
		if all, quiet := overlaps(tt.turns); all != tt.all || quiet != tt.quiet {
			t.Errorf("%s: %v, without stalls %v; want %v and %v", tt.name, all, quiet, tt.all, tt.quiet)
		}
	}
}
