package episodic

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/index"
)

// BriefOptions narrow a Brief. Nil and the zero value are the defaults.
type BriefOptions struct {
	// Budget is the most tokens that Brief.Text may have, from 100 to 100,000; 0 means
	// 400. Tokens are estimated without a tokenizer, from above for nearly all texts: a
	// word of up to six Latin letters is one, as are three digits, two signs of
	// punctuation, and a line break; other letters are one less than their bytes in UTF-8.
	// English comes to about 4 bytes a token, JSON with identifiers to about 2.5.
	Budget int
	// Filter chooses the episodes. Patterns and heuristics are chosen by its Scope, and
	// patterns by its Domain. An empty State means StateEnded, so that an agent is not told
	// of what it is doing.
	Filter EpisodeFilter
}

// Bounds of BriefOptions.Budget.
const (
	defaultBudget = 400
	leastBudget   = 100
	mostBudget    = 100_000
)

// Brief is what helps with a task. It is made of what fits into its budget, the most
// useful first, and empty if nothing in the memory fits the task well enough.
type Brief struct {
	// Tasks are this task and those like it that were tried before, the likest first.
	Tasks []BriefTask `json:"tasks,omitempty"`
	// Lessons are what was learnt, the best first.
	Lessons []Lesson `json:"lessons,omitempty"`
	// Waiting is how many items are not indexed yet, as SearchResults.Waiting says.
	Waiting int `json:"waiting,omitempty"`
}

// BriefTask is a task that was tried before, with what came of its runs.
type BriefTask struct {
	Description string `json:"description"` // on one line; long ones end with an ellipsis
	// Fit is how much of the task that was asked about this one holds, from 0 to 1: the
	// part of its words, weighed by how rare they are in the memory.
	Fit float64 `json:"fit"`
	// Total is how many runs of the task were found, of which so many succeeded, and so
	// many failed or were abstained from. Runs belong to one task if their descriptions
	// have four fifths of their words in common.
	Total     int `json:"total"`
	Successes int `json:"successes"`
	Failures  int `json:"failures"`
	// Runs are up to four of the runs, the newest of each outcome first.
	Runs []Alike `json:"runs"`
	// Worked are calls that all successful runs made and no failed one did, in the order
	// of a run. Calls are the same if tool and arguments are, whatever the order of keys.
	// Of either outcome the newest eight runs are compared, or two of tasks but the first.
	Worked []Call `json:"worked,omitempty"`
	// Failed are calls that failed runs made and no successful one did, those of most runs
	// first. If no run succeeded, they are calls that ended in an error.
	Failed []Call `json:"failed,omitempty"`
	// Match is the step that holds most of the task's words, if it holds enough of them.
	Match *StepMatch `json:"match,omitempty"`
	// Result is what the newest successful run came to, or the likest one if none succeeded.
	Result *RunResult `json:"result,omitempty"`
}

// RunResult is what a run came to, in the words of its agent.
type RunResult struct {
	Episode ID          `json:"episode"`
	Start   time.Time   `json:"start"`
	Outcome OutcomeKind `json:"outcome,omitempty"`
	Text    string      `json:"text"` // the verdict or the reason, on one line
}

// Call is a call that was made in a run.
type Call struct {
	Tool string `json:"tool,omitempty"`
	// Arguments are JSON with its keys in order or, of a step without any, what was done in
	// words. What would take more than half of the budget ends with an ellipsis.
	Arguments string     `json:"arguments,omitempty"`
	Result    ResultKind `json:"result,omitempty"` // empty if none was recorded
	Episode   ID         `json:"episode"`          // one of the runs
	Start     time.Time  `json:"start"`            // of that run
	Step      int        `json:"step"`             // in that run
	Runs      int        `json:"runs"`             // how many of the compared runs of this outcome made it
}

// StepMatch is a step that holds the words of a task, such as an error that was met before.
type StepMatch struct {
	Episode ID        `json:"episode"`
	Start   time.Time `json:"start"` // of the run
	StepHit
	// Next is the call after it, nil if it was the last.
	Next *Call `json:"next,omitempty"`
}

