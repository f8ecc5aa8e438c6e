package episodic

import (
	"cmp"
	"context"
	"time"
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
	// Damaged are items that may have helped and cannot be read.
	Damaged []*DamagedError `json:"damaged,omitempty"`
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
	// Compared is how many of the runs had their calls compared: of either outcome the
	// newest eight, or two of tasks but the first.
	Compared int `json:"compared"`
	// Worked are calls that all successful runs of those compared made and no failed one
	// did, in the order of a run. Calls are the same if tool and arguments are, whatever the
	// order of keys. If no run failed, they are the three that hold most of the task's words.
	Worked []Call `json:"worked,omitempty"`
	// Failed are calls that failed runs made and no successful one did, those of most runs
	// first. If no run succeeded, they are calls that ended in an error.
	Failed []Call `json:"failed,omitempty"`
	// Match is the step that holds most of the words that were asked for, if it holds enough
	// of them and is not among the calls above.
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
	// words. What would take more than half of the budget ends with an ellipsis, and an eighth
	// of a task that never failed.
	Arguments string     `json:"arguments,omitempty"`
	Result    ResultKind `json:"result,omitempty"` // empty if none was recorded
	Episode   ID         `json:"episode"`          // one of the runs
	Start     time.Time  `json:"start"`            // of that run
	Step      int        `json:"step"`             // in that run
	Runs      int        `json:"runs"`             // how many of the compared runs of this outcome made it
}

// StepMatch is a step that holds the words of a task, such as an error that was met before.
// Its Score is how much of the task it holds, as BriefTask.Fit.
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
	// Text is on one line. That of a heuristic with Evidence begins with how often it held;
	// the less its confidence is, the later it comes.
	Text string `json:"text"`
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

// Brief returns what helps with a task, in at most so many tokens: the same task and
// those like it that were tried before, what worked beside what failed and where they
// parted, the step or error that holds the task's words, and lessons. The task is any
// text: a task in words, what a user said, an error message. Only its first 24 content
// words count, as in Search.
//
// A task that was tried before is good enough if what is known of it without its steps
// holds 0.4 of the words that were asked for, weighed by how rare they are in the memory,
// or a step of it 0.45; a pattern or heuristic at 0.4 too, or if half of its condition
// stands in the task. If nothing is good enough, the Brief is empty and its Text "".
//
// On a server without a replica a task is found by what stands in the heads of episodes, and a step only
// in episodes that were found, unless Options.IndexSteps is set. Errors: ErrInvalid.
func (s *Store) Brief(ctx context.Context, task string, opts *BriefOptions) (_ *Brief, err error) {
	ctx, end := s.trace(ctx, "Brief")
	defer func() { end(err) }()
	var b *Brief
	task = s.Redact(task)
	if ctx, s, err = s.on(ctx, reading{kind: readBest}); err == nil {
		b, err = s.brief(ctx, task, orZero(opts))
	}
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
	f := &briefing{store: s, words: wordSet(task), all: Brief{Waiting: found.Waiting}}
	f.damage.list = found.Damaged
	asked, lessons, err := s.weigh(ctx, &r.query, &r.Filter, &f.damage)
	if err != nil {
		return nil, err
	}
	f.asked = asked
	if err := f.tasks(ctx, found.Hits); err != nil {
		return nil, err
	}
	f.lessons(lessons)
	f.all.Damaged = f.damage.all()
	return f.all.within(budget), nil
}
