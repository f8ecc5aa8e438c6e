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

	Meaning float64 // what a standard deviation of meaning counts, in those of words
	Alike   float64 // the cosine from which on a document is found that holds no word of the query
}

// Defaults are the weights that Search uses.
var Defaults = Params{
	StepK1: 0.6, StepB: 0.3, StepWeights: [Fields]float64{Text: 1, Result: 1, Date: 0.3},
	EpisodeK1: 1.2, EpisodeB: 0.75, EpisodeWeights: [Fields]float64{Head: 1, Text: 1, Result: 1},
	Name: 4, Time: 1, Neighbour: []float64{0.4, 0.3, 0.2, 0.1}, Nearest: 1000,
	Meaning: 0.2, Alike: 0.5,
}

// tfs are the numbers of occurrences that a TF stands for.
var tfs = [4]float32{0, 1, 2.4, 5}

// idf is that of BM25 as Lucene has it, which is never negative: postings of documents that
// are gone may be more than the documents that there are.
func idf(docs, with int) float64 {
	docs = max(docs, with)
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
	Steps    []Step    // the best first, with those beside them; none if episodes are asked for
	Episodes []float64 // by Corpus.Episodes: BM25 of its fields
	Best     []float64 // by Corpus.Episodes: the greatest Own of its steps

	own [][]float32 // of all documents
}

// fifths is how often a term occurs in each field, by its TF: 16 bits a field, in fifths, so
// that the counts of many documents are one addition each.
var fifths = func() (all [256]uint64) {
	for tf := range all {
		for f := range Fields {
			all[tf] |= uint64(5*tfs[tf>>(2*f)&3]) << (16 * f)
		}
	}
	return all
}()

// addedAtOnce is how many documents can be added in 16 bits.
const addedAtOnce = (1<<16 - 1) / 25

// counted is how often a term occurs in each field, by its TF.
var counted = func() (all [256][Fields]float32) {
	for tf := range all {
		for f := range all[tf] {
			all[tf][f] = tfs[tf>>(2*f)&3]
		}
	}
	return all
}()

// scratch is what scoring a term of episodes needs.
type scratch struct {
	counts  [][Fields]uint32 // of the term, in the episode, in fifths
	touched []int32
}

// add adds packed counts to an episode's.
func (s *scratch) add(episode int32, packed uint64) {
	if episode < 0 || packed == 0 {
		return
	}
	n := &s.counts[episode]
	if *n == ([Fields]uint32{}) {
		s.touched = append(s.touched, episode)
	}
	for f := range n {
		n[f] += uint32(packed >> (16 * f) & (1<<16 - 1))
	}
}

// Score ranks the documents of a corpus that was measured.
func Score(c *Corpus, q *Query, p *Params) *Scores {
	steps := c.zeros()
	within := c.chosen(q.Only)
	s := &Scores{Episodes: make([]float64, len(c.Episodes)), Best: make([]float64, len(c.Episodes))}
	seen := scratch{counts: make([][Fields]uint32, len(c.Episodes))}
	for i := range q.Terms {
		c.scoreSteps(&q.Terms[i], steps, within, p)
		c.scoreEpisodes(&q.Terms[i], s.Episodes, p, &seen)
	}
	c.bonus(q.TimeWords, steps, p.Time)
	s.score(c, steps, within, q, p)
	for e := range s.Episodes {
		if q.Only != nil && !q.Only[e] || q.Of != nil && s.Best[e] == 0 {
			s.Episodes[e] = 0
		}
	}
	return s
}

// zeros returns a score for each document.
func (c *Corpus) zeros() [][]float32 {
	scores := make([][]float32, len(c.Parts))
	for i, part := range c.Parts {
		scores[i] = make([]float32, len(part.Places))
	}
	return scores
}

func (c *Corpus) scoreSteps(t *Term, scores [][]float32, within [][]span, p *Params) {
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
		into, norms := scores[i], part.norms
		for list := range in(within[i], t.Postings[i]) {
			for _, o := range list {
				n, norm := &counted[o.TF], &norms[o.Doc]
				tf := weights[Text]*n[Text]*norm[Text] + weights[Result]*n[Result]*norm[Result] + weights[Date]*n[Date]*norm[Date]
				into[o.Doc] += weight * tf / (tf + k1)
			}
		}
	}
}

