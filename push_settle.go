package episodic

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/outbox"
)

// settleRounds is how often a settlement is worked out anew because others have changed the
// item meanwhile.
const settleRounds = 10

// settle has the server carry out, in place of an operation that it has refused, what is made
// of it and of what others have written. Both are in one transaction, with what loses by it.
func (q *writeQueue) settle(ctx context.Context, p outbox.Position, op *outbox.Op, o operation, refusal error) error {
	before := int64(-1) // the revision met in the last round
	for range settleRounds {
		s, theirs, err := q.meet(ctx, op, o)
		switch {
		case err == errStands || err == nil && theirs == before: // nobody has changed anything since
			return q.refuse(ctx, op, refusal)
		case err != nil && final(err):
			return q.refuse(ctx, op, err)
		case err != nil:
			return err
		}
		before = theirs
		err = q.sendSettled(ctx, p, op, s)
		e, is := errors.AsType[*engine.Error](err)
		kind := engine.KindOf(err)
		switch {
		case err == nil:
			q.settled(&s)
			return q.box.Stands(ctx, p, op.N, op.Rev)
		case kind == engine.KindUnknownOutcome, is && e.Stmt == 0 && kind == engine.KindConstraint:
			return q.ask(ctx, p)
		case kind == engine.KindConstraint, kind == engine.KindUnique:
			refusal = err // others have changed it again
		case final(err):
			return q.refuse(ctx, op, err)
		default:
			return err
		}
	}
	return errOutdated // the next round tries again
}

// errStands says that nothing others have written explains why an operation was refused.
var errStands = errors.New("the refusal stands")

// settled counts and tells what was settled.
func (q *writeQueue) settled(s *settlement) {
	q.counters.pushed.Add(1)
	q.counters.requests.Add(1)
	if s.does != nil {
		q.counters.merged.Add(1)
		q.server.indexer.kick()
	}
	if s.kind != "" {
		q.counters.conflicts.Add(1)
		q.log.Warn("a queued write has met what others have written; see Store.Conflicts", "kind", string(s.kind))
	}
}

// sendSettled sends a settlement.
func (q *writeQueue) sendSettled(ctx context.Context, p outbox.Position, op *outbox.Op, s settlement) error {
	return write(ctx, q.server, func() ([]engine.Stmt, error) {
		stmts := []engine.Stmt{{SQL: sqlPush, Args: []any{p.Name, p.N, op.N, op.Rev}}}
		if s.does != nil {
			w, err := s.does.encode(ctx, q.server)
			if err != nil {
				return nil, err
			}
			if cond, args := expects(s.does); cond != "" {
				stmts = append(stmts, engine.Stmt{SQL: sqlRequired + cond, Args: args})
			}
			stmts = append(stmts, w.stmts...)
			if cond, args := holds(s.does); cond != "" {
				stmts = append(stmts, engine.Stmt{SQL: sqlRequired + cond, Args: args})
			}
		}
		if s.kind == "" {
			return stmts, nil
		}
		noted, err := q.server.noteConflict(&s, op.Item, p.Name)
		return append(stmts, noted...), err
	}, func(stmts []engine.Stmt) error {
		_, err := q.server.engine.Repeatable(ctx, stmts...)
		return err
	})
}

// meet reads what others have made of an operation's item, and decides what becomes of it.
// theirs is the revision that was read; 0: the item is not stored.
func (q *writeQueue) meet(ctx context.Context, op *outbox.Op, o operation) (s settlement, theirs int64, err error) {
	kind, id := changedItem(o)
	s.itemKind = kind
	deleted := func() (settlement, int64, error) {
		s, err := q.gone(ctx, op, o, kind, id)
		return s, 0, err
	}
	// missing settles a put of which no item was read: over says that it was made over one.
	missing := func(err error, over bool) (settlement, int64, error) {
		switch {
		case !errors.Is(err, ErrNotFound):
			return s, 0, err
		case over:
			return deleted()
		}
		return s, 0, errStands
	}
	switch o := o.(type) {
	case *putEpisode:
		e, err := q.server.whole(ctx, id)
		if err != nil {
			return missing(err, !o.New && !o.Add && o.Read.over(o.Base))
		}
		if !fits(o.Episode.Scope, e.Scope, o.New || o.Add || o.Base != 0) {
			return s, 0, errOtherScope
		}
		s, err = o.settle(e)
		s.itemKind, s.rev = kind, e.Revision
		return s, e.Revision, err
	case *completeEpisode, *appendSteps, *changeTags:
		e, err := q.server.head(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return deleted()
		}
		if err == nil && !q.server.scope.contains(e.Scope) {
			err = errOtherScope
		}
		if err != nil {
			return s, 0, err
		}
		switch o := o.(type) {
		case *completeEpisode:
			s, err = o.settle(e)
		case *appendSteps:
			s, err = q.late(ctx, o, e)
		default:
			err = invalid("tags", "would be more than %d with those that others have added", maxTags)
		}
		s.itemKind, s.rev = kind, e.Revision
		return s, e.Revision, err
	case *putPattern:
		p, err := getOne(ctx, q.server.engine, sqlGetPattern, id, q.server.patternFrom)
		if err != nil {
			return missing(err, o.Read.over(o.Base))
		}
		if !fits(o.Pattern.Scope, p.Scope, o.Base != 0) {
			return s, 0, errOtherScope
		}
		s, err = o.settle(p)
		s.itemKind, s.rev = kind, p.Revision
		return s, p.Revision, err
	case *putHeuristic:
		h, err := getOne(ctx, q.server.engine, sqlGetHeuristic, id, q.server.heuristicFrom)
		if err != nil {
			return missing(err, o.Read.over(o.Base))
		}
		if !fits(o.Heuristic.Scope, h.Scope, o.Base != 0) {
			return s, 0, errOtherScope
		}
		s, err = o.settle(h)
		s.itemKind, s.rev = kind, h.Revision
		return s, h.Revision, err
	case *deleteItem:
		k, rev, err := q.server.item(ctx, kind, id)
		if errors.Is(err, ErrNotFound) || err == nil && !q.server.scope.contains(k.scope()) {
			return s, 0, nil // it is what was asked for, whatever has the id now
		}
		if err != nil {
			return s, 0, err
		}
		return settlement{does: &deleteItem{Kind: kind, ID: id, Base: rev}, kind: ConflictDeleted, kept: k, itemKind: kind, rev: rev}, rev, nil
	case *putRelation:
		for _, end := range []ID{o.Relation.From, o.Relation.To} {
			if _, err := q.server.head(ctx, end); errors.Is(err, ErrNotFound) {
				return deleted()
			} else if err != nil {
				return s, 0, err
			}
		}
		return s, 0, fmt.Errorf("%w: it would close a cycle of %s with relations that others have added", ErrConflict, o.Relation.Type)
	case *putEmbedding:
		if _, _, err := q.server.item(ctx, kind, id); errors.Is(err, ErrNotFound) {
			return deleted()
		} else if err != nil {
			return s, 0, err
		}
	}
	return s, 0, errStands
}

