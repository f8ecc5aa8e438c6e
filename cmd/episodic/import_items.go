package main

import (
	"cmp"
	"context"
	"errors"
	"math"
	"reflect"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// storeExported stores an item of an export that is no episode, unless it is stored so. What
// the Store refuses is told.
func (im *importer) storeExported(ctx context.Context, run *transcript.Run, at place) error {
	if im.store == nil {
		im.counts.others++
		return nil
	}
	if im.ofDeleted(run) {
		im.counts.deleted++
		return nil
	}
	stored, err := im.putExported(ctx, run)
	switch {
	case errors.Is(err, episodic.ErrInvalid), errors.Is(err, episodic.ErrNotFound), errors.Is(err, episodic.ErrConflict):
		im.badLine(at, reason(err))
		return nil
	case err != nil:
		return err
	case stored:
		im.counts.others++
	default:
		im.counts.present++
	}
	return nil
}

// ofDeleted reports whether a relation or a vector is of an episode that was deleted after an
// earlier import, and so stays out.
func (im *importer) ofDeleted(run *transcript.Run) bool {
	switch {
	case run.Relation != nil:
		return im.deleted[run.Relation.From] || im.deleted[run.Relation.To]
	case run.Embedding != nil:
		return im.deleted[run.Embedding.Item]
	}
	return false
}

// putExported reports whether anything was changed.
func (im *importer) putExported(ctx context.Context, run *transcript.Run) (stored bool, err error) {
	switch {
	case run.Pattern != nil:
		im.settle(&run.Pattern.ID, &run.Pattern.Scope, run)
		old, err := im.store.Pattern(ctx, run.Pattern.ID)
		if err == nil {
			run.Pattern.Revision = old.Revision
			if reflect.DeepEqual(old, run.Pattern) {
				return false, nil
			}
		} else if !errors.Is(err, episodic.ErrNotFound) {
			return false, err
		}
		return true, im.store.PutPattern(ctx, run.Pattern)
	case run.Relation != nil:
		if known, err := im.knows(ctx, run.Relation); known || err != nil {
			return false, err
		}
		return true, im.store.PutRelation(ctx, run.Relation)
	case run.Embedding != nil:
		e := run.Embedding
		old, err := im.store.Embedding(ctx, e.Kind, e.Item, e.Model)
		if err == nil && alike(old.Vector, e.Vector) {
			return false, nil
		}
		if err != nil && !errors.Is(err, episodic.ErrNotFound) {
			return false, err
		}
		return true, im.store.PutEmbedding(ctx, e)
	}
	switch d := run.Deleted; d.Kind {
	case episodic.ChangedEpisode:
		err = im.store.DeleteEpisode(ctx, d.ID)
	case episodic.ChangedPattern:
		err = im.store.DeletePattern(ctx, d.ID)
	case episodic.ChangedHeuristic:
		err = im.store.DeleteHeuristic(ctx, d.ID)
	default: // what belongs to an item: the lines of those that are left were read
		return false, nil
	}
	if errors.Is(err, episodic.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// storeNote stores a heuristic unless it is stored.
func (im *importer) storeNote(ctx context.Context, run *transcript.Run) error {
	if im.store == nil {
		im.counts.notes++
		return nil
	}
	h := run.Heuristic
	h.Condition, h.Action = im.store.Redact(h.Condition), im.store.Redact(h.Action) // as they are stored
	im.settle(&h.ID, &h.Scope, run)
	old, err := im.store.Heuristic(ctx, h.ID)
	if err == nil {
		h.Revision = old.Revision
		if h.Created.IsZero() {
			h.Created, h.Updated = old.Created, old.Updated
		}
	}
	switch {
	case err == nil && reflect.DeepEqual(old, h):
		im.counts.present++
		return nil
	case err == nil:
		im.counts.updated++
	case errors.Is(err, episodic.ErrNotFound):
		im.counts.notes++
	default:
		return err
	}
	return im.store.PutHeuristic(ctx, h)
}

// settle gives an item that a record tells of the scope that it is stored in, and an ID that is
// always the same, where the record has none.
func (im *importer) settle(id *episodic.ID, scope *episodic.Scope, run *transcript.Run) {
	if *scope == (episodic.Scope{}) {
		*scope = im.scope()
	}
	if id.IsZero() {
		*id = transcript.DeriveID(*scope, run.Format, cmp.Or(run.Key, string(run.Hash[:])))
	}
}

// leading are the relations of one episode as they are stored. Records tell those of an episode
// one after the other.
type leading struct {
	from      episodic.ID
	relations map[leads]*episodic.Relation
}

type leads struct {
	typ episodic.RelationType
	to  episodic.ID
}

// knows reports whether a relation is stored as it is.
func (im *importer) knows(ctx context.Context, r *episodic.Relation) (bool, error) {
	if im.leading.relations == nil || im.leading.from != r.From {
		im.leading = leading{r.From, make(map[leads]*episodic.Relation)}
		for old, err := range im.store.Relations(ctx, r.From, &episodic.RelationFilter{Direction: episodic.Outgoing}) {
			if err != nil {
				return false, err
			}
			im.leading.relations[leads{old.Type, old.To}] = old
		}
	}
	old := im.leading.relations[leads{r.Type, r.To}]
	if old == nil {
		return false, nil
	}
	if r.Created.IsZero() {
		r.Created = old.Created
	}
	r.Reason = im.store.Redact(r.Reason) // as it is stored
	return reflect.DeepEqual(old, r), nil
}

// alike reports whether vectors are the same but for the rounding of those that are stored.
func alike(stored, v []float32) bool {
	if len(stored) != len(v) {
		return false
	}
	var most, apart float64
	for i := range v {
		most = max(most, math.Abs(float64(v[i])))
		apart = max(apart, math.Abs(float64(v[i]-stored[i])))
	}
	return apart <= most*mostRounding
}

// mostRounding is how far a number that is stored may be from what it was, of the greatest of
// its vector.
const mostRounding = 0.01
