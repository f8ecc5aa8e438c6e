package episodic

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/rank"
)

const (
	headsAtOnce = 32   // candidates whose heads are read together
	tried       = 200  // candidates that are read before it is looked up what a filter chooses
	mostChosen  = 5000 // episodes that a filter may choose to be looked up beforehand
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
	filter  where
}

// searchFile searches the index of a local file.
func (s *Store) searchFile(ctx context.Context, q querier, r *search) (*SearchResults, error) {
	f := &fileSearch{search: r, store: s, q: q}
	var err error
	if f.filter, err = r.Filter.where(); err != nil {
		return nil, err
	}
	when := index.AsksWhen(r.Query)
	if f.matches, f.asked, f.words, err = s.indexer.file.Ask(ctx, q, &r.query, r.Tool, when); err != nil {
		return nil, indexFailed(err)
	}
	if f.matches.Merge {
		s.indexer.kick()
	}
	f.asked.Steps = r.Steps
	f.scores = rank.Score(f.matches.Corpus, f.asked, &rank.Defaults)
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
	list := f.candidates()
	if f.filter.sql != "" && len(list) > tried {
		found, all, err := f.choose(ctx, list, need, tried)
		if err != nil || all {
			return found, err
		}
		narrowed, err := f.narrow(ctx)
		if err != nil {
			return nil, err
		}
		if narrowed {
			list = f.candidates()
		}
	}
	found, _, err := f.choose(ctx, list, need, len(list))
	return found, err
}

func (f *fileSearch) candidates() []rank.Candidate {
	if f.Steps {
		return f.matches.Corpus.RankSteps(f.scores)
	}
	return f.matches.Corpus.RankEpisodes(f.scores)
}

// narrow ranks again among the episodes that the filter chooses, if they are few.
func (f *fileSearch) narrow(ctx context.Context) (bool, error) {
	r, err := f.q.Query(ctx, engine.Stmt{SQL: "SELECT seq FROM episodes WHERE 1" + f.filter.sql + " LIMIT ?", Args: append(slices.Clone(f.filter.args), int64(mostChosen+1))})
	if err != nil || len(r[0].Rows) > mostChosen {
		return false, err
	}
	chosen := make(map[int64]bool, len(r[0].Rows))
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		chosen[in.Int(0)] = true
		if in.Err != nil {
			return false, in.Err
		}
	}
	f.asked.Only = make([]bool, len(f.matches.Corpus.Episodes))
	for i, e := range f.matches.Corpus.Episodes {
		f.asked.Only[i] = chosen[e.ID]
	}
	f.scores = rank.Score(f.matches.Corpus, f.asked, &rank.Defaults)
	return true, nil
}

// choose reads the heads of candidates in turn, at most so many, until it has the hits with the
// greatest scores, factors included: all says that it has. So the order is the same for
// every page.
func (f *fileSearch) choose(ctx context.Context, list []rank.Candidate, need, most int) (found []*candidate, all bool, err error) {
	var read []*candidate
	for at := 0; at < most; {
		window := list[at:min(at+headsAtOnce, most)]
		at += len(window)
		heads, err := f.heads(ctx, window)
		if err != nil {
			return nil, false, err
		}
		for _, c := range window {
			seq := f.matches.Corpus.Episodes[c.Episode].ID
			if h := heads[seq]; h.episode != nil {
				n := &candidate{Candidate: c, seq: seq, episode: h.episode, size: h.size}
				n.outcome, n.recency = rank.OutcomeFactor(string(h.episode.Outcome.Kind)), rank.RecencyFactor(f.now.Sub(h.episode.Start))
				n.Score *= n.outcome * n.recency
				read = append(read, n)
			}
		}
		slices.SortStableFunc(read, func(a, b *candidate) int { return cmp.Compare(b.Score, a.Score) })
		found = f.runs(read)
		if at == len(list) || len(found) >= need && found[need-1].Score >= list[at].Score*rank.MostFactor {
			return found, true, nil
		}
	}
	return found, len(list) == 0, nil
}

// runs makes the runs of each task one hit, unless each is to be one.
func (f *fileSearch) runs(read []*candidate) (found []*candidate) {
	if f.Steps || f.EachRun {
		return read
	}
	first := make(map[string]*candidate, len(read))
	for _, c := range read {
		key := taskKey(c.episode)
		if best := first[key]; best != nil {
			best.alike = append(best.alike, alikeOf(c.episode))
			continue
		}
		c.alike = nil
		first[key] = c
		found = append(found, c)
	}
	return found
}

// taskKey is the same for the runs of one task.
func taskKey(e *Episode) string { return oneLine(strings.ToLower(e.Description)) }

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
}

// heads reads those of the candidates that the filter chooses.
func (f *fileSearch) heads(ctx context.Context, list []rank.Candidate) (map[int64]headRow, error) {
	var seqs []int64
	for _, c := range list {
		if seq := f.matches.Corpus.Episodes[c.Episode].ID; seq > 0 && !slices.Contains(seqs, seq) {
			seqs = append(seqs, seq)
		}
	}
	text, err := json.Marshal(seqs)
	if err != nil {
		return nil, err
	}
	heads := make(map[int64]headRow, len(seqs))
	if len(seqs) == 0 {
		return heads, nil
	}
	r, err := f.q.Query(ctx, engine.Stmt{
		SQL:  "SELECT " + episodeColumns + " FROM episodes WHERE episodes.seq IN (SELECT value FROM json_each(?))" + f.filter.sql,
		Args: append([]any{string(text)}, f.filter.args...),
	})
	if err != nil {
		return nil, err
	}
	for _, row := range r[0].Rows {
		e, size, err := f.store.episodeFrom(ctx, row)
		if err != nil {
			return nil, err
		}
		seq, err := intFrom(row[0])
		if err != nil {
			return nil, err
		}
		heads[int64(seq)] = headRow{e, size}
	}
	return heads, nil
}

