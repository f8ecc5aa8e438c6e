package episodic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/outbox"
)

const (
	sqlOneConflict  = `SELECT ` + conflictColumns + ` FROM conflicts WHERE n = ? AND ` + unforgotten
	sqlConflictIs   = sqlRequired + `EXISTS (SELECT 1 FROM conflicts WHERE n = ?)`
	sqlConflictEnds = `DELETE FROM conflicts WHERE n = ?`
)

// Restore stores what a conflict has kept, and ends the conflict. Of fields that lost, those
// are put over what the item is now; an item that was kept as a whole is put over what there
// is now, or stored anew, without the relations and embeddings that it had. It is written to
// the server at once, also by a Store that queues. Errors: ErrNotFound if there is no such
// conflict in the Store's scope, or the item is needed and deleted; ErrInvalid if nothing
// was kept, or what was kept does not go together with what the item is now; ErrConflict if
// others keep changing it; Retryable errors if the server cannot be reached.
func (s *Store) Restore(ctx context.Context, number int64) (err error) {
	ctx, end := s.trace(ctx, "Restore")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "restore conflict %d", number)
	}
	for range settleRounds {
		var c *Conflict
		var o operation
		if c, err = s.conflict(ctx, number); err == nil {
			o, err = s.restoring(ctx, c)
		}
		if err != nil {
			break
		}
		err = s.restore(ctx, number, o)
		if kind := engine.KindOf(err); kind != engine.KindConstraint && kind != engine.KindUnique {
			s.changed(err, nounOf[c.ItemKind], c.Item)
			if err == nil && s.queue != nil {
				s.queue.wrote()
			}
			break
		}
		if err = errOutdated; c.kept.Write != 0 {
			err = fmt.Errorf("%w: the write does not fit what is stored now", ErrConflict)
			break
		}
	}
	return failed(err, "restore conflict %d", number)
}

var nounOf = map[ItemKind]noun{ItemEpisode: oneEpisode, ItemPattern: onePattern, ItemHeuristic: oneHeuristic}

// conflict reads a conflict with all that it has kept.
func (s *Store) conflict(ctx context.Context, number int64) (*Conflict, error) {
	var w where
	s.scope.and(&w, "scope")
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlOneConflict + w.sql, Args: append([]any{number, conflictTime.Microseconds()}, w.args...)})
	if err != nil {
		return nil, err
	}
	if len(r[0].Rows) == 0 {
		return nil, ErrNotFound
	}
	c, _, err := s.conflictFrom(ctx, r[0].Rows[0])
	if err == nil && c.Episode != nil && c.Episode.StepCount > 0 {
		c.kept.steps, err = s.keptSteps(ctx, number)
	}
	return &c, err
}

// restore carries out the operation that restores a conflict, and ends it.
func (s *Store) restore(ctx context.Context, number int64, o operation) error {
	return s.carryOutBy(ctx, o, func(w *encoded) error {
		stmts := []engine.Stmt{{SQL: sqlConflictIs, Args: []any{number}}}
		if cond, args := expects(o); cond != "" {
			stmts = append(stmts, engine.Stmt{SQL: sqlRequired + cond, Args: args})
		}
		stmts = append(stmts, w.stmts...)
		if cond, args := holds(o); cond != "" {
			stmts = append(stmts, engine.Stmt{SQL: sqlRequired + cond, Args: args})
		}
		_, err := s.engine.Batch(ctx, append(stmts, engine.Stmt{SQL: sqlConflictEnds, Args: []any{number}})...)
		return err
	})
}

// restoring is the operation that restores what a conflict has kept.
func (s *Store) restoring(ctx context.Context, c *Conflict) (operation, error) {
	k, rev := &c.kept, newRevision()
	switch {
	case k.Write != 0:
		o, err := operationFrom(&outbox.Op{N: c.Number, Kind: k.Write, Body: k.Body})
		if err != nil {
			return nil, err
		}
		if _, _, err := s.item(ctx, c.ItemKind, c.Item); err != nil {
			return nil, err
		}
		if o, completes := o.(*completeEpisode); completes {
			o.Read = nil
		}
		return o, nil
	case k.Episode != nil:
		now, err := s.whole(ctx, c.Item)
		if errors.Is(err, ErrNotFound) {
			now, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		return restoringEpisode(k, now, rev)
	case k.Pattern != nil:
		now, err := getOne(ctx, s.engine, sqlGetPattern, c.Item, s.patternFrom)
		if errors.Is(err, ErrNotFound) {
			return &putPattern{Pattern: k.Pattern, Rev: rev, Read: &read[Pattern]{}}, nil
		}
		if err != nil {
			return nil, err
		}
		p, err := withFields(k.Pattern, now, k.Fields, (*Pattern).bare)
		if err == nil {
			p.ID, p.Scope = now.ID, now.Scope
			err = p.prepare(time.Now())
		}
		return &putPattern{Pattern: p, Rev: rev, Base: now.Revision}, err
	case k.Heuristic != nil:
		now, err := getOne(ctx, s.engine, sqlGetHeuristic, c.Item, s.heuristicFrom)
		if errors.Is(err, ErrNotFound) {
			return &putHeuristic{Heuristic: k.Heuristic, Rev: rev, Read: &read[Heuristic]{}}, nil
		}
		if err != nil {
			return nil, err
		}
		h, err := withFields(k.Heuristic, now, k.Fields, (*Heuristic).bare)
		if err == nil {
			h.ID, h.Scope = now.ID, now.Scope
			err = h.prepare(time.Now())
		}
		return &putHeuristic{Heuristic: h, Rev: rev, Base: now.Revision}, err
	}
	return nil, invalid("number", "names a conflict by which nothing was lost")
}

// restoringEpisode is restoring for an episode, of which now is stored; nil: it is deleted.
func restoringEpisode(k *kept, now *Episode, rev int64) (operation, error) {
	whole := *k.Episode
	whole.Steps, whole.StepCount = k.steps, len(k.steps)
	if now == nil {
		return &putEpisode{Episode: &whole, Rev: rev, Add: true}, nil
	}
	e, err := withFields(k.Episode, now, k.Fields, (*Episode).bare)
	if err != nil {
		return nil, err
	}
	e.ID, e.Scope = now.ID, now.Scope
	if err := e.prepare(time.Now()); err != nil {
		return nil, err
	}
	if len(k.Fields) > 0 && !slices.Contains(k.Fields, fieldSteps) {
		return &changeHead{Head: e, Over: now.Revision, Rev: rev}, nil
	}
	e.Steps, e.StepCount = whole.Steps, whole.StepCount
	return &putEpisode{Episode: e, Rev: rev, Base: now.Revision}, nil
}

// withFields is an item with those fields of another one that are named; with all, if none is.
func withFields[T any](from, item *T, names []string, bare func(*T) T) (*T, error) {
	kept, err := fieldsOf(bare(from))
	if err != nil {
		return nil, err
	}
	all := kept
	if len(names) > 0 {
		if all, err = fieldsOf(bare(item)); err != nil {
			return nil, err
		}
		for _, name := range names {
			if name != fieldSteps {
				all.set(name, kept[name])
			}
		}
	}
	merged := new(T)
	return merged, documentOf(all, merged)
}
