package episodic

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"github.com/episodic-memory/episodic/internal/engine"
	"math/rand/v2"
	"slices"
	"time"
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
	if err := s.prepare(e, time.Now()); err != nil {
		return fmt.Errorf("start episode: %w", err)
	}
	defer s.changed(oneEpisode, e.ID)
	err = write(ctx, s, func() (*episodeRow, error) { return s.row(e) }, func(w *episodeRow) error {
		_, err := s.insert(ctx, w.insert(), w)
		if err == nil {
			e.Revision = w.rev
		}
		return err
	})
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
	return s.appendSteps(ctx, id, binary.BigEndian.AppendUint64(nil, rand.Uint64()), steps)
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
	return s.appendSteps(ctx, id, sum[:16], steps)
}

func (s *Store) appendSteps(ctx context.Context, id ID, key []byte, steps []Step) (first int, err error) {
	if err := s.check(ctx, true, ""); err != nil {
		return 0, fmt.Errorf("append steps to %v: %w", id, err)
	}
	if len(steps) == 0 {
		return 0, fmt.Errorf("append steps to %v: %w", id, invalid("steps", "is empty"))
	}
	now := time.Now()
	defer s.changed(oneEpisode, id)
	err = write(ctx, s, func() (*appendRow, error) { return newAppend(s.payloads, s.wording, id, key, steps, now) }, func(a *appendRow) error {
		first, err = s.append(ctx, a)
		return err
	})
	return first, failed(err, "append steps to %v", id)
}

func (s *Store) append(ctx context.Context, a *appendRow) (first int, err error) {
	r, err := s.engine.Repeatable(ctx, a.insert(s.scope))
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
	if err := done.validate(); err != nil {
		return fmt.Errorf("complete episode %v: %w", id, err)
	}
	for range 10 {
		e, rec, err := s.recorded(ctx, id)
		if err != nil {
			return failed(err, "complete episode %v", id)
		}
		if !e.Running() {
			if done.storedIn(e) {
				return nil
			}
			return fmt.Errorf("complete episode %v: %w: it has ended already, as %s", id, ErrConflict, cmp.Or(e.Outcome.Kind, "not judged"))
		}
		if !rec.whole || rec.rows < 2 {
			e.Steps, e.StepCount = nil, 0 // too large to be worth folding, or folded
		}
		done.applyTo(e)
		if err := e.prepare(time.Now()); err != nil {
			return fmt.Errorf("complete episode %v: %w", id, err)
		}
		var res []engine.Result
		err = write(ctx, s, func() (*episodeRow, error) { return s.concludedRow(e) }, func(w *episodeRow) (err error) {
			res, err = s.engine.Repeatable(ctx, w.complete(rec)...)
			return err
		})
		s.changed(oneEpisode, id)
		if err != nil {
			return failed(err, "complete episode %v", id)
		}
		if res[0].Affected == 1 {
			return nil
		}
		// Somebody appended, completed or deleted since it was read, or it was sent
		// twice: look again.
	}
	return fmt.Errorf("complete episode %v: %w: others keep changing it", id, ErrConflict)
}

// recorded reads what was recorded of an episode, as far as it can be folded.
func (s *Store) recorded(ctx context.Context, id ID) (*Episode, recorded, error) {
	type known struct {
		*Episode
		recorded
	}
	k, err := readAgain(func() (k known, err error) {
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