// page makes hits of the candidates that the page shows.
func (f *fileSearch) page(ctx context.Context, found []*candidate) (*SearchResults, error) {
	results := &SearchResults{Waiting: f.matches.Waiting}
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
	for i, c := range shown {
		hit := Hit{Episode: c.episode, Score: c.Score, Alike: c.alike}
		for _, st := range steps[i] {
			step := texts[st.Place]
			if step == nil {
				continue // it is told about beside its place, but not stored
			}
			d := wordsOfStep(0, step)
			h := newStepHit(step)
			h.Score = st.Score
			h.Snippet = cmp.Or(snippet(&f.query, d.Texts[rank.Text]), snippet(&f.query, d.Texts[rank.Result]), oneLine(cutText(step.Action, snippetBytes)))
			hit.Steps = append(hit.Steps, h)
		}
		hit.Snippet = f.snippet(c, &hit)
		if f.Explain {
			hit.Why = f.why(c, steps[i], terms)
		}
		results.Hits = append(results.Hits, hit)
	}
	return results, nil
}

func (f *fileSearch) phrases() bool {
	return slices.ContainsFunc(f.query.Terms, func(t index.Term) bool { return t.Phrase })
}

// preferPhrases moves those candidates up in whose head or best steps the phrases of the query
// stand. The index does not know where in a text a word is.
func (f *fileSearch) preferPhrases(ctx context.Context, found []*candidate) error {
	steps := f.stepsOf(found)
	texts, err := f.readSteps(ctx, steps)
	if err != nil {
		return err
	}
	holds := func(text string) bool {
		return slices.ContainsFunc(f.query.Matches(text), func(s index.Span) bool { return f.query.Terms[s.Term].Phrase })
	}
	for i, c := range found {
		c.phrase = 1
		in := !f.Steps && holds(headText(c.episode)+"\n"+conclusionText(c.episode))
		for _, st := range steps[i] {
			if step := texts[st.Place]; step != nil && !in {
				d := wordsOfStep(0, step)
				in = holds(d.Texts[rank.Text]) || holds(d.Texts[rank.Result])
			}
		}
		if in {
			c.phrase = rank.PhraseFactor
			c.Score *= rank.PhraseFactor
		}
	}
	slices.SortStableFunc(found, func(a, b *candidate) int { return cmp.Compare(b.Score, a.Score) })
	return nil
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
	steps := make([][]rank.Step, len(shown))
	at := make(map[int32]int, len(shown))
	for i, c := range shown {
		if f.Steps {
			steps[i] = []rank.Step{c.Step}
		}
		at[c.Episode] = i
	}
	if f.Steps {
		return steps
	}
	for _, st := range f.scores.Steps {
		if i, ok := at[st.Episode]; ok && len(steps[i]) < stepsOfHit && st.Own > 0 {
			steps[i] = append(steps[i], st)
		}
	}
	return steps
}

// sqlStepRuns reads the runs that hold the steps at some places, each run once.
const sqlStepRuns = `SELECT place, count, payload FROM runs WHERE place IN
 (SELECT (SELECT max(place) FROM runs WHERE place <= j.value AND place > j.value >> 24 << 24) FROM json_each(?) j)`

// readSteps reads steps by their places.
func (f *fileSearch) readSteps(ctx context.Context, hits [][]rank.Step) (map[int64]*Step, error) {
	var places []int64
	for _, steps := range hits {
		for _, st := range steps {
			places = append(places, st.Place)
		}
	}
	read := make(map[int64]*Step, len(places))
	if len(places) == 0 {
		return read, nil
	}
	slices.Sort(places)
	list, err := json.Marshal(places)
	if err != nil {
		return nil, err
	}
	r, err := f.q.Query(ctx, engine.Stmt{SQL: sqlStepRuns, Args: []any{string(list)}})
	if err != nil {
		return nil, err
	}
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		place, count := in.Int(0), in.Int(1)
		if in.Err != nil {
			return nil, fmt.Errorf("runs: %w: %w", ErrCorrupt, in.Err)
		}
		stored := chosenSteps{wanted: make(map[int]bool), steps: make(map[int]storedStep)}
		from, _ := slices.BinarySearch(places, place)
		for _, wanted := range places[from:] {
			if wanted < place+count {
				stored.wanted[int(wanted-place)] = true
			}
		}
		if _, err := f.store.payloads.DecodeSized(ctx, row[2], &stored); err != nil {
			return nil, fmt.Errorf("steps at %d: %w", place, err)
		}
		for i := range stored.steps {
			st := Step(stored.steps[i])
			st.Number = int((place + int64(i)) & (1<<rank.NumberBits - 1))
			read[place+int64(i)] = &st
		}
	}
	return read, nil
}

// why explains the score of a hit. terms are those of f.asked.
func (f *fileSearch) why(c *candidate, steps []rank.Step, terms []*rank.TermScores) *Why {
	step := c.Step
	if !f.Steps && len(steps) > 0 {
		step = slices.MaxFunc(steps, func(a, b rank.Step) int { return cmp.Compare(a.Own, b.Own) })
	}
	w := &Why{Own: step.Own, Episode: f.scores.Episodes[c.Episode], Outcome: c.outcome, Recency: c.recency, Phrase: cmp.Or(c.phrase, 1)}
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
