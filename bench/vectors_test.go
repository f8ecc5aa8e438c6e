package main

import (
	"slices"
	"testing"
)

func TestRepeated(t *testing.T) {
	set := clusters("few", 20, 5, 0)
	few := repeated(set, 10, 3)
	if len(few.base) != 10 || len(few.queries) != 3 || few.name != "sentences" {
		t.Errorf("%d vectors, %d queries, %q", len(few.base), len(few.queries), few.name)
	}
	many := repeated(set, 50, 9)
	if len(many.base) != 50 || len(many.queries) != 5 || many.name != "sentences, changed" {
		t.Fatalf("%d vectors, %d queries, %q", len(many.base), len(many.queries), many.name)
	}
	var same, near int
	for _, v := range many.base {
		best := 0.0
		for _, of := range set.base {
			best = max(best, dot8(v, of))
		}
		switch {
		case slices.ContainsFunc(set.base, func(of []float32) bool { return slices.Equal(v, of) }):
			same++
		case best > 0.9 && best < 0.99: // a third of its length at a right angle makes it .95
			near++
		}
	}
	if same != 20 || near != 30 {
		t.Errorf("%d are as they were, %d near", same, near)
	}
}

func TestKeep(t *testing.T) {
	var best []neighbour
	for i := range 50 {
		best = keep(best, neighbour{i, float64(i * 7 % 50)})
	}
	if len(best) != vectorNearest || !slices.IsSortedFunc(best, func(a, b neighbour) int { return int(b.cosine - a.cosine) }) || best[0].cosine != 49 || best[9].cosine != 40 {
		t.Errorf("the ten best are %v", best)
	}
}

func TestNearestRare(t *testing.T) {
	set := clusters("many", 2000, 5, 0)
	exact, err := nearestRare(set)
	if err != nil {
		t.Fatal(err)
	}
	for k, q := range set.queries {
		var best []neighbour
		for i, v := range set.base {
			if rare(i) {
				best = keep(best, neighbour{i, dot(q, v)})
			}
		}
		if want := numbers(best); !slices.Equal(exact[k], want) {
			t.Errorf("query %d: %v, want %v", k, exact[k], want)
		}
	}
}
