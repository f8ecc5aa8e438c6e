package episodic

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
)

// What is good enough for a Brief, as parts of the weight of what was asked.
const (
	taskFit   = 0.35 // a task, by its head; a pattern or heuristic
	likeFit   = 0.5  // of the fit of the best task: others
	stepFit   = 0.45 // a step: there are many, and some of them hold common words by chance
	lessonFit = 0.5  // of the words of a lesson's condition, if two of them or more stand in the task
)

// askedWords are the tokens of a query with what they weigh.
type askedWords struct {
	query   index.Query // each term is one token
	weights []float64   // of its terms
	total   float64
}

// newAskedWords weighs tokens by how many of all documents hold them.
func newAskedWords(q *index.Query, documents int, holding func(token string) int) *askedWords {
	a := &askedWords{query: singleTokens(q)}
	for _, t := range a.query.Terms {
		w := tokenWeight(documents, holding(t.Tokens[0]))
		a.weights = append(a.weights, w)
		a.total += w
	}
	return a
}

// smallMemory is how many documents more a memory is taken to have, so that in one of a few
// episodes words weigh nearly the same.
const smallMemory = 1000

func tokenWeight(documents, holding int) float64 {
	return math.Log(float64(documents+smallMemory) / float64(min(holding, documents)+1))
}

// singleTokens returns a query whose terms are the tokens of q, each once.
func singleTokens(q *index.Query) (single index.Query) {
	seen := make(map[string]bool)
	for _, t := range q.Terms {
		for i, token := range t.Tokens {
			if !seen[token] {
				seen[token] = true
				single.Terms = append(single.Terms, index.Term{Word: t.Word, Tokens: []string{token}, Prefix: t.Prefix && i == len(t.Tokens)-1})
			}
		}
	}
	return single
}

// fit is the part of the weight of what was asked that a text holds, from 0 to 1.
func (a *askedWords) fit(text string) float64 {
	found := make([]bool, len(a.weights))
	sum := 0.0
	for _, span := range a.query.Matches(text) {
		if !found[span.Term] {
			found[span.Term] = true
			sum += a.weights[span.Term]
		}
	}
	return min(1, sum/a.total)
}

// steps returns the steps of an episode that hold what was asked.
func (a *askedWords) steps(e *Episode) (hits []StepHit) {
	for i := range e.Steps {
		st := &e.Steps[i]
		d := wordsOfStep(0, st)
		cut := snippet(&a.query, strings.Join(d.Texts[1:3], "\n"))
		if cut == "" {
			continue
		}
		h := StepHit{Number: st.Number, Tool: st.Tool, Snippet: cut}
		if st.Result != nil {
			h.Result = st.Result.Kind
		}
		hits = append(hits, h)
	}
	return hits
}

// candidateLesson is a pattern or heuristic that holds words of what was asked.
type candidateLesson struct {
	Lesson
	condition, text string // text is all that is indexed
}

const maxCandidates = 20 // of patterns, and of heuristics

// weigh returns the words of a query with their weights, and the patterns and heuristics
// that hold most of them. The filter is within the Store's scope.
func (s *Store) weigh(ctx context.Context, q *index.Query, filter *EpisodeFilter) (*askedWords, []candidateLesson, error) {
	type answer struct {
		asked *askedWords
		found []candidateLesson
	}
	a, err := readAgain(func() (a answer, err error) {
		if s.server == nil {
			a.asked, a.found, err = s.weighFile(ctx, q, filter)
		} else {
			a.asked, a.found, err = s.weighServer(ctx, q, filter)
		}
		return a, err
	})
	return a.asked, a.found, err
}

