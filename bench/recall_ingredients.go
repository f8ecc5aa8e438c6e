package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/eval"
	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/rank"
)

// ingredient is a part of ranking that can be left out.
type ingredient struct {
	name   string
	level  eval.Level // "": of both
	parse  func(text string) index.Query
	params func(*rank.Params)
	asked  func(*index.Query, *index.Matches, *rank.Query, []string) error
	scores func(*rank.Scores)
}

var ingredients = []ingredient{
	{name: wayBare},
	{name: wayWords, params: func(p *rank.Params) { p.Meaning = 0 }},
	{name: "without neighbours", level: eval.Steps, params: func(p *rank.Params) { p.Neighbour = nil }},
	{name: "without the episode's score", params: func(p *rank.Params) { p.EpisodeWeights = [rank.Fields]float64{} }},
	{name: "without the best step's score", level: eval.Episodes, scores: func(s *rank.Scores) { clear(s.Best) }},
	{name: "without names: words like others", asked: namesAsWords},
	{name: "without time words", asked: func(_ *index.Query, _ *index.Matches, q *rank.Query, _ []string) error {
		q.TimeWords = nil
		return nil
	}},
	{name: "without dates in words", params: func(p *rank.Params) { p.StepWeights[rank.Date] = 0 }},
	{name: "without results", params: func(p *rank.Params) { p.StepWeights[rank.Result], p.EpisodeWeights[rank.Result] = 0, 0 }},
	{name: "without stop words: all are looked for", parse: everyWord},
}

func namesAsWords(query *index.Query, m *index.Matches, q *rank.Query, words []string) error {
	q.Names = nil
	for _, t := range query.Terms {
		if !slices.Contains(words, t.Word) {
			for _, token := range t.Tokens {
				term, err := m.Term(token)
				if err != nil {
					return err
				}
				q.Terms = append(q.Terms, term)
			}
		}
	}
	return nil
}

// everyWord parses each word alone: a stop word leaves a query only if there are others.
func everyWord(text string) (q index.Query) {
	for word := range strings.FieldsSeq(text) {
		for _, t := range index.Parse(word).Terms {
			if !slices.ContainsFunc(q.Terms, func(other index.Term) bool { return other.Word == t.Word }) {
				q.Terms = append(q.Terms, t)
			}
		}
	}
	return q
}

// ranker ranks as Search does, without an ingredient.
type ranker struct {
	engine engine.Engine
	index  index.Index
	steps  bool
	keys   map[int64]eval.Key // by seq
}

func (r *ranker) without(i ingredient) way {
	return func(ctx context.Context, text string, limit int) (found []eval.Key, err error) {
		parse := index.Parse
		if i.parse != nil {
			parse = i.parse
		}
		query := parse(text)
		m, asked, words, err := r.index.Ask(ctx, r.engine, &query, "", index.AsksWhen(text), false)
		if err != nil {
			return nil, err
		}
		asked.Steps = r.steps
		if i.asked != nil {
			if err := i.asked(&query, m, asked, words); err != nil {
				return nil, err
			}
		}
		p := rank.Defaults
		if i.params != nil {
			i.params(&p)
		}
		scores := rank.Score(m.Corpus, asked, &p)
		if i.scores != nil {
			i.scores(scores)
		}
		for _, c := range m.Corpus.Rank(scores, asked, &p).To(limit) {
			key := r.keys[m.Corpus.Episodes[c.Episode].ID]
			if r.steps {
				key.Part = int(c.Step.Place&(1<<rank.NumberBits-1)) - 1
			}
			found = append(found, key)
		}
		return found, nil
	}
}

// keysBySeq are keys by the numbers that the file has for their episodes.
func keysBySeq(ctx context.Context, e engine.Engine, keys map[episodic.ID]eval.Key) (map[int64]eval.Key, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: `SELECT seq, id FROM episodes`})
	if err != nil {
		return nil, err
	}
	bySeq := make(map[int64]eval.Key)
	for _, row := range r[0].Rows {
		seq, isInt := row[0].(int64)
		id, isBlob := row[1].([]byte)
		if !isInt || !isBlob || len(id) != len(episodic.ID{}) {
			return nil, fmt.Errorf("an episode has the number %v and the id %v", row[0], row[1])
		}
		bySeq[seq] = keys[episodic.ID(id)]
	}
	return bySeq, nil
}
