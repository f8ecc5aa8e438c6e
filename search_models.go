package episodic

import (
	"cmp"
	"context"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// SearchModel is an embedding model of which a database holds vectors for searches. See
// Options.Embedder.
type SearchModel struct {
	Name string `json:"name"`
	Dim  int    `json:"dim"`
	// Used says that programs are to use it; see UseSearchModel.
	Used bool `json:"used"`
	// Embedded are documents with a vector by it: tasks of episodes, and steps. Refused are those
	// that it did not take, and Waiting the others.
	Embedded int64 `json:"embedded"`
	Refused  int64 `json:"refused"`
	Waiting  int64 `json:"waiting"`
	Bytes    int64 `json:"bytes"` // of the vectors
}

// SearchModels returns the models that this database knows, sorted by name, with how much
// each has been applied to, whatever the Store's scope. All vectors are read through to count
// them. On a server there are none.
func (s *Store) SearchModels(ctx context.Context) (_ []SearchModel, err error) {
	ctx, end := s.trace(ctx, "SearchModels")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "list search models")
	}
	models, err := s.searchModels(ctx)
	return models, failed(err, "list search models")
}

func (s *Store) searchModels(ctx context.Context) ([]SearchModel, error) {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlModels}, engine.Stmt{SQL: sqlCountDocuments})
	if err != nil {
		return nil, err
	}
	all := engine.Row{Values: r[1].Rows[0]}
	var models []SearchModel
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		m := SearchModel{Name: in.Text(0), Dim: int(in.Int(1)), Used: in.Int(2) != 0, Refused: in.Int(5), Bytes: in.Int(4)}
		m.Embedded = in.Int(3) - m.Refused
		m.Waiting = all.Int(0) - in.Int(3)
		if in.Err != nil || all.Err != nil {
			return nil, fmt.Errorf("models: %w: %w", ErrCorrupt, cmp.Or(in.Err, all.Err))
		}
		models = append(models, m)
	}
	return models, nil
}

// UseSearchModel notes which model the programs of this database are to use for searches: that
// of Options.Embedder, or one that SearchModels returns; the empty name means none. It is a note
// for programs such as the command line: a Store uses its Options.Embedder. Errors: ErrInvalid on a
// server, or if the name is too long; ErrNotFound for a model that is not known.
func (s *Store) UseSearchModel(ctx context.Context, name string) (err error) {
	ctx, end := s.trace(ctx, "UseSearchModel")
	defer func() { end(err) }()
	if err := s.checkModelName(ctx, name); err != nil {
		return failed(err, "use search model")
	}
	var stmts []engine.Stmt
	if e := s.embedder; e != nil && e.model.Name() == name {
		stmts = append(stmts, engine.Stmt{SQL: sqlAddModel, Args: []any{name, int64(e.model.Dim())}})
	}
	stmts = append(stmts, engine.Stmt{SQL: sqlUseModel, Args: []any{name, name}}, engine.Stmt{SQL: sqlModelNamed, Args: []any{name}})
	if name != "" {
		// Nothing is changed for a model that is not known.
		stmts[len(stmts)-2].SQL += ` AND EXISTS (SELECT 1 FROM models WHERE name = ?)`
		stmts[len(stmts)-2].Args = []any{name, name, name}
	}
	r, err := s.engine.Repeatable(ctx, stmts...)
	if err != nil {
		return failed(err, "use search model %q", name)
	}
	if n, err := intFrom(r[len(r)-1].Rows[0][0]); err != nil || n == 0 && name != "" {
		return failed(cmp.Or(err, ErrNotFound), "use search model %q", name)
	}
	return nil
}

// UsedSearchModel returns the name and the dimension of the model that programs are to use, as
// UseSearchModel noted; empty if there is none. Unlike SearchModels it counts nothing.
func (s *Store) UsedSearchModel(ctx context.Context) (name string, dim int, err error) {
	ctx, end := s.trace(ctx, "UsedSearchModel")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return "", 0, failed(err, "get search model")
	}
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlUsedModel})
	if err != nil || len(r[0].Rows) == 0 {
		return "", 0, failed(err, "get search model")
	}
	in := engine.Row{Values: r[0].Rows[0]}
	name, dim = in.Text(0), int(in.Int(1))
	return name, dim, failed(in.Err, "get search model")
}

func (s *Store) checkModelName(ctx context.Context, name string) error {
	if err := s.check(ctx, true, ""); err != nil {
		return err
	}
	if s.server != nil {
		return invalid("target", "is a server, whose searches use no embedding model, because there is no index of steps there")
	}
	c := &check{}
	c.name("name", name)
	return c.err
}

// vectorsAtOnce is how many vectors are deleted in one transaction.
const vectorsAtOnce = 2000

// DropSearchModel deletes all vectors that searches have of a model, and forgets it; a Store
// that is open with it as Options.Embedder makes them anew. It can be interrupted, and goes on when it
// is called again. Errors: ErrNotFound for a model that is not known; ErrInvalid on a server;
// Retryable if another program stores vectors of it at this moment.
func (s *Store) DropSearchModel(ctx context.Context, name string) (err error) {
	ctx, end := s.trace(ctx, "DropSearchModel")
	defer func() { end(err) }()
	if err := s.checkModelName(ctx, name); err != nil {
		return failed(err, "drop search model")
	}
	return failed(s.dropSearchModel(ctx, name, vectorsAtOnce), "drop search model %q", name)
}

func (s *Store) dropSearchModel(ctx context.Context, name string, atOnce int64) error {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlModel, Args: []any{name}})
	if err != nil {
		return err
	}
	if len(r[0].Rows) == 0 {
		return ErrNotFound
	}
	in := engine.Row{Values: r[0].Rows[0]}
	id := in.Int(0)
	if in.Err != nil {
		return in.Err
	}
	for left := true; left; {
		r, err := s.engine.Repeatable(ctx,
			engine.Stmt{SQL: sqlModelUndone, Args: []any{id}},
			engine.Stmt{SQL: sqlDropVectors, Args: []any{id, atOnce}},
			engine.Stmt{SQL: sqlDropModel, Args: []any{id, name}})
		if err != nil {
			return err
		}
		left = r[2].Affected == 0 && r[1].Affected > 0
	}
	return nil
}
