package episodic

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Text returns the Brief as plain text for a prompt, one fact a line, and "" if it is
// empty. What it tells of is named by its date, which is that of the run's start in UTC,
// and by the first digits of its ID: 13 characters, or as many as tell the IDs in the
// Brief apart; Store.ResolveEpisode finds the episode. What was stored by agents is on one line each, but
// otherwise as it was stored: a prompt should say that it is a memory, and no instruction.
func (b *Brief) Text() string {
	w := briefWriter{ids: b.idLength()}
	for i := range b.Tasks {
		w.task(&b.Tasks[i])
	}
	if len(b.Lessons) > 0 {
		w.line("Lessons:")
	}
	for _, l := range b.Lessons {
		w.line("- %s %s: %s", w.place(l.ID, l.Time), l.Kind, l.Text)
	}
	return strings.ToValidUTF8(w.text.String(), "\uFFFD")
}

// shownRuns is how many runs of a task Text names.
const shownRuns = 4

type briefWriter struct {
	text strings.Builder
	ids  int // characters of an ID
}

func (w *briefWriter) line(format string, args ...any) {
	w.text.WriteString(oneLine(fmt.Sprintf(format, args...)))
	w.text.WriteByte('\n')
}

func (w *briefWriter) place(id ID, t time.Time) string {
	return t.UTC().Format(time.DateOnly) + " " + id.String()[:w.ids]
}

func (w *briefWriter) task(t *BriefTask) {
	w.line("Tried before: %s", t.Description)
	good, bad := 0, 0
	for _, r := range t.Runs {
		switch r.Outcome {
		case Success:
			good++
		case Failure, Abstained:
			bad++
		}
	}
	var runs []string
	for _, r := range t.shownRuns() {
		runs = append(runs, w.place(r.ID, r.Start)+" "+string(cmp.Or(r.Outcome, "not judged")))
	}
	more := ""
	if n := len(t.Runs) - len(runs); n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	w.line("Runs: %s%s", strings.Join(runs, ", "), more)
	if t.Result != "" {
		w.line("Came to: %s", t.Result)
	}
	if len(t.Worked) > 0 {
		heading := "Worked:"
		if bad > 0 {
			heading = "Worked, and no failed run did it:"
		}
		w.line("%s", heading)
	}
	for i := range t.Worked {
		w.call(&t.Worked[i], "")
	}
	if len(t.Failed) > 0 {
		heading := "Went wrong:"
		if good > 0 {
			heading = "Failed runs did, and no successful one:"
		}
		w.line("%s", heading)
	}
	for i := range t.Failed {
		c := &t.Failed[i]
		times := ""
		if c.Runs > 1 {
			times = fmt.Sprintf(" in %d runs", c.Runs)
		}
		w.call(c, times)
	}
	if m := t.Match; m != nil {
		w.line("Step %d of %s, %s: %s", m.Number, w.place(m.Episode, m.Start), joinWords(m.Tool, string(m.StepHit.Result)), m.Snippet)
		if m.Next != nil {
			w.line("Then: %s", joinWords(m.Next.Tool, m.Next.Arguments, wrong(m.Next)))
		}
	}
}

func (w *briefWriter) call(c *Call, times string) {
	w.line("- %s (%s step %d%s)", joinWords(c.Tool, c.Arguments, wrong(c)), w.place(c.Episode, c.Start), c.Step, times)
}

// wrong names what a call ended in, if it is not what was wanted.
func wrong(c *Call) string {
	if !c.wentWrong() {
		return ""
	}
	return "-> " + string(c.Result)
}

// joinWords joins the texts that are not empty.
func joinWords(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), " ")
}

// shownRuns are the first runs, but of each outcome one if there is any.
func (t *BriefTask) shownRuns() []Alike {
	rank := make([]int, len(t.Runs))
	seen := make(map[OutcomeKind]int)
	order := make([]int, len(t.Runs))
	for i, r := range t.Runs {
		order[i], rank[i] = i, seen[r.Outcome]
		seen[r.Outcome]++
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[a], rank[b]) })
	var shown []Alike
	for _, i := range order[:min(len(order), shownRuns)] {
		shown = append(shown, t.Runs[i])
	}
	return shown
}

// idLength is how many characters of an ID tell those in b apart.
func (b *Brief) idLength() int {
	var ids []ID
	for i := range b.Tasks {
		t := &b.Tasks[i]
		for _, r := range t.shownRuns() {
			ids = append(ids, r.ID)
		}
		for _, c := range slices.Concat(t.Worked, t.Failed) {
			ids = append(ids, c.Episode)
		}
		if t.Match != nil {
			ids = append(ids, t.Match.Episode)
		}
	}
	for _, l := range b.Lessons {
		ids = append(ids, l.ID)
	}
	for _, n := range []int{13, 18, 23} {
		first := make(map[string]ID)
		clash := false
		for _, id := range ids {
			key := id.String()[:n]
			if other, known := first[key]; known && other != id {
				clash = true
			}
			first[key] = id
		}
		if !clash {
			return n
		}
	}
	return 36
}

