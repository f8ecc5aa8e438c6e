package episodic

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// read is what a queued write was made over: what was here of its item.
type read[T any] struct {
	Rev   int64     // 0: nothing was here
	Item  *T        `json:",omitempty"` // its fields that are merged
	Steps stepsRead `json:",omitzero"`  // of an episode
}

// over reports whether a write that replaces a revision, or 0 for whatever there is, was made
// over something.
func (r *read[T]) over(base int64) bool { return base != 0 || r != nil && r.Rev != 0 }

const sqlRev = `SELECT rev FROM %ss WHERE id = ?`

// noteRead notes in an operation what it is made over here, so that it can be merged with what
// others have made of the same. What changes until it is carried out here is taken for theirs.
func (s *Store) noteRead(ctx context.Context, o operation) (err error) {
	switch o := o.(type) {
	case *putEpisode:
		if o.New || o.Add {
			return nil
		}
		o.Read, err = readOver(s.episode(ctx, o.Episode.ID))
		if err != nil || o.Read.Rev == 0 {
			return err
		}
		keys, err := stepKeys(o.Read.Item.Steps)
		if err != nil {
			return err
		}
		o.Read.Steps = readSteps(keys)
		*o.Read.Item = o.Read.Item.bare()
	case *completeEpisode:
		if o.Read, err = readOver(s.head(ctx, o.ID)); err == nil && o.Read.Rev != 0 {
			*o.Read.Item = o.Read.Item.bare()
		}
	case *putPattern:
		if o.Read, err = readOver(s.pattern(ctx, o.Pattern.ID)); err == nil && o.Read.Rev != 0 {
			*o.Read.Item = o.Read.Item.bare()
		}
	case *putHeuristic:
		if o.Read, err = readOver(s.heuristic(ctx, o.Heuristic.ID)); err == nil && o.Read.Rev != 0 {
			*o.Read.Item = o.Read.Item.bare()
		}
	case *deleteItem:
		r, err := s.engine.Query(ctx, engine.Stmt{SQL: fmt.Sprintf(sqlRev, o.Kind), Args: []any{o.ID.bytes()}})
		if err == nil && len(r[0].Rows) > 0 {
			o.Base, _ = r[0].Rows[0][0].(int64)
		}
		return err
	}
	return err
}

// revised is an item that has a revision.
type revised interface{ revision() int64 }

func (e *Episode) revision() int64   { return e.Revision }
func (p *Pattern) revision() int64   { return p.Revision }
func (h *Heuristic) revision() int64 { return h.Revision }

// readOver is what reading an item has brought.
func readOver[T any, P interface {
	*T
	revised
}](item P, err error) (*read[T], error) {
	switch {
	case errors.Is(err, ErrNotFound):
		return &read[T]{}, nil
	case err != nil:
		return nil, err
	}
	return &read[T]{Rev: item.revision(), Item: item}, nil
}