func (c *Corpus) scoreEpisodes(t *Term, scores []float64, p *Params, seen *scratch) {
	seen.touched = seen.touched[:0]
	for i, part := range c.Parts {
		// Those of an episode lie side by side.
		episode, packed, n := int32(-1), uint64(0), 0
		for _, o := range t.Postings[i] {
			if e := part.Episode[o.Doc]; e != episode || n == addedAtOnce {
				seen.add(episode, packed)
				episode, packed, n = e, 0, 0
			}
			packed += fifths[o.TF]
			n++
		}
		seen.add(episode, packed)
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
			if n := float64(seen.counts[e][f]) / 5; n > 0 {
				tf := n / (1 - p.EpisodeB + p.EpisodeB*float64(c.Episodes[e].Tokens[f])/max(c.means.episode[f], 1))
				scores[e] += weight * tf / (tf + p.EpisodeK1)
			}
		}
	}
	for _, e := range seen.touched {
		seen.counts[e] = [Fields]uint32{}
	}
}

// bonus adds to the steps with a score that have one of the terms, once to each.
func (c *Corpus) bonus(terms []Term, scores [][]float32, bonus float64) {
	for i, has := range c.having(terms) {
		for doc := range has {
			if has[doc] && scores[i][doc] > 0 {
				scores[i][doc] += float32(bonus)
			}
		}
	}
}

// having tells, for each part, which of its documents are steps that have one of the
// terms; nil if there is no term.
func (c *Corpus) having(terms []Term) [][]bool {
	if len(terms) == 0 {
		return nil
	}
	all := make([][]bool, len(c.Parts))
	for i, part := range c.Parts {
		all[i] = make([]bool, len(part.Places))
		for j := range terms {
			for _, o := range terms[j].Postings[i] {
				all[i][o.Doc] = part.Episode[o.Doc] >= 0 && IsStep(part.Places[o.Doc])
			}
		}
	}
	return all
}

// ofActors returns the scores of the steps that an actor did (of; nil: of all), with a bonus for the named
// ones to whose score it is given.
func (c *Corpus) ofActors(words [][]float32, named, of [][]bool, bonus float64, given func(words float32) bool) [][]float32 {
	scores := c.zeros()
	for i := range scores {
		into := scores[i]
		for doc, score := range words[i] {
			if of != nil && !of[i][doc] {
				continue
			}
			if named != nil && named[i][doc] && given(score) {
				score += float32(bonus)
			}
			into[doc] = score
		}
	}
	return scores
}

// score notes what steps have of themselves, the best of each episode, and if steps are
// asked for the best steps with what those beside them give. What a step has for its actor
// it does not give to those beside it: they are other actors' mostly.
func (s *Scores) score(c *Corpus, words [][]float32, within [][]span, q *Query, p *Params) {
	named := c.having(q.Names)
	var of [][]bool
	if q.Of != nil {
		of = c.having([]Term{*q.Of})
	}
	s.own = words
	if named != nil || of != nil {
		s.own = c.ofActors(words, named, of, p.Name, func(words float32) bool { return words > 0 })
	}
	if !s.best(c, within) && named != nil { // all that was asked for and is there are the actors
		s.own = c.ofActors(words, named, of, p.Name, func(float32) bool { return true })
		s.best(c, within)
	}
	if !q.Steps {
		return
	}
	found := greatest(s.own, within, p.Nearest)
	steps := make([]Step, 0, 3*len(found))
	at := make(map[int64]int, len(found))
	add := func(part, doc int32) int {
		place := c.Parts[part].Places[doc]
		i, ok := at[place]
		if !ok {
			i = len(steps)
			at[place] = i
			score, e := float64(s.own[part][doc]), c.Parts[part].Episode[doc]
			if score == 0 && named != nil && named[part][doc] {
				score = p.Name
				s.Best[e] = max(s.Best[e], score)
			}
			steps = append(steps, Step{Place: place, Episode: e, Score: score, Own: score})
		}
		return i
	}
	for _, f := range found {
		add(f.part, f.doc)
	}
	for _, f := range found {
		given := float64(words[f.part][f.doc])
		if given == 0 {
			continue
		}
		for k, share := range p.Neighbour {
			for _, distance := range [...]int{-k - 1, k + 1} {
				if part, doc, ok := c.beside(f, distance); ok && (of == nil || of[part][doc]) {
					steps[add(part, doc)].Score += share * given
				}
			}
		}
	}
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Place, b.Place)) })
	s.Steps = steps
}