// Lesson is something learnt.
type Lesson struct {
	Kind LessonKind `json:"kind"`
	// ID is that of the heuristic or pattern, or of the episode that was reflected on.
	ID   ID        `json:"id"`
	Time time.Time `json:"time"` // when it was created, or the episode's start
	Text string    `json:"text"` // on one line
}

// LessonKind is where a lesson comes from.
type LessonKind string

// The kinds of a Lesson. The last three are parts of a Reflection.
const (
	LessonHeuristic   LessonKind = "heuristic"
	LessonPattern     LessonKind = "pattern"
	LessonInsight     LessonKind = "insight"
	LessonImprovement LessonKind = "improvement"
	LessonSuccess     LessonKind = "success"
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
	maxCalls     = 8 // of a task, of either outcome
)

// Brief returns what helps with a task, in at most so many tokens: the same task and
// those like it that were tried before, what worked beside what failed and where they
// parted, the step or error that holds the task's words, and lessons. The task is any
// text: a task in words, what a user said, an error message. Only its first 24 content
// words count, as in Search.
//
// A task that was tried before is good enough if what is known of it without its steps
// holds 0.35 of the words that were asked for, weighed by how rare they are in the memory,
// or a step of it 0.45; a pattern or heuristic at 0.35 too, or if half of its condition
// stands in the task. If nothing is good enough, the Brief is empty and its Text "".
//
// On a server a task is found by what stands in the heads of episodes, and a step only
// in episodes that were found, unless Options.IndexSteps is set. Errors: ErrInvalid.
func (s *Store) Brief(ctx context.Context, task string, opts *BriefOptions) (_ *Brief, err error) {
	ctx, end := s.trace(ctx, "Brief")
	defer func() { end(err) }()
	b, err := s.brief(ctx, task, orZero(opts))
	return b, failed(err, "brief")
}

func (s *Store) brief(ctx context.Context, task string, opts *BriefOptions) (*Brief, error) {
	budget := cmp.Or(opts.Budget, defaultBudget)
	if budget < leastBudget || budget > mostBudget {
		return nil, invalid("budget", "is %d; it must lie between %d and %d tokens, or be 0 for %d", opts.Budget, leastBudget, mostBudget, defaultBudget)
	}
	filter := opts.Filter
	filter.State = cmp.Or(filter.State, StateEnded)
	r, err := s.newSearch(ctx, task, &SearchOptions{Filter: filter, Limit: briefHits})
	if err != nil {
		return nil, err
	}
	if len(r.query.Terms) == 0 || r.query.OnlyStops {
		return &Brief{}, nil // stop words stand everywhere
	}
	ctx = context.WithValue(ctx, readInfoKey{}, (*ReadInfo)(nil)) // that is of one read
	found, err := s.search(ctx, r)
	if err != nil {
		return nil, err
	}
	asked, lessons, err := s.weigh(ctx, &r.query, &r.Filter)
	if err != nil {
		return nil, err
	}
	f := &briefing{store: s, asked: asked, words: wordSet(task), all: Brief{Waiting: found.Waiting}}
	if err := f.tasks(ctx, found.Hits); err != nil {
		return nil, err
	}
	f.lessons(lessons)
	return f.all.within(budget), nil
}

// briefing collects what a Brief may be made of.
type briefing struct {
	store   *Store
	asked   *askedWords
	words   map[string]bool // all tokens of the task
	all     Brief
	reflect []*Episode // of the tasks, whose reflections are lessons
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
		t := g.task(runs)
		if t.Match = g.step; t.Match != nil {
			if err := f.goOn(ctx, t.Match); err != nil {
				return err
			}
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
				errs[i] = err
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
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
	return err
}

// task is what is known of a task, some runs of which have been loaded.
func (g *taskRuns) task(runs []ranRun) BriefTask {
	t := BriefTask{Description: oneLine(g.first.Description), Fit: g.fit, Total: len(g.runs), Runs: shownRuns(g.runs)}
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
	return t
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
