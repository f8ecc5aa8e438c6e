package episodic

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/episodic-memory/episodic/internal/payload"
)

// Pattern is something that recurred in episodes. Exactly one of ToolSequence,
// DecisionPoint, ErrorRecovery and ContextPattern is set: it says what kind of
// pattern it is.
type Pattern struct {
	ID          ID      `json:"id,omitzero"` // made by storing if it is zero
	Description string  `json:"description,omitempty"`
	Context     Context `json:"context,omitzero"` // where it was seen; patterns are listed by its Domain
	SuccessRate float64 `json:"success_rate"`     // of the episodes it was seen in, 0 to 1
	Occurrences int     `json:"occurrences"`      // how often it was seen
	Evidence    []ID    `json:"evidence,omitempty"`

	ToolSequence   *ToolSequence   `json:"tool_sequence,omitempty"`
	DecisionPoint  *DecisionPoint  `json:"decision_point,omitempty"`
	ErrorRecovery  *ErrorRecovery  `json:"error_recovery,omitempty"`
	ContextPattern *ContextPattern `json:"context_pattern,omitempty"`

	Metadata map[string]string `json:"metadata,omitempty"`
	Created  time.Time         `json:"created,omitzero"` // storing sets a zero Created to now
	Updated  time.Time         `json:"updated,omitzero"` // storing sets a zero Updated to Created

	// Scope is whom the pattern belongs to, as Episode.Scope says.
	Scope Scope `json:"scope,omitzero"`

	Revision int64 `json:"-"` // what was read, as Episode.Revision says
}

// ToolSequence is a series of tool calls that works. In JSON, MeanLatency is a
// number of milliseconds, as the latency of a Step is.
type ToolSequence struct {
	Tools       []string      `json:"tools"`                     // in order, at least one
	MeanLatency time.Duration `json:"mean_latency_ms,omitempty"` // of the whole sequence
}

// DecisionPoint is a choice that comes back. In JSON, MeanLatency is a number of
// milliseconds, as the latency of a Step is.
type DecisionPoint struct {
	Condition   string        `json:"condition"` // required
	Action      string        `json:"action"`    // required
	Successes   int           `json:"successes,omitempty"`
	Failures    int           `json:"failures,omitempty"`
	MeanLatency time.Duration `json:"mean_latency_ms,omitempty"`
}

// ErrorRecovery is a way out of an error.
type ErrorRecovery struct {
	Error string   `json:"error"` // its type or message; required
	Steps []string `json:"steps"` // what helped, in order, at least one
}

// ContextPattern is an approach that suits contexts with certain features.
type ContextPattern struct {
	Features []string `json:"features"` // at least one
	Approach string   `json:"approach"` // required
}

// plainToolSequence and plainDecisionPoint are without methods.
type (
	plainToolSequence  ToolSequence
	plainDecisionPoint DecisionPoint
)

type toolSequenceDocument struct {
	plainToolSequence
	Latency     *milliseconds  `json:"mean_latency_ms,omitempty"`
	Nanoseconds *time.Duration `json:"mean_latency_ns,omitempty"` // of older documents
}

type decisionPointDocument struct {
	plainDecisionPoint
	Latency     *milliseconds  `json:"mean_latency_ms,omitempty"`
	Nanoseconds *time.Duration `json:"mean_latency_ns,omitempty"` // of older documents
}

