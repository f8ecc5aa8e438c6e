package index

import (
	"slices"
	"strings"
)

// Query is what is searched for.
type Query struct {
	Text  string // as it was asked
	Terms []Term // in the order in which they were asked for, without repetitions
	// OnlyStops says that Terms are stop words, because nothing else was asked for.
	OnlyStops bool
}

// Term is a word or a phrase of a query.
type Term struct {
	// Word is the text as it was written, folded by [Fold]. It may be longer than what
	// Tokens hold of it.
	Word string
	// Tokens are what is looked for in the index, as [AppendTokens] makes them: of a
	// phrase all of them, one behind the other; otherwise any of them, of which a
	// text that holds more fits better.
	Tokens []string
	// Phrase says that Tokens must be found one behind the other.
	Phrase bool
	// Prefix says that the last token is found also where it begins another one: a
	// single letter of a script written without spaces, and the first digits of a hash
	// or UUID.
	Prefix bool
}

// maxWords is the most content words of a query that are searched for. Texts begin
// with what matters: of whole task texts as queries the first 24 words found more than
// 12, 16, 64, or the 32 rarest.
const maxWords = 24

// Parse turns any text into a query. Nothing in it is an operator or an error. Its
// words become terms, as [AppendTokens] cuts them: the first 24, without repetitions;
// two letters of a script without spaces count as a word. English stop words are left
// out if there are others. What is between two quotation marks in one line, straight
// or typographic, is a phrase. The time is linear in the length of text.
func Parse(text string) Query {
	p := parser{newTerms(), newTerms()}
	q := quotes{text, make(map[rune]int)}
	for at := 0; at < len(text) && p.content.left > 0; {
		words, phrase, end := q.next(at)
		p.words(words)
		p.phrase(phrase)
		at = end
	}
	if len(p.content.terms) == 0 {
		return Query{Text: text, Terms: p.stops.terms, OnlyStops: len(p.stops.terms) > 0}
	}
	return Query{Text: text, Terms: p.content.terms}
}

// terms are the terms of a query so far.
type terms struct {
	terms []Term
	left  int             // how many words more are searched for
	seen  map[string]bool // what distinguishes the terms
}

func newTerms() terms { return terms{left: maxWords, seen: make(map[string]bool)} }

func (t *terms) add(term Term, words int) {
	key := strings.Join(term.Tokens, " ")
	if term.Phrase {
		key = `"` + key
	}
	if !t.seen[key] && t.left > 0 {
		t.seen[key] = true
		t.terms = append(t.terms, term)
		t.left -= words
	}
}

type parser struct {
	content terms
	stops   terms // stop words, which are searched for if there is no content
}

// words adds the words of text that are in no phrase.
func (p *parser) words(text string) {
	s := newScanner(text)
	defer s.release()
	for p.content.left > 0 && s.scan() {
		pieces := s.pieces
		term := Term{Word: Fold(text[s.from:s.to])}
		words := 1
		if s.paired {
			pieces = pieces[:max(1, len(pieces)-1)]
			pieces = pieces[:min(len(pieces), 2*p.content.left)]
			words = (len(pieces) + 1) / 2
		}
		term.Prefix = s.findsMore()
		content := false
		for _, piece := range pieces {
			content = content || !s.isStop(piece)
		}
		for _, piece := range pieces {
			if token := s.token(piece); !slices.Contains(term.Tokens, token) && (!content || !s.isStop(piece)) {
				term.Tokens = append(term.Tokens, token)
			}
		}
		if content {
			p.content.add(term, words)
		} else {
			p.stops.add(term, words)
		}
	}
}

// findsMore tells whether the word is looked for as the beginning of tokens.
func (s *scanner) findsMore() bool {
	only := s.pieces[0]
	return len(s.pieces) == 1 && (s.paired || isHash(s.folded[only.lo:only.hi]))
}

func (s *scanner) isStop(p piece) bool { return stopWords[string(s.folded[p.lo:p.hi])] }

func (s *scanner) token(p piece) string {
	var a [2 * maxToken]byte
	return string(s.appendToken(a[:0], p))
}

// phrase adds text as a phrase.
func (p *parser) phrase(text string) {
	s := newScanner(text)
	defer s.release()
	term := Term{Phrase: true}
	words := 0
	from, to := 0, 0
	for words < p.content.left && s.scan() {
		if words == 0 {
			from = s.from
		}
		to = s.to
		pieces := s.pieces
		words++
		if s.paired {
			pieces = pieces[:min(len(pieces), 2*p.content.left)]
			words += len(pieces) / 2
		}
		// The last letter may be the first of a pair in the text.
		term.Prefix = s.paired || s.findsMore()
		for _, piece := range pieces {
			term.Tokens = append(term.Tokens, s.token(piece))
		}
	}
	if words == 0 {
		return
	}
	term.Word = Fold(text[from:to])
	if len(term.Tokens) == 1 {
		term.Phrase = false
	}
	p.content.add(term, words)
}
