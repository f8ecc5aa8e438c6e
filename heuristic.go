package episodic

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/episodic-memory/episodic/internal/payload"
)

// Heuristic is a rule of thumb drawn from episodes: under this condition, do
// that.
type Heuristic struct {
	ID         ID       `json:"id,omitzero"` // made by storing if it is zero
	Condition  string   `json:"condition"`   // required
	Action     string   `json:"action"`      // required
	Confidence float64  `json:"confidence"`  // 0 to 1
	Evidence   Evidence `json:"evidence,omitzero"`

	Metadata map[string]string `json:"metadata,omitempty"`
	Created  time.Time         `json:"created,omitzero"` // storing sets a zero Created to now
	Updated  time.Time         `json:"updated,omitzero"` // storing sets a zero Updated to Created

	// Scope is whom the heuristic belongs to, as Episode.Scope says.
	Scope Scope `json:"scope,omitzero"`

	Revision int64 `json:"-"` // what was read, as Episode.Revision says
}

// Evidence is what a heuristic rests on.
type Evidence struct {
	Episodes    []ID    `json:"episodes,omitempty"`
	SuccessRate float64 `json:"success_rate,omitempty"` // of the sample, 0 to 1
	SampleSize  int     `json:"sample_size,omitempty"`  // how many cases were looked at
}

func (h *Heuristic) prepare(now time.Time) error {
	if h.ID.IsZero() {
		h.ID = NewID()
	}
	if h.Created.IsZero() {
		h.Created = truncateMicros(now)
	}
	if h.Updated.IsZero() {
		h.Updated = h.Created
	}
	c := &check{}
	c.text("condition", h.Condition)
	c.text("action", h.Action)
	if h.Condition == "" {
		c.fail("condition", "is empty")
	}
	if h.Action == "" {
		c.fail("action", "is empty")
	}
	c.fraction("confidence", h.Confidence)
	c.fraction("evidence.success_rate", h.Evidence.SuccessRate)
	c.notNegative("evidence.sample_size", int64(h.Evidence.SampleSize))
	c.metadata(h.Metadata)
	c.time("created", h.Created)
	c.time("updated", h.Updated)
	return c.err
}

// HeuristicFilter chooses heuristics. Conditions that are set must all hold.
type HeuristicFilter struct {
	MinConfidence float64
	Scope         Scope // the fields that are set are those of the heuristic
}

// PutHeuristic stores a heuristic: it creates it, or replaces the stored one
// with the same ID, but one that was read only if nobody has written it since, as
// PutEpisode does. It fills a zero ID, Created and Updated, sets Revision, and redacts h.
// Errors: ErrInvalid; ErrConflict.
func (s *Store) PutHeuristic(ctx context.Context, h *Heuristic) (err error) {
	ctx, end := s.trace(ctx, "PutHeuristic")
	defer func() { end(err) }()
	if err := s.check(ctx, h != nil, "heuristic"); err != nil {
		return fmt.Errorf("put heuristic: %w", err)
	}
	revision := h.Revision
	if h.ID.IsZero() {
		revision = 0 // it is a new one
	}
	scope, err := h.Scope.within(s.scope)
	if err == nil {
		err = s.clean(ctx, scope, func(c *cleaning) { c.heuristic(h) })
	}
	if err == nil {
		err = h.prepare(time.Now())
	}
	if err != nil {
		return fmt.Errorf("put heuristic: %w", err)
	}
	h.Scope = scope
	defer func() { s.changed(err, oneHeuristic, h.ID) }()
	o := &putHeuristic{Heuristic: h, Rev: newRevision(), Base: revision}
	if err = s.carryOut(ctx, o); err == nil {
		h.Revision = o.Rev
	}
	return failed(err, "put heuristic %v", h.ID)
}

// Heuristic returns the heuristic. Errors: ErrNotFound.
func (s *Store) Heuristic(ctx context.Context, id ID) (_ *Heuristic, err error) {
	ctx, end := s.trace(ctx, "Heuristic")
	defer func() { end(err) }()
	h, err := readOne(ctx, s, readsItem("heuristics", id), func(ctx context.Context, s *Store) (*Heuristic, error) { return s.heuristic(ctx, id) })
	return h, failed(err, "get heuristic %v", id)
}

func (s *Store) heuristic(ctx context.Context, id ID) (*Heuristic, error) {
	h, err := cached(ctx, s, cacheKey{noun: oneHeuristic, id: id}, loader[*Heuristic]{
		read: func(ctx context.Context, q querier) (*Heuristic, error) {
			return getOne(ctx, q, sqlGetHeuristic, id, s.heuristicFrom)
		},
		clone: (*Heuristic).clone, size: (*Heuristic).size,
	})
	if err == nil && !s.scope.contains(h.Scope) {
		h, err = nil, ErrNotFound
	}
	return h, err
}

func (f *HeuristicFilter) scope() *Scope { return &f.Scope }

func (f *HeuristicFilter) where() (w where, err error) {
	c := &check{}
	c.fraction("min_confidence", f.MinConfidence)
	if f.MinConfidence > 0 {
		w.and("confidence >= ?", f.MinConfidence)
	}
	f.Scope.and(&w, "scope")
	return w, c.err
}

