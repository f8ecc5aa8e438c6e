package episodic

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// StartEpisode stores a running episode, to which AppendSteps and CompleteEpisode
// then add. It sets the fields of e that storing fills in, and Revision. Errors:
// ErrInvalid, also if it has an End or an Outcome; ErrConflict if the ID is stored
// already.
func (s *Store) StartEpisode(ctx context.Context, e *Episode) (err error) {
	ctx, end := s.trace(ctx, "StartEpisode")
	defer func() { end(err) }()
	err = s.check(ctx, e != nil, "episode")
	switch {
	case err != nil:
	case !e.End.IsZero():
		err = invalid("end", "is set; an episode that has ended is stored with PutEpisode")
	case e.Outcome.Kind != "":
		err = invalid("outcome", "is set; an episode that has ended is stored with PutEpisode")
	}
	if err != nil {
		return fmt.Errorf("start episode: %w", err)
	}
	if err := s.prepare(ctx, e, time.Now()); err != nil {
		return fmt.Errorf("start episode: %w", err)
	}
	defer func() { s.changed(err, oneEpisode, e.ID) }()
	o := &putEpisode{Episode: e, Rev: newRevision(), New: true}
	if err = s.carryOut(ctx, o); err == nil {
		e.Revision = o.Rev
	}
	if engine.KindOf(err) == engine.KindUnique {
		err = fmt.Errorf("%w: an episode with this id is stored already", ErrConflict)
	}
	return failed(err, "start episode %v", e.ID)
}

// AppendSteps adds steps to a running episode, all of them or none, and returns
// the number of the first. Steps with Number 0 are numbered by the store, so
// that several agents may add to one episode; a Number that is given must be the
// next one. Zero times become now. Errors: ErrInvalid, also if the episode's steps
// would exceed 64 MiB; ErrNotFound; ErrConflict if the episode has ended or a given
// Number is not the next.
func (s *Store) AppendSteps(ctx context.Context, id ID, steps ...Step) (first int, err error) {
	ctx, end := s.trace(ctx, "AppendSteps")
	defer func() { end(err) }()
	return s.appendSteps(ctx, &appendSteps{ID: id, Key: binary.BigEndian.AppendUint64(nil, rand.Uint64()), Steps: steps})
}

// AppendStepsOnce is AppendSteps for a caller that may repeat itself, after an
// ErrUnknownOutcome or a restart: of the calls with the same key, which may be any
// text, only the first one to be stored adds steps, and all of them return the
// number of its first step. A key is remembered for the episode's last 1,000 steps
// and until the episode is completed. Errors: those of AppendSteps.
func (s *Store) AppendStepsOnce(ctx context.Context, id ID, key string, steps ...Step) (first int, err error) {
	ctx, end := s.trace(ctx, "AppendStepsOnce")
	defer func() { end(err) }()
	if key == "" {
		return 0, fmt.Errorf("append steps to %v: %w", id, invalid("key", "is empty; AppendSteps needs none"))
	}
	sum := sha256.Sum256([]byte(key))
	return s.appendSteps(ctx, &appendSteps{ID: id, Key: sum[:16], Steps: steps, named: true})
}

func (s *Store) appendSteps(ctx context.Context, o *appendSteps) (first int, err error) {
	if err := s.check(ctx, true, ""); err != nil {
		return 0, fmt.Errorf("append steps to %v: %w", o.ID, err)
	}
	if len(o.Steps) == 0 {
		return 0, fmt.Errorf("append steps to %v: %w", o.ID, invalid("steps", "is empty"))
	}
	defer func() { s.changed(err, oneEpisode, o.ID) }()
	err = s.clean(ctx, Scope{}, func(c *cleaning) { c.steps(&o.Steps) })
	if err != nil {
		return 0, fmt.Errorf("append steps to %v: %w", o.ID, err)
	}
	o.Now = time.Now()
	err = s.carryOut(ctx, o)
	return o.first, failed(err, "append steps to %v", o.ID)
}

// appendSteps adds steps to a running episode.
type appendSteps struct {
	ID    ID
	Key   []byte // recognises the append
	Steps []Step
	Now   time.Time // the time of steps that have none
	Rev   int64     // of a queued one; 0: it makes any revision

	first int  // the number that the first step got
	named bool // the caller has chosen the key, with which other steps may be stored before
}

func (o *appendSteps) encode(_ context.Context, s *Store) (*encoded, error) {
	a, err := newAppend(s.payloads, s.wording, o.ID, o.Key, o.Steps, o.Now)
	if err != nil {
		return nil, err
	}
	stmts := []engine.Stmt{a.insert(s.scope)}
	if o.Rev != 0 {
		stmts = append(stmts, engine.Stmt{SQL: sqlKeepRevision, Args: []any{o.ID.bytes()}},
			engine.Stmt{SQL: sqlAppendRevised, Args: []any{o.Rev, o.Rev, o.ID.bytes(), o.ID.bytes(), o.Key}})
		stmts[0], stmts[1] = stmts[1], stmts[0]
	}
	return &encoded{stmts: stmts, told: func(ctx context.Context, r []engine.Result, err error) error {
		if o.Rev != 0 && err == nil {
			r = r[1:]
		}
		o.first, err = s.appended(ctx, r, err, a)
		return err
	}}, nil
}

