package episodic

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/rank"
)

const (
	headsAtOnce = 32   // candidates whose heads are read together
	tried       = 200  // candidates that are read before it is looked up again what a filter chooses
	mostChosen  = 5000 // episodes that a filter may choose to be looked up beforehand
	fewChosen   = 4    // of which part of all episodes they may be at the first look
	stepsOfHit  = 3
	// phrasesIn is how many of the best candidates are looked through for phrases.
	phrasesIn = 50
)

// fileSearch is a search of a file under way.
type fileSearch struct {
	*search
	store   *Store
	q       querier
	matches *index.Matches
	asked   *rank.Query
	words   []string // of asked.Terms
	scores  *rank.Scores
	model   string // that took part, besides the table
	filter  where
	chosen  map[int64]bool  // the episodes that the filter chooses, if they are few
	read    map[int64]*Step // by place
	damage  damages
}

// searchFile searches the index of a local file.
func (s *Store) searchFile(ctx context.Context, q querier, r *search) (*SearchResults, error) {
	f := &fileSearch{search: r, store: s, q: q}
	var err error
	if f.filter, err = r.Filter.where(); err != nil {
		return nil, err
	}
	if f.filter.sql != "" {
		if err := f.narrow(ctx, fewChosen); err != nil {
			return nil, err
		}
	}
	// Among a few episodes a common word may be all that there is.
	all := f.chosen != nil || r.Tool != ""
	if f.matches, f.asked, f.words, err = s.indexer.file.Ask(ctx, q, &r.query, r.Tool, index.AsksWhen(r.Query), all); err != nil {
		return nil, indexFailed(err)
	}
	if f.matches.Merge {
		s.indexer.kick()
	}
	f.asked.Steps = r.Steps
	f.score()
	found, err := f.hits(ctx)
	if err == nil && f.phrases() {
		err = f.preferPhrases(ctx, found[:min(len(found), phrasesIn)])
	}
	if err != nil {
		return nil, err
	}
	return f.page(ctx, found)
}

// candidate is a hit before its steps are read.
type candidate struct {
	rank.Candidate
	seq              int64
	episode          *Episode
	task             string // the same for the runs of one task
	size             int
	outcome, recency float64
	phrase           float64 // 0: not looked for
	alike            []Alike
}

// hits returns as many hits as the page needs, and one more if there is one.
func (f *fileSearch) hits(ctx context.Context) ([]*candidate, error) {
	need := f.skip + f.Limit + 1
	if f.phrases() {
		need = max(need, phrasesIn)
	}
	list, err := f.candidates(ctx)
	if err != nil {
		return nil, err
	}
	if f.filter.sql != "" && f.chosen == nil && list.Len() > tried {
		found, all, err := f.choose(ctx, list, need, tried)
		if err != nil || all {
			return found, err
		}
		if err := f.narrow(ctx, 1); err != nil {
			return nil, err
		}
		if f.chosen != nil {
			f.score()
			if list, err = f.candidates(ctx); err != nil {
				return nil, err
			}
		}
	}
	found, _, err := f.choose(ctx, list, need, list.Len())
	return found, err
}

// score ranks the episodes that the filter chooses, if they are known, otherwise all.
func (f *fileSearch) score() {
	if f.chosen != nil {
		f.asked.Only = make([]bool, len(f.matches.Corpus.Episodes))
		for i, e := range f.matches.Corpus.Episodes {
			f.asked.Only[i] = f.chosen[e.ID]
		}
	}
	f.scores = rank.Score(f.matches.Corpus, f.asked, &rank.Defaults)
}

// candidates are the episodes or steps, ranked. Options.Embedder, if it can, says in place of the table
// what those mean that words and table have found.
func (f *fileSearch) candidates(ctx context.Context) (*rank.Ranking, error) {
	c, p := f.matches.Corpus, rank.Defaults
	if f.store.embedder == nil {
		return c.Rank(f.scores, f.asked, &p), nil
	}
	list := c.RankByWords(f.scores, f.asked)
	var compared []rank.Compared
	if f.asked.Meaning != nil {
		compared = c.Compare(list, f.asked, &p)
	}
	compared = c.Rescored(compared, list, f.asked)
	compared, model, err := f.store.rescoreAll(ctx, f.q, f.matches.Text, compared, f.Steps)
	if err != nil {
		return nil, err
	}
	if f.model = model; model == "" {
		return c.Rank(f.scores, f.asked, &p), nil
	}
	p.Meaning = modelMeaning(f.Steps)
	return c.Fuse(list, f.scores, compared, f.asked, &p), nil
}

