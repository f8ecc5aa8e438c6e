package episodic

import (
	"strings"
	"unicode/utf8"

	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/rank"
)

// snippetBytes is about how long a snippet is.
const snippetBytes = 160

// snippet cuts out of a text the part that holds the most different words of a query, and
// begins and ends it between words. It is empty if the text holds none.
func snippet(q *index.Query, text string) string {
	spans := q.Matches(text)
	if len(spans) == 0 {
		return ""
	}
	// The best window of those that begin with a span.
	best, bestFrom, bestTo := 0, 0, 0
	terms := make(map[int]int)
	to := 0
	for from := range spans {
		for to < len(spans) && spans[to].To-spans[from].From <= snippetBytes {
			terms[spans[to].Term]++
			to++
		}
		if to == from { // longer than a snippet
			to++
			terms[spans[from].Term]++
		}
		if len(terms) > best {
			best, bestFrom, bestTo = len(terms), spans[from].From, spans[to-1].To
		}
		if terms[spans[from].Term]--; terms[spans[from].Term] == 0 {
			delete(terms, spans[from].Term)
		}
	}
	spare := max(0, snippetBytes-(bestTo-bestFrom))
	from, end := between(text, bestFrom-spare/3, bestFrom, bestTo, bestTo+spare-spare/3)
	if end-from > 2*snippetBytes {
		end = from + 2*snippetBytes
		for !utf8.RuneStart(text[end]) {
			end--
		}
	}
	cut := oneLine(text[from:end])
	if from > 0 {
		cut = "…" + cut
	}
	if end < len(text) {
		cut += "…"
	}
	return cut
}

// headSnippet is cut out of what an episode says of itself; where no word of the query
// stands in it, it is the beginning of the task.
func headSnippet(q *index.Query, e *Episode) string {
	if cut := snippet(q, headText(e)+"\n"+conclusionText(e)); cut != "" {
		return cut
	}
	return oneLine(cutText(e.Description, snippetBytes))
}

// stepSnippet is cut out of what a step did, or what came of it.
func stepSnippet(q *index.Query, s *Step) string {
	d := wordsOfStep(0, s)
	for _, field := range [...]int{rank.Text, rank.Result} {
		if cut := snippet(q, d.Texts[field]); cut != "" {
			return cut
		}
	}
	return oneLine(cutText(s.Action, snippetBytes))
}

// between widens a part of a text, at most from least to most, to where words end.
func between(text string, least, from, to, most int) (int, int) {
	if least <= 0 {
		from = 0
	} else if i := strings.IndexAny(text[least:from], " \n\t"); i >= 0 {
		from = least + i + 1
	}
	if most >= len(text) {
		to = len(text)
	} else if i := strings.LastIndexAny(text[to:most], " \n\t"); i >= 0 {
		to += i
	}
	return from, to
}
