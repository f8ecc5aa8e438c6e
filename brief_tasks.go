package episodic

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/episodic-memory/episodic/internal/index"
)

// Bounds of what is looked at for a Brief.
const (
	briefHits    = 10 // tasks that Search finds
	briefTasks   = 4  // tasks of a Brief
	briefRuns    = 8  // runs of either outcome that are compared, of the first task
	briefRunsOf  = 2  // the same of others
	briefReaders = 4  // episodes that are read at once: each may be large
	briefNamed   = 4  // runs of a task that are named
	briefLessons = 8
	briefAlone   = 3 // calls of a task that never failed
	maxCalls     = 8 // of a task, of either outcome
)

// briefing collects what a Brief may be made of.
type briefing struct {
	store   *Store
	asked   *askedWords
	words   map[string]bool // all tokens of the task
	all     Brief
	reflect []*Episode // of the tasks, whose reflections are lessons
	damage  damages
}

// tasks finds the tasks that fit, and compares their runs.
func (f *briefing) tasks(ctx context.Context, hits []Hit) error {
	groups, err := f.groups(ctx, hits)
	if err != nil {
		return err
	}
	for i, g := range groups {
		each := briefRuns
		if i > 0 {
			each = briefRunsOf
		}
		runs, err := f.load(ctx, g.compared(each))
		if err != nil {
			return err
		}
		t := f.task(g, runs)
		if g.step != nil && !t.tells(g.step) {
			if err := f.goOn(ctx, g.step); err != nil {
				return err
			}
			t.Match = g.step
		}
		f.all.Tasks = append(f.all.Tasks, t)
		f.reflect = append(f.reflect, g.first)
		for _, r := range runs {
			if r.episode.ID != g.first.ID {
				f.reflect = append(f.reflect, r.episode)
			}
		}
	}
	return nil
}

// taskRuns are the runs of one task.
type taskRuns struct {
	first *Episode // the run that fits best
	words map[string]bool
	fit   float64
	runs  []Alike // the newest first
	step  *StepMatch
}

// sameTask is the part of the words of two descriptions that they have in common if
// they are of one task.
const sameTask = 0.8

// groups returns the tasks that fit, the best first.
func (f *briefing) groups(ctx context.Context, hits []Hit) ([]*taskRuns, error) {
	steps, err := f.stepsOf(ctx, hits)
	if err != nil {
		return nil, err
	}
	var groups []*taskRuns
	for i := range hits {
		e := hits[i].Episode
		words := wordSet(e.Description)
		at := slices.IndexFunc(groups, func(g *taskRuns) bool { return overlap(g.words, words) >= sameTask })
		if at < 0 {
			at = len(groups)
			groups = append(groups, &taskRuns{first: e, words: words})
		}
		g := groups[at]
		g.runs = append(append(g.runs, alikeOf(e)), hits[i].Alike...)
		if fit := f.asked.fit(headText(e) + "\n" + conclusionText(e)); fit > g.fit {
			g.fit, g.first = fit, e
		}
		for _, st := range steps[i] {
			if st.Score = f.asked.fit(st.Tool + "\n" + st.Snippet); st.Score >= stepFit && (g.step == nil || st.Score > g.step.Score) {
				g.step = &StepMatch{Episode: e.ID, Start: e.Start, StepHit: st}
			}
		}
	}
	for _, g := range groups {
		if g.step != nil {
			g.fit = max(g.fit, g.step.Score)
		}
		slices.SortFunc(g.runs, func(a, b Alike) int { return cmp.Or(b.Start.Compare(a.Start), bytes.Compare(b.ID[:], a.ID[:])) })
	}
	slices.SortStableFunc(groups, func(a, b *taskRuns) int { return cmp.Compare(b.fit, a.fit) })
	if len(groups) > 0 {
		least := max(taskFit, groups[0].fit*likeFit)
		groups = slices.DeleteFunc(groups, func(g *taskRuns) bool { return g.fit < least })
	}
	return groups[:min(len(groups), briefTasks)], nil
}

// stepsOf returns the steps of each hit that hold what was asked. On a server, where Search
// finds none, they are looked for in the best hits.
func (f *briefing) stepsOf(ctx context.Context, hits []Hit) ([][]StepHit, error) {
	steps := make([][]StepHit, len(hits))
	for i := range hits {
		steps[i] = hits[i].Steps
	}
	if f.store.server == nil {
		return steps, nil
	}
	hits = hits[:min(len(hits), briefTasks)]
	return steps, f.each(ctx, len(hits), func(i int) ID { return hits[i].Episode.ID }, func(i int, e *Episode) { steps[i] = f.asked.steps(e) })
}

