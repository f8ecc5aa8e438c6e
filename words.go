package episodic

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWords bounds the indexed text of each search column, in bytes.
const maxWords = 64 << 10

// mark stands between ideographs in indexed text, so that the tokenizer, which
// takes a run of letters for one word, makes each of them a word. It is
// invisible, and removed from snippets.
const mark = "\u200b"

// indexable is text as the search table holds it, cut to maxWords.
func indexable(s string) string {
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "")
	}
	return segmentCJK(s)
}

// segmentCJK returns text with a mark at each side of an ideograph within a word.
func segmentCJK(s string) string {
	var b strings.Builder
	var last rune
	for _, r := range s {
		if r == 0 {
			r = ' ' // would end the text for some SQL functions
		}
		if isWordRune(last) && isWordRune(r) && (isIdeograph(last) || isIdeograph(r)) {
			b.WriteString(mark)
		}
		b.WriteRune(r)
		last = r
	}
	return b.String()
}

// isIdeograph tells the scripts that are written without spaces between words.
func isIdeograph(r rune) bool {
	return r >= 0x0e00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

func taskWords(description string) string { return indexable(description) }

// tagWords holds each tag as a line of its own, between line feeds: a tag cannot
// hold one, so that single tags can be added and removed within the text.
func tagWords(tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	return segmentCJK("\n" + strings.Join(tags, "\n") + "\n")
}

func stepWords(steps []Step) string {
	var b strings.Builder
	for i := range steps {
		s := &steps[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(s.Tool)
		if s.Tool != "" && s.Action != "" {
			b.WriteString(": ")
		}
		b.WriteString(s.Action)
		if b.Len() > maxWords {
			break
		}
	}
	return indexable(b.String())
}

func outcomeWords(o *Outcome) string {
	parts := []string{string(o.Kind), o.Verdict, o.Reason, o.Details}
	for _, list := range [][]string{o.Artifacts, o.Completed, o.Failed, o.Signals} {
		parts = append(parts, list...)
	}
	var b strings.Builder
	for _, p := range parts {
		if p != "" {
			b.WriteString(p)
			b.WriteByte('\n')
		}
	}
	return indexable(b.String())
}

// maxTerms bounds the words of a query that are searched for.
const maxTerms = 64

// common words are left out of a query that has others: they match nearly every
// episode, which costs time and tells nothing.
var common = func() map[string]bool {
	m := make(map[string]bool)
	for w := range strings.FieldsSeq(`a an and are as at be been but by can could did do does for from had has have
		how i if in into is it its me my of on or our so than that the their them then there these they this to us was we
		were what when where which who why will with would you your`) {
		m[w] = true
	}
	return m
}()

// matchQuery turns any input into an FTS5 query for episodes that hold at least
// one of its words; the ranking prefers those that hold more. It is empty if
// the input has no word. Nothing in the input acts as an operator: every word
// is a quoted string, and a quote is never part of a word.
func matchQuery(input string) string {
	seen := make(map[string]bool)
	var rare, frequent []string
	for _, w := range queryWords(strings.ToLower(strings.ToValidUTF8(input, " "))) {
		switch {
		case seen[w]:
		case common[w]:
			frequent = append(frequent, w)
		default:
			rare = append(rare, w)
		}
		seen[w] = true
	}
	if len(rare) == 0 {
		rare = frequent
	}
	if len(rare) > maxTerms {
		rare = rare[:maxTerms]
	}
	if len(rare) == 0 {
		return ""
	}
	return `"` + strings.Join(rare, `" OR "`) + `"`
}

// queryWords splits a query as the tokenizer splits indexed text. A run of
// ideographs, which has no visible words, gives its pairs of neighbours.
func queryWords(input string) []string {
	runs := strings.FieldsFunc(indexable(input), func(r rune) bool {
		return !isWordRune(r) && !unicode.IsMark(r) && string(r) != mark
	})
	var words []string
	for _, run := range runs {
		parts := strings.Split(run, mark)
		for i, part := range parts {
			switch {
			case strings.IndexFunc(part, isWordRune) < 0:
			case !startsIdeograph(part):
				words = append(words, part)
			case i+1 < len(parts) && startsIdeograph(parts[i+1]):
				words = append(words, part+mark+parts[i+1])
			case i == 0 || !startsIdeograph(parts[i-1]):
				words = append(words, part) // between words of letters
			}
		}
	}
	return words
}

func startsIdeograph(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return isIdeograph(r)
}

func isWordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
