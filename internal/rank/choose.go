package rank

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"sort"
)

// span is documents of a part that follow one another.
type span struct{ from, to int32 }

// chosen returns the documents of each part whose episodes are chosen; nil chooses all.
func (c *Corpus) chosen(only []bool) [][]span {
	within := make([][]span, len(c.Parts))
	for i, part := range c.Parts {
		if only == nil {
			within[i] = []span{{0, int32(len(part.Places))}}
			continue
		}
		last, spans := false, []span(nil)
		for doc, e := range part.Episode {
			chosen := e >= 0 && only[e]
			switch {
			case chosen && last:
				spans[len(spans)-1].to++
			case chosen:
				spans = append(spans, span{int32(doc), int32(doc) + 1})
			}
			last = chosen
		}
		within[i] = spans
	}
	return within
}

// in returns the postings of the documents in each of some spans. What lies between is passed
// by search.
func in(spans []span, list []Posting) iter.Seq[[]Posting] {
	return func(yield func([]Posting) bool) {
		for _, s := range spans {
			list = list[before(list, s.from):]
			n := before(list, s.to)
			if n > 0 && !yield(list[:n]) || n == len(list) {
				return
			}
			list = list[n:]
		}
	}
}

// before returns how many of the postings are of documents before one.
func before(list []Posting, doc int32) int {
	if len(list) == 0 || list[0].Doc >= doc {
		return 0
	}
	if list[len(list)-1].Doc < doc {
		return len(list)
	}
	from, to := 0, 1 // list[from] is before
	for list[to].Doc < doc {
		from, to = to, min(2*to, len(list)-1)
	}
	return from + sort.Search(to-from, func(i int) bool { return list[from+i].Doc >= doc })
}

// scored is a document with its score.
type scored struct {
	part, doc int32
	score     float32
}

// greatest returns the documents with the greatest scores above 0, the best first: at most so
// many, of equals the first ones.
func greatest(scores [][]float32, within [][]span, most int) []scored {
	// The bits of a positive number grow with it, so the upper ones are a class of numbers.
	const lower, classes = 18, 1 << (31 - 18)
	var sizes [classes]int32
	for i := range scores {
		for _, s := range within[i] {
			for _, score := range scores[i][s.from:s.to] {
				if score > 0 {
					sizes[math.Float32bits(score)>>lower]++
				}
			}
		}
	}
	n, class := 0, classes
	for n < most && class > 0 {
		class--
		n += int(sizes[class])
	}
	least := math.Float32frombits(uint32(class) << lower)
	kept := make([]scored, 0, n)
	for i := range scores {
		for _, s := range within[i] {
			for doc := s.from; doc < s.to; doc++ {
				if score := scores[i][doc]; score >= least && score > 0 {
					kept = append(kept, scored{int32(i), doc, score})
				}
			}
		}
	}
	slices.SortFunc(kept, func(a, b scored) int {
		if a.score != b.score {
			return cmp.Compare(b.score, a.score)
		}
		return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.doc, b.doc))
	})
	return kept[:min(most, len(kept))]
}
