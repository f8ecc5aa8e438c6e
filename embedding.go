package episodic

import (
	"context"
	"fmt"
	"iter"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/vector"
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

func (c *check) itemKind(kind ItemKind) {
	c.oneOf("kind", string(kind), ItemEpisode, ItemPattern, ItemHeuristic)
}

func (e *Embedding) validate() error {
	c := &check{}
	c.itemKind(e.Kind)
	if e.Item.IsZero() {
		c.fail("item", "is missing")
	}
	c.model(e.Model)
	c.vector(e.Vector)
	return c.err
}

func (c *check) model(name string) {
	c.name("model", name)
	if name == "" {
		c.fail("model", "is empty; name the model that made the vector")
	}
}

func (c *check) vector(v []float32) {
	if n := len(v); n == 0 || n > vector.MaxDimension {
		c.fail("vector", "has %d numbers; 1 to %d can be stored", n, vector.MaxDimension)
	}
	for i, f := range v {
		if f-f != 0 {
			c.fail(fmt.Sprintf("vector[%d]", i), "is %v; only finite numbers can be stored", f)
			break
		}
	}
}

// PutEmbedding stores a vector: it creates it, or replaces the one of the same
// item and model. Errors: ErrInvalid; ErrNotFound if the item is not stored;
// ErrConflict if other vectors of the model have another dimension.
func (s *Store) PutEmbedding(ctx context.Context, e *Embedding) (err error) {
	ctx, end := s.trace(ctx, "PutEmbedding")
	defer func() { end(err) }()
	if err := s.check(ctx, e != nil, "embedding"); err != nil {
		return fmt.Errorf("put embedding: %w", err)
	}
	err = e.validate()
	if err == nil {
		err = s.redactor.keep("model", e.Model)
	}
	if err != nil {
		return fmt.Errorf("put embedding: %w", err)
	}
	defer func() { s.wrote(err, e.Item) }()
	return failed(s.carryOut(ctx, &putEmbedding{e}), "put embedding of %s %v by %s", e.Kind, e.Item, e.Model)
}

// putEmbedding stores a vector.
type putEmbedding struct{ Embedding *Embedding }

func (o *putEmbedding) encode(_ context.Context, s *Store) (*encoded, error) {
	return &encoded{stmts: s.scope.guard(o.Embedding.stmts(s.vectors)...), told: o.told}, nil
}

func (o *putEmbedding) told(_ context.Context, r []engine.Result, err error) error {
	if err != nil || r[1].Affected == 1 {
		return err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	exists, dim := in.Int(0) == 1, in.Int(1)
	switch {
	case in.Err != nil:
		return in.Err
	case !exists:
		return fmt.Errorf("%w: there is no such %s", ErrNotFound, o.Embedding.Kind)
	}
	return fmt.Errorf("%w: vectors of this model have %d dimensions here, this one has %d", ErrConflict, dim, len(o.Embedding.Vector))
}

// Embedding returns the vector that a model made of an item. Errors: ErrInvalid;
// ErrNotFound.
func (s *Store) Embedding(ctx context.Context, kind ItemKind, item ID, model string) (_ *Embedding, err error) {
	ctx, end := s.trace(ctx, "Embedding")
	defer func() { end(err) }()
	c := &check{}
	if c.model(model); c.err != nil {
		return nil, failed(c.err, "get embedding")
	}
	e, err := readOne(ctx, s, readsPage(item, nil), func(ctx context.Context, s *Store) (*Embedding, error) {
		page, err := s.listEmbeddings(ctx, kind, item, model, &Paging{Limit: 1})
		if err != nil {
			return nil, err
		}
		switch {
		case len(page.Damaged) > 0:
			return nil, page.Damaged[0]
		case len(page.Items) == 0:
			return nil, ErrNotFound
		}
		return page.Items[0], nil
	})
	return e, failed(err, "get embedding of %s %v by %s", kind, item, model)
}

// ListEmbeddings returns a page of the vectors of an item, sorted by model. Errors:
// ErrInvalid.
func (s *Store) ListEmbeddings(ctx context.Context, kind ItemKind, item ID, p *Paging) (_ *Page[*Embedding], err error) {
	ctx, end := s.trace(ctx, "ListEmbeddings")
	defer func() { end(err) }()
	var page *Page[*Embedding]
	if ctx, s, err = s.on(ctx, readsPage(item, p)); err == nil {
		page, err = s.listEmbeddings(ctx, kind, item, "", p)
	}
	return page, failed(err, "list embeddings of %s %v", kind, item)
}

// Embeddings returns all vectors of an item, sorted by model. It reads them page by
// page; see Episodes for errors.
func (s *Store) Embeddings(ctx context.Context, kind ItemKind, item ID) iter.Seq2[*Embedding, error] {
	return iterate(ctx, func(ctx context.Context, p *Paging) (*Page[*Embedding], error) {
		return s.ListEmbeddings(ctx, kind, item, p)
	})
}

// listEmbeddings lists those of a model, or of all models if it is empty.
func (s *Store) listEmbeddings(ctx context.Context, kind ItemKind, item ID, model string, p *Paging) (*Page[*Embedding], error) {
	if err := s.check(ctx, true, ""); err != nil {
		return nil, err
	}
	c := &check{}
	if c.itemKind(kind); c.err != nil {
		return nil, c.err
	}
	var w where
	w.and("kind = ? AND item = ?", string(kind), item.bytes())
	w.andText("model = ?", model)
	if cond, args := s.scope.condition("scope"); cond != "" {
		w.and("EXISTS (SELECT 1 FROM "+string(kind)+"s WHERE id = embeddings.item AND "+cond+")", args...)
	}
	l := &listing[*Embedding]{columns: "dim, vector, model", from: "embeddings", where: w, keys: []string{"model"}, at: []int{2}, kinds: "t"}
	l.row = func(ctx context.Context, row []any) (*Embedding, int, error) {
		in := engine.Row{Values: row}
		dim, blob := in.Int(0), in.Blob(1)
		e := &Embedding{Kind: kind, Item: item, Model: in.Text(2)}
		if in.Err == nil {
			e.Vector, in.Err = vector.Decode(blob, dim)
		}
		if in.Err != nil {
			return nil, 0, s.damaged(ctx, "embedding", item, fmt.Errorf("%w: by %s: %w", ErrCorrupt, e.Model, in.Err))
		}
		return e, 4 * len(e.Vector), nil
	}
	return marked(s, p, func(p *Paging) (*Page[*Embedding], error) { return l.page(ctx, s.engine, p) })
}

// DeleteEmbedding deletes the vector that a model made of an item. Errors:
// ErrInvalid; ErrNotFound.
func (s *Store) DeleteEmbedding(ctx context.Context, kind ItemKind, item ID, model string) (err error) {
	ctx, end := s.trace(ctx, "DeleteEmbedding")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "delete embedding")
	}
	c := &check{}
	c.itemKind(kind)
	if c.name("model", model); c.err != nil {
		return failed(c.err, "delete embedding")
	}
	defer func() { s.wrote(err, item) }()
	err = s.carryOut(ctx, &deleteEmbedding{kind, item, model})
	return failed(err, "delete embedding of %s %v by %s", kind, item, model)
}

