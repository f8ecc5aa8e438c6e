package episodic

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/redact"
)

// Redaction is an item in which RedactStored has found secrets.
type Redaction struct {
	// Kind is that of the item: episode, pattern or heuristic; relation, of which Item is
	// where it begins; conflict, of which Item is what it concerns.
	Kind  string            `json:"kind"`
	Item  ID                `json:"item"`
	Found map[string]uint64 `json:"found"` // secrets, by kind
	// Embeddings are vectors of the item that were made of its text, and are deleted.
	Embeddings int `json:"embeddings,omitempty"`
	// Scope says that the item's scope holds a secret too. That is not changed: an item keeps
	// its scope. Delete the item, or store it anew under another one.
	Scope bool `json:"scope,omitempty"`
}

// RedactStored redacts what is stored already within the Store's scope, and returns the items
// that it has changed; or only finds them, if look is set. Items are written as by PutEpisode
// and the like, so that watchers, replicas and the index follow, and keep what is written to
// them meanwhile. Their embeddings are deleted, since they were made of the secrets as well;
// those of the Store's Embedder are made anew. The keys of AppendStepsOnce of a running
// episode are forgotten. Redact.Allow counts, and Redact.Disabled does not. What was deleted
// or overwritten leaves the files with CompactSecurely. It ends with the first error, but for a
// *DamagedError: such an item is left as it is.
func (s *Store) RedactStored(ctx context.Context, look bool) iter.Seq2[Redaction, error] {
	return func(yield func(Redaction, error) bool) {
		ctx, end := s.trace(ctx, "RedactStored")
		run := &redactStored{s: s, look: look, yield: yield}
		err := run.all(ctx)
		if errors.Is(err, errEnough) {
			err = nil
		}
		end(err)
		if err != nil {
			yield(Redaction{}, failed(err, "redact"))
		}
	}
}

// errEnough says that the caller wants no more.
var errEnough = errors.New("enough")

// redactStored is a call of RedactStored.
type redactStored struct {
	s     *Store
	by    *redact.Redactor
	look  bool
	yield func(Redaction, error) bool
}

func (r *redactStored) all(ctx context.Context) error {
	if err := r.s.check(ctx, true, ""); err != nil {
		return err
	}
	r.by = new(redact.Redactor)
	if r.s.redactor != nil {
		r.by = r.s.redactor.by
	}
	quiet := *r.s
	quiet.tracer = nil // it is one call
	s := &quiet
	r.s = s
	ctx = WithFresh(ctx)
	if s.queue != nil && !r.look { // what is queued must be on the server to be found there
		if err := s.queue.flush(ctx); err != nil {
			return err
		}
	}
	for e, err := range s.Episodes(ctx, nil) {
		if err == nil {
			err = redactItem(ctx, r, ItemEpisode, e.ID, s.episode, func(c *cleaning, e *Episode) (Scope, operation) {
				c.episode(e)
				return e.Scope, &putEpisode{Episode: e, Rev: newRevision(), Base: e.Revision}
			})
		}
		if err = r.passDamaged(err); err == nil && e != nil {
			err = r.relations(ctx, e.ID)
		}
		if err != nil {
			return err
		}
	}
	for p, err := range s.Patterns(ctx, nil) {
		if err == nil {
			err = redactItem(ctx, r, ItemPattern, p.ID, s.pattern, func(c *cleaning, p *Pattern) (Scope, operation) {
				c.pattern(p)
				return p.Scope, &putPattern{Pattern: p, Rev: newRevision(), Base: p.Revision}
			})
		}
		if err := r.passDamaged(err); err != nil {
			return err
		}
	}
	for h, err := range s.Heuristics(ctx, nil) {
		if err == nil {
			err = redactItem(ctx, r, ItemHeuristic, h.ID, s.heuristic, func(c *cleaning, h *Heuristic) (Scope, operation) {
				c.heuristic(h)
				return h.Scope, &putHeuristic{Heuristic: h, Rev: newRevision(), Base: h.Revision}
			})
		}
		if err := r.passDamaged(err); err != nil {
			return err
		}
	}
	return r.conflicts(ctx)
}

// redactItem redacts an item, as often as others change it meanwhile.
func redactItem[T any](ctx context.Context, r *redactStored, kind ItemKind, id ID, read func(context.Context, ID) (*T, error), clean func(*cleaning, *T) (Scope, operation)) error {
	for range 10 {
		item, err := read(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("%s %v: %w", kind, id, err)
		}
		c := &cleaning{r.by.Pass()}
		scope, write := clean(c, item)
		inScope := (&redactor{by: r.by}).keepScope(scope) != nil
		if c.Found == nil && !inScope {
			return nil
		}
		done := Redaction{Kind: string(kind), Item: id, Found: c.counts(), Scope: inScope}
		if c.Found != nil && !r.look {
			err := r.s.carryOut(ctx, write)
			r.s.changed(err, nounOf[kind], id)
			if errors.Is(err, ErrConflict) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s %v: %w", kind, id, err)
			}
		}
		if c.Found != nil {
			if done.Embeddings, err = r.embeddings(ctx, kind, id); err != nil {
				return err
			}
		}
		return r.tell(done)
	}
	return fmt.Errorf("%s %v is changed all the time: %w", kind, id, ErrConflict)
}

