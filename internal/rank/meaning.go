package rank

import (
	"cmp"
	"math"
	"slices"
)

// Meaning compares what documents mean, of which Part.Codes tell, with what is asked for.
type Meaning interface {
	// Differing is a quick measure, in bits; fewer are nearer.
	Differing(code *[4]uint64) int
	// Cosine is a better one, from -1 to 1.
	Cosine(code *[4]uint64) float64
}

const (
	codeBits = 256
	// fused is how many of the best by words, and of the best by meaning, are fused.
	fused = 200
	// sought is how many steps nearest in meaning are looked at: what is beside a step
	// counts too, so that not all of them are among the best.
	sought = 300
)

// Compared is a document with the cosine between its meaning and what is asked for.
type Compared struct {
	Place   int64
	Episode int32
	Cosine  float64
	best    bool // it may be a hit; the others are beside one that may

	part, doc int32 // where it is in the corpus, of what near returned
}

// Compare returns what Fuse needs of the meaning of documents: of steps those that are
// nearest, those that are best by words, and those beside them; if episodes are asked
// for, the nearest document of each of the nearest episodes. list is ranked by words.
func (c *Corpus) Compare(list *Ranking, q *Query, p *Params) []Compared {
	near := c.near(q)
	if !q.Steps {
		return near
	}
	at := make(map[int64]int, 4*len(near))
	var all []Compared
	add := func(part, doc int32, best bool) {
		from := c.Parts[part]
		code := &from.Codes[doc]
		i, known := at[from.Places[doc]]
		switch {
		case known:
			all[i].best = all[i].best || best
		case *code != [4]uint64{}:
			at[from.Places[doc]] = len(all)
			all = append(all, Compared{Place: from.Places[doc], Episode: from.Episode[doc], Cosine: q.Meaning.Cosine(code), best: best})
		}
	}
	seed := func(part, doc int32) {
		add(part, doc, true)
		for k := range p.Neighbour {
			for _, distance := range [...]int{-k - 1, k + 1} {
				if part, doc, ok := c.beside(scored{part: part, doc: doc}, distance); ok {
					add(part, doc, false)
				}
			}
		}
	}
	for _, n := range near {
		seed(n.part, n.doc)
	}
	for _, o := range list.To(fused) {
		if part, doc, ok := c.find(o.Step.Place); ok {
			seed(part, doc)
		}
	}
	return all
}

// near returns the steps whose meaning is nearest, or of each episode the nearest
// document, of the nearest episodes.
func (c *Corpus) near(q *Query) []Compared {
	type found struct {
		part, doc int32
		differing uint16
	}
	within := c.chosen(q.Only)
	var (
		all   []found
		of    [][]bool
		count [codeBits + 1]int
		best  []int32 // by episode: its place in all, and one more
	)
	if q.Of != nil {
		of = c.having([]Term{*q.Of})
	}
	if !q.Steps {
		best = make([]int32, len(c.Episodes))
	}
	for i, part := range c.Parts {
		if len(part.Codes) == 0 {
			continue
		}
		for _, s := range within[i] {
			for doc := s.from; doc < s.to; doc++ {
				e, code := part.Episode[doc], &part.Codes[doc]
				if e < 0 || of != nil && !of[i][doc] || q.Steps && !IsStep(part.Places[doc]) {
					continue
				}
				f := found{int32(i), doc, uint16(q.Meaning.Differing(code))}
				known := !q.Steps && best[e] > 0
				if known && f.differing >= all[best[e]-1].differing || *code == [4]uint64{} {
					continue
				}
				if known {
					all[best[e]-1] = f
					continue
				}
				all = append(all, f)
				if !q.Steps {
					best[e] = int32(len(all))
				}
			}
		}
	}
	for _, f := range all {
		count[f.differing]++
	}
	most := uint16(0)
	for n := 0; most < codeBits && n+count[most] < sought; most++ {
		n += count[most]
	}
	near := make([]Compared, 0, 2*sought)
	for _, f := range all {
		if f.differing <= most {
			part := c.Parts[f.part]
			near = append(near, Compared{
				Place: part.Places[f.doc], Episode: part.Episode[f.doc], Cosine: q.Meaning.Cosine(&part.Codes[f.doc]), best: true, part: f.part, doc: f.doc,
			})
		}
	}
	return near
}

