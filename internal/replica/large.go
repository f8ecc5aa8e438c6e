package replica

import (
	"context"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// sqlFetchLarge reads runs of an episode after a step, 4 MB at most, or one.
const sqlFetchLarge = `SELECT rev, id, first, count, key, payload FROM (
 SELECT e.rev, e.id, r.first, r.count, r.key, r.payload, length(r.payload) AS size, sum(length(r.payload)) OVER (ORDER BY r.place) AS upto
 FROM episodes e CROSS JOIN runs r ON r.place > (e.seq << 24) + ?2 AND r.place < ((e.seq + 1) << 24) WHERE e.id = ?1 ORDER BY r.place LIMIT 1000)
 WHERE upto <= 4000000 OR upto = size`

// pageRows is how many rows are read at once at most where an answer cannot hold all.
const pageRows = 1000

// fetchLarge is fetch for a change that one answer cannot hold: the steps of an episode, of which
// there are 64 MiB at most, relations and embeddings are read in parts. Errors: errMoved if the
// episode changes meanwhile. Where relations or embeddings do, there is a later change.
func (r *Replica) fetchLarge(ctx context.Context, c choice) (*fetched, error) {
	small := everything
	small.large = false
	p, err := r.fetch(ctx, c, nothing, small)
	if err != nil {
		return nil, err
	}
	has := needs(p.changes, false).kinds
	for _, part := range []struct {
		kind feed.Kind
		stmt engine.Stmt
		into *[][]engine.Value
	}{{feed.Relations, r.relations(c), &p.relations}, {feed.Embeddings, r.embeddings(c), &p.embeddings}} {
		if !has[part.kind] {
			continue
		}
		part.stmt.SQL += " ORDER BY 1, 2, 3"
		if err := inPages(ctx, r.cfg.Server, part.stmt, func(rows [][]engine.Value) error {
			*part.into = append(*part.into, rows...)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	p.Runs = make(map[[16]byte][]Run)
	for i := range p.Heads {
		h := &p.Heads[i]
		if p.Runs[h.ID], err = r.fetchSteps(ctx, h); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// inPages takes the rows of a statement in parts that an answer can hold, in an order.
func inPages(ctx context.Context, e engine.Engine, st engine.Stmt, take func([][]engine.Value) error) error {
	st.SQL += " LIMIT ? OFFSET ?"
	for at, n := 0, pageRows; ; {
		res, err := e.Query(ctx, engine.Stmt{SQL: st.SQL, Args: slices.Concat(st.Args, []engine.Value{int64(n), int64(at)})})
		if engine.KindOf(err) == engine.KindTooLarge && n > 1 {
			n /= 2
			continue
		}
		if err == nil {
			err = take(res[0].Rows)
		}
		if err != nil || len(res[0].Rows) < n {
			return err
		}
		at += n
	}
}

func (r *Replica) fetchSteps(ctx context.Context, h *Head) (all []Run, err error) {
	for last := int64(0); last < h.Steps(); {
		var after int64
		if len(all) > 0 {
			after = all[len(all)-1].First
		}
		res, err := r.cfg.Server.Query(ctx, engine.Stmt{SQL: sqlFetchLarge, Args: []engine.Value{h.ID[:], after}})
		if err != nil {
			return nil, err
		}
		rows := res[0].Rows
		if len(rows) == 0 {
			return nil, errMoved
		}
		for i, row := range rows {
			if row[0] != h.Rev {
				return nil, errMoved
			}
			rows[i] = row[1:]
		}
		runs, err := runsFrom(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, runs[h.ID]...)
		last = all[len(all)-1].First + all[len(all)-1].Count - 1
	}
	return all, nil
}
