package rank

import (
	"cmp"
	"math"
	"slices"
)

// Params are the weights of ranking. They were chosen on the development halves of two
// sets of real questions; see docs/recall.md for what each adds.
type Params struct {
	// BM25F of steps: saturation, normalisation by length, weights of fields.
	StepK1, StepB float64
	StepWeights   [Fields]float64
	// The same of episodes, for which the scores of the fields add up.
	EpisodeK1, EpisodeB float64
	EpisodeWeights      [Fields]float64

	Name      float64   // added to the steps of an actor that the query names
	Time      float64   // added to steps with time words, if the query asks when
	Neighbour []float64 // what a step gets of the scores of those 1, 2, ... away
	Nearest   int       // how many of the best steps give to neighbours
}

// Defaults are the weights that Search uses.
var Defaults = Params{
	StepK1: 0.6, StepB: 0.3, StepWeights: [Fields]float64{Text: 1, Result: 1, Date: 0.3},
	EpisodeK1: 1.2, EpisodeB: 0.75, EpisodeWeights: [Fields]float64{Head: 1, Text: 1, Result: 1},
	Name: 4, Time: 1, Neighbour: []float64{0.4, 0.3, 0.2, 0.1}, Nearest: 1000,
}

// tfs are the numbers of occurrences that a TF stands for.
var tfs = [4]float32{0, 1, 2.4, 5}

// idf is that of BM25 as Lucene has it, which is never negative.
func idf(docs, with int) float64 {
	return math.Log(1 + (float64(docs)-float64(with)+0.5)/(float64(with)+0.5))
}

// Step is a step with its score.
type Step struct {
	Place   int64
	Episode int32   // in Corpus.Episodes
	Score   float64 // with what its neighbours gave
	Own     float64 // of itself alone
}

// Scores are those of all documents of a corpus for a query.
type Scores struct {
	Steps    []Step    // the best first, with those beside them
	Episodes []float64 // by Corpus.Episodes: BM25 of its fields
	Best     []float64 // by Corpus.Episodes: the greatest Own of its steps
}

// scratch is what scoring a term of episodes needs.
type scratch struct {
	counts  [][Fields]float32 // of the term, in the episode
	touched []int32
}

// counted is how often a term occurs in each field, by its TF.
var counted = func() (all [256][Fields]float32) {
	for tf := range all {
		for f := range all[tf] {
			all[tf][f] = tfs[tf>>(2*f)&3]
		}
	}
	return all
}()

// Score ranks the documents of a corpus that was measured.
func Score(c *Corpus, q *Query, p *Params) *Scores {
	steps := make([][]float32, len(c.Parts))
	for i, part := range c.Parts {
		steps[i] = make([]float32, len(part.Places))
	}
	s := &Scores{Episodes: make([]float64, len(c.Episodes)), Best: make([]float64, len(c.Episodes))}
	seen := scratch{counts: make([][Fields]float32, len(c.Episodes))}
	for i := range q.Terms {
		c.scoreSteps(&q.Terms[i], steps, p)
		c.scoreEpisodes(&q.Terms[i], s.Episodes, p, &seen)
	}
	c.bonus(q.Names, steps, p.Name, func(float32) bool { return true })
	c.bonus(q.TimeWords, steps, p.Time, func(s float32) bool { return s > 0 })
	if q.Of != nil {
		c.only(q.Of, steps)
	}
	s.Steps = c.steps(steps, s.Best, q, p)
	for e := range s.Episodes {
		if q.Only != nil && !q.Only[e] || q.Of != nil && s.Best[e] == 0 {
			s.Episodes[e] = 0
		}
	}
	return s
}

func (c *Corpus) scoreSteps(t *Term, scores [][]float32, p *Params) {
	with := 0
	for _, list := range t.Postings {
		with += len(list)
	}
	weight := float32(idf(c.Steps+len(c.Episodes), with) * (p.StepK1 + 1))
	var weights [Fields]float32
	for f, w := range p.StepWeights {
		weights[f] = float32(w)
	}
	k1 := float32(p.StepK1)
	for i, part := range c.Parts {
		into := scores[i]
		for _, o := range t.Postings[i] {
			n, norm := &counted[o.TF], &part.norms[o.Doc]
			tf := weights[Text]*n[Text]*norm[Text] + weights[Result]*n[Result]*norm[Result] + weights[Date]*n[Date]*norm[Date]
			into[o.Doc] += weight * tf / (tf + k1)
		}
	}
}