func (s *Store) weighFile(ctx context.Context, q *index.Query, filter *EpisodeFilter) (*askedWords, []candidateLesson, error) {
	var tokens []string
	for _, t := range singleTokens(q).Terms {
		tokens = append(tokens, t.Tokens[0])
	}
	m, err := s.indexer.file.Lookup(ctx, s.engine, tokens)
	if err != nil {
		return nil, nil, err
	}
	documents := 0
	for _, p := range m.Corpus.Parts {
		documents += len(p.Places)
	}
	asked := newAskedWords(q, documents, m.Documents)
	// The groups of patterns and heuristics are negative, and come first.
	groups := make(map[int64]float64)
	for i, t := range tokens {
		for n, list := range m.Term(t).Postings {
			part := m.Corpus.Parts[n]
			for _, o := range list {
				if part.Places[o.Doc] >= 0 {
					break
				}
				if e := part.Episode[o.Doc]; e >= 0 {
					groups[m.Corpus.Episodes[e].ID] += asked.weights[i]
				}
			}
		}
	}
	var best []int64
	for g := range groups {
		best = append(best, g)
	}
	slices.SortFunc(best, func(a, b int64) int { return cmp.Or(cmp.Compare(groups[b], groups[a]), cmp.Compare(b, a)) })
	seqs := [2][]int64{{}, {}} // of patterns, and of heuristics
	for _, g := range best {
		if kind := -g & 1; len(seqs[kind]) < maxCandidates {
			seqs[kind] = append(seqs[kind], -g/2)
		}
	}
	if len(best) == 0 {
		return asked, nil, nil
	}
	lists := [2]string{}
	for i := range seqs {
		text, err := json.Marshal(seqs[i])
		if err != nil {
			return nil, nil, err
		}
		lists[i] = string(text)
	}
	found, err := s.lessonsFrom(ctx, filter,
		engine.Stmt{SQL: "SELECT " + patternColumns + " FROM patterns WHERE seq IN (SELECT value FROM json_each(?))%s", Args: []any{lists[0]}},
		engine.Stmt{SQL: "SELECT " + heuristicColumns + " FROM heuristics WHERE seq IN (SELECT value FROM json_each(?))%s", Args: []any{lists[1]}})
	return asked, found, err
}

const (
	sqlCountTokens = `SELECT value, (SELECT count(*) FROM heads WHERE heads MATCH '"' || value || '"') FROM json_each(?)`
	sqlCountHeads  = `SELECT count(*) FROM heads_docsize`
	sqlMatching    = `SELECT %s FROM heads JOIN %s ON heads.rowid = -2 * seq - %d WHERE heads MATCH ?%%s ORDER BY bm25(heads), seq LIMIT %d`
)

func (s *Store) weighServer(ctx context.Context, q *index.Query, filter *EpisodeFilter) (*askedWords, []candidateLesson, error) {
	var tokens []string
	for _, t := range singleTokens(q).Terms {
		tokens = append(tokens, t.Tokens[0])
	}
	list, err := json.Marshal(tokens)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlCountTokens, Args: []any{string(list)}}, engine.Stmt{SQL: sqlCountHeads})
	if err != nil {
		return nil, nil, err
	}
	holding := make(map[string]int, len(tokens))
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		holding[in.Text(0)] = int(in.Int(1))
		if in.Err != nil {
			return nil, nil, fmt.Errorf("words: %w: %w", ErrCorrupt, in.Err)
		}
	}
	documents, err := intFrom(r[1].Rows[0][0])
	if err != nil {
		return nil, nil, err
	}
	asked := newAskedWords(q, documents, func(t string) int { return holding[t] })
	match := matchExpression(&asked.query)
	found, err := s.lessonsFrom(ctx, filter,
		engine.Stmt{SQL: fmt.Sprintf(sqlMatching, patternColumns, "patterns", 0, maxCandidates), Args: []any{match}},
		engine.Stmt{SQL: fmt.Sprintf(sqlMatching, heuristicColumns, "heuristics", 1, maxCandidates), Args: []any{match}})
	return asked, found, err
}

