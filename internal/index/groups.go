package index

import (
	"context"
	"maps"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/rank"
)

// sqlUnitGroups are those of units: all documents of a unit are of one.
const sqlUnitGroups = `SELECT DISTINCT place >> 24 FROM index_units`

// Groups returns, in order, the groups of all documents that the index holds words of, also
// of those that were deleted since the last merge. Errors: ErrDamaged.
func Groups(ctx context.Context, e engine.Engine) ([]int64, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlUnitGroups}, engine.Stmt{SQL: sqlSegments})
	if err != nil {
		return nil, err
	}
	groups := make(map[int64]bool)
	var in engine.Row
	for _, in.Values = range r[0].Rows {
		groups[in.Int(0)] = true
	}
	for _, in.Values = range r[1].Rows {
		docs, err := readDocs(ctx, e, in.Int(1))
		if err != nil {
			return nil, err
		}
		if docs == nil {
			continue // merged meanwhile
		}
		for _, place := range docs.places {
			groups[place>>rank.NumberBits] = true
		}
	}
	return slices.Sorted(maps.Keys(groups)), in.Err
}
