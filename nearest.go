package episodic

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/vector"
)

// NearestQuery says what Nearest looks for.
type NearestQuery struct {
	Kind  ItemKind // of the items; required
	Model string   // that made the vectors; required
	// Vector is what the items' vectors are compared with, of the model's dimension and
	// not all zeros. Item can name in its place an item of the same kind, whose stored
	// vector is meant; that item itself is not among the results.
	Vector []float32
	Item   ID
	// Filter chooses among episodes. Of other kinds only its Scope may be set.
	Filter EpisodeFilter
	// Limit is the most results, from 1 to 1,000; 0 means 10.
	Limit int
}

// Neighbor is an item whose vector is near to that of a query.
type Neighbor struct {
	Item       ID      `json:"item"`
	Similarity float64 `json:"similarity"` // the cosine of the angle between the vectors, -1 to 1; 0 for a vector of zeros
}

// Nearest returns the items whose vectors by a model are most similar to a vector, the
// most similar first. It sees every embedding that was stored before the call, whoever
// stored it; of a replica (Options.Replica) what that has, unless it has no vector by the model
// or fewer than 200 episodes yet: then it asks the server. The vectors of a kind and model are
// loaded at the first call, and kept in memory in step with the database from then on, as long as
// they fit (see [Vectors.MaxBytes]); otherwise the database is read through by each call.
//
// All similarities are computed from the stored vectors. In memory those whose
// similarity is computed are chosen by a sketch of each vector, where there are 2,048 or
// more: then about one in a thousand of the true results may be missing, or more if no
// vector is much nearer than the others. With a Filter that holds for up to 4,096
// episodes none is missing.
//
// Errors: ErrInvalid, also for a vector of another dimension than the model's;
// ErrNotFound if no item of the kind has a vector by the model, or Item has none. A stored
// vector that cannot be read is left out: beside what was found among the others, Nearest then
// returns a *DamagedError for each.
func (s *Store) Nearest(ctx context.Context, q NearestQuery) (_ []Neighbor, err error) {
	ctx, end := s.trace(ctx, "Nearest")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "nearest")
	}
	r, err := s.nearestRequest(&q)
	if err != nil {
		return nil, failed(err, "nearest")
	}
	found, err := readOne(ctx, s, reading{kind: readBest}, func(ctx context.Context, s *Store) ([]Neighbor, error) {
		found, err := s.sets.nearest(ctx, r)
		for _, damage := range r.damage.all() {
			s.damage.Add(1)
			err = errors.Join(err, damage)
		}
		return found, err
	})
	return found, failed(err, "nearest %s by %s", q.Kind, q.Model)
}

// nearestRequest is a NearestQuery that has been checked.
type nearestRequest struct {
	vectorKey
	vector []float32 // nil: that of item
	item   ID
	limit  int
	store  Scope // in which item must lie
	scope  Scope // in which results must lie
	where  where // what else must hold for episodes; empty: nothing
	damage damages
}

func (s *Store) nearestRequest(q *NearestQuery) (r *nearestRequest, err error) {
	c := &check{}
	c.itemKind(q.Kind)
	c.model(q.Model)
	switch {
	case len(q.Vector) > 0 && !q.Item.IsZero():
		c.fail("item", "is set together with vector; set one of them")
	case len(q.Vector) > 0:
		c.vector(q.Vector)
		if !nonZero(q.Vector) {
			c.fail("vector", "is all zeros, which has no direction")
		}
	case q.Item.IsZero():
		c.fail("vector", "is empty, and no item is named in its place")
	}
	if q.Limit < 0 || q.Limit > maxLimit {
		c.fail("limit", "is %d; it must lie between 1 and %d, or be 0 for %d", q.Limit, maxLimit, defaultHits)
	}
	if c.err != nil {
		return nil, c.err
	}
	r = &nearestRequest{vectorKey: vectorKey{q.Kind, q.Model}, vector: q.Vector, item: q.Item, limit: cmp.Or(q.Limit, defaultHits), store: s.scope}
	f := q.Filter
	if r.scope, err = f.Scope.within(s.scope); err != nil {
		return nil, err
	}
	f.Scope = Scope{}
	if r.where, err = f.where(); err != nil {
		return nil, err
	}
	if r.where.sql != "" {
		if q.Kind != ItemEpisode {
			return nil, invalid("filter", "has conditions on episodes, but the kind is %s; only its scope may be set", q.Kind)
		}
		r.scope.and(&r.where, "episodes.scope")
	}
	return r, nil
}

func nonZero(v []float32) bool {
	for _, x := range v {
		if x != 0 {
			return true
		}
	}
	return false
}

// checkDim refuses a vector of another dimension than those stored.
func (r *nearestRequest) checkDim(dim int) error {
	if r.vector != nil && len(r.vector) != dim {
		return invalid("vector", "has %d numbers, but the vectors of model %.60q have %d", len(r.vector), r.model, dim)
	}
	return nil
}

func (r *nearestRequest) unknownModel() error {
	return fmt.Errorf("%w: no %s has a vector by this model", ErrNotFound, r.kind)
}

func (r *nearestRequest) noVector() error {
	return fmt.Errorf("%w: %s %v has no vector by this model", ErrNotFound, r.kind, r.item)
}

// maxFiltered bounds the episodes that a filter is resolved to before vectors are
// compared. If it holds for more, the nearest are asked whether it holds for them.
const maxFiltered = 4096

// filterStmt returns the ids of the episodes that the filter holds for, one more than
// maxFiltered at most.
func (r *nearestRequest) filterStmt() engine.Stmt {
	return engine.Stmt{
		SQL:  "SELECT id FROM episodes WHERE 1" + r.where.sql + " LIMIT ?",
		Args: append(r.where.args[:len(r.where.args):len(r.where.args)], int64(maxFiltered+1)),
	}
}

// matching returns which of some episodes the filter holds for.
func (r *nearestRequest) matching(ctx context.Context, q querier, ids []ID) (map[ID]bool, error) {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = hex.EncodeToString(id[:])
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	res, err := q.Query(ctx, engine.Stmt{
		SQL:  "SELECT id FROM episodes WHERE id IN (SELECT unhex(value) FROM json_each(?))" + r.where.sql,
		Args: append([]any{string(text)}, r.where.args...),
	})
	if err != nil {
		return nil, err
	}
	match := make(map[ID]bool, len(res[0].Rows))
	for _, row := range res[0].Rows {
		id, err := idFrom(row[0])
		if err != nil {
			return nil, err
		}
		match[id] = true
	}
	return match, nil
}

// without returns the hits but for the item that was asked with, r.limit at most.
func (r *nearestRequest) without(hits []vector.Hit) []vector.Hit {
	if r.vector == nil {
		hits = slices.DeleteFunc(hits, func(h vector.Hit) bool { return h.ID == vector.ID(r.item) })
	}
	return hits
}