// lessonsFrom reads patterns and heuristics by statements that leave room for conditions.
func (s *Store) lessonsFrom(ctx context.Context, filter *EpisodeFilter, patterns, heuristics engine.Stmt) (found []candidateLesson, err error) {
	w, err := (&PatternFilter{Domain: filter.Domain, Scope: filter.Scope}).where()
	if err != nil {
		return nil, err
	}
	patterns.SQL, patterns.Args = fmt.Sprintf(patterns.SQL, w.sql), append(patterns.Args, w.args...)
	if w, err = (&HeuristicFilter{Scope: filter.Scope}).where(); err != nil {
		return nil, err
	}
	heuristics.SQL, heuristics.Args = fmt.Sprintf(heuristics.SQL, w.sql), append(heuristics.Args, w.args...)
	r, err := s.engine.Query(ctx, patterns, heuristics)
	if err != nil {
		return nil, err
	}
	for _, row := range r[0].Rows {
		p, _, err := s.patternFrom(ctx, row)
		if err != nil {
			return nil, err
		}
		c := candidateLesson{Lesson: Lesson{Kind: LessonPattern, ID: p.ID, Time: p.Created}, text: strings.Join(patternTexts(p), "\n")}
		c.condition, c.Text = patternLesson(p)
		found = append(found, c)
	}
	for _, row := range r[1].Rows {
		h, _, err := s.heuristicFrom(ctx, row)
		if err != nil {
			return nil, err
		}
		found = append(found, candidateLesson{
			Lesson:    Lesson{Kind: LessonHeuristic, ID: h.ID, Time: h.Created, Text: oneLine(h.Condition + ": " + h.Action)},
			condition: h.Condition, text: strings.Join(heuristicTexts(h), "\n"),
		})
	}
	return found, nil
}

// patternLesson returns when a pattern applies, and what it says.
func patternLesson(p *Pattern) (condition, text string) {
	condition = p.Description
	switch {
	case p.ToolSequence != nil:
		text = strings.Join(p.ToolSequence.Tools, " → ")
	case p.DecisionPoint != nil:
		condition, text = p.DecisionPoint.Condition, p.DecisionPoint.Condition+": "+p.DecisionPoint.Action
	case p.ErrorRecovery != nil:
		condition, text = p.ErrorRecovery.Error, p.ErrorRecovery.Error+": "+strings.Join(p.ErrorRecovery.Steps, "; ")
	case p.ContextPattern != nil:
		condition = strings.Join(p.ContextPattern.Features, "\n")
		text = strings.Join(p.ContextPattern.Features, ", ") + ": " + p.ContextPattern.Approach
	}
	if p.Description != "" {
		text = p.Description + ": " + text
	}
	return condition, oneLine(text)
}

// fitsLesson reports whether a pattern or heuristic is good enough, and how much it holds of
// what was asked.
func (f *briefing) fitsLesson(c *candidateLesson) (fit float64, ok bool) {
	fit = f.asked.fit(c.text)
	condition := index.Parse(c.condition)
	words := singleTokens(&condition).Terms
	both := 0
	for _, t := range words {
		if f.words[t.Tokens[0]] {
			both++
		}
	}
	return fit, fit >= taskFit || both >= 2 && float64(both) >= lessonFit*float64(len(words))
}

// lessons chooses those of patterns, heuristics and reflections that fit.
func (f *briefing) lessons(candidates []candidateLesson) {
	type scored struct {
		Lesson
		score float64
	}
	var list []scored
	for i := range candidates {
		if fit, ok := f.fitsLesson(&candidates[i]); ok {
			list = append(list, scored{candidates[i].Lesson, fit})
		}
	}
	for _, e := range f.reflect {
		of := func(kind LessonKind, texts []string) {
			for _, text := range texts {
				if text = oneLine(text); text != "" {
					list = append(list, scored{Lesson{Kind: kind, ID: e.ID, Time: e.Start, Text: text}, f.asked.fit(text)})
				}
			}
		}
		of(LessonInsight, e.Reflection.Insights)
		of(LessonImprovement, e.Reflection.Improvements)
		of(LessonSuccess, e.Reflection.Successes)
	}
	slices.SortStableFunc(list, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	seen := make(map[string]bool)
	for _, l := range list {
		if key := index.Fold(l.Text); !seen[key] && len(f.all.Lessons) < briefLessons {
			seen[key] = true
			f.all.Lessons = append(f.all.Lessons, l.Lesson)
		}
	}
}
