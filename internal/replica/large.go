package replica

import (
	"context"

	"github.com/episodic-memory/episodic/internal/engine"
)

// sqlFetchLarge reads runs of an episode after a step, 4 MB at most, or one.
const sqlFetchLarge = `SELECT rev, id, first, count, key, payload FROM (
 SELECT e.rev, e.id, r.first, r.count, r.key, r.payload, length(r.payload) AS size, sum(length(r.payload)) OVER (ORDER BY r.place) AS upto
 FROM episodes e CROSS JOIN runs r ON r.place > (e.seq << 24) + ?2 AND r.place < ((e.seq + 1) << 24) WHERE e.id = ?1 ORDER BY r.place LIMIT 1000)
 WHERE upto <= 4000000 OR upto = size`

// fetchLarge is fetch for an episode that one answer cannot hold: its steps, of which there
// are 64 MiB at most, are read in parts. Errors: errMoved if it changes meanwhile.
func (r *Replica) fetchLarge(ctx context.Context, c choice) (*fetched, error) {
	heads := everything
	heads.steps = false
	p, err := r.fetch(ctx, c, nothing, heads)
	if err != nil {
		return nil, err
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
