package episodic

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Episode is one task an agent worked on: what it was, in which context, what
// was done step by step, and what came of it.
//
// Times are stored in whole microseconds, UTC; everything else is read back
// exactly as it was stored. Nil and empty slices and maps are the same.
type Episode struct {
	// ID is made by storing if it is zero.
	ID ID `json:"id,omitzero"`
	// TaskType is one of the constants or any other word; storing sets an empty
	// one to TaskOther.
	TaskType    TaskType `json:"task_type,omitempty"`
	Description string   `json:"description"` // of the task, in words; required
	Context     Context  `json:"context,omitzero"`
	// Start is when the work began; storing sets a zero Start to now.
	Start time.Time `json:"start,omitzero"`
	// End is when the work ended; zero while the episode is running. Storing an
	// episode that has an Outcome sets a zero End to now.
	End   time.Time `json:"end,omitzero"`
	Steps []Step    `json:"steps,omitempty"`
	// StepCount is the number of stored steps. Reading sets it, also where the
	// steps themselves are not loaded (ListEpisodes, Search); storing refuses an
	// episode whose Steps are not as many as its non-zero StepCount, so that a
	// listed episode cannot overwrite its own steps with nothing.
	StepCount int     `json:"step_count,omitempty"`
	Outcome   Outcome `json:"outcome,omitzero"` // zero: not judged (yet)
	Reward    *Reward `json:"reward,omitempty"` // nil: not scored
	// Reflection is what the agent or its overseer made of it afterwards.
	Reflection      Reflection        `json:"reflection,omitzero"`
	AppliedPatterns []AppliedPattern  `json:"applied_patterns,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	// Scope is whom the episode belongs to. Storing fills its empty fields from the
	// Store's scope. An episode that is stored keeps its scope: storing it again under
	// another one is ErrConflict, and fields that are empty then stay as they are stored.
	Scope Scope `json:"scope,omitzero"`

	// Revision names what was read: reading sets it, and every later write of the
	// episode, by anybody, gives it another one. PutEpisode stores an episode with a
	// Revision only over the one that it names, unless its ID is zero. It means nothing
	// to another database or with another ID, and no document has it.
	Revision int64 `json:"-"`
}

// TaskType classifies tasks. Any word is allowed; the constants are the common ones.
type TaskType string

// Common task types.
const (
	TaskCodeGeneration TaskType = "code_generation"
	TaskDebugging      TaskType = "debugging"
	TaskRefactoring    TaskType = "refactoring"
	TaskTesting        TaskType = "testing"
	TaskAnalysis       TaskType = "analysis"
	TaskDocumentation  TaskType = "documentation"
	TaskOther          TaskType = "other"
)

// Context is where a task took place. All fields are optional.
type Context struct {
	Domain     string     `json:"domain,omitempty"` // project or subject; what memories are first filtered by
	Language   string     `json:"language,omitempty"`
	Framework  string     `json:"framework,omitempty"`
	Complexity Complexity `json:"complexity,omitempty"`
	// Tags is a set: storing keeps the order and drops repetitions.
	Tags []string `json:"tags,omitempty"`
}

// Complexity is a coarse estimate of a task; empty means unknown.
type Complexity string

// The complexities.
const (
	Simple   Complexity = "simple"
	Moderate Complexity = "moderate"
	Complex  Complexity = "complex"
)

// Outcome is what an episode came to. Which fields belong to which kind stands
// beside them; the others must be empty.
type Outcome struct {
	Kind OutcomeKind `json:"kind"`
	// Verdict is what was said of it in the end: of success and partial success, and by the
	// agent itself of what nobody has judged.
	Verdict   string   `json:"verdict,omitempty"`
	Artifacts []string `json:"artifacts,omitempty"` // success: what was made
	Completed []string `json:"completed,omitempty"` // partial success: the parts done
	Failed    []string `json:"failed,omitempty"`    // partial success: the parts not done
	Reason    string   `json:"reason,omitempty"`    // failure, abstained
	Details   string   `json:"details,omitempty"`   // failure: the error in full
	// StoppedAtStep is the step at which the agent abstained; 0 if before the first.
	StoppedAtStep int `json:"stopped_at_step,omitempty"`
	// Signals are what made an abstaining agent think the task infeasible.
	Signals []string `json:"signals,omitempty"`
}

// OutcomeKind is the verdict on an episode in one word.
type OutcomeKind string

// The kinds of an Outcome. The empty kind means not judged (yet).
const (
	Success        OutcomeKind = "success"
	PartialSuccess OutcomeKind = "partial_success"
	Failure        OutcomeKind = "failure"
	Abstained      OutcomeKind = "abstained"
)

// Reward is a score given to an episode. The store computes nothing from it.
type Reward struct {
	Total float64 `json:"total"` // finite; what episodes are compared by
	// Components are the parts that the scorer made Total of, by name.
	Components map[string]float64 `json:"components,omitempty"`
}

// Reflection is what was learnt from an episode.
type Reflection struct {
	Successes    []string `json:"successes,omitempty"`    // what went well
	Improvements []string `json:"improvements,omitempty"` // what to do better
	Insights     []string `json:"insights,omitempty"`
}

// AppliedPattern records that a pattern was used in an episode, and whether it helped.
type AppliedPattern struct {
	PatternID ID     `json:"pattern_id"`
	Step      int    `json:"step,omitempty"` // at which it was applied; 0: to the whole
	Effect    Effect `json:"effect"`
	Note      string `json:"note,omitempty"`
}

// Effect is what an applied pattern did.
type Effect string

// The effects of an AppliedPattern.
const (
	Helped        Effect = "helped"
	NoEffect      Effect = "no_effect"
	Hindered      Effect = "hindered"
	EffectPending Effect = "pending"
)

// Running reports whether the episode has not ended.
func (e *Episode) Running() bool { return e.End.IsZero() }

// prepare fills in what storing fills in, and checks the rest.
func (e *Episode) prepare(now time.Time) error {
	if e.ID.IsZero() {
		e.ID = NewID()
	}
	if e.TaskType == "" {
		e.TaskType = TaskOther
	}
	if e.Start.IsZero() {
		e.Start = truncateMicros(now)
	}
	if e.End.IsZero() && e.Outcome.Kind != "" {
		e.End = truncateMicros(now)
		if e.End.Before(e.Start) {
			e.End = e.Start
		}
	}
	c := &check{}
	c.name("task_type", string(e.TaskType))
	c.text("description", e.Description)
	if e.Description == "" {
		c.fail("description", "is empty; say what the task was")
	}
	c.context(&e.Context)
	c.time("start", e.Start)
	c.time("end", e.End)
	if !e.End.IsZero() && e.End.Before(e.Start) {
		c.fail("end", "lies before start")
	}
	if e.StepCount != 0 && e.StepCount != len(e.Steps) {
		c.fail("step_count", "is %d but there are %d steps; load the whole episode with Store.Episode before storing it again", e.StepCount, len(e.Steps))
	}
	c.steps(e.Steps, 1)
	c.outcome(&e.Outcome)
	c.verdicts(e.Reward, &e.Reflection, e.AppliedPatterns)
	c.metadata(e.Metadata)
	return c.err
}

// prepare redacts an episode, fills in what storing fills in, the scope included, and checks
// the rest.
func (s *Store) prepare(ctx context.Context, e *Episode, now time.Time) error {
	scope, err := e.Scope.within(s.scope)
	if err == nil {
		err = s.clean(ctx, scope, func(c *cleaning) { c.episode(e) })
	}
	if err == nil {
		err = e.prepare(now)
	}
	if err == nil {
		e.Scope = scope
	}
	return err
}

func (c *check) context(x *Context) {
	c.name("context.domain", x.Domain)
	c.name("context.language", x.Language)
	c.name("context.framework", x.Framework)
	c.oneOf("context.complexity", string(x.Complexity), "", Simple, Moderate, Complex)
	c.names("context.tags", x.Tags)
	if len(x.Tags) > maxTags {
		c.fail("context.tags", "are %d, at most %d are allowed", len(x.Tags), maxTags)
	}
}

func (c *check) outcome(o *Outcome) {
	c.oneOf("outcome.kind", string(o.Kind), "", Success, PartialSuccess, Failure, Abstained)
	only := func(field string, set bool, kinds ...OutcomeKind) {
		if set && !slices.Contains(kinds, o.Kind) {
			c.fail("outcome."+field, "does not belong to an outcome of kind %q", o.Kind)
		}
	}
	only("verdict", o.Verdict != "", "", Success, PartialSuccess)
	only("artifacts", len(o.Artifacts) > 0, Success)
	only("completed", len(o.Completed) > 0, PartialSuccess)
	only("failed", len(o.Failed) > 0, PartialSuccess)
	only("reason", o.Reason != "", Failure, Abstained)
	only("details", o.Details != "", Failure)
	only("stopped_at_step", o.StoppedAtStep != 0, Abstained)
	only("signals", len(o.Signals) > 0, Abstained)
	c.notNegative("outcome.stopped_at_step", int64(o.StoppedAtStep))
	c.text("outcome.verdict", o.Verdict)
	c.text("outcome.reason", o.Reason)
	c.text("outcome.details", o.Details)
	c.texts("outcome.artifacts", o.Artifacts)
	c.texts("outcome.completed", o.Completed)
	c.texts("outcome.failed", o.Failed)
	c.texts("outcome.signals", o.Signals)
}

// verdicts checks what Complete sets besides the outcome.
func (c *check) verdicts(r *Reward, f *Reflection, applied []AppliedPattern) {
	if r != nil {
		c.finite("reward.total", r.Total)
		for k, v := range r.Components {
			c.text("reward.components", k)
			c.finite("reward.components."+k, v)
		}
	}
	c.texts("reflection.successes", f.Successes)
	c.texts("reflection.improvements", f.Improvements)
	c.texts("reflection.insights", f.Insights)
	for i := range applied {
		a := &applied[i]
		c.in("applied_patterns[%d].", i, func() {
			if a.PatternID.IsZero() {
				c.fail("pattern_id", "is missing")
			}
			c.notNegative("step", int64(a.Step))
			c.oneOf("effect", string(a.Effect), Helped, NoEffect, Hindered, EffectPending)
			c.text("note", a.Note)
		})
	}
}

// PutEpisode stores a whole episode: it creates it, or replaces the stored one
// with the same ID, its steps and tags included; relations and embeddings stay.
// An episode that was read, and so has a Revision, replaces only what was read:
// whatever has been written to it since, an appended step or a tag, is ErrConflict,
// and then nothing is stored. With a zero Revision it replaces whatever there is.
// It sets the fields of e that storing fills in, and Revision, and redacts e. Errors: ErrInvalid;
// ErrConflict.
func (s *Store) PutEpisode(ctx context.Context, e *Episode) (err error) {
	ctx, end := s.trace(ctx, "PutEpisode")
	defer func() { end(err) }()
	if err := s.check(ctx, e != nil, "episode"); err != nil {
		return fmt.Errorf("put episode: %w", err)
	}
	isNew, revision := e.ID.IsZero(), e.Revision
	if err := s.prepare(ctx, e, time.Now()); err != nil {
		return fmt.Errorf("put episode: %w", err)
	}
	defer func() { s.changed(err, oneEpisode, e.ID) }()
	o := &putEpisode{Episode: e, Rev: newRevision(), Base: revision, New: isNew}
	if err = s.carryOut(ctx, o); err == nil {
		e.Revision = o.Rev
	}
	return failed(err, "put episode %v", e.ID)
}

// putEpisode stores a whole episode.
type putEpisode struct {
	Episode *Episode
	Rev     int64
	Base    int64 // the revision that it replaces; 0: whatever there is
	New     bool  // its id must not be stored; it costs a third less than looking for what to replace
	Add     bool  // it is stored only if its id is not

	Read *read[Episode] // what it was made over, if it is queued; nil: it is not known
}

// errStoredAlready says that an episode was not added, because there is one with its id.
var errStoredAlready = fmt.Errorf("%w: an episode with this id is stored already", ErrConflict)

func (o *putEpisode) encode(_ context.Context, s *Store) (*encoded, error) {
	w, err := s.row(o.Episode, o.Rev)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Add:
		stmts := append(append(w.add(), s.wording.storeMany([]*episodeRow{w})...), storeScopes(w.scope)...)
		return &encoded{stmts: stmts, told: func(_ context.Context, r []engine.Result, err error) error {
			if err == nil && r[0].Affected == 0 {
				err = errStoredAlready
			}
			return err
		}}, nil
	case o.New:
		return &encoded{stmts: append(w.insert(), storeScopes(w.scope)...), told: func(ctx context.Context, r []engine.Result, err error) error {
			_, err = s.inserted(ctx, r, err, w)
			return err
		}}, nil
	case o.Base != 0:
		return &encoded{stmts: append(w.replace(o.Base), storeScopes(w.scope)...), told: func(ctx context.Context, r []engine.Result, err error) error {
			return s.replaced(ctx, r, err, w, o.Base)
		}}, nil
	}
	return &encoded{stmts: w.upsert(), told: func(_ context.Context, r []engine.Result, err error) error {
		if err == nil && w.scope != (Scope{}) && r[0].Affected == 0 {
			err = errOtherScope
		}
		return err
	}}, nil
}

// replaced tells what came of storing w over the episode that had the revision.
func (s *Store) replaced(ctx context.Context, results []engine.Result, err error, w *episodeRow, rev int64) error {
	results, err = s.inserted(ctx, results, err, w)
	if err != nil || results == nil || results[0].Affected == 1 {
		return err
	}
	stored, err := s.revisions(ctx, w)
	if err != nil {
		return err
	}
	switch now, found := stored[w.id]; {
	case !found:
		return fmt.Errorf("%w: the episode was deleted after it was read; set Revision to 0 to store it anew", ErrConflict)
	case now == rev:
		return errOtherScope
	case now != w.rev: // otherwise it was sent twice
		return fmt.Errorf("%w: the episode was changed after it was read; read it again", ErrConflict)
	}
	return nil
}

// inserted tells what came of statements that store episodes under new revisions, all of
// them or none. When the engine cannot tell whether it has stored them, or finds them
// because it has sent them twice, their revisions do; the results are nil then.
func (s *Store) inserted(ctx context.Context, results []engine.Result, err error, rows ...*episodeRow) ([]engine.Result, error) {
	switch engine.KindOf(err) {
	case engine.KindUnique, engine.KindConstraint, engine.KindUnknownOutcome:
	default:
		return results, err
	}
	if ctx.Err() != nil {
		return nil, err
	}
	stored, lookErr := s.revisions(ctx, rows...)
	if lookErr != nil {
		return nil, &engine.Error{Kind: engine.KindUnknownOutcome, Stmt: -1, Err: fmt.Errorf("%w; and then: %w", err, lookErr)}
	}
	for _, w := range rows {
		if stored[w.id] == w.rev {
			return nil, nil
		}
	}
	return nil, err
}

// Bounds of what AddEpisodes stores in one transaction: others want to write too.
const (
	addAtOnce = 64
	addBytes  = 1 << 20 // compressed
)

// AddEpisodes stores those of the given episodes whose ID is not stored yet and
// returns how many they were; the others are left as they are. Any number may be
// given: they are stored in their order in units of at most 64, each of which is
// stored whole or not at all, so that other writers are not kept waiting. When a
// unit fails the error says from which episode on nothing was stored; adding all of
// them again is safe. It sets the fields that storing fills in. Errors: ErrInvalid,
// before anything is stored unless an episode is too large.
func (s *Store) AddEpisodes(ctx context.Context, episodes ...*Episode) (added int, err error) {
	ctx, end := s.trace(ctx, "AddEpisodes")
	defer func() { end(err) }()
	now := time.Now()
	for i, e := range episodes {
		if err = s.check(ctx, e != nil, "episode"); err == nil {
			err = s.prepare(ctx, e, now)
		}
		if err != nil {
			return 0, fmt.Errorf("add episode %d of %d: %w", i+1, len(episodes), err)
		}
	}
	return s.addEpisodes(ctx, ctx, episodes)
}

// addEpisodes is AddEpisodes for episodes that have been prepared. When ctx ends no further
// unit is begun; the one under way goes on until storing ends.
func (s *Store) addEpisodes(ctx, storing context.Context, episodes []*Episode) (added int, err error) {
	if s.queues() {
		return s.queueEpisodes(storing, episodes)
	}
	if s.queue != nil {
		ids := make([]ID, len(episodes))
		for i, e := range episodes {
			ids[i] = e.ID
		}
		if err := s.queue.goFirst(ctx, ids...); err != nil {
			return 0, failed(err, "add %d episodes", len(episodes))
		}
	}
	s.payloads.Ready(ctx)
	atOnce := addAtOnce
	next := func(from int) []*Episode { return episodes[from:min(len(episodes), from+atOnce)] }
	ahead := s.encodeAhead(next(0), 0)
	defer func() { ahead.wait.Wait() }()
	for from := 0; from < len(episodes); {
		var n, to int
		err := write(storing, s, func() (*addUnit, error) {
			ahead.wait.Wait()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if ahead.from == from {
				return ahead.unit, ahead.err
			}
			// The unit is encoded again, or the one before it was, and became shorter or longer.
			return s.newAddUnit(next(from))
		}, func(u *addUnit) (err error) {
			to = from + len(u.rows)
			ahead = s.encodeAhead(next(to), to)
			n, err = s.storeUnit(storing, u)
			s.indexer.written(n)
			return err
		})
		if unit := to - from; unit > 1 && engine.KindOf(err) == engine.KindTooLarge {
			atOnce = unit / 2 // a gateway's limit may be less than what a unit takes
			continue
		}
		if added += n; err != nil {
			return added, failed(err, "add episode %d of %d, those before it are stored", from+1, len(episodes))
		}
		from = to
	}
	return added, nil
}

// addUnit is some episodes that are stored together.
type addUnit struct {
	episodes []*Episode
	rows     []*episodeRow
	stmts    []engine.Stmt
	heads    []int // of stmts, those that store an episode's row
}

// aheadUnit is a unit that is encoded while the one before it is stored.
type aheadUnit struct {
	from int            // the first of its episodes
	wait sync.WaitGroup // until unit and err are known
	unit *addUnit
	err  error
}

// encodeAhead begins to encode episodes, the first of which is number from of all.
func (s *Store) encodeAhead(episodes []*Episode, from int) *aheadUnit {
	a := &aheadUnit{from: from}
	if len(episodes) > 0 {
		a.wait.Go(func() { a.unit, a.err = s.newAddUnit(episodes) })
	}
	return a
}

// newAddUnit encodes the first of the episodes, as many as one unit may take in bytes, on
// all processors.
func (s *Store) newAddUnit(episodes []*Episode) (*addUnit, error) {
	rows, errs := make([]*episodeRow, len(episodes)), make([]error, len(episodes))
	var next, size atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(episodes)) {
		all.Go(func() {
			for size.Load() < addBytes {
				i := int(next.Add(1)) - 1
				if i >= len(episodes) {
					return
				}
				if rows[i], errs[i] = s.row(episodes[i], newRevision()); errs[i] != nil {
					return
				}
				size.Add(int64(engine.Size(rows[i].add()) + engine.Size(s.wording.storeMany(rows[i:i+1]))))
			}
		})
	}
	all.Wait()
	u := &addUnit{}
	for i, w := range rows {
		if w == nil {
			if i == 0 {
				return nil, errs[0]
			}
			break // those before it are stored first
		}
		u.rows, u.heads, u.stmts = append(u.rows, w), append(u.heads, len(u.stmts)), append(u.stmts, w.add()...)
	}
	u.episodes = episodes[:len(u.rows)]
	u.stmts = append(u.stmts, s.wording.storeMany(u.rows)...)
	scopes := make([]Scope, len(u.rows))
	for i, w := range u.rows {
		scopes[i] = w.scope
	}
	u.stmts = append(u.stmts, storeScopes(scopes...)...)
	return u, nil
}

// storeUnit stores those of a unit that are not stored yet.
func (s *Store) storeUnit(ctx context.Context, u *addUnit) (added int, err error) {
	ids := make([]ID, len(u.rows))
	for i, w := range u.rows {
		ids[i] = w.id
	}
	defer func() { s.changed(err, oneEpisode, ids...) }()
	receipts, err := s.receiptsOfUnit(ctx, u)
	if err != nil {
		return 0, err
	}
	results, err := s.engine.Repeatable(ctx, receipts.ask(u.stmts)...)
	results, err = s.inserted(ctx, receipts.answer(results), err, u.rows...)
	if err != nil {
		return 0, err
	}
	if results == nil {
		receipts.again(ctx, s)
	}
	var stored map[ID]int64
	// A repeated batch finds what the first one stored.
	if results == nil || s.server != nil && slices.ContainsFunc(u.heads, func(i int) bool { return results[i].Affected == 0 }) {
		if stored, err = s.revisions(ctx, u.rows...); err != nil {
			return 0, err
		}
	}
	for i, w := range u.rows {
		if results != nil && results[u.heads[i]].Affected == 1 || stored[w.id] == w.rev {
			u.episodes[i].Revision = w.rev
			receipts.stored(i)
			added++
		}
	}
	return added, nil
}

// Episode returns the episode with all its steps. Errors: ErrNotFound.
func (s *Store) Episode(ctx context.Context, id ID) (_ *Episode, err error) {
	ctx, end := s.trace(ctx, "Episode")
	defer func() { end(err) }()
	e, err := readOne(ctx, s, readsItem("episodes", id), func(ctx context.Context, s *Store) (*Episode, error) { return s.episode(ctx, id) })
	return e, failed(err, "get episode %v", id)
}

func (s *Store) episode(ctx context.Context, id ID) (*Episode, error) {
	e, err := cached(ctx, s, cacheKey{noun: oneEpisode, id: id}, loader[*Episode]{
		read:  func(ctx context.Context, q querier) (*Episode, error) { return s.load(ctx, q, id) },
		clone: (*Episode).clone, size: (*Episode).size,
	})
	if err == nil && !s.scope.contains(e.Scope) {
		e, err = nil, ErrNotFound
	}
	return e, err
}

// DeleteEpisode deletes the episode with its steps, tags, relations, embeddings
// and search entries. Errors: ErrNotFound.
func (s *Store) DeleteEpisode(ctx context.Context, id ID) (err error) {
	ctx, end := s.trace(ctx, "DeleteEpisode")
	defer func() { end(err) }()
	return s.delete(ctx, oneEpisode, ItemEpisode, id)
}