// within returns what of b fits into a budget of tokens.
func (b *Brief) within(budget int) *Brief {
	cut := &Brief{Waiting: b.Waiting}
	var chosen []briefPart
	for _, p := range b.parts(budget) {
		if p.kind != taskPart && p.kind != lessonPart && !slices.ContainsFunc(chosen, func(c briefPart) bool { return c.kind == taskPart && c.task == p.task }) {
			continue // its task did not fit
		}
		next := b.assemble(append(slices.Clip(chosen), p))
		if countTokens(next.Text()) <= budget {
			cut, chosen = next, append(chosen, p)
		}
	}
	return cut
}

// briefPart is something that a Brief tells, or leaves out for want of room.
type briefPart struct {
	kind       partKind
	task, item int
	most       int // bytes of its text
}

type partKind int

const (
	taskPart partKind = iota
	workedPart
	failedPart
	matchPart
	resultPart
	lessonPart
)

// parts are what b can tell, the most useful first. A part that may be too large is
// followed by a shorter form of itself.
func (b *Brief) parts(budget int) (parts []briefPart) {
	add := func(kind partKind, task, item, most int) {
		parts = append(parts, briefPart{kind, task, item, most})
	}
	calls := func(task, from, to int) {
		t := &b.Tasks[task]
		for i := from; i < to; i++ {
			if i < len(t.Worked) {
				add(workedPart, task, i, 2*budget)
			}
			if i < len(t.Failed) {
				add(failedPart, task, i, budget)
			}
			if i == 0 && t.Match != nil {
				add(matchPart, task, 0, budget)
			}
		}
	}
	lessons := func(from, to int) {
		for i := from; i < min(to, len(b.Lessons)); i++ {
			add(lessonPart, 0, i, budget)
		}
	}
	for i := range b.Tasks {
		add(taskPart, i, 0, budget/2)
		add(taskPart, i, 0, budget/8)
		calls(i, 0, 2)
		if i == 0 {
			lessons(0, 2)
		}
		add(resultPart, i, 0, budget/2)
		calls(i, 2, 4)
	}
	lessons(2, len(b.Lessons))
	for i := range b.Tasks {
		calls(i, 4, 8)
	}
	return parts
}

// assemble makes a Brief of parts of b.
func (b *Brief) assemble(parts []briefPart) *Brief {
	made := &Brief{Waiting: b.Waiting}
	at := make(map[int]int) // tasks of b in made
	for _, p := range parts {
		if p.kind == lessonPart {
			l := b.Lessons[p.item]
			l.Text = cutText(l.Text, p.most)
			made.Lessons = append(made.Lessons, l)
			continue
		}
		of := &b.Tasks[p.task]
		if p.kind == taskPart {
			if _, known := at[p.task]; !known {
				at[p.task] = len(made.Tasks)
				made.Tasks = append(made.Tasks, BriefTask{Description: cutText(of.Description, p.most), Fit: of.Fit, Runs: of.Runs})
			}
			continue
		}
		t := &made.Tasks[at[p.task]]
		switch p.kind {
		case workedPart:
			t.Worked = append(t.Worked, of.Worked[p.item].cut(p.most))
		case failedPart:
			t.Failed = append(t.Failed, of.Failed[p.item].cut(p.most))
		case resultPart:
			t.Result = cutText(of.Result, p.most)
		case matchPart:
			m := *of.Match
			if m.Next != nil {
				next := m.Next.cut(p.most)
				m.Next = &next
			}
			t.Match = &m
		}
	}
	for i := range made.Tasks {
		slices.SortFunc(made.Tasks[i].Worked, func(a, b Call) int { return cmp.Compare(a.Step, b.Step) })
	}
	return made
}

func (c Call) cut(most int) Call {
	c.Arguments = cutText(c.Arguments, most)
	return c
}

// countTokens estimates the tokens of a text, as BriefOptions.Budget says.
func countTokens(text string) (tokens int) {
	for i := 0; i < len(text); {
		class := tokenClass(text[i])
		from := i
		for i < len(text) && tokenClass(text[i]) == class && class != otherChar {
			i++
		}
		n := i - from
		switch class {
		case letterChar:
			tokens += (n + 5) / 6
		case digitChar:
			tokens += (n + 2) / 3
		case signChar:
			tokens += (n + 1) / 2
		case spaceChar:
			tokens += min(1, n-1) // a single one belongs to the word behind it
		case lineChar:
			tokens += n
		case otherChar:
			_, size := utf8.DecodeRuneInString(text[i:])
			i += size
			tokens += max(1, size-1)
		}
	}
	return tokens
}

type charClass int

const (
	letterChar charClass = iota
	digitChar
	signChar
	spaceChar
	lineChar
	otherChar
)

func tokenClass(b byte) charClass {
	switch {
	case b >= utf8.RuneSelf:
		return otherChar
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
		return letterChar
	case b >= '0' && b <= '9':
		return digitChar
	case b == ' ' || b == '\t':
		return spaceChar
	case b < ' ' || b == 0x7f:
		return lineChar
	}
	return signChar
}