// Fuse adds to the scores of candidates by words what they have for their meaning, and
// candidates that have no word but are Alike. Both are measured in standard deviations of
// the best 200: an equal share for ranks finds less than words alone. A step's meaning is the mean
// of its own and its neighbours'. s are the scores that list was made of, which is used up.
func (c *Corpus) Fuse(list *Ranking, s *Scores, compared []Compared, q *Query, p *Params) *Ranking {
	near := meanings(compared, q.Steps, p)
	slices.SortFunc(near, func(a, b meant) int {
		return cmp.Or(cmp.Compare(b.mean, a.mean), cmp.Compare(a.Place, b.Place))
	})
	near = near[:min(len(near), fused)]
	if len(near) == 0 {
		return list
	}
	least := near[len(near)-1].mean
	if len(near) < fused { // there are no others
		least = min(least, 0)
	}
	scale := p.Meaning * spread(list.To(fused), func(o *Candidate) float64 { return o.Score }) / spread(near, func(n *meant) float64 { return n.mean })
	key := func(place int64, episode int32) int64 {
		if q.Steps {
			return place
		}
		return int64(episode)
	}
	// Where those that are near are among all, which may be many.
	all := list.all
	at := make(map[int64]int, len(near))
	for _, n := range near {
		at[key(n.Place, n.Episode)] = -1
	}
	for i := range all {
		k := key(all[i].Step.Place, all[i].Episode)
		if _, near := at[k]; near {
			at[k] = i
		}
	}
	for _, n := range near {
		bonus := scale * (n.mean - least)
		if i := at[key(n.Place, n.Episode)]; i >= 0 {
			all[i].Meaning = bonus
			all[i].Score += bonus
			continue
		}
		if !q.Alike || n.Cosine < p.Alike || bonus <= 0 {
			continue
		}
		o := Candidate{Episode: n.Episode, Score: bonus, Meaning: bonus, Step: Step{Place: n.Place, Episode: n.Episode}}
		if q.Steps {
			o.Score += s.Episodes[n.Episode]
		}
		all = append(all, o)
	}
	return newRanking(c, all)
}

// meant is what may be a hit, with what is compared: the mean of a step's own cosine and those
// of its neighbours.
type meant struct {
	*Compared
	mean float64
}

func meanings(compared []Compared, steps bool, p *Params) []meant {
	own := make(map[int64]float64, len(compared))
	for i := range compared {
		own[compared[i].Place] = compared[i].Cosine
	}
	var all []meant
	for i := range compared {
		n := &compared[i]
		if !n.best {
			continue
		}
		sum, weights := n.Cosine, 1.0
		for k, share := range p.Neighbour {
			for _, place := range [...]int64{n.Place - int64(k) - 1, n.Place + int64(k) + 1} {
				if cosine, known := own[place]; known && steps && place>>NumberBits == n.Place>>NumberBits {
					sum += share * cosine
					weights += share
				}
			}
		}
		all = append(all, meant{n, sum / weights})
	}
	return all
}

// spread is the standard deviation of the best; 1 if there are fewer than two, or none differs.
func spread[T any](list []T, score func(*T) float64) float64 {
	list = list[:min(len(list), fused)]
	var sum, squares float64
	for i := range list {
		sum += score(&list[i])
	}
	mean := sum / float64(len(list))
	for i := range list {
		squares += (score(&list[i]) - mean) * (score(&list[i]) - mean)
	}
	if len(list) < 2 || squares == 0 {
		return 1
	}
	return math.Sqrt(squares / float64(len(list)))
}