// sqlChosen lists the episodes that a filter chooses, but not more than one over a bound.
const sqlChosen = `SELECT json_group_array(seq), ifnull(max(bound), 0) FROM (SELECT seq, bound FROM episodes, ` +
	`(SELECT min(?, ifnull((SELECT max(seq) FROM episodes), 0) / ?) AS bound) WHERE 1%s LIMIT 1 + min(?, ifnull((SELECT max(seq) FROM episodes), 0) / ?))`

// narrow notes which episodes the filter chooses, if they are at most mostChosen, and one of
// part.
func (f *fileSearch) narrow(ctx context.Context, part int) error {
	bound := []any{int64(mostChosen), int64(part)}
	r, err := f.q.Query(ctx, engine.Stmt{SQL: fmt.Sprintf(sqlChosen, f.filter.sql), Args: slices.Concat(bound, f.filter.args, bound)})
	if err != nil {
		return err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	list, most := in.Text(0), in.Int(1)
	var seqs []int64
	if err := cmp.Or(in.Err, json.Unmarshal([]byte(list), &seqs)); err != nil {
		return err
	}
	if len(seqs) <= int(most) {
		f.chosen = make(map[int64]bool, len(seqs))
		for _, seq := range seqs {
			f.chosen[seq] = true
		}
	}
	return nil
}

// choose reads the heads of candidates in turn, at most so many, until it has the hits with the
// greatest scores, factors included: all says that it has. So the order is the same for
// every page. Each time it reads as many as so far: among them may be thousands of runs of
// one task.
func (f *fileSearch) choose(ctx context.Context, list *rank.Ranking, need, most int) (found []*candidate, all bool, err error) {
	var read []*candidate
	for at := 0; at < most; {
		window := list.To(min(at+max(headsAtOnce, at), most))[at:]
		at += len(window)
		heads, err := f.heads(ctx, window)
		if err != nil {
			return nil, false, err
		}
		for _, c := range window {
			seq := f.matches.Corpus.Episodes[c.Episode].ID
			if h := heads[seq]; h.episode != nil {
				n := &candidate{Candidate: c, seq: seq, episode: h.episode, size: h.size, task: h.task}
				n.outcome, n.recency = rank.OutcomeFactor(string(h.episode.Outcome.Kind)), rank.RecencyFactor(f.now.Sub(h.episode.Start))
				n.Score *= n.outcome * n.recency
				read = append(read, n)
			}
		}
		slices.SortStableFunc(read, func(a, b *candidate) int { return cmp.Compare(b.Score, a.Score) })
		found = f.runs(read)
		if at == list.Len() || len(found) >= need && found[need-1].Score >= list.To(at + 1)[at].Score*rank.MostFactor {
			return found, true, nil
		}
	}
	return found, list.Len() == 0, nil
}

// runs makes the runs of each task one hit, unless each is to be one.
func (f *fileSearch) runs(read []*candidate) (found []*candidate) {
	if f.Steps || f.EachRun {
		return read
	}
	first := make(map[string]*candidate, len(read))
	for _, c := range read {
		if best := first[c.task]; best != nil {
			best.alike = append(best.alike, alikeOf(c.episode))
			continue
		}
		c.alike = nil
		first[c.task] = c
		found = append(found, c)
	}
	return found
}

// taskKey is the same for the runs of one task: letters' case and spaces apart, the same text. Most texts
// are ASCII and long, and many are compared.
func taskKey(e *Episode) string {
	key := make([]byte, 0, len(e.Description))
	for i := range len(e.Description) {
		switch c := e.Description[i]; {
		case c >= utf8.RuneSelf:
			return oneLine(strings.ToLower(e.Description))
		case c == ' ' || '\t' <= c && c <= '\r':
			if n := len(key); n > 0 && key[n-1] != ' ' {
				key = append(key, ' ')
			}
		case 'A' <= c && c <= 'Z':
			key = append(key, c|0x20)
		default:
			key = append(key, c)
		}
	}
	return string(bytes.TrimSuffix(key, []byte(" ")))
}

func alikeOf(e *Episode) Alike {
	a := Alike{ID: e.ID, Outcome: e.Outcome.Kind, Start: e.Start}
	if e.Reward != nil {
		a.Reward = &e.Reward.Total
	}
	return a
}

type headRow struct {
	episode *Episode
	size    int
	task    string
}

// heads reads those of the candidates that the filter chooses.
func (f *fileSearch) heads(ctx context.Context, list []rank.Candidate) (map[int64]headRow, error) {
	var seqs []int64
	for _, c := range list {
		if seq := f.matches.Corpus.Episodes[c.Episode].ID; seq > 0 {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs) // hits may be steps of one episode
	heads := make(map[int64]headRow, len(seqs))
	err := inParts(seqs, headsAtOnce, func(part []int64) error { return f.readHeads(ctx, part, heads) })
	return heads, err
}

// readHeads adds the heads of some episodes to heads.
func (f *fileSearch) readHeads(ctx context.Context, seqs []int64, heads map[int64]headRow) error {
	text, err := json.Marshal(seqs)
	if err != nil {
		return err
	}
	r, err := f.q.Query(ctx, engine.Stmt{
		SQL:  "SELECT " + episodeColumns + " FROM episodes WHERE episodes.seq IN (SELECT value FROM json_each(?))" + f.filter.sql,
		Args: append([]any{string(text)}, f.filter.args...),
	})
	if err != nil {
		return err
	}
	rows := make([]headRow, len(r[0].Rows))
	err = inParallel(len(rows), func(i int) (err error) {
		h := &rows[i]
		if h.episode, h.size, err = f.store.episodeFrom(ctx, r[0].Rows[i]); err == nil && !f.Steps && !f.EachRun {
			h.task = taskKey(h.episode)
		}
		return f.damage.pass(err)
	})
	if err != nil {
		return err
	}
	for i, row := range r[0].Rows {
		seq, err := intFrom(row[0])
		if err != nil {
			return err
		}
		heads[int64(seq)] = rows[i]
	}
	return nil
}

// page makes hits of the candidates that the page shows.
func (f *fileSearch) page(ctx context.Context, found []*candidate) (*SearchResults, error) {
	results := &SearchResults{Waiting: f.matches.Waiting, Model: f.model}
	shown := found[min(f.skip, len(found)):]
	size, n := 0, 0
	for n < len(shown) && n < f.Limit && (n == 0 || size+shown[n].size <= maxHits) {
		size += shown[n].size
		n++
	}
	if n < len(shown) && f.skip+n < maxRanked {
		results.Next = f.next(f.skip + n)
	}
	shown = shown[:n]
	steps := f.stepsOf(shown)
	texts, err := f.readSteps(ctx, steps)
	if err != nil {
		return nil, err
	}
	var terms []*rank.TermScores
	if f.Explain {
		for i := range f.asked.Terms {
			terms = append(terms, f.matches.Corpus.TermScores(&f.asked.Terms[i], &rank.Defaults))
		}
	}
	results.Hits, results.Damaged = make([]Hit, n), f.damage.all()
	return results, inParallel(n, func(i int) error {
		c := shown[i]
		hit := Hit{Episode: c.episode, Score: c.Score, Alike: c.alike}
		for _, st := range steps[i] {
			step := texts[st.Place]
			if step == nil {
				continue // it is told about beside its place, but not stored
			}
			h := newStepHit(step)
			h.Score = st.Score
			h.Snippet = stepSnippet(&f.query, step)
			hit.Steps = append(hit.Steps, h)
		}
		hit.Snippet = f.snippet(c, &hit)
		if f.Explain {
			hit.Why = f.why(c, steps[i], terms)
		}
		results.Hits[i] = hit
		return nil
	})
}

func (f *fileSearch) phrases() bool {
	return slices.ContainsFunc(f.query.Terms, func(t index.Term) bool { return t.Phrase })
}

// preferPhrases moves those candidates up in whose head or best steps the phrases of the query
// stand. The index does not know where in a text a word is, but which steps have all words of a
// phrase.
func (f *fileSearch) preferPhrases(ctx context.Context, found []*candidate) error {
	phrases := index.Query{Terms: slices.DeleteFunc(slices.Clone(f.query.Terms), func(t index.Term) bool { return !t.Phrase })}
	holds := func(text string) bool { return len(phrases.Matches(text)) > 0 }
	words, err := f.phraseWords(phrases.Terms)
	if err != nil {
		return err
	}
	mayHold := func(st rank.Step) bool {
		return slices.ContainsFunc(words, func(phrase []rank.Term) bool {
			return !slices.ContainsFunc(phrase, func(t rank.Term) bool { return !f.matches.Corpus.Holds(st.Place, &t) })
		})
	}
	steps := f.stepsOf(found)
	err = inParallel(len(found), func(i int) error {
		c := found[i]
		c.phrase = 1
		if !f.Steps && holds(headText(c.episode)+"\n"+conclusionText(c.episode)) {
			c.phrase = rank.PhraseFactor
			steps[i] = nil
		}
		steps[i] = slices.DeleteFunc(steps[i], func(st rank.Step) bool { return !mayHold(st) })
		return nil
	})
	if err != nil {
		return err
	}
	texts, err := f.readSteps(ctx, steps)
	if err != nil {
		return err
	}
	err = inParallel(len(found), func(i int) error {
		c := found[i]
		for _, st := range steps[i] {
			if step := texts[st.Place]; step != nil && c.phrase == 1 {
				d := wordsOfStep(0, step)
				if holds(d.Texts[rank.Text]) || holds(d.Texts[rank.Result]) {
					c.phrase = rank.PhraseFactor
				}
			}
		}
		c.Score *= c.phrase
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(found, func(a, b *candidate) int { return cmp.Compare(b.Score, a.Score) })
	return nil
}

// phraseWords are what a step that holds a phrase has in the index, for each phrase.
func (f *fileSearch) phraseWords(phrases []index.Term) ([][]rank.Term, error) {
	words := make([][]rank.Term, len(phrases))
	for i, p := range phrases {
		tokens := p.Tokens
		if p.Prefix {
			tokens = tokens[:len(tokens)-1] // it may be the beginning of another one
		}
		for _, token := range tokens {
			t, err := f.matches.Term(token)
			if err != nil {
				return nil, indexFailed(err)
			}
			words[i] = append(words[i], t)
		}
	}
	return words, nil
}

func cutText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// newStepHit returns a hit without a score and a snippet.
func newStepHit(s *Step) StepHit {
	h := StepHit{Number: s.Number, Tool: s.Tool}
	if s.Result != nil {
		h.Result = s.Result.Kind
	}
	return h
}

// snippet is that of the step that was hit, otherwise that of the head.
func (f *fileSearch) snippet(c *candidate, hit *Hit) string {
	if len(hit.Steps) > 0 && f.Steps {
		return hit.Steps[0].Snippet
	}
	return headSnippet(&f.query, c.episode)
}

// stepsOf returns the steps that each hit shows.
func (f *fileSearch) stepsOf(shown []*candidate) [][]rank.Step {
	if f.Steps {
		steps := make([][]rank.Step, len(shown))
		for i, c := range shown {
			steps[i] = []rank.Step{c.Step}
		}
		return steps
	}
	episodes := make([]int32, len(shown))
	for i, c := range shown {
		episodes[i] = c.Episode
	}
	steps := f.matches.Corpus.StepsOf(f.scores, episodes, stepsOfHit)
	for i, c := range shown {
		if len(steps[i]) == 0 && rank.IsStep(c.Step.Place) {
			steps[i] = []rank.Step{c.Step}
		}
	}
	return steps
}

// sqlStepRuns reads the runs that hold the steps at some places, each run once.
const sqlStepRuns = `SELECT place, count, payload, (SELECT id FROM episodes WHERE seq = episode) FROM runs WHERE place IN
 (SELECT (SELECT max(place) FROM runs WHERE place <= j.value AND place > j.value >> 24 << 24) FROM json_each(?) j)`

// readSteps returns the steps that were read so far, by their places, and reads those that
// were not.
func (f *fileSearch) readSteps(ctx context.Context, hits [][]rank.Step) (map[int64]*Step, error) {
	var places []int64
	for _, steps := range hits {
		for _, st := range steps {
			if f.read[st.Place] == nil {
				places = append(places, st.Place)
			}
		}
	}
	if f.read == nil {
		f.read = make(map[int64]*Step, len(places))
	}
	slices.Sort(places)
	err := inParts(places, len(places), func(part []int64) error { return f.readRuns(ctx, part) })
	return f.read, err
}

// readRuns adds the steps at some places to those that were read.
func (f *fileSearch) readRuns(ctx context.Context, places []int64) error {
	list, err := json.Marshal(places)
	if err != nil {
		return err
	}
	r, err := f.q.Query(ctx, engine.Stmt{SQL: sqlStepRuns, Args: []any{string(list)}})
	if err != nil {
		return err
	}
	runs := make([]map[int64]*Step, len(r[0].Rows))
	err = inParallel(len(runs), func(i int) (err error) {
		runs[i], err = f.readRun(ctx, r[0].Rows[i], places)
		return f.damage.pass(err)
	})
	for _, run := range runs {
		maps.Copy(f.read, run)
	}
	return err
}

// readRun reads those of the places that a row of sqlStepRuns holds.
func (f *fileSearch) readRun(ctx context.Context, row []any, places []int64) (map[int64]*Step, error) {
	in := engine.Row{Values: row}
	place, count := in.Int(0), in.Int(1)
	id, err := idFrom(row[3])
	if err := cmp.Or(in.Err, err); err != nil {
		return nil, f.store.damaged(ctx, "episode", id, fmt.Errorf("%w: runs: %w", ErrCorrupt, err))
	}
	stored := chosenSteps{wanted: make(map[int]bool), steps: make(map[int]storedStep)}
	from, _ := slices.BinarySearch(places, place)
	for _, wanted := range places[from:] {
		if wanted < place+count {
			stored.wanted[int(wanted-place)] = true
		}
	}
	if _, err := f.store.payloads.DecodeSized(ctx, row[2], boundRun(id, int(count)), &stored); err != nil {
		return nil, f.store.damaged(ctx, "episode", id, fmt.Errorf("steps from %d: %w", place&(1<<rank.NumberBits-1), err))
	}
	read := make(map[int64]*Step, len(stored.steps))
	for i := range stored.steps {
		st := Step(stored.steps[i])
		st.Number = int((place + int64(i)) & (1<<rank.NumberBits - 1))
		read[place+int64(i)] = &st
	}
	return read, nil
}

// why explains the score of a hit. terms are those of f.asked.
func (f *fileSearch) why(c *candidate, steps []rank.Step, terms []*rank.TermScores) *Why {
	step := c.Step
	if !f.Steps && len(steps) > 0 {
		step = slices.MaxFunc(steps, func(a, b rank.Step) int { return cmp.Compare(a.Own, b.Own) })
	}
	w := &Why{Own: step.Own, Meaning: c.Meaning, Episode: f.scores.Episodes[c.Episode], Outcome: c.outcome, Recency: c.recency, Phrase: cmp.Or(c.phrase, 1)}
	if f.Steps {
		w.Neighbours = step.Score - step.Own
	}
	for i, word := range f.words {
		inStep, inEpisode := terms[i].Of(step.Place, c.Episode)
		if inStep == 0 && inEpisode == 0 {
			continue
		}
		if n := len(w.Words); n > 0 && w.Words[n-1].Word == word {
			w.Words[n-1].Step += inStep
			w.Words[n-1].Episode += inEpisode
			continue
		}
		w.Words = append(w.Words, WordHit{Word: word, Step: inStep, Episode: inEpisode})
	}
	return w
}