// appended tells what came of appending: the number of the first step, or why there is none.
func (s *Store) appended(ctx context.Context, r []engine.Result, err error, a *appendRow) (first int, _ error) {
	if err != nil {
		return 0, err
	}
	if rows := r[0].Rows; len(rows) > 0 && rows[0][0] != nil {
		return intFrom(rows[0][0])
	}
	r, err = s.engine.Query(ctx, s.scope.guardOne(engine.Stmt{SQL: sqlWhyNotAppended, Args: []any{a.id.bytes(), a.key, a.id.bytes()}}))
	if err != nil {
		return 0, err
	}
	if len(r[0].Rows) == 0 {
		return 0, ErrNotFound
	}
	row := r[0].Rows[0]
	if before := row[0]; before != nil {
		return intFrom(before) // this very append was stored when it was sent first
	}
	if row[1] != nil {
		return 0, fmt.Errorf("%w: the episode has ended", ErrConflict)
	}
	in := engine.Row{Values: row}
	stored, size := in.Int(2), in.Int(3)
	switch {
	case in.Err != nil:
		return 0, in.Err
	case size+int64(a.size) > maxEpisode:
		return 0, invalid("steps", "bring the episode from %d over %d bytes, as many as its steps may have; begin another episode", size, maxEpisode)
	}
	return 0, fmt.Errorf("%w: the next step is number %d, not %d", ErrConflict, stored+1, a.first)
}

// Completion is what is known when an episode ends.
type Completion struct {
	Outcome Outcome   // Kind is required
	End     time.Time // zero: now
	Reward  *Reward
	// Reflection replaces the episode's if it is not zero; AppliedPatterns and
	// Metadata are added to the episode's.
	Reflection      Reflection
	AppliedPatterns []AppliedPattern
	Metadata        map[string]string
}

// CompleteEpisode ends a running episode: it stores the outcome and folds the
// recorded runs of steps into one. That takes two round trips: what was recorded is
// read before it is folded. Completing again with what is stored already changes
// nothing and is no error. Errors: ErrInvalid; ErrNotFound; ErrConflict if the
// episode has ended otherwise.
func (s *Store) CompleteEpisode(ctx context.Context, id ID, done Completion) (err error) {
	ctx, end := s.trace(ctx, "CompleteEpisode")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return fmt.Errorf("complete episode %v: %w", id, err)
	}
	err = s.clean(ctx, Scope{}, func(c *cleaning) { c.completion(&done) })
	if err == nil {
		err = done.validate()
	}
	if err != nil {
		return fmt.Errorf("complete episode %v: %w", id, err)
	}
	defer func() { s.changed(err, oneEpisode, id) }()
	return failed(s.carryOut(ctx, &completeEpisode{ID: id, Completion: done, Rev: newRevision(), Now: time.Now()}), "complete episode %v", id)
}

// completeEpisode ends a running episode.
type completeEpisode struct {
	ID         ID
	Completion Completion
	Rev        int64
	Now        time.Time // the end, if the completion has none

	Read *read[Episode] // as of putEpisode

	unfolded bool     // its runs stay as they are
	ended    *Episode // what it makes of the episode, without steps; nil: that is read
	tried    bool     // with what the replica has
	made     int64    // the revision that the episode gets
	stored   *Episode // the episode that has it, perhaps without steps
}

// errOutdated says that an episode is no longer what it was when an operation was encoded.
var errOutdated = fmt.Errorf("%w: others keep changing it", ErrConflict)

// errChangedSince says that an item is not what a queued write was made over.
var errChangedSince = fmt.Errorf("%w: it was changed on the server after it was read", ErrConflict)

func (o *completeEpisode) encode(ctx context.Context, s *Store) (*encoded, error) {
	if o.ended != nil {
		return o.store(s, o.ended, recorded{rev: chained(o.ended.Revision, o.Rev)})
	}
	e, rec, err := o.recorded(ctx, s)
	if err != nil {
		return nil, err
	}
	if o.unfolded && o.Read != nil && o.Read.Rev != rec.rev {
		return nil, errChangedSince
	}
	if !e.Running() {
		if o.Completion.storedIn(e) {
			o.made, o.stored = e.Revision, e
			return &encoded{}, nil
		}
		return nil, fmt.Errorf("%w: it has ended already, as %s", ErrConflict, cmp.Or(e.Outcome.Kind, "not judged"))
	}
	if !rec.whole || rec.rows < 2 {
		e.Steps, e.StepCount = nil, 0 // too large to be worth folding, or folded
	}
	o.Completion.applyTo(e)
	if err := e.prepare(o.Now); err != nil {
		return nil, err
	}
	return o.store(s, e, rec)
}