func (c *Corpus) scoreEpisodes(t *Term, scores []float64, p *Params, seen *scratch) {
	seen.touched = seen.touched[:0]
	for i, part := range c.Parts {
		for _, o := range t.Postings[i] {
			e := part.Episode[o.Doc]
			if e < 0 {
				continue
			}
			n := &seen.counts[e]
			if *n == ([Fields]float32{}) {
				seen.touched = append(seen.touched, e)
			}
			for f, more := range &counted[o.TF] {
				n[f] += more
			}
		}
	}
	for f, weight := range p.EpisodeWeights {
		if weight == 0 {
			continue
		}
		with := 0
		for _, e := range seen.touched {
			if seen.counts[e][f] > 0 {
				with++
			}
		}
		weight *= idf(len(c.Episodes), with) * (p.EpisodeK1 + 1)
		for _, e := range seen.touched {
			if n := float64(seen.counts[e][f]); n > 0 {
				tf := n / (1 - p.EpisodeB + p.EpisodeB*float64(c.Episodes[e].Tokens[f])/max(c.means.episode[f], 1))
				scores[e] += weight * tf / (tf + p.EpisodeK1)
			}
		}
	}
	for _, e := range seen.touched {
		seen.counts[e] = [Fields]float32{}
	}
}

// bonus adds to the steps that have one of the terms, once to each.
func (c *Corpus) bonus(terms []Term, scores [][]float32, bonus float64, to func(float32) bool) {
	if len(terms) == 0 || bonus == 0 {
		return
	}
	for i, part := range c.Parts {
		given := make(map[int32]bool)
		for j := range terms {
			for _, o := range terms[j].Postings[i] {
				if part.Episode[o.Doc] >= 0 && IsStep(part.Places[o.Doc]) && !given[o.Doc] && to(scores[i][o.Doc]) {
					given[o.Doc] = true
					scores[i][o.Doc] += float32(bonus)
				}
			}
		}
	}
}

// only takes the scores from the steps that are not an actor's.
func (c *Corpus) only(of *Term, scores [][]float32) {
	for i := range c.Parts {
		kept := make([]float32, len(scores[i]))
		for _, o := range of.Postings[i] {
			kept[o.Doc] = scores[i][o.Doc]
		}
		copy(scores[i], kept)
	}
}

// scored is a document with its score.
type scored struct {
	part, doc int32
	score     float32
}

// steps returns the best steps, with what those beside them give, and notes the best of
// each episode.
func (c *Corpus) steps(scores [][]float32, best []float64, q *Query, p *Params) []Step {
	giving := greatest{most: p.Nearest}
	for i, part := range c.Parts {
		for doc, score := range scores[i] {
			if score <= 0 {
				continue
			}
			e := part.Episode[doc]
			if q.Only != nil && !q.Only[e] {
				continue
			}
			best[e] = max(best[e], float64(score))
			giving.add(scored{int32(i), int32(doc), score})
		}
	}
	steps := make([]Step, 0, 3*len(giving.kept))
	at := make(map[int64]int, 3*len(giving.kept))
	add := func(part, doc int32) int {
		place := c.Parts[part].Places[doc]
		i, ok := at[place]
		if !ok {
			i = len(steps)
			at[place] = i
			own := float64(scores[part][doc])
			steps = append(steps, Step{Place: place, Episode: c.Parts[part].Episode[doc], Score: own, Own: own})
		}
		return i
	}
	for _, g := range giving.kept {
		add(g.part, g.doc)
	}
	for _, g := range giving.kept {
		if !q.Steps {
			break
		}
		for k, share := range p.Neighbour {
			for _, distance := range [...]int{-k - 1, k + 1} {
				if part, doc, ok := c.beside(g, distance); ok {
					steps[add(part, doc)].Score += share * float64(g.score)
				}
			}
		}
	}
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Place, b.Place)) })
	return steps
}

