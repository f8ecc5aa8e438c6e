package index

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// closingMarks holds the quotation marks that may end what another one begins.
var closingMarks = map[rune]string{
	'"': `"`, '＂': `＂`,
	'“': "”“", '„': "“”", '”': "”", '‟': "”",
	'«': "»", '»': "«",
	'「': "」", '『': "』", '｢': "｣", '〝': "〞〟",
}

// quotes finds the phrases between quotation marks in a text.
type quotes struct {
	text string
	none map[rune]int // up to where nothing ends what a mark begins
}

// next returns the first phrase from at on, the text before it, and where to go on.
// Without a phrase all that is left is before it.
func (q *quotes) next(at int) (before, phrase string, end int) {
	last := ' '
	for i, r := range q.text[at:] {
		if marks, ok := closingMarks[r]; ok && (r != '"' || !isWordRune(last)) {
			from := at + i + utf8.RuneLen(r)
			if to := q.closing(r, marks, from); to >= 0 {
				_, n := utf8.DecodeRuneInString(q.text[to:])
				return q.text[at : at+i], q.text[from:to], to + n
			}
		}
		last = r
	}
	return q.text[at:], "", len(q.text)
}

// closing returns where one of the marks ends, in the same line, the phrase that
// begins at from, or -1. The straight mark ends none in front of a letter.
func (q *quotes) closing(opening rune, marks string, from int) int {
	if from < q.none[opening] {
		return -1
	}
	line := len(q.text)
	for i, r := range q.text[from:] {
		if r == '\n' {
			line = from + i
			break
		}
		if !strings.ContainsRune(marks, r) {
			continue
		}
		next, _ := utf8.DecodeRuneInString(q.text[from+i+utf8.RuneLen(r):])
		if r != '"' || !isWordRune(next) {
			return from + i
		}
	}
	q.none[opening] = line
	return -1
}

// isWordRune tells letters and digits, next to which a straight mark stands for inches or
// is within a word, and begins or ends no phrase.
func isWordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