// deleteEmbedding deletes a vector, which must be stored.
type deleteEmbedding struct {
	Kind  ItemKind
	Item  ID
	Model string
}

func (o *deleteEmbedding) encode(_ context.Context, s *Store) (*encoded, error) {
	w := where{sql: sqlDeleteEmbedding, args: []any{string(o.Kind), o.Item.bytes(), o.Model}}
	if cond, args := s.scope.condition("scope"); cond != "" {
		w.and("EXISTS (SELECT 1 FROM "+string(o.Kind)+"s WHERE id = embeddings.item AND "+cond+")", args...)
	}
	return &encoded{stmts: []engine.Stmt{{SQL: w.sql, Args: w.args}}, once: true, told: deleted}, nil
}

// One row of a model, other than the item's own, tells the dimension of all,
// because every row was let in by the same condition.
const (
	modelDim           = `(SELECT dim FROM embeddings WHERE model = ? AND NOT (kind = ? AND item = ?) LIMIT 1)`
	sqlDeleteEmbedding = `DELETE FROM embeddings WHERE kind = ? AND item = ? AND model = ?`
)

// stmts returns a look at what could refuse the vector, and the conditional
// write itself, in a format.
func (e *Embedding) stmts(f VectorFormat) []engine.Stmt {
	itemExists := `EXISTS (SELECT 1 FROM ` + string(e.Kind) + `s WHERE id = ?)` // validate knows the kind
	dim := int64(len(e.Vector))
	return []engine.Stmt{
		{SQL: `SELECT ` + itemExists + `, coalesce(` + modelDim + `, 0)`, Args: []any{e.Item.bytes(), e.Model, string(e.Kind), e.Item.bytes()}},
		{
			SQL: `INSERT INTO embeddings(kind, item, model, dim, vector) SELECT ?, ?, ?, ?, ? WHERE ` + itemExists +
				` AND coalesce(` + modelDim + `, ?) = ? ON CONFLICT(kind, item, model) DO UPDATE SET dim = excluded.dim, vector = excluded.vector`,
			Args: []any{string(e.Kind), e.Item.bytes(), e.Model, dim, vector.Encode(e.Vector, vector.Format(f)), e.Item.bytes(), e.Model, string(e.Kind), e.Item.bytes(), dim, dim},
		},
	}
}
