package rank

import "cmp"

// Ranking is candidates that are put in order as they are asked for: a search for common words
// has as many as there are episodes, and shows ten. It is not safe for concurrent use.
type Ranking struct {
	corpus *Corpus
	all    []Candidate // in no order
	best   []Candidate // those in order
	others []scoredAt  // a heap of those that are not in best, the best on top
}

// scoredAt is a candidate by its score and its place in Ranking.all. Numbers are moved faster than
// candidates.
type scoredAt struct {
	score float64
	at    int
}

func newRanking(c *Corpus, all []Candidate) *Ranking {
	r := &Ranking{corpus: c, all: all, others: make([]scoredAt, len(all))}
	for i := range all {
		r.others[i] = scoredAt{all[i].Score, i}
	}
	for i := len(all)/2 - 1; i >= 0; i-- {
		r.sink(i)
	}
	return r
}

// Len is how many candidates there are.
func (r *Ranking) Len() int { return len(r.all) }

// To returns the best n candidates, or all if they are fewer, the best first.
func (r *Ranking) To(n int) []Candidate {
	for len(r.best) < n && len(r.others) > 0 {
		r.best = append(r.best, r.all[r.others[0].at])
		last := len(r.others) - 1
		r.others[0] = r.others[last]
		r.others = r.others[:last]
		r.sink(0)
	}
	return r.best[:min(n, len(r.best))]
}

// sink moves what stands at a place of the heap to where nothing below it is better.
func (r *Ranking) sink(i int) {
	for {
		child := 2*i + 1
		if child >= len(r.others) {
			return
		}
		if right := child + 1; right < len(r.others) && r.better(right, child) {
			child = right
		}
		if !r.better(child, i) {
			return
		}
		r.others[i], r.others[child] = r.others[child], r.others[i]
		i = child
	}
}

// better compares what stands at two places of the heap.
func (r *Ranking) better(i, j int) bool {
	a, b := r.others[i], r.others[j]
	if a.score != b.score { // nearly always
		return a.score > b.score
	}
	x, y := &r.all[a.at], &r.all[b.at]
	return cmp.Or(cmp.Compare(r.corpus.Episodes[x.Episode].ID, r.corpus.Episodes[y.Episode].ID), cmp.Compare(x.Step.Place, y.Step.Place)) < 0
}
