package index

import (
	"strings"

	"github.com/episodic-memory/episodic/internal/embed"
	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/vector"
)

// How much of a document its code is made of, in bytes: a vector of more words says less of
// each.
const (
	codedText   = 1000
	codedResult = 300
)

// codeOf returns the code of a document's vector by the built-in model; the zero Code if
// the model knows none of its words.
func codeOf(d *Document) vector.Code {
	var b strings.Builder
	for _, text := range []string{cut(d.Texts[rank.Head], codedText), cut(d.Texts[rank.Text], codedText), cut(d.Texts[rank.Result], codedResult)} {
		if text != "" {
			b.WriteString(text)
			b.WriteByte('\n')
		}
	}
	var room [vector.CodeDim]float32
	return vector.CodeOf(embed.Builtin{}.Append(room[:0], b.String()))
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// telling reports whether the built-in model knows enough words of the query to find
// documents by it that hold none of them. Half is enough, of a query without a phrase.
func (q *Query) telling() bool {
	known := 0
	for _, t := range q.Terms {
		if t.Phrase {
			return false
		}
		if (embed.Builtin{}).Knows(t.Word) {
			known++
		}
	}
	return known > 0 && 2*known >= len(q.Terms) && !q.OnlyStops
}

// without is the beginning of the query without the words that name actors.
func (q *Query) without(names []Term) string {
	var b strings.Builder
	text := cut(q.Text, codedText)
	s := newScanner(text)
	defer s.release()
	end := 0
	for len(names) > 0 && s.scan() {
		for _, t := range names {
			if Fold(text[s.from:s.to]) == t.Word {
				b.WriteString(text[end:s.from])
				end = s.to
				break
			}
		}
	}
	b.WriteString(text[end:])
	return b.String()
}

// meaning is a text as codes are compared with it. Nil if the model knows none of its words.
func meaning(text string) rank.Meaning {
	var room [vector.CodeDim]float32
	if m := vector.NewCodeQuery(embed.Builtin{}.Append(room[:0], text)); m != nil {
		return m
	}
	return nil
}
