package episodic

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/vector"
)

// scan finds the nearest without holding vectors: a server compares them itself, and a
// file is read through.
func (s *vectorSets) scan(ctx context.Context, r *nearestRequest) ([]vector.Hit, error) {
	query := r.vector
	if query == nil {
		var err error
		if query, err = s.storedVector(ctx, r); err != nil {
			return nil, err
		}
	}
	if s.file == nil {
		return s.scanServer(ctx, r, query)
	}
	return s.scanFile(ctx, r, query)
}

// storedVector reads the vector of the request's item.
func (s *vectorSets) storedVector(ctx context.Context, r *nearestRequest) ([]float32, error) {
	item := newVectorSet(r.vectorKey)
	stmt := r.vectorsStmt(ID{}, where{sql: " AND e.item = ?", args: []any{r.item.bytes()}})
	stmt.Args = append(stmt.Args, int64(1))
	res, err := s.engine.Query(ctx, stmt)
	if err != nil {
		return nil, err
	}
	if len(res[0].Rows) == 0 {
		return nil, r.noVector()
	}
	if err := item.put(&engine.Row{Values: res[0].Rows[0]}, 0); err != nil {
		return nil, err
	}
	return item.queryVector(r)
}

// sqlServerScan lets a libSQL server compare. It computes in float32, in which the
// squares of numbers below 1e-19 are 0.
const sqlServerScan = `SELECT e.item, ifnull(1 - vector_distance_cos(vector32(e.vector), ?), 0.0) AS cosine FROM embeddings e
 WHERE e.kind = ? AND e.model = ?`

func (s *vectorSets) scanServer(ctx context.Context, r *nearestRequest, query []float32) ([]vector.Hit, error) {
	w := where{sql: sqlServerScan, args: []any{vector.Encode(query, vector.Float32), string(r.kind), r.model}}
	cond, args := r.eligible()
	w.and(cond, args...)
	w.args = append(w.args, int64(r.limit+1))
	res, err := s.engine.Query(ctx, engine.Stmt{SQL: w.sql + " ORDER BY cosine DESC, e.item LIMIT ?", Args: w.args})
	if err != nil {
		return nil, err
	}
	hits := make([]vector.Hit, len(res[0].Rows))
	for i, row := range res[0].Rows {
		id, err := idFrom(row[0])
		if err != nil {
			return nil, err
		}
		in := engine.Row{Values: row}
		hits[i] = vector.Hit{ID: vector.ID(id), Cosine: max(-1, min(1, in.Float(1)))}
		if in.Err != nil {
			return nil, in.Err
		}
	}
	return r.without(hits), nil
}

func (s *vectorSets) scanFile(ctx context.Context, r *nearestRequest, query []float32) ([]vector.Hit, error) {
	cond, args := r.eligible()
	filter := where{}
	filter.and(cond, args...)
	var best []vector.Hit
	var pages vectorReader
	last := ID{}
	for more := true; more; {
		var res []engine.Result
		var err error
		if res, more, err = pages.read(ctx, s.engine, r.vectorsStmt(last, filter)); err != nil {
			return nil, err
		}
		page := newVectorSet(r.vectorKey)
		for _, row := range res[0].Rows {
			if err := page.put(&engine.Row{Values: row}, 0); err != nil {
				return nil, err
			}
			last = ID(row[0].([]byte))
		}
		page.tellDamaged(r)
		if page.index == nil {
			continue
		}
		best = append(best, page.index.Search(query, r.limit+1, vector.Filter{})...)
		slices.SortFunc(best, func(a, b vector.Hit) int {
			return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), bytes.Compare(a.ID[:], b.ID[:]))
		})
		best = best[:min(len(best), r.limit+1)]
	}
	return r.without(best), nil
}

// eligible is the condition that the item of an embedding e exists, and is among those
// that the request is for.
func (r *nearestRequest) eligible() (cond string, args []any) {
	table := string(r.kind) + "s"
	w := r.where
	if w.sql == "" {
		r.scope.and(&w, table+".scope")
	}
	return "EXISTS (SELECT 1 FROM " + table + " WHERE id = e.item" + w.sql + ")", w.args
}