// MarshalJSON implements json.Marshaler.
func (x ToolSequence) MarshalJSON() ([]byte, error) {
	return marshalDocument(toolSequenceDocument{plainToolSequence: plainToolSequence(x), Latency: (*milliseconds)(orNil(x.MeanLatency))})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown fields are ignored.
func (x *ToolSequence) UnmarshalJSON(b []byte) error {
	doc := toolSequenceDocument{plainToolSequence: plainToolSequence(*x)}
	if err := json.Unmarshal(b, &doc); err != nil {
		return err
	}
	*x = ToolSequence(doc.plainToolSequence)
	setLatency(&x.MeanLatency, doc.Latency, doc.Nanoseconds)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (x DecisionPoint) MarshalJSON() ([]byte, error) {
	return marshalDocument(decisionPointDocument{plainDecisionPoint: plainDecisionPoint(x), Latency: (*milliseconds)(orNil(x.MeanLatency))})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown fields are ignored.
func (x *DecisionPoint) UnmarshalJSON(b []byte) error {
	doc := decisionPointDocument{plainDecisionPoint: plainDecisionPoint(*x)}
	if err := json.Unmarshal(b, &doc); err != nil {
		return err
	}
	*x = DecisionPoint(doc.plainDecisionPoint)
	setLatency(&x.MeanLatency, doc.Latency, doc.Nanoseconds)
	return nil
}

// PatternKind names the kinds of patterns.
type PatternKind string

// The kinds of a Pattern.
const (
	KindToolSequence   PatternKind = "tool_sequence"
	KindDecisionPoint  PatternKind = "decision_point"
	KindErrorRecovery  PatternKind = "error_recovery"
	KindContextPattern PatternKind = "context_pattern"
)

// Kind returns which of the four fields is set, and "" if it is none or several.
func (p *Pattern) Kind() (kind PatternKind) {
	for k, set := range map[PatternKind]bool{
		KindToolSequence:   p.ToolSequence != nil,
		KindDecisionPoint:  p.DecisionPoint != nil,
		KindErrorRecovery:  p.ErrorRecovery != nil,
		KindContextPattern: p.ContextPattern != nil,
	} {
		if set && kind != "" {
			return ""
		}
		if set {
			kind = k
		}
	}
	return kind
}

func (p *Pattern) prepare(now time.Time) error {
	if p.ID.IsZero() {
		p.ID = NewID()
	}
	if p.Created.IsZero() {
		p.Created = truncateMicros(now)
	}
	if p.Updated.IsZero() {
		p.Updated = p.Created
	}
	c := &check{}
	required := func(field, s string) {
		c.text(field, s)
		if s == "" {
			c.fail(field, "is empty")
		}
	}
	some := func(field string, list []string) {
		c.texts(field, list)
		if len(list) == 0 {
			c.fail(field, "is empty")
		}
	}
	if p.Kind() == "" {
		c.fail("pattern", "needs exactly one of tool_sequence, decision_point, error_recovery, context_pattern")
	}
	if x := p.ToolSequence; x != nil {
		some("tool_sequence.tools", x.Tools)
		c.notNegative("tool_sequence.mean_latency_ms", int64(x.MeanLatency))
	}
	if x := p.DecisionPoint; x != nil {
		required("decision_point.condition", x.Condition)
		required("decision_point.action", x.Action)
		c.notNegative("decision_point.successes", int64(x.Successes))
		c.notNegative("decision_point.failures", int64(x.Failures))
		c.notNegative("decision_point.mean_latency_ms", int64(x.MeanLatency))
	}
	if x := p.ErrorRecovery; x != nil {
		required("error_recovery.error", x.Error)
		some("error_recovery.steps", x.Steps)
	}
	if x := p.ContextPattern; x != nil {
		some("context_pattern.features", x.Features)
		required("context_pattern.approach", x.Approach)
	}
	c.text("description", p.Description)
	c.context(&p.Context)
	c.fraction("success_rate", p.SuccessRate)
	c.notNegative("occurrences", int64(p.Occurrences))
	c.metadata(p.Metadata)
	c.time("created", p.Created)
	c.time("updated", p.Updated)
	return c.err
}

// PatternFilter chooses patterns. Conditions that are set must all hold.
type PatternFilter struct {
	Kind           PatternKind
	Domain         string
	MinSuccessRate float64
	Scope          Scope // the fields that are set are those of the pattern
}

// PutPattern stores a pattern: it creates it, or replaces the stored one with
// the same ID. It fills a zero ID, Created and Updated, and redacts p. Errors: ErrInvalid.
func (s *Store) PutPattern(ctx context.Context, p *Pattern) (err error) {
	ctx, end := s.trace(ctx, "PutPattern")
	defer func() { end(err) }()
	if err := s.check(ctx, p != nil, "pattern"); err != nil {
		return fmt.Errorf("put pattern: %w", err)
	}
	revision := p.Revision
	if p.ID.IsZero() {
		revision = 0 // it is a new one
	}
	scope, err := p.Scope.within(s.scope)
	if err == nil {
		err = s.clean(ctx, scope, func(c *cleaning) { c.pattern(p) })
	}
	if err == nil {
		err = p.prepare(time.Now())
	}
	if err != nil {
		return fmt.Errorf("put pattern: %w", err)
	}
	p.Scope = scope
	defer func() { s.changed(err, onePattern, p.ID) }()
	o := &putPattern{Pattern: p, Rev: newRevision(), Base: revision}
	if err = s.carryOut(ctx, o); err == nil {
		p.Revision = o.Rev
	}
	return failed(err, "put pattern %v", p.ID)
}

// Pattern returns the pattern. Errors: ErrNotFound.
func (s *Store) Pattern(ctx context.Context, id ID) (_ *Pattern, err error) {
	ctx, end := s.trace(ctx, "Pattern")
	defer func() { end(err) }()
	p, err := readOne(ctx, s, readsItem("patterns", id), func(ctx context.Context, s *Store) (*Pattern, error) { return s.pattern(ctx, id) })
	return p, failed(err, "get pattern %v", id)
}

func (s *Store) pattern(ctx context.Context, id ID) (*Pattern, error) {
	p, err := cached(ctx, s, cacheKey{noun: onePattern, id: id}, loader[*Pattern]{
		read: func(ctx context.Context, q querier) (*Pattern, error) {
			return getOne(ctx, q, sqlGetPattern, id, s.patternFrom)
		},
		clone: (*Pattern).clone, size: (*Pattern).size,
	})
	if err == nil && !s.scope.contains(p.Scope) {
		p, err = nil, ErrNotFound
	}
	return p, err
}

func (f *PatternFilter) scope() *Scope { return &f.Scope }

func (f *PatternFilter) where() (w where, err error) {
	c := &check{}
	c.oneOf("kind", string(f.Kind), "", KindToolSequence, KindDecisionPoint, KindErrorRecovery, KindContextPattern)
	c.text("domain", f.Domain)
	c.fraction("min_success_rate", f.MinSuccessRate)
	w.andText("kind = ?", string(f.Kind))
	w.andText("domain = ?", f.Domain)
	if f.MinSuccessRate > 0 {
		w.and("success_rate >= ?", f.MinSuccessRate)
	}
	f.Scope.and(&w, "scope")
	return w, c.err
}

// ListPatterns returns the chosen patterns, newest Created first. Errors: ErrInvalid.
func (s *Store) ListPatterns(ctx context.Context, f *PatternFilter, p *Paging) (_ *Page[*Pattern], err error) {
	ctx, end := s.trace(ctx, "ListPatterns")
	defer func() { end(err) }()
	if ctx, s, err = s.on(ctx, readsPage(ID{}, p)); err != nil {
		return nil, failed(err, "list patterns")
	}
	item := loader[*Pattern]{clone: (*Pattern).clone, size: (*Pattern).size}
	page, err := cachedPage(ctx, s, patternPage, f, p, item, s.listPatterns)
	return page, failed(err, "list patterns")
}

// Patterns returns all chosen patterns in the order of ListPatterns; see Episodes for
// errors.
func (s *Store) Patterns(ctx context.Context, f *PatternFilter) iter.Seq2[*Pattern, error] {
	return iterate(ctx, func(ctx context.Context, p *Paging) (_ *Page[*Pattern], err error) {
		ctx, end := s.trace(ctx, "ListPatterns")
		defer func() { end(err) }()
		ctx, from, err := s.on(ctx, readsPage(ID{}, p))
		if err != nil {
			return nil, failed(err, "list patterns")
		}
		page, err := listed(ctx, from, f, p, from.listPatterns)
		return page, failed(err, "list patterns")
	})
}

func (s *Store) listPatterns(ctx context.Context, q querier, r *pageRequest[PatternFilter]) (*Page[*Pattern], error) {
	w, err := r.Filter.where()
	if err != nil {
		return nil, err
	}
	return newestFirst(patternColumns, "patterns", "created_us", 2, w, s.patternFrom).page(ctx, q, &r.Paging)
}

// DeletePattern deletes the pattern and its embeddings. Errors: ErrNotFound.
func (s *Store) DeletePattern(ctx context.Context, id ID) (err error) {
	ctx, end := s.trace(ctx, "DeletePattern")
	defer func() { end(err) }()
	return s.delete(ctx, onePattern, ItemPattern, id)
}

const (
	patternColumns   = `seq, id, created_us, payload, rev, iif(scope, (SELECT n || char(10) || text FROM scopes WHERE n = scope), '')`
	sqlUpsertPattern = `INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload, rev) VALUES(?,?,?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, domain = excluded.domain, success_rate = excluded.success_rate, created_us = excluded.created_us, payload = excluded.payload, rev = excluded.rev`
	sqlReplacePattern  = `UPDATE patterns SET kind = ?2, domain = ?3, success_rate = ?4, created_us = ?5, payload = ?6, rev = ?7 WHERE id = ?1 AND rev = ?8`
	sqlPatternRevision = `SELECT rev FROM patterns WHERE id = ?`
	sqlGetPattern      = `SELECT ` + patternColumns + ` FROM patterns WHERE id = ?`
)

// storedPattern is a Pattern as payloads hold it, without what has a column of its
// own. The names in it must stay.
type storedPattern struct {
	plainPattern
	ToolSequence  *storedToolSequence  `json:"tool_sequence,omitempty"`
	DecisionPoint *storedDecisionPoint `json:"decision_point,omitempty"`
}

type plainPattern Pattern

type storedToolSequence struct {
	Tools       []string      `json:"tools"`
	MeanLatency time.Duration `json:"mean_latency_ns,omitempty"`
}

type storedDecisionPoint struct {
	Condition   string        `json:"condition"`
	Action      string        `json:"action"`
	Successes   int           `json:"successes,omitempty"`
	Failures    int           `json:"failures,omitempty"`
	MeanLatency time.Duration `json:"mean_latency_ns,omitempty"`
}

// putPattern stores a pattern.
type putPattern struct {
	Pattern *Pattern
	Rev     int64
	Base    int64 // the revision that it replaces; 0: whatever there is

	Read *read[Pattern] // as of putEpisode
}

func (o *putPattern) encode(_ context.Context, s *Store) (*encoded, error) {
	w, err := o.write(s)
	if err != nil {
		return nil, err
	}
	return w.over(o.Base), nil
}

// write is its row in the database of a Store.
func (o *putPattern) write(s *Store) (w itemWrite, err error) {
	p := o.Pattern
	stored := storedPattern{plainPattern(*p), (*storedToolSequence)(p.ToolSequence), (*storedDecisionPoint)(p.DecisionPoint)}
	stored.ID, stored.Created, stored.Scope = ID{}, time.Time{}, Scope{}
	stored.Updated = truncateMicros(p.Updated)
	stored.Context.Tags = unique(p.Context.Tags)
	frame, err := encodePayload(s.payloads, payload.Patterns, boundItem(p.ID, micros(p.Created)), "pattern", &stored)
	if err != nil {
		return w, err
	}
	w = itemWrite{upsert: sqlUpsertPattern, replace: sqlReplacePattern, look: sqlPatternRevision, rev: o.Rev, scope: p.Scope}
	w.words, w.created = s.wording.patternStmt(p, w.rev), micros(p.Created)
	w.columns = []any{p.ID.bytes(), string(p.Kind()), p.Context.Domain, p.SuccessRate, micros(p.Created), frame, w.rev}
	return w, nil
}

// patternFrom reads a row of patternColumns.
func (s *Store) patternFrom(ctx context.Context, row []any) (*Pattern, int, error) {
	var stored storedPattern
	in, err := s.itemFrom(ctx, ItemPattern, row, &stored)
	if err != nil {
		return nil, 0, err
	}
	p := Pattern(stored.plainPattern)
	p.ToolSequence, p.DecisionPoint = (*ToolSequence)(stored.ToolSequence), (*DecisionPoint)(stored.DecisionPoint)
	p.ID, p.Created, p.Revision, p.Scope = in.id, time.UnixMicro(in.created).UTC(), in.rev, in.scope
	return &p, in.size, nil
}