// ListHeuristics returns the chosen heuristics, newest Created first. Errors:
// ErrInvalid.
func (s *Store) ListHeuristics(ctx context.Context, f *HeuristicFilter, p *Paging) (_ *Page[*Heuristic], err error) {
	ctx, end := s.trace(ctx, "ListHeuristics")
	defer func() { end(err) }()
	if ctx, s, err = s.on(ctx, readsPage(ID{}, p)); err != nil {
		return nil, failed(err, "list heuristics")
	}
	item := loader[*Heuristic]{clone: (*Heuristic).clone, size: (*Heuristic).size}
	page, err := cachedPage(ctx, s, heuristicPage, f, p, item, s.listHeuristics)
	return page, failed(err, "list heuristics")
}

// Heuristics returns all chosen heuristics in the order of ListHeuristics; see Episodes for
// errors.
func (s *Store) Heuristics(ctx context.Context, f *HeuristicFilter) iter.Seq2[*Heuristic, error] {
	return iterate(ctx, func(ctx context.Context, p *Paging) (_ *Page[*Heuristic], err error) {
		ctx, end := s.trace(ctx, "ListHeuristics")
		defer func() { end(err) }()
		ctx, from, err := s.on(ctx, readsPage(ID{}, p))
		if err != nil {
			return nil, failed(err, "list heuristics")
		}
		page, err := listed(ctx, from, f, p, from.listHeuristics)
		return page, failed(err, "list heuristics")
	})
}

func (s *Store) listHeuristics(ctx context.Context, q querier, r *pageRequest[HeuristicFilter]) (*Page[*Heuristic], error) {
	w, err := r.Filter.where()
	if err != nil {
		return nil, err
	}
	return newestFirst(heuristicColumns, "heuristics", "created_us", 2, w, s.heuristicFrom).page(ctx, q, &r.Paging)
}

// DeleteHeuristic deletes the heuristic and its embeddings. Errors: ErrNotFound.
func (s *Store) DeleteHeuristic(ctx context.Context, id ID) (err error) {
	ctx, end := s.trace(ctx, "DeleteHeuristic")
	defer func() { end(err) }()
	return s.delete(ctx, oneHeuristic, ItemHeuristic, id)
}

const (
	heuristicColumns   = `seq, id, created_us, payload, rev, iif(scope, (SELECT n || char(10) || text FROM scopes WHERE n = scope), '')`
	sqlUpsertHeuristic = `INSERT INTO heuristics(id, confidence, created_us, payload, rev) VALUES(?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET confidence = excluded.confidence, created_us = excluded.created_us, payload = excluded.payload, rev = excluded.rev`
	sqlReplaceHeuristic  = `UPDATE heuristics SET confidence = ?2, created_us = ?3, payload = ?4, rev = ?5 WHERE id = ?1 AND rev = ?6`
	sqlHeuristicRevision = `SELECT rev FROM heuristics WHERE id = ?`
	sqlGetHeuristic      = `SELECT ` + heuristicColumns + ` FROM heuristics WHERE id = ?`
)

// storedHeuristic is a Heuristic without what has a column of its own.
type storedHeuristic Heuristic

// putHeuristic stores a heuristic.
type putHeuristic struct {
	Heuristic *Heuristic
	Rev       int64
	Base      int64 // the revision that it replaces; 0: whatever there is

	Read *read[Heuristic] // as of putEpisode
}

func (o *putHeuristic) encode(_ context.Context, s *Store) (*encoded, error) {
	w, err := o.write(s)
	if err != nil {
		return nil, err
	}
	return w.over(o.Base), nil
}

// write is its row in the database of a Store.
func (o *putHeuristic) write(s *Store) (w itemWrite, err error) {
	h := o.Heuristic
	stored := storedHeuristic(*h)
	stored.ID, stored.Created, stored.Scope = ID{}, time.Time{}, Scope{}
	stored.Updated = truncateMicros(h.Updated)
	frame, err := encodePayload(s.payloads, payload.Patterns, boundItem(h.ID, micros(h.Created)), "heuristic", &stored)
	if err != nil {
		return w, err
	}
	w = itemWrite{upsert: sqlUpsertHeuristic, replace: sqlReplaceHeuristic, look: sqlHeuristicRevision, rev: o.Rev, scope: h.Scope}
	w.words, w.created = s.wording.heuristicStmt(h, w.rev), micros(h.Created)
	w.columns = []any{h.ID.bytes(), h.Confidence, micros(h.Created), frame, w.rev}
	return w, nil
}

// heuristicFrom reads a row of heuristicColumns.
func (s *Store) heuristicFrom(ctx context.Context, row []any) (*Heuristic, int, error) {
	var h storedHeuristic
	in, err := s.itemFrom(ctx, ItemHeuristic, row, &h)
	if err != nil {
		return nil, 0, err
	}
	h.ID, h.Created, h.Revision, h.Scope = in.id, time.UnixMicro(in.created).UTC(), in.rev, in.scope
	return (*Heuristic)(&h), in.size, nil
}