// fits reports whether a put may meet what is stored in a scope. Who puts over whatever there
// is need not know its scope; another item than the one that was read is not merged with it.
func fits(ours, theirs Scope, exactly bool) bool {
	return ours == theirs || !exactly && ours.contains(theirs)
}

// late decides on steps that were refused by an episode.
func (q *writeQueue) late(ctx context.Context, o *appendSteps, theirs *Episode) (s settlement, err error) {
	r, err := q.server.engine.Query(ctx, engine.Stmt{SQL: sqlWhyNotAppended, Args: []any{o.ID.bytes(), o.Key, o.ID.bytes()}})
	switch {
	case err != nil:
		return s, err
	case len(r[0].Rows) > 0 && r[0].Rows[0][0] != nil:
		return s, nil // they are stored already
	case theirs.Running():
		return s, invalid("steps", "bring the episode over %d bytes with those that others have added", maxEpisode)
	}
	return o.settle(theirs), nil
}

// gone decides on an operation whose item others have deleted: that stays, and what is here of
// the item is kept as a whole, with all that was queued for it.
func (q *writeQueue) gone(ctx context.Context, op *outbox.Op, o operation, kind ItemKind, id ID) (s settlement, err error) {
	s = settlement{kind: ConflictGone, itemKind: kind}
	switch o.(type) {
	case *putRelation, *putEmbedding:
		s.kept, s.rev = kept{Write: op.Kind, Body: op.Body}, op.Rev
		return s, nil
	}
	s.kept, s.rev, err = q.here.item(ctx, kind, id)
	if errors.Is(err, ErrNotFound) { // the replica was made anew
		s.kept, s.rev, err = kept{Write: op.Kind, Body: op.Body}, op.Rev, nil
		if o, puts := o.(*putEpisode); puts {
			s.kept = wholeEpisode(o.Episode)
		}
	}
	if err != nil {
		return s, err
	}
	r, err := q.server.engine.Query(ctx, engine.Stmt{SQL: sqlNoted, Args: []any{op.Item[:], string(ConflictGone), s.rev}})
	if err == nil && len(r[0].Rows) > 0 {
		s.kind = "" // it was noted with an earlier operation
	}
	return s, err
}

// whole reads an episode with its steps, past the cache.
func (s *Store) whole(ctx context.Context, id ID) (*Episode, error) {
	return readAgain(ctx, func(ctx context.Context) (*Episode, error) { return s.load(ctx, s.engine, id) })
}

// item reads an item as a whole, past the cache, with its revision.
func (s *Store) item(ctx context.Context, kind ItemKind, id ID) (k kept, rev int64, err error) {
	switch kind {
	case ItemEpisode:
		e, err := s.whole(ctx, id)
		if err != nil {
			return k, 0, err
		}
		return wholeEpisode(e), e.Revision, nil
	case ItemPattern:
		k.Pattern, err = readAgain(ctx, func(ctx context.Context) (*Pattern, error) {
			return getOne(ctx, s.engine, sqlGetPattern, id, s.patternFrom)
		})
		if err == nil {
			rev = k.Pattern.Revision
		}
	case ItemHeuristic:
		k.Heuristic, err = readAgain(ctx, func(ctx context.Context) (*Heuristic, error) {
			return getOne(ctx, s.engine, sqlGetHeuristic, id, s.heuristicFrom)
		})
		if err == nil {
			rev = k.Heuristic.Revision
		}
	default:
		err = fmt.Errorf("%w: there is no kind of item %q", ErrCorrupt, kind)
	}
	return k, rev, err
}

// changedItem is the item that an operation changes.
func changedItem(o operation) (ItemKind, ID) {
	_, id, _ := kindOf(o)
	switch o := o.(type) {
	case *putPattern:
		return ItemPattern, id
	case *putHeuristic:
		return ItemHeuristic, id
	case *deleteItem:
		return o.Kind, id
	case *putEmbedding:
		return o.Embedding.Kind, id
	case *deleteEmbedding:
		return o.Kind, id
	}
	return ItemEpisode, id
}
