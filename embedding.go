package episodic

import (
	"context"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Embedding is a vector that a model made of an item. An item may have one
// embedding of each model; all vectors of a model have the same dimension.
type Embedding struct {
	Kind   ItemKind  `json:"kind"`
	Item   ID        `json:"item"`   // which must be stored
	Model  string    `json:"model"`  // required; vectors of different models are never compared
	Vector []float32 `json:"vector"` // at least one number, all finite; not normalised, but rounded as Compression.Embeddings says
}

// ItemKind says what an embedding was made of.
type ItemKind string

// The kinds of items that can have embeddings.
const (
	ItemEpisode   ItemKind = "episode"
	ItemPattern   ItemKind = "pattern"
	ItemHeuristic ItemKind = "heuristic"
)

// maxDimension bounds a vector; a row of more would exceed what servers take.
const maxDimension = 1_000_000

func (c *check) itemKind(kind ItemKind) {
	c.oneOf("kind", string(kind), ItemEpisode, ItemPattern, ItemHeuristic)
}

func (e *Embedding) validate() error {
	c := &check{}
	c.itemKind(e.Kind)
	if e.Item.IsZero() {
		c.fail("item", "is missing")
	}
	c.name("model", e.Model)
	if e.Model == "" {
		c.fail("model", "is empty; name the model that made the vector")
	}
	if n := len(e.Vector); n == 0 || n > maxDimension {
		c.fail("vector", "has %d numbers; 1 to %d can be stored", n, maxDimension)
	}
	for i, f := range e.Vector {
		if f != f || f-f != 0 {
			c.fail(fmt.Sprintf("vector[%d]", i), "is %v; only finite numbers can be stored", f)
			break
		}
	}
	return c.err
}

// PutEmbedding stores a vector: it creates it, or replaces the one of the same
// item and model. Errors: ErrInvalid; ErrNotFound if the item is not stored;
// ErrConflict if other vectors of the model have another dimension.
func (s *Store) PutEmbedding(ctx context.Context, e *Embedding) error {
	attempt := fmt.Sprintf("put embedding of %s %v by %s", e.Kind, e.Item, e.Model)
	if err := e.validate(); err != nil {
		return fmt.Errorf("put embedding: %w", err)
	}
	r, err := s.engine.Repeatable(ctx, e.stmts(s.vectors)...)
	if err != nil {
		return failed(err, "%s", attempt)
	}
	if r[1].Affected == 1 {
		return nil
	}
	in := reader{row: r[0].Rows[0]}
	exists, dim := in.int(0) == 1, in.int(1)
	switch {
	case in.err != nil:
		return failed(in.err, "%s", attempt)
	case !exists:
		return failed(fmt.Errorf("%w: there is no such %s", ErrNotFound, e.Kind), "%s", attempt)
	default:
		return failed(fmt.Errorf("%w: vectors of this model have %d dimensions here, this one has %d", ErrConflict, dim, len(e.Vector)), "%s", attempt)
	}
}

// Embedding returns the vector that a model made of an item. Errors: ErrInvalid;
// ErrNotFound.
func (s *Store) Embedding(ctx context.Context, kind ItemKind, item ID, model string) (*Embedding, error) {
	c := &check{}
	if c.name("model", model); c.err != nil {
		return nil, failed(c.err, "get embedding")
	}
	list, err := s.embeddings(ctx, kind, item, "AND model = ?", model)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, failed(err, "get embedding of %s %v by %s", kind, item, model)
	}
	return list[0], nil
}

// Embeddings returns the vectors of an item, sorted by model. Errors: ErrInvalid.
func (s *Store) Embeddings(ctx context.Context, kind ItemKind, item ID) ([]*Embedding, error) {
	list, err := s.embeddings(ctx, kind, item, "")
	return list, failed(err, "list embeddings of %s %v", kind, item)
}

func (s *Store) embeddings(ctx context.Context, kind ItemKind, item ID, and string, args ...any) ([]*Embedding, error) {
	c := &check{}
	if c.itemKind(kind); c.err != nil {
		return nil, c.err
	}
	r, err := s.engine.Query(ctx, engine.Stmt{
		SQL:  `SELECT model, dim, vector FROM embeddings WHERE kind = ? AND item = ? ` + and + ` ORDER BY model`,
		Args: append([]any{string(kind), item.bytes()}, args...),
	})
	if err != nil {
		return nil, err
	}
	var list []*Embedding
	for _, row := range r[0].Rows {
		e := &Embedding{Kind: kind, Item: item}
		in := reader{row: row}
		dim, blob := in.int(1), column[[]byte](&in, 2)
		e.Model = in.text(0)
		if in.err == nil {
			e.Vector, in.err = vectorFrom(blob, dim)
		}
		if in.err != nil {
			return nil, fmt.Errorf("embedding by %s: %w: %w", e.Model, ErrCorrupt, in.err)
		}
		list = append(list, e)
	}
	return list, nil
}

// DeleteEmbedding deletes the vector that a model made of an item. Errors:
// ErrInvalid; ErrNotFound.
func (s *Store) DeleteEmbedding(ctx context.Context, kind ItemKind, item ID, model string) error {
	c := &check{}
	c.itemKind(kind)
	if c.name("model", model); c.err != nil {
		return failed(c.err, "delete embedding")
	}
	r, err := s.engine.Batch(ctx, engine.Stmt{SQL: sqlDeleteEmbedding, Args: []any{string(kind), item.bytes(), model}})
	if err == nil && r[0].Affected == 0 {
		err = ErrNotFound
	}
	return failed(err, "delete embedding of %s %v by %s", kind, item, model)
}
