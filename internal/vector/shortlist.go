package vector

import (
	"math"
	"slices"
)

// shortlist returns how many vectors the sketches choose for a search. It grows with the
// root of their number, because the more there are the closer they lie. Measured with
// vectors of sentences of 384 and 100 numbers (latent semantic analysis), recall of the
// ten nearest is 0.999 and more for 10,000 to 220,000 of them; with 100,000 vectors of
// 100 random numbers, which have no near ones, it is 0.92.
func (x *Index) shortlist(limit int) int {
	return (limit + 10) * max(10, int(math.Sqrt(float64(len(x.at))))/12)
}

// sketchSearch computes the cosines of the n vectors whose sketches are nearest to that
// of the query, and of those that are as near as the last of them.
func (x *Index) sketchSearch(q *query, limit, n int, f *Filter) []Hit {
	sketch := x.sketcher.sketch(q.unit, 1, x.sketcher.newScratch())
	lists := make([]candidates, x.workers())
	for i := range lists {
		lists[i] = candidates{want: n, most: 64 * len(sketch), counts: make([]int, 64*len(sketch)+1), distances: make([]int32, blockVectors)}
	}
	overBlocks(x, lists, func(c *candidates, b *blockRef) {
		c.distances = c.distances[:len(b.ids)]
		distances(c.distances, b.sketches, b.perBlock, sketch)
		for i, d := range c.distances {
			if int(d) <= c.most && f.allows(b.labels[i]) {
				c.add(candidate{b, int32(i), d})
			}
		}
	})
	most := farthest(lists, n)
	tops := newTops(limit, len(lists))
	parallel(len(lists), func(w int) {
		for _, c := range lists[w].found {
			if int(c.distance) <= most {
				tops[w].add(Hit{c.block.ids[c.i], q.cosine(c.block, int(c.i))})
			}
		}
	})
	return merge(tops)
}

// candidates are what a goroutine has found of the vectors with the nearest sketches.
type candidates struct {
	want      int
	most      int   // the distance beyond which none can be among the nearest
	counts    []int // of those found, by distance up to most
	kept      int   // the sum of counts
	found     []candidate
	distances []int32 // scratch memory
}

type candidate struct {
	block    *blockRef
	i        int32
	distance int32
}

func (c *candidates) add(found candidate) {
	c.found = append(c.found, found)
	c.counts[found.distance]++
	c.kept++
	for c.kept-c.counts[c.most] >= c.want {
		c.kept -= c.counts[c.most]
		c.most--
	}
	if len(c.found) == cap(c.found) && len(c.found) >= 2*c.kept {
		c.found = slices.DeleteFunc(c.found, func(old candidate) bool { return int(old.distance) > c.most })
	}
}

// farthest returns the distance within which there are at least n candidates, or the
// greatest of all if there are fewer.
func farthest(lists []candidates, n int) int {
	within, most := 0, 0
	for _, c := range lists {
		most = max(most, c.most)
	}
	for d := range most {
		for _, c := range lists {
			if d <= c.most {
				within += c.counts[d]
			}
		}
		if within >= n {
			return d
		}
	}
	return most
}