// greatest keeps those with the greatest scores: a heap whose first is the least of them.
type greatest struct {
	kept []scored
	most int
}

func (g *greatest) add(s scored) {
	switch {
	case len(g.kept) < g.most:
		g.kept = append(g.kept, s)
		for i := len(g.kept) - 1; i > 0 && g.less(i, (i-1)/2); i = (i - 1) / 2 {
			g.kept[i], g.kept[(i-1)/2] = g.kept[(i-1)/2], g.kept[i]
		}
	case g.most > 0 && s.score > g.kept[0].score: // of equals the first stays
		g.kept[0] = s
		for i := 0; ; {
			least := i
			for child := 2*i + 1; child <= 2*i+2 && child < len(g.kept); child++ {
				if g.less(child, least) {
					least = child
				}
			}
			if least == i {
				return
			}
			g.kept[i], g.kept[least] = g.kept[least], g.kept[i]
			i = least
		}
	}
}

// less orders by score; of equals the later one is less.
func (g *greatest) less(i, j int) bool {
	a, b := &g.kept[i], &g.kept[j]
	return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(b.part, a.part), cmp.Compare(b.doc, a.doc)) < 0
}

// beside finds the step so many steps behind one.
func (c *Corpus) beside(s scored, distance int) (part, doc int32, ok bool) {
	own := c.Parts[s.part].Places
	place := own[s.doc] + int64(distance)
	if place>>NumberBits != own[s.doc]>>NumberBits || !IsStep(place) {
		return 0, 0, false
	}
	if i := int(s.doc) + distance; i >= 0 && i < len(own) && own[i] == place {
		return s.part, int32(i), true
	}
	for i, p := range c.Parts {
		if j, found := slices.BinarySearch(p.Places, place); found && p.Episode[j] >= 0 {
			return int32(i), int32(j), true
		}
	}
	return 0, 0, false
}

// Candidate is an episode, or a step of it, with its score.
type Candidate struct {
	Episode int32 // in Corpus.Episodes
	Score   float64
	Step    Step // of a list of steps; otherwise zero
}

// RankEpisodes returns the episodes with a score, the best first: what its fields have
// together, and its best step.
func (c *Corpus) RankEpisodes(s *Scores) []Candidate {
	var list []Candidate
	for e := range c.Episodes {
		if score := s.Episodes[e] + s.Best[e]; score > 0 {
			list = append(list, Candidate{Episode: int32(e), Score: score})
		}
	}
	c.sort(list)
	return list
}

// RankSteps returns the best steps, the best first: a step's score, and that of its episode.
func (c *Corpus) RankSteps(s *Scores) []Candidate {
	list := make([]Candidate, 0, len(s.Steps))
	for _, step := range s.Steps {
		list = append(list, Candidate{Episode: step.Episode, Score: step.Score + s.Episodes[step.Episode], Step: step})
	}
	c.sort(list)
	return list
}

func (c *Corpus) sort(list []Candidate) {
	slices.SortFunc(list, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(c.Episodes[a.Episode].ID, c.Episodes[b.Episode].ID), cmp.Compare(a.Step.Place, b.Step.Place))
	})
}

// TermScores are what a term adds to the scores of all documents.
type TermScores struct {
	corpus   *Corpus
	steps    [][]float32
	episodes []float64
}

// TermScores scores one term, for explanations.
func (c *Corpus) TermScores(t *Term, p *Params) *TermScores {
	s := &TermScores{corpus: c, steps: make([][]float32, len(c.Parts)), episodes: make([]float64, len(c.Episodes))}
	for i, part := range c.Parts {
		s.steps[i] = make([]float32, len(part.Places))
	}
	c.scoreSteps(t, s.steps, p)
	c.scoreEpisodes(t, s.episodes, p, &scratch{counts: make([][Fields]float32, len(c.Episodes))})
	return s
}

// Of returns what the term adds to the step at a place, of itself alone, and to its episode.
func (s *TermScores) Of(place int64, episode int32) (step, ofEpisode float64) {
	for i, part := range s.corpus.Parts {
		if j, found := slices.BinarySearch(part.Places, place); found && part.Episode[j] == episode {
			step += float64(s.steps[i][j])
		}
	}
	return step, s.episodes[episode]
}
