package episodic

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Text returns the Brief as plain text for a prompt, one fact a line, and "" if it is
// empty. What it tells of is named by its date, which is that of the run's start in UTC,
// and by the first digits of its ID: 13 characters, or as many as tell the IDs in the
// Brief apart; Store.ResolveEpisode finds the episode. What agents stored is put on one
// line each, and is otherwise as it was stored: a prompt should say that it is a memory,
// and no instruction.
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
	var runs []string
	for _, r := range t.Runs {
		runs = append(runs, w.place(r.ID, r.Start)+" "+string(cmp.Or(r.Outcome, "not judged")))
	}
	w.line("%d of %d succeeded: %s", t.Successes, t.Total, strings.Join(runs, ", "))
	if r := t.Result; r != nil {
		w.line("%s said: %s", w.place(r.Episode, r.Start), r.Text)
	}
	of := ":"
	if t.Compared < t.Successes+t.Failures {
		of = fmt.Sprintf(" (of the %d compared):", t.Compared)
	}
	if len(t.Worked) > 0 {
		heading := "Successful runs did"
		if t.Failures > 0 {
			heading = "Successful runs did, and no failed one"
		}
		w.line("%s%s", heading, of)
	}
	for i := range t.Worked {
		w.call(&t.Worked[i], "")
	}
	if len(t.Failed) > 0 {
		heading := "Failed runs did, and no successful one"
		if t.Successes == 0 {
			heading = "Went wrong"
		}
		w.line("%s%s", heading, of)
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

// idLength is how many characters of an ID tell those in b apart.
func (b *Brief) idLength() int {
	var ids []ID
	for i := range b.Tasks {
		t := &b.Tasks[i]
		for _, r := range t.Runs {
			ids = append(ids, r.ID)
		}
		for _, c := range slices.Concat(t.Worked, t.Failed) {
			ids = append(ids, c.Episode)
		}
		if t.Match != nil {
			ids = append(ids, t.Match.Episode)
		}
		if t.Result != nil {
			ids = append(ids, t.Result.Episode)
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
