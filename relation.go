package episodic

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

// Relation is a typed link from one episode to another. Between two episodes
// there is at most one of each type and direction.
type Relation struct {
	From     ID                `json:"from"`
	Type     RelationType      `json:"type"`
	To       ID                `json:"to"`
	Reason   string            `json:"reason,omitempty"`
	Priority int               `json:"priority,omitempty"` // 1 (low) to 10 (high); 0: none given
	By       string            `json:"by,omitempty"`       // who or what made the link
	Metadata map[string]string `json:"metadata,omitempty"`
	Created  time.Time         `json:"created,omitzero"` // storing sets a zero Created to now
}

// RelationType says what From is to To. Relations of the types marked acyclic
// cannot be stored if they would close a cycle of their type.
type RelationType string

// The types of relations.
const (
	ParentOf   RelationType = "parent_of"  // acyclic
	DependsOn  RelationType = "depends_on" // acyclic
	Follows    RelationType = "follows"    // acyclic
	Blocks     RelationType = "blocks"     // acyclic
	RelatedTo  RelationType = "related_to"
	Duplicates RelationType = "duplicates"
	References RelationType = "references"
)

func (t RelationType) acyclic() bool {
	switch t {
	case ParentOf, DependsOn, Follows, Blocks:
		return true
	}
	return false
}

// Direction chooses relations by the end that an episode is at.
type Direction string

// The directions.
const (
	Both     Direction = ""
	Outgoing Direction = "outgoing" // from the episode
	Incoming Direction = "incoming" // to the episode
)

func (c *check) relationKey(from ID, typ RelationType, to ID) {
	if from.IsZero() {
		c.fail("from", "is missing")
	}
	if to.IsZero() {
		c.fail("to", "is missing")
	}
	if from == to {
		c.fail("to", "is the same episode as from")
	}
	c.oneOf("type", string(typ), ParentOf, DependsOn, Follows, Blocks, RelatedTo, Duplicates, References)
}

func (r *Relation) prepare(now time.Time) error {
	if r.Created.IsZero() {
		r.Created = truncateMicros(now)
	}
	c := &check{}
	c.relationKey(r.From, r.Type, r.To)
	c.text("reason", r.Reason)
	c.text("by", r.By)
	if r.Priority < 0 || r.Priority > 10 {
		c.fail("priority", "is %d; it must lie between 1 and 10, or be 0 for none", r.Priority)
	}
	c.metadata(r.Metadata)
	c.time("created", r.Created)
	return c.err
}

func (r *Relation) String() string { return fmt.Sprintf("relation %v %s %v", r.From, r.Type, r.To) }

// PutRelation stores a relation: it creates it, or replaces the one with the
// same ends and type. It fills a zero Created, and redacts r. Errors: ErrInvalid; ErrNotFound
// if an end is not stored; ErrConflict if it would close a cycle that its type
// forbids.
func (s *Store) PutRelation(ctx context.Context, r *Relation) (err error) {
	ctx, end := s.trace(ctx, "PutRelation")
	defer func() { end(err) }()
	if err := s.check(ctx, r != nil, "relation"); err != nil {
		return fmt.Errorf("put relation: %w", err)
	}
	err = s.clean(ctx, Scope{}, func(c *cleaning) { c.relation(r) })
	if err == nil {
		err = r.prepare(time.Now())
	}
	if err != nil {
		return fmt.Errorf("put relation: %w", err)
	}
	defer func() { s.wrote(err, r.From, r.To) }()
	return failed(s.carryOut(ctx, &putRelation{r}), "put %v", r)
}

// putRelation stores a relation.
type putRelation struct{ Relation *Relation }

func (o *putRelation) encode(_ context.Context, s *Store) (*encoded, error) {
	stmts, err := s.relationUpsert(o.Relation)
	return &encoded{stmts: s.scope.guard(stmts...), told: o.told}, err
}

func (o *putRelation) told(_ context.Context, res []engine.Result, err error) error {
	if err != nil || res[1].Affected == 1 {
		return err
	}
	in := engine.Row{Values: res[0].Rows[0]}
	from, to := in.Int(0) == 1, in.Int(1) == 1
	switch {
	case in.Err != nil:
		return in.Err
	case !from:
		return fmt.Errorf("%w: there is no episode %v", ErrNotFound, o.Relation.From)
	case !to:
		return fmt.Errorf("%w: there is no episode %v", ErrNotFound, o.Relation.To)
	}
	return fmt.Errorf("%w: it would close a cycle of %s", ErrConflict, o.Relation.Type)
}

