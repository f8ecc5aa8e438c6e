package episodic

import (
	"cmp"
	"slices"

	"github.com/episodic-memory/episodic/internal/tokens"
)

// within returns what of b fits into a budget of tokens, the most useful first.
func (b *Brief) within(budget int) *Brief {
	cut := &Brief{Waiting: b.Waiting, Damaged: b.Damaged}
	var chosen []briefPart
	shown := make(map[int]bool) // tasks
	for _, p := range b.parts() {
		if p.kind > taskPart && !shown[p.task] {
			continue
		}
		for _, p.form = range p.kind.forms(budget) {
			next := b.assemble(append(slices.Clip(chosen), p))
			if tokens.Count(next.Text()) <= budget {
				cut, chosen = next, append(chosen, p)
				shown[p.task] = shown[p.task] || p.kind == taskPart
				break
			}
		}
	}
	return cut
}

// briefPart is something that a Brief tells, or leaves out for want of room.
type briefPart struct {
	kind       partKind
	task, item int
	form       partForm
}

type partKind int

const (
	lessonPart partKind = iota
	taskPart
	workedPart  // this and what follows belong to a task that is told of
	examplePart // a call of a task that never failed
	failedPart
	matchPart
	resultPart
)

// partForm is how much is told of a part.
type partForm struct {
	bytes int // of its longest text
	runs  int // of a task; 0 is also a match without the call after it
}

// forms are those to be tried in turn. The last of a task and of a lesson fit into the
// least budget.
func (k partKind) forms(budget int) []partForm {
	switch k {
	case taskPart:
		return []partForm{{budget / 2, 4}, {budget / 4, 2}, {24, 1}}
	case lessonPart:
		return []partForm{{budget, 0}, {24, 0}}
	case workedPart, failedPart:
		return []partForm{{2 * budget, 0}, {budget / 2, 0}}
	case matchPart:
		return []partForm{{budget, 1}, {budget, 0}}
	}
	return []partForm{{budget / 2, 0}}
}

// parts are what b can tell, the most useful first.
func (b *Brief) parts() (parts []briefPart) {
	add := func(kind partKind, task, from, to int) {
		for i := from; i < to; i++ {
			parts = append(parts, briefPart{kind: kind, task: task, item: i})
		}
	}
	calls := func(task, from, to int) {
		t, worked := &b.Tasks[task], workedPart
		if t.Failures == 0 {
			worked = examplePart
		}
		for i := from; i < to; i++ {
			add(worked, task, i, min(i+1, len(t.Worked)))
			add(failedPart, task, i, min(i+1, len(t.Failed)))
		}
	}
	for i := range b.Tasks {
		add(taskPart, i, 0, 1)
		calls(i, 0, 1)
		if b.Tasks[i].Match != nil {
			add(matchPart, i, 0, 1)
		}
		calls(i, 1, 2)
		if i == 0 {
			add(lessonPart, 0, 0, min(2, len(b.Lessons)))
		}
		if b.Tasks[i].Result != nil {
			add(resultPart, i, 0, 1)
		}
		calls(i, 2, 4)
	}
	first := 0
	if len(b.Tasks) > 0 {
		first = 2
	}
	add(lessonPart, 0, first, len(b.Lessons))
	for i := range b.Tasks {
		calls(i, 4, maxCalls)
	}
	return parts
}

// assemble makes a Brief of parts of b.
func (b *Brief) assemble(parts []briefPart) *Brief {
	made := &Brief{Waiting: b.Waiting, Damaged: b.Damaged}
	at := make(map[int]int) // tasks of b in made
	for _, p := range parts {
		switch p.kind {
		case lessonPart:
			l := b.Lessons[p.item]
			l.Text = cutText(l.Text, p.form.bytes)
			made.Lessons = append(made.Lessons, l)
			continue
		case taskPart:
			t := b.Tasks[p.task]
			at[p.task] = len(made.Tasks)
			t.Description = cutText(t.Description, p.form.bytes)
			t.Runs = t.Runs[:min(len(t.Runs), p.form.runs)]
			t.Worked, t.Failed, t.Match, t.Result = nil, nil, nil, nil
			made.Tasks = append(made.Tasks, t)
			continue
		}
		of, t := &b.Tasks[p.task], &made.Tasks[at[p.task]]
		switch p.kind {
		case workedPart, examplePart:
			t.Worked = append(t.Worked, of.Worked[p.item].cut(p.form.bytes))
		case failedPart:
			t.Failed = append(t.Failed, of.Failed[p.item].cut(p.form.bytes))
		case matchPart:
			m := *of.Match
			if m.Next != nil && p.form.runs > 0 {
				next := m.Next.cut(p.form.bytes)
				m.Next = &next
			} else {
				m.Next = nil
			}
			t.Match = &m
		case resultPart:
			r := *of.Result
			r.Text = cutText(r.Text, p.form.bytes)
			t.Result = &r
		}
	}
	for i := range made.Tasks {
		slices.SortStableFunc(made.Tasks[i].Worked, func(a, b Call) int { return cmp.Compare(a.Step, b.Step) })
	}
	return made
}

func (c Call) cut(most int) Call {
	c.Arguments = cutText(c.Arguments, most)
	return c
}
