package episodic

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/rank"
)

// What is good enough for a Brief, as parts of the weight of what was asked. They were
// chosen on two memories, 100 runs of an airline's agent and 500 of a coding agent: see
// docs/recall.md.
const (
	taskFit   = 0.40 // a task, by its head; a pattern or heuristic
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
		cut := snippet(&a.query, d.Texts[rank.Text]+"\n"+d.Texts[rank.Result])
		if cut == "" {
			continue
		}
		h := newStepHit(st)
		h.Snippet = cut
		hits = append(hits, h)
	}
	return hits
}

// Bounds of the patterns, and of the heuristics, that are looked at.
const (
	mostNumbers   = 1000 // whose scope is asked for
	maxCandidates = 20   // that are read
)

// weigh returns the words of a query with their weights, and the patterns and heuristics
// that hold most of them and are not damaged. The filter is within the Store's scope.
func (s *Store) weigh(ctx context.Context, q *index.Query, filter *EpisodeFilter, damage *damages) (*askedWords, []candidateLesson, error) {
	type answer struct {
		asked *askedWords
		found []candidateLesson
	}
	a, err := readAgain(ctx, func(ctx context.Context) (a answer, err error) {
		if s.server == nil {
			a.asked, a.found, err = s.weighFile(ctx, q, filter, damage)
		} else {
			a.asked, a.found, err = s.weighServer(ctx, q, filter, damage)
		}
		return a, err
	})
	return a.asked, a.found, err
}

func (s *Store) weighFile(ctx context.Context, q *index.Query, filter *EpisodeFilter, damage *damages) (*askedWords, []candidateLesson, error) {
	var tokens []string
	for _, t := range singleTokens(q).Terms {
		tokens = append(tokens, t.Tokens[0])
	}
	m, err := s.indexer.file.Lookup(ctx, s.engine, tokens, nil)
	if err != nil {
		return nil, nil, indexFailed(err)
	}
	documents := 0
	for _, p := range m.Corpus.Parts {
		documents += len(p.Places)
	}
	asked := newAskedWords(q, documents, m.Documents)
	// The groups of patterns and heuristics are negative, and come first.
	groups := make(map[int64]float64)
	for i, t := range tokens {
		term, err := m.Term(t)
		if err != nil {
			return nil, nil, indexFailed(err)
		}
		for n, list := range term.Postings {
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
		if kind := -g & 1; len(seqs[kind]) < mostNumbers {
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
	found, err := s.lessonsFrom(ctx, filter, damage,
		engine.Stmt{SQL: fmt.Sprintf(sqlNumbered, patternColumns, "patterns"), Args: []any{lists[0]}},
		engine.Stmt{SQL: fmt.Sprintf(sqlNumbered, heuristicColumns, "heuristics"), Args: []any{lists[1]}})
	return asked, found, err
}

// Statements that read patterns or heuristics, leave room for conditions, and have how many to
// read, and behind how many, as their last arguments. The rows of
// heads are numbered as words.go says.
const (
	sqlNumbered = `SELECT %s FROM (SELECT key AS place, value AS n FROM json_each(?)) JOIN %s ON seq = n WHERE 1%%s ORDER BY place LIMIT ? OFFSET ?`
	sqlMatching = `SELECT %s FROM heads JOIN %s ON seq = -heads.rowid / 2
 WHERE heads MATCH ? AND heads.rowid < 0 AND -heads.rowid %%%% 2 = %d%%s ORDER BY bm25(heads), seq LIMIT ? OFFSET ?`
)

const (
	sqlCountTokens = `SELECT value, (SELECT count(*) FROM heads WHERE heads MATCH '"' || value || '"') FROM json_each(?)`
	sqlCountHeads  = `SELECT count(*) FROM heads_docsize`
)

func (s *Store) weighServer(ctx context.Context, q *index.Query, filter *EpisodeFilter, damage *damages) (*askedWords, []candidateLesson, error) {
	var tokens []string
	for _, t := range singleTokens(q).Terms {
		tokens = append(tokens, serverTokens(t.Tokens[0]))
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
	asked := newAskedWords(q, documents, func(t string) int { return holding[serverTokens(t)] })
	match := matchExpression(&asked.query)
	found, err := s.lessonsFrom(ctx, filter, damage,
		engine.Stmt{SQL: fmt.Sprintf(sqlMatching, patternColumns, "patterns", 0), Args: []any{match}},
		engine.Stmt{SQL: fmt.Sprintf(sqlMatching, heuristicColumns, "heuristics", 1), Args: []any{match}})
	return asked, found, err
}