// store makes the statements that store what the operation makes of what was recorded.
func (o *completeEpisode) store(s *Store, e *Episode, rec recorded) (*encoded, error) {
	o.made, o.stored = chained(rec.rev, o.Rev), e
	w, err := s.concludedRow(e, o.made)
	if err != nil {
		return nil, err
	}
	return &encoded{stmts: w.complete(rec), told: func(_ context.Context, r []engine.Result, err error) error {
		if err == nil && r[0].Affected == 0 {
			err = errOutdated // somebody appended, completed or deleted since, or it was sent twice
		}
		return err
	}}, nil
}

// recorded reads the running episode: the first time where that costs no round trip. The
// revision tells if it was outdated.
func (o *completeEpisode) recorded(ctx context.Context, s *Store) (*Episode, recorded, error) {
	if o.unfolded {
		e, err := s.head(ctx, o.ID)
		if err != nil {
			return nil, recorded{}, err
		}
		return e, recorded{rev: e.Revision}, nil
	}
	if !o.tried && s.replica != nil {
		o.tried = true
		if here := s.replica.recent(s.scope, o.ID); here != nil {
			if e, rec, err := here.recorded(ctx, o.ID); err == nil && e.Running() {
				return e, rec, nil
			}
		}
	}
	return s.recorded(ctx, o.ID)
}

// head reads an episode without its steps. Errors: ErrNotFound.
func (s *Store) head(ctx context.Context, id ID) (*Episode, error) {
	e, err := readAgain(ctx, func(ctx context.Context) (*Episode, error) {
		return getOne(ctx, s.engine, sqlGetHead, id, s.episodeFrom)
	})
	if err == nil && !s.scope.contains(e.Scope) {
		return nil, ErrNotFound
	}
	return e, err
}

// recorded reads what was recorded of an episode, as far as it can be folded.
func (s *Store) recorded(ctx context.Context, id ID) (*Episode, recorded, error) {
	type known struct {
		*Episode
		recorded
	}
	k, err := readAgain(ctx, func(ctx context.Context) (k known, err error) {
		k.Episode, k.recorded, err = s.loadSome(ctx, s.engine, id, readAtOnce)
		if err == nil && !s.scope.contains(k.Scope) {
			err = ErrNotFound
		}
		return k, err
	})
	return k.Episode, k.recorded, err
}

// validate checks what can be checked without the episode.
func (done *Completion) validate() error {
	if done.Outcome.Kind == "" {
		return invalid("outcome.kind", "is empty; it must be one of success, partial_success, failure, abstained")
	}
	c := &check{}
	c.time("end", done.End)
	c.outcome(&done.Outcome)
	c.verdicts(done.Reward, &done.Reflection, done.AppliedPatterns)
	c.metadata(done.Metadata)
	return c.err
}

// applyTo makes a running episode the one that ends so.
func (done *Completion) applyTo(e *Episode) {
	// With a zero End, storing sets it to now, or to a Start that another machine's
	// clock put ahead of ours.
	e.End, e.Outcome = done.End, done.Outcome
	if done.Reward != nil {
		e.Reward = done.Reward
	}
	if !sameDocument(done.Reflection, Reflection{}) {
		e.Reflection = done.Reflection
	}
	e.AppliedPatterns = append(e.AppliedPatterns, done.AppliedPatterns...)
	for k, v := range done.Metadata {
		if e.Metadata == nil {
			e.Metadata = make(map[string]string)
		}
		e.Metadata[k] = v
	}
}

// storedIn reports whether an ended episode has all that the completion says.
func (done *Completion) storedIn(e *Episode) bool {
	for _, a := range done.AppliedPatterns {
		if !slices.Contains(e.AppliedPatterns, a) {
			return false
		}
	}
	for k, v := range done.Metadata {
		if stored, ok := e.Metadata[k]; !ok || stored != v {
			return false
		}
	}
	return (done.End.IsZero() || e.End.Equal(truncateMicros(done.End))) &&
		sameDocument(e.Outcome, done.Outcome) &&
		(done.Reward == nil || sameDocument(e.Reward, done.Reward)) &&
		(sameDocument(done.Reflection, Reflection{}) || sameDocument(e.Reflection, done.Reflection))
}

// sameDocument compares what is stored of a and b, where nil and empty are one.
func sameDocument(a, b any) bool {
	x, xerr := json.Marshal(a)
	y, yerr := json.Marshal(b)
	return xerr == nil && yerr == nil && bytes.Equal(x, y)
}
