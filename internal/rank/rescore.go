package rank

import "math"

// Rescored returns what is to be compared by another model than the table: what Compare
// returned, and the best by words. The places of episodes that it adds are those of their
// heads, and their cosines are not numbers.
func (c *Corpus) Rescored(compared []Compared, list *Ranking, q *Query) []Compared {
	key := func(place int64, episode int32) int64 {
		if q.Steps {
			return place
		}
		return int64(episode)
	}
	known := make(map[int64]int, len(compared)+fused)
	for i, n := range compared {
		known[key(n.Place, n.Episode)] = i
	}
	for _, o := range list.To(fused) {
		place := o.Step.Place
		if !q.Steps {
			place = c.Episodes[o.Episode].ID << NumberBits
		}
		if i, is := known[key(place, o.Episode)]; is {
			compared[i].best = true
			continue
		}
		compared = append(compared, Compared{Place: place, Episode: o.Episode, Cosine: math.NaN(), best: true})
	}
	return compared
}

// Rescore puts the cosines of another model, not a number where there is none, in the place
// of those of the table, and leaves out what has neither. They are moved to the mean and
// the spread that the table's cosines have for the same documents: models differ in where their
// cosines lie, and so those of both can be compared.
func Rescore(compared []Compared, cosines []float64) []Compared {
	var n float64
	var old, given moments
	for i := range compared {
		if a, b := compared[i].Cosine, cosines[i]; a == a && b == b {
			n++
			old.add(a)
			given.add(b)
		}
	}
	scale, shift := 1.0, 0.0
	if n > 1 && given.spread(n) > 0 {
		scale = old.spread(n) / given.spread(n)
		shift = old.sum/n - scale*given.sum/n
	}
	kept := compared[:0]
	for i, c := range compared {
		if cosines[i] == cosines[i] {
			c.Cosine = scale*cosines[i] + shift
		}
		if c.Cosine == c.Cosine {
			kept = append(kept, c)
		}
	}
	return kept
}

// moments are the sums of numbers and of their squares.
type moments struct{ sum, squares float64 }

func (m *moments) add(x float64) { m.sum, m.squares = m.sum+x, m.squares+x*x }

// spread is the standard deviation of so many numbers.
func (m *moments) spread(n float64) float64 {
	return math.Sqrt(max(0, m.squares/n-m.sum/n*(m.sum/n)))
}