// RelationFilter chooses relations of an episode. Nil and the zero value choose all.
type RelationFilter struct {
	Type      RelationType // empty: all types
	Direction Direction
}

// ListRelations returns a page of the chosen relations of an episode, oldest first.
// Errors: ErrInvalid.
func (s *Store) ListRelations(ctx context.Context, episode ID, f *RelationFilter, p *Paging) (_ *Page[*Relation], err error) {
	ctx, end := s.trace(ctx, "ListRelations")
	defer func() { end(err) }()
	var page *Page[*Relation]
	if ctx, s, err = s.on(ctx, readsPage(episode, p)); err == nil {
		page, err = s.listRelations(ctx, episode, f, p)
	}
	return page, failed(err, "list relations of %v", episode)
}

// Relations returns all chosen relations of an episode in the order of ListRelations.
// It reads them page by page; see Episodes for errors.
func (s *Store) Relations(ctx context.Context, episode ID, f *RelationFilter) iter.Seq2[*Relation, error] {
	return iterate(ctx, func(ctx context.Context, p *Paging) (*Page[*Relation], error) {
		return s.ListRelations(ctx, episode, f, p)
	})
}

func (s *Store) listRelations(ctx context.Context, episode ID, f *RelationFilter, p *Paging) (*Page[*Relation], error) {
	if err := s.check(ctx, true, ""); err != nil {
		return nil, err
	}
	f = orZero(f)
	c := &check{}
	c.oneOf("type", string(f.Type), "", ParentOf, DependsOn, Follows, Blocks, RelatedTo, Duplicates, References)
	c.oneOf("direction", string(f.Direction), Both, Outgoing, Incoming)
	if c.err != nil {
		return nil, c.err
	}
	var w where
	switch f.Direction {
	case Outgoing:
		w.and("src = "+bySeq, episode.bytes())
	case Incoming:
		w.and("dst = "+bySeq, episode.bytes())
	default:
		w.and("(src = "+bySeq+" OR dst = "+bySeq+")", episode.bytes(), episode.bytes())
	}
	w.andText("type = ?", string(f.Type))
	s.scope.and(&w, "a.scope")
	s.scope.and(&w, "b.scope")
	l := &listing[*Relation]{
		columns: relationColumns, from: relationTables, where: w,
		keys: []string{"relations.created_us", "src", "type", "dst"}, at: []int{3, 5, 1, 6}, kinds: "iiti", row: s.relationFrom,
	}
	return readAgain(ctx, func(ctx context.Context) (*Page[*Relation], error) {
		return marked(s, p, func(p *Paging) (*Page[*Relation], error) { return l.page(ctx, s.engine, p) })
	})
}

// DeleteRelation deletes the relation with these ends and type. Errors:
// ErrInvalid; ErrNotFound.
func (s *Store) DeleteRelation(ctx context.Context, from ID, typ RelationType, to ID) (err error) {
	ctx, end := s.trace(ctx, "DeleteRelation")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "delete relation")
	}
	c := &check{}
	if c.relationKey(from, typ, to); c.err != nil {
		return failed(c.err, "delete relation")
	}
	defer func() { s.wrote(err, from, to) }()
	err = s.carryOut(ctx, &deleteRelation{from, typ, to})
	return failed(err, "delete %v", &Relation{From: from, Type: typ, To: to})
}

// deleteRelation deletes a relation, which must be stored.
type deleteRelation struct {
	From ID
	Type RelationType
	To   ID
}

func (o *deleteRelation) encode(_ context.Context, s *Store) (*encoded, error) {
	st := engine.Stmt{SQL: sqlDeleteRelation, Args: []any{o.From.bytes(), o.To.bytes(), string(o.Type)}}
	return &encoded{stmts: []engine.Stmt{s.scope.guardOne(st)}, once: true, told: deleted}, nil
}

