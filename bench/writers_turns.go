package main

import (
	"cmp"
	"slices"
	"time"
)

// turn is a write of a machine: from when to when it was under way at the server, in
// milliseconds of the server's clock, both included.
type turn struct{ machine, from, to int64 }

// overlap is how many machines had a write under way at once.
type overlap struct {
	most int
	at4  time.Duration // spent with 4 or more
}

const (
	crowded  = 4                     // writes at once from which sqld may lose its write lock
	stalled  = 40 * time.Millisecond // that a write takes while the server stalls
	halfTick = time.Millisecond / 2  // turns are compared in these, so that one of 0 ms has a length
)

// overlaps merges the turns of all writers. The second result leaves out what happened
// while a write took so long that the server stalled.
func overlaps(turns []turn) (all, quiet overlap) {
	type edge struct {
		at      int64
		turn    *turn
		opening bool
	}
	var edges []edge
	for i := range turns {
		t := &turns[i]
		edges = append(edges, edge{2 * t.from, t, true}, edge{2*t.to + 1, t, false})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	open := map[int64]int{} // of each machine
	stalls := 0
	for i, e := range edges {
		step := 1
		if !e.opening {
			step = -1
		}
		if open[e.turn.machine] += step; open[e.turn.machine] == 0 {
			delete(open, e.turn.machine)
		}
		if time.Duration(e.turn.to-e.turn.from)*time.Millisecond > stalled {
			stalls += step
		}
		if i+1 == len(edges) || edges[i+1].at == e.at {
			continue // more happens at this moment
		}
		lasts := time.Duration(edges[i+1].at-e.at) * halfTick
		all.add(len(open), lasts)
		if stalls == 0 {
			quiet.add(len(open), lasts)
		}
	}
	return all, quiet
}

func (o *overlap) add(machines int, lasts time.Duration) {
	o.most = max(o.most, machines)
	if machines >= crowded {
		o.at4 += lasts
	}
}
