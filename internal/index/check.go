package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/rank"
)

const sqlUnitsAfter = `SELECT place, data FROM index_units WHERE place > ? ORDER BY place LIMIT 256`

// Check reads the whole index, and returns the groups that have documents in it. Nobody may
// merge it meanwhile. Errors: ErrDamaged.
func Check(ctx context.Context, e engine.Engine) (groups map[int64]bool, err error) {
	groups = make(map[int64]bool)
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlLevels}, engine.Stmt{SQL: sqlGone})
	if err != nil {
		return nil, err
	}
	gone, err := goneFrom(r[1].Rows)
	if err != nil {
		return nil, err
	}
	m := &merging{gone: gone}
	for _, row := range r[0].Rows {
		if err := m.addSegments(ctx, e, [][]any{row}); errors.Is(err, errMerged) {
			return nil, fmt.Errorf("%w: a segment is gone", ErrDamaged)
		} else if err != nil {
			return nil, err
		}
		if err := m.sources[0].check(groups); err != nil {
			return nil, fmt.Errorf("segment %v: %w", row[0], err)
		}
		m.sources = nil // each may be large
	}
	for last, more := int64(-1<<63), true; more; {
		r, err := e.Query(ctx, engine.Stmt{SQL: sqlUnitsAfter, Args: []any{last}})
		if err != nil {
			return nil, err
		}
		for _, row := range r[0].Rows {
			in := engine.Row{Values: row}
			place, data := in.Int(0), in.Blob(1)
			if in.Err != nil {
				return nil, fmt.Errorf("unit %v: %w", row[0], ErrDamaged)
			}
			docs, block, err := decodeUnit(data, place)
			if err == nil {
				s := &source{docs: docs, at: make([]int32, len(docs.places)), more: func() ([]byte, error) { return nil, nil }, block: blockReader{r: reader{data: block}}}
				err = s.check(groups)
			}
			if err != nil {
				return nil, fmt.Errorf("unit %d: %w", place, err)
			}
			last = place
		}
		more = len(r[0].Rows) > 0
	}
	return groups, nil
}

// check reads all postings, and adds the groups of documents that are there.
func (s *source) check(groups map[int64]bool) error {
	var postings []rank.Posting
	for {
		if err := s.next(); err != nil {
			return err
		}
		if !s.has {
			break
		}
		if postings = s.block.postings(postings[:0], len(s.docs.places)); s.block.r.err != nil {
			return s.block.r.err
		}
	}
	for i, place := range s.docs.places {
		if s.at[i] >= 0 {
			groups[place>>rank.NumberBits] = true
		}
	}
	return nil
}
