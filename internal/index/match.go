package index

import (
	"bytes"
	"cmp"
	"slices"
)

// Span is a place in a text where a term of a query was found.
type Span struct {
	From, To int // bytes of the text
	Term     int // of Query.Terms
}

// Matches returns where terms of q are in text, by From: of an identifier the parts
// that were asked for, or the whole. Spans of one term do not overlap; those of
// different terms may. The time is linear in the length of text.
func (q *Query) Matches(text string) []Span {
	m := matcher{terms: q.Terms, words: make(map[string][]int)}
	for i, t := range q.Terms {
		for _, token := range t.Tokens {
			m.begins.add(token)
		}
		switch {
		case t.Phrase:
			m.words[t.Tokens[0]] = append(m.words[t.Tokens[0]], i)
		case t.Prefix:
			m.prefixes = append(m.prefixes, i)
		default:
			for _, token := range t.Tokens {
				m.words[token] = append(m.words[token], i)
			}
		}
	}
	s := newScanner(text)
	defer s.release()
	var token []byte
	for s.scan() {
		for _, p := range s.pieces {
			if !m.begins.mayMatch(s.folded[p.lo:p.hi]) {
				m.begun = m.begun[:0]
				continue
			}
			token = s.appendToken(token[:0], p)
			m.add(token, p.from, p.to)
		}
	}
	return merge(m.found, len(q.Terms))
}

// matcher follows the tokens of a text, and notes where terms are.
type matcher struct {
	terms    []Term
	words    map[string][]int // the terms that a token finds, or begins
	prefixes []int            // terms that a token finds if it begins with theirs
	begins   begins
	begun    []begun
	found    []Span
}

// begins are the first two bytes of tokens, as a set of hashes. Most words of a text are none
// of a query, and are told by it before they are stemmed: a stem is how its word begins, but
// for its last letter.
type begins [8]uint64

func (b *begins) add(token string) {
	if len(token) > 2 {
		b.set(token[0], token[1])
		return
	}
	for second := range 256 { // the last letter of a stem may be another one in the word
		b.set(token[0], byte(second))
	}
}

func (b *begins) set(first, second byte) {
	at := hashOfTwo(first, second)
	b[at/64] |= 1 << (at % 64)
}

// mayMatch is false if a word has none of the tokens.
func (b *begins) mayMatch(word []byte) bool {
	second := byte(0)
	if len(word) > 1 {
		second = word[1]
	}
	at := hashOfTwo(word[0], second)
	return b[at/64]>>(at%64)&1 != 0
}

func hashOfTwo(first, second byte) uint { return (uint(first)*26 + uint(second)) % 512 }

// begun is a phrase of which not all tokens have been found yet.
type begun struct{ term, tokens, from, to int }

func (m *matcher) add(token []byte, from, to int) {
	open := m.begun[:0]
	for _, b := range m.begun {
		t := &m.terms[b.term]
		last := b.tokens == len(t.Tokens)-1
		if string(token) != t.Tokens[b.tokens] && !(last && t.Prefix && bytes.HasPrefix(token, []byte(t.Tokens[b.tokens]))) {
			continue
		}
		b.tokens++
		b.from, b.to = min(b.from, from), max(b.to, to)
		if last {
			m.found = append(m.found, Span{b.from, b.to, b.term})
		} else {
			open = append(open, b)
		}
	}
	m.begun = open
	for _, i := range m.words[string(token)] {
		if m.terms[i].Phrase {
			m.begun = append(m.begun, begun{i, 1, from, to})
		} else {
			m.found = append(m.found, Span{from, to, i})
		}
	}
	for _, i := range m.prefixes {
		if bytes.HasPrefix(token, []byte(m.terms[i].Tokens[0])) {
			m.found = append(m.found, Span{from, to, i})
		}
	}
}

// merge sorts spans, and makes one of those of a term that overlap.
func merge(spans []Span, terms int) []Span {
	slices.SortFunc(spans, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(b.To, a.To), cmp.Compare(a.Term, b.Term))
	})
	merged := spans[:0]
	last := make([]int, terms) // where the last span of a term is in merged, plus 1
	for _, s := range spans {
		if i := last[s.Term]; i > 0 && s.From < merged[i-1].To {
			merged[i-1].To = max(merged[i-1].To, s.To)
			continue
		}
		merged = append(merged, s)
		last[s.Term] = len(merged)
	}
	return merged
}
