package vector

import (
	"bytes"
	"cmp"
	"runtime"
	"slices"
)

// Hit is a vector found by a search.
type Hit struct {
	ID     ID
	Cosine float64 // to the query; 0 for a vector of zeros
}

// Filter narrows a search. The zero value finds all.
type Filter struct {
	// Labels, unless nil, says of each label whether its vectors are found; those of
	// labels beyond its end are not.
	Labels []bool
	// IDs, unless nil, are the only vectors that are found, each named once.
	IDs []ID
}

func (f *Filter) allows(label uint32) bool {
	return f.Labels == nil || int(label) < len(f.Labels) && f.Labels[label]
}

// Search returns the limit vectors with the greatest cosine to the query, the greatest
// first; of equal ones that with the lower id first. The query has Dim numbers, and not
// only zeros. All cosines are exact; where sketches choose whose are computed, a vector
// may be missing whose sketch misleads (see shortlist). With Filter.IDs none is.
func (x *Index) Search(query []float32, limit int, f Filter) []Hit {
	if limit < 1 || len(x.at) == 0 {
		return nil
	}
	q := newQuery(query)
	if f.IDs != nil {
		return x.among(q, limit, &f)
	}
	if n := x.shortlist(limit); x.sketcher != nil && n < len(x.at)/2 {
		return x.sketchSearch(q, limit, n, &f)
	}
	return x.all(q, limit, &f)
}

// among computes the cosines of some vectors.
func (x *Index) among(q *query, limit int, f *Filter) []Hit {
	const idsEach = 256
	tops := newTops(limit, max(1, min(runtime.GOMAXPROCS(0), len(f.IDs)/idsEach)))
	parallel(len(tops), func(w int) {
		for n := w; n < len(f.IDs); n += len(tops) {
			if p, known := x.at[f.IDs[n]]; known {
				if b, i := x.find(p); f.allows(b.labels[i]) {
					tops[w].add(Hit{f.IDs[n], q.cosine(&b, i)})
				}
			}
		}
	})
	return merge(tops)
}

// all computes all cosines.
func (x *Index) all(q *query, limit int, f *Filter) []Hit {
	tops := newTops(limit, x.workers())
	overBlocks(x, tops, func(t *top, b *blockRef) {
		for i, id := range b.ids {
			if f.allows(b.labels[i]) {
				t.add(Hit{id, q.cosine(b, i)})
			}
		}
	})
	return merge(tops)
}

// top keeps the best hits.
type top struct {
	limit int
	hits  []Hit // the best, and up to as many others
	floor Hit   // what cannot be less, once there are limit hits
	full  bool
}

func newTops(limit, n int) []top {
	tops := make([]top, n)
	for i := range tops {
		tops[i].limit = limit
	}
	return tops
}

func (t *top) add(h Hit) {
	if t.full && compareHits(h, t.floor) >= 0 {
		return
	}
	if t.hits = append(t.hits, h); len(t.hits) >= 2*t.limit {
		t.cut()
	}
}

func (t *top) cut() {
	slices.SortFunc(t.hits, compareHits)
	if len(t.hits) >= t.limit {
		t.hits = t.hits[:t.limit]
		t.floor, t.full = t.hits[t.limit-1], true
	}
}

// best returns the hits in order.
func (t *top) best() []Hit {
	t.cut()
	return t.hits
}

// merge returns the best of several.
func merge(tops []top) []Hit {
	for _, t := range tops[1:] {
		for _, h := range t.hits {
			tops[0].add(h)
		}
	}
	return tops[0].best()
}

// compareHits sorts the better ones first.
func compareHits(a, b Hit) int {
	return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), bytes.Compare(a.ID[:], b.ID[:]))
}