// passDamaged tells the caller of a *DamagedError, and returns any other error.
func (r *redactStored) passDamaged(err error) error {
	if _, ok := errors.AsType[*DamagedError](err); !ok {
		return err
	}
	if !r.yield(Redaction{}, failed(err, "redact")) {
		return errEnough
	}
	return nil
}

func (r *redactStored) tell(done Redaction) error {
	if !r.yield(done, nil) {
		return errEnough
	}
	return nil
}

// embeddings deletes those of an item, and returns how many there are.
func (r *redactStored) embeddings(ctx context.Context, kind ItemKind, id ID) (n int, err error) {
	for e, err := range r.s.Embeddings(ctx, kind, id) {
		if err == nil && !r.look {
			if err = r.s.DeleteEmbedding(ctx, kind, id, e.Model); errors.Is(err, ErrNotFound) {
				continue
			}
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// relations redacts those that begin at an episode.
func (r *redactStored) relations(ctx context.Context, id ID) error {
	for rel, err := range r.s.Relations(ctx, id, &RelationFilter{Direction: Outgoing}) {
		if err := r.passDamaged(err); err != nil {
			return err
		}
		if err != nil {
			continue
		}
		c := &cleaning{r.by.Pass()}
		if c.relation(rel); c.Found == nil {
			continue
		}
		if !r.look {
			if err := r.s.carryOut(ctx, &putRelation{rel}); err != nil && !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("%v: %w", rel, err)
			}
			r.s.wrote(nil, rel.From, rel.To)
		}
		if err := r.tell(Redaction{Kind: "relation", Item: id, Found: c.counts()}); err != nil {
			return err
		}
	}
	return nil
}

const (
	sqlKeptPayload = `SELECT payload FROM conflicts WHERE n = ?`
	sqlKeepPayload = `UPDATE conflicts SET payload = ? WHERE n = ?`
	sqlKeptParts   = `SELECT part, payload FROM kept_steps WHERE conflict = ? ORDER BY part`
	sqlKeepPart    = `UPDATE kept_steps SET payload = ? WHERE conflict = ? AND part = ?`
)

// conflicts redacts what conflicts have kept.
func (r *redactStored) conflicts(ctx context.Context) error {
	for conflict, err := range r.s.Conflicts(ctx) {
		if err := r.passDamaged(err); err != nil {
			return err
		}
		if err != nil {
			continue
		}
		n := conflict.Number
		res, err := r.s.engine.Query(ctx, engine.Stmt{SQL: sqlKeptPayload, Args: []any{n}}, engine.Stmt{SQL: sqlKeptParts, Args: []any{n}})
		if err != nil {
			return err
		}
		c := &cleaning{r.by.Pass()}
		var stmts []engine.Stmt
		if len(res[0].Rows) == 0 {
			continue // restored meanwhile
		}
		frame, err := r.kept(ctx, c, res[0].Rows[0][0], boundConflict(conflict.Kind, conflict.ItemKind, conflict.Item))
		if err != nil {
			return fmt.Errorf("conflict %d: %w", n, err)
		}
		if c.Found != nil {
			stmts = append(stmts, engine.Stmt{SQL: sqlKeepPayload, Args: []any{frame, n}})
		}
		for _, row := range res[1].Rows {
			in := engine.Row{Values: row}
			part := boundPart(in.Int(0))
			var text json.RawMessage
			if err := cmp.Or(in.Err, r.s.payloads.Decode(ctx, row[1], part, &text)); err != nil {
				return fmt.Errorf("conflict %d: %w", n, err)
			}
			if now := c.JSON(string(text)); now != string(text) {
				stmts = append(stmts, engine.Stmt{SQL: sqlKeepPart, Args: []any{r.s.payloads.EncodeBuiltinJSON(part, []byte(now)), n, row[0]}})
			}
		}
		if c.Found == nil {
			continue
		}
		if !r.look {
			if _, err := r.s.engine.Repeatable(ctx, stmts...); err != nil {
				return err
			}
		}
		if err := r.tell(Redaction{Kind: "conflict", Item: conflict.Item, Found: c.counts()}); err != nil {
			return err
		}
	}
	return nil
}

// kept redacts what a conflict has kept besides steps, and encodes it again.
func (r *redactStored) kept(ctx context.Context, c *cleaning, column any, bound payload.Bound) ([]byte, error) {
	var text json.RawMessage
	if err := r.s.payloads.Decode(ctx, column, bound, &text); err != nil {
		return nil, err
	}
	var k kept
	if err := json.Unmarshal([]byte(c.JSON(string(text))), &k); err != nil {
		return nil, err
	}
	if k.Body != nil { // a write, as JSON
		k.Body = []byte(c.JSON(string(k.Body)))
	}
	return r.s.payloads.EncodeBuiltin(bound, &k)
}