// best notes the best step of each episode; false if there is none.
func (s *Scores) best(c *Corpus, within [][]span) (some bool) {
	for i, part := range c.Parts {
		for _, span := range within[i] {
			for doc := span.from; doc < span.to; doc++ {
				if score := float64(s.own[i][doc]); score > 0 {
					e := part.Episode[doc]
					s.Best[e] = max(s.Best[e], score)
					some = true
				}
			}
		}
	}
	return some
}

// StepsOf returns the steps of episodes that have a score of themselves, the best first and at
// most so many of each.
func (c *Corpus) StepsOf(s *Scores, episodes []int32, most int) [][]Step {
	at := make([]int32, len(c.Episodes)) // in steps, and one more
	for i, e := range episodes {
		at[e] = int32(i) + 1
	}
	steps := make([][]Step, len(episodes))
	for i, part := range c.Parts {
		for doc, e := range part.Episode {
			if e < 0 || at[e] == 0 || s.own[i][doc] <= 0 {
				continue
			}
			of, score := &steps[at[e]-1], float64(s.own[i][doc])
			*of = append(*of, Step{Place: part.Places[doc], Episode: e, Score: score, Own: score})
		}
	}
	for i, of := range steps {
		slices.SortFunc(of, func(a, b Step) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Place, b.Place)) })
		steps[i] = of[:min(len(of), most)]
	}
	return steps
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
	return c.find(place)
}

// find returns where the document at a place is.
func (c *Corpus) find(place int64) (part, doc int32, ok bool) {
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
	Meaning float64 // the part of Score that is for what it means
	// Step is that of a list of steps. Of an episode that was found by its meaning alone it is
	// the place of what is nearest.
	Step Step
}

// Rank returns the steps or episodes that fit a query: by the words that they hold, of which s are
// the scores, and by what they mean.
func (c *Corpus) Rank(s *Scores, q *Query, p *Params) *Ranking {
	list := c.RankByWords(s, q)
	if q.Meaning == nil || p.Meaning == 0 {
		return list
	}
	return c.Fuse(list, s, c.Compare(list, q, p), q, p)
}

// RankByWords is Rank without what is meant.
func (c *Corpus) RankByWords(s *Scores, q *Query) *Ranking {
	if q.Steps {
		return c.RankSteps(s)
	}
	return c.RankEpisodes(s)
}

// RankEpisodes returns the episodes with a score: what its fields have together, and its best step.
func (c *Corpus) RankEpisodes(s *Scores) *Ranking {
	var list []Candidate
	for e := range c.Episodes {
		if score := s.Episodes[e] + s.Best[e]; score > 0 {
			list = append(list, Candidate{Episode: int32(e), Score: score})
		}
	}
	return newRanking(c, list)
}

// RankSteps returns the best steps: a step's score, and that of its episode.
func (c *Corpus) RankSteps(s *Scores) *Ranking {
	list := make([]Candidate, 0, len(s.Steps))
	for _, step := range s.Steps {
		list = append(list, Candidate{Episode: step.Episode, Score: step.Score + s.Episodes[step.Episode], Step: step})
	}
	return newRanking(c, list)
}

// TermScores are what a term adds to the scores of all documents.
type TermScores struct {
	corpus   *Corpus
	steps    [][]float32
	episodes []float64
}

// TermScores scores one term, for explanations.
func (c *Corpus) TermScores(t *Term, p *Params) *TermScores {
	s := &TermScores{corpus: c, steps: c.zeros(), episodes: make([]float64, len(c.Episodes))}
	c.scoreSteps(t, s.steps, c.chosen(nil), p)
	c.scoreEpisodes(t, s.episodes, p, &scratch{counts: make([][Fields]uint32, len(c.Episodes))})
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
