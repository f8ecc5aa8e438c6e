package index

import (
	"context"

	"github.com/episodic-memory/episodic/internal/rank"
)

// mostOfSteps is the part of all steps that an actor may have done and still tell them
// apart.
const mostOfSteps = 0.6

// Ask looks a query up and returns it as it is ranked by, with the corpus. A word that
// names an actor leaves the text and stands for that actor's steps, unless it is all
// that was asked for or the actor did nearly everything. words[i] is the word that term i
// comes from. actor narrows the steps to those of one.
func (x *Index) Ask(ctx context.Context, q Querier, query *Query, actor string, when bool) (m *Matches, asked *rank.Query, words []string, err error) {
	var terms, prefixes []string
	for _, t := range query.Terms {
		terms = append(terms, t.Tokens...)
		if t.Prefix {
			prefixes = append(prefixes, t.Tokens[len(t.Tokens)-1])
		}
		if !t.Phrase {
			terms = append(terms, ActorTerm(t.Word))
		}
	}
	if when {
		terms = append(terms, TimeWords...)
	}
	if actor != "" {
		terms = append(terms, ActorTerm(actor))
	}
	if m, err = x.Lookup(ctx, q, terms, prefixes); err != nil {
		return nil, nil, nil, err
	}
	asked = &rank.Query{}
	seen := make(map[string]bool)
	var names []Term
	text := func(t Term) {
		for i, token := range t.Tokens {
			if t.Prefix && i == len(t.Tokens)-1 {
				token += prefixMark
			}
			if !seen[token] {
				seen[token] = true
				asked.Terms = append(asked.Terms, m.Term(token))
				words = append(words, t.Word)
			}
		}
	}
	for _, t := range query.Terms {
		n := 0
		if !t.Phrase {
			n = m.Documents(ActorTerm(t.Word))
		}
		if n > 0 && float64(n) <= mostOfSteps*float64(m.Corpus.Steps) {
			names = append(names, t)
			continue
		}
		text(t)
	}
	if len(asked.Terms) == 0 {
		for _, t := range names {
			text(t)
		}
		names = nil
	}
	for _, t := range names {
		asked.Names = append(asked.Names, m.Term(ActorTerm(t.Word)))
	}
	if when {
		for _, t := range TimeWords {
			asked.TimeWords = append(asked.TimeWords, m.Term(t))
		}
	}
	if actor != "" {
		of := m.Term(ActorTerm(actor))
		asked.Of = &of
	}
	return m, asked, words, nil
}