const (
	relationColumns   = `a.id, type, b.id, relations.created_us, relations.payload, src, dst`
	relationTables    = `relations JOIN episodes a ON a.seq = src JOIN episodes b ON b.seq = dst`
	sqlDeleteRelation = `DELETE FROM relations WHERE src = ` + bySeq + ` AND dst = ` + bySeq + ` AND type = ?`
	sqlRelationEnds   = `SELECT EXISTS (SELECT 1 FROM episodes WHERE id = ?), EXISTS (SELECT 1 FROM episodes WHERE id = ?)`

	sqlUpsertRelation = `INSERT INTO relations(src, dst, type, created_us, payload)
 SELECT a.seq, b.seq, ?1, ?2, ?3 FROM episodes a, episodes b WHERE a.id = ?4 AND b.id = ?5`
	relationExists = ` ON CONFLICT(src, type, dst) DO UPDATE SET created_us = excluded.created_us, payload = excluded.payload`
)

// noCycle is the condition that what the target leads to does not lead to the
// source. It costs what the shorter of the two ways reaches, about: from the source
// back, or from the target on, each tried as far as a bound before the next one.
var noCycle = func() string {
	const source, target = `(SELECT seq FROM episodes WHERE id = ?4)`, `(SELECT seq FROM episodes WHERE id = ?5)`
	// 1: the way leads to its end; 0: it ends elsewhere; NULL: it is longer than the bound.
	reaches := func(from, step, to, end string, bound int) string {
		return fmt.Sprintf(`(WITH RECURSIVE way(seq) AS (SELECT %s UNION SELECT %s FROM relations JOIN way ON %s = way.seq AND type = ?1 LIMIT %d)
 SELECT iif(max(seq = %s), 1, iif(count(*) < %[4]d, 0, NULL)) FROM way)`, from, step, to, bound, end)
	}
	var ways []string
	for _, bound := range []int{64, 4096, 1 << 40} {
		ways = append(ways, reaches(source, "src", "dst", target, bound), reaches(target, "dst", "src", source, bound))
	}
	return " AND coalesce(" + strings.Join(ways, ", ") + ") = 0"
}()

// storedRelation is what of a Relation is not in columns of its own.
type storedRelation struct {
	Reason   string            `json:"reason,omitempty"`
	Priority int               `json:"priority,omitempty"`
	By       string            `json:"by,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// relationUpsert returns a look at what could refuse the relation, and the
// conditional write itself.
func (s *Store) relationUpsert(r *Relation) ([]engine.Stmt, error) {
	encoded, err := encodePayload(s.payloads, payload.Patterns, boundRelation(r.From, r.Type, r.To, micros(r.Created)), "relation", &storedRelation{r.Reason, r.Priority, r.By, r.Metadata})
	if err != nil {
		return nil, err
	}
	put := engine.Stmt{SQL: sqlUpsertRelation, Args: []any{string(r.Type), micros(r.Created), encoded, r.From.bytes(), r.To.bytes()}}
	if r.Type.acyclic() {
		put.SQL += noCycle
	}
	put.SQL += relationExists
	return []engine.Stmt{{SQL: sqlRelationEnds, Args: []any{r.From.bytes(), r.To.bytes()}}, put}, nil
}

// relationFrom reads a row of relationColumns.
func (s *Store) relationFrom(ctx context.Context, row []any) (r *Relation, size int, err error) {
	in := engine.Row{Values: row}
	from, err := idFrom(row[0])
	to, toErr := idFrom(row[2])
	r = &Relation{From: from, Type: RelationType(in.Text(1)), To: to, Created: time.UnixMicro(in.Int(3)).UTC()}
	if err = cmp.Or(err, toErr, in.Err); err != nil {
		return nil, 0, s.damaged(ctx, "relation", from, fmt.Errorf("%w: %s %v: %w", ErrCorrupt, r.Type, to, err))
	}
	var stored storedRelation
	if size, err = s.payloads.DecodeSized(ctx, row[4], boundRelation(from, r.Type, to, in.Int(3)), &stored); err != nil {
		return nil, 0, s.damaged(ctx, "relation", from, fmt.Errorf("%s %v: %w", r.Type, to, err))
	}
	r.Reason, r.Priority, r.By, r.Metadata = stored.Reason, stored.Priority, stored.By, stored.Metadata
	return r, size, nil
}
