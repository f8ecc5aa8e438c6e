package index

import (
	"context"

	"github.com/episodic-memory/episodic/internal/rank"
)

// mostOfSteps is the part of all steps that an actor may have done and still tell them
// apart.
const mostOfSteps = 0.6

// A word that many documents hold costs the most time and tells them apart the least.
const (
	// commonPart and commonFrom are from which part of the documents, and from how many of
	// them, a word is common.
	commonPart = 10
	commonFrom = 5000
	// rarerTerms must remain, which find rarerFind documents together: as many as can be
	// paged through.
	rarerTerms = 8
	rarerFind  = 1000
)

// Ask looks a query up and returns it as it is ranked by, with the corpus. A word that
// names an actor leaves the text and stands for that actor's steps, unless it is all
// that was asked for or the actor did nearly everything. Common words are left out if
// there are enough others, unless all is set. words[i] is the word that term i
// comes from. actor narrows the steps to those of one.
func (x *Index) Ask(ctx context.Context, q Querier, query *Query, actor string, when, all bool) (m *Matches, asked *rank.Query, words []string, err error) {
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
	seen := make(map[string]bool)
	var texts, names []string
	text := func(t Term) {
		for i, token := range t.Tokens {
			if t.Prefix && i == len(t.Tokens)-1 {
				token += prefixMark
			}
			if !seen[token] {
				seen[token] = true
				texts, words = append(texts, token), append(words, t.Word)
			}
		}
	}
	var named []Term
	for _, t := range query.Terms {
		n := 0
		if !t.Phrase {
			n = m.Documents(ActorTerm(t.Word))
		}
		if n > 0 && float64(n) <= mostOfSteps*float64(m.Corpus.Steps) {
			named = append(named, t)
			names = append(names, ActorTerm(t.Word))
			continue
		}
		text(t)
	}
	if len(texts) == 0 {
		for _, t := range named {
			text(t)
		}
		named, names = nil, nil
	}
	if !all {
		texts, words = m.withoutCommon(texts, words)
	}
	m.Text = query.without(named)
	asked = &rank.Query{Meaning: meaning(m.Text), Alike: query.telling()}
	for _, list := range []struct {
		of    []string
		terms *[]rank.Term
	}{{texts, &asked.Terms}, {names, &asked.Names}, {timeWords(when), &asked.TimeWords}} {
		for _, term := range list.of {
			t, err := m.Term(term)
			if err != nil {
				return nil, nil, nil, err
			}
			*list.terms = append(*list.terms, t)
		}
	}
	if actor != "" {
		of, err := m.Term(ActorTerm(actor))
		if err != nil {
			return nil, nil, nil, err
		}
		asked.Of = &of
	}
	return m, asked, words, nil
}

func timeWords(when bool) []string {
	if when {
		return TimeWords
	}
	return nil
}

// withoutCommon leaves common words out if enough others remain.
func (m *Matches) withoutCommon(texts, words []string) (rarer, theirs []string) {
	documents := 0
	for _, part := range m.Corpus.Parts {
		documents += len(part.Places)
	}
	common := max(documents/commonPart, commonFrom)
	find, n := 0, 0
	for _, term := range texts {
		if holding := m.Documents(term); 0 < holding && holding <= common {
			find += holding
			n++
		}
	}
	if n < rarerTerms || find < rarerFind {
		return texts, words
	}
	for i, term := range texts {
		if m.Documents(term) <= common {
			rarer, theirs = append(rarer, term), append(theirs, words[i])
		}
	}
	return rarer, theirs
}