// compared are the runs whose calls are compared: so many of either outcome.
func (g *taskRuns) compared(each int) (ids []ID) {
	var good, bad int
	for _, r := range g.runs {
		n := &bad
		switch {
		case r.Outcome == Success:
			n = &good
		case !failedRun(r.Outcome):
			continue
		}
		if *n++; *n <= each {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// ranRun is a run that has been read: its calls, and the episode without its steps.
type ranRun struct {
	episode *Episode
	calls   []Call
}

// load reads the runs that are still there.
func (f *briefing) load(ctx context.Context, ids []ID) ([]ranRun, error) {
	runs := make([]ranRun, len(ids))
	err := f.each(ctx, len(ids), func(i int) ID { return ids[i] }, func(i int, e *Episode) {
		runs[i] = ranRun{e, callsOf(e)}
		e.Steps = nil
	})
	return slices.DeleteFunc(runs, func(r ranRun) bool { return r.episode == nil }), err
}

// each reads n episodes, a few at a time, and calls use for those that are still there.
func (f *briefing) each(ctx context.Context, n int, id func(int) ID, use func(int, *Episode)) error {
	errs := make([]error, n)
	turns := make(chan struct{}, briefReaders)
	var wait sync.WaitGroup
	for i := range n {
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			e, err := f.store.episode(ctx, id(i))
			switch {
			case err == nil:
				use(i, e)
			case !errors.Is(err, ErrNotFound):
				errs[i] = f.damage.pass(err)
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// goOn finds what was done after a step.
func (f *briefing) goOn(ctx context.Context, m *StepMatch) error {
	e, err := f.store.episode(ctx, m.Episode)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && m.Number < len(e.Steps) {
		next := callOf(e, &e.Steps[m.Number])
		m.Next = &next
	}
	return f.damage.pass(err)
}

// tells reports whether a step is among the calls of a task already, and has no error that
// would be worth telling.
func (t *BriefTask) tells(m *StepMatch) bool {
	return m.StepHit.Result != ResultError && m.StepHit.Result != ResultTimeout &&
		slices.ContainsFunc(slices.Concat(t.Worked, t.Failed), func(c Call) bool { return c.Episode == m.Episode && c.Step == m.Number })
}

// task is what is known of a task, some runs of which have been loaded.
func (f *briefing) task(g *taskRuns, runs []ranRun) BriefTask {
	t := BriefTask{Description: oneLine(g.first.Description), Fit: g.fit, Total: len(g.runs), Runs: shownRuns(g.runs), Compared: len(runs)}
	for _, r := range g.runs {
		switch {
		case r.Outcome == Success:
			t.Successes++
		case failedRun(r.Outcome):
			t.Failures++
		}
	}
	told := g.first
	if i := slices.IndexFunc(runs, func(r ranRun) bool { return r.episode.Outcome.Kind == Success }); i >= 0 {
		told = runs[i].episode
	}
	if text := oneLine(cmp.Or(told.Outcome.Verdict, told.Outcome.Reason, told.Outcome.Details)); text != "" {
		t.Result = &RunResult{Episode: told.ID, Start: told.Start, Outcome: told.Outcome.Kind, Text: text}
	}
	t.Worked, t.Failed = compareRuns(runs)
	if t.Failures == 0 {
		t.Worked = f.likest(t.Worked)
	}
	t.Worked, t.Failed = t.Worked[:min(len(t.Worked), maxCalls)], t.Failed[:min(len(t.Failed), maxCalls)]
	return t
}

// likest returns a few of the calls of successful runs where no failed one tells which of
// them mattered: those that hold most of what was asked.
func (f *briefing) likest(calls []Call) []Call {
	fits := make(map[int]float64, len(calls)) // by step
	for i := range calls {
		fits[calls[i].Step] = f.asked.fit(calls[i].Tool + "\n" + calls[i].Arguments)
	}
	slices.SortStableFunc(calls, func(a, b Call) int { return cmp.Compare(fits[b.Step], fits[a.Step]) })
	return calls[:min(len(calls), briefAlone)]
}

func failedRun(o OutcomeKind) bool { return o == Failure || o == Abstained }

// shownRuns are some runs, the first of each outcome before others.
func shownRuns(runs []Alike) []Alike {
	type numbered struct {
		Alike
		n int // among those of the same outcome
	}
	seen := make(map[OutcomeKind]int)
	var list []numbered
	for _, r := range runs {
		list = append(list, numbered{r, seen[r.Outcome]})
		seen[r.Outcome]++
	}
	slices.SortStableFunc(list, func(a, b numbered) int { return cmp.Compare(min(a.n, 1), min(b.n, 1)) })
	var shown []Alike
	for _, r := range list[:min(len(list), briefNamed)] {
		shown = append(shown, r.Alike)
	}
	return shown
}

// wordSet are the tokens of a text.
func wordSet(text string) map[string]bool {
	set := make(map[string]bool)
	for _, t := range strings.Fields(string(index.AppendTokens(nil, text))) {
		set[t] = true
	}
	return set
}

// overlap is the part of the members of two sets that both have.
func overlap(a, b map[string]bool) float64 {
	both := 0
	for t := range a {
		if b[t] {
			both++
		}
	}
	return float64(both) / float64(max(1, len(a)+len(b)-both))
}
