package episodic

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	heuristicColumns   = `seq, id, created_us, payload, rev, iif(scope, (SELECT text FROM scopes WHERE n = scope), '')`
	sqlUpsertHeuristic = `INSERT INTO heuristics(id, confidence, created_us, payload, rev) VALUES(?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET confidence = excluded.confidence, created_us = excluded.created_us, payload = excluded.payload, rev = excluded.rev`
	sqlReplaceHeuristic  = `UPDATE heuristics SET confidence = ?2, created_us = ?3, payload = ?4, rev = ?5 WHERE id = ?1 AND rev = ?6`
	sqlHeuristicRevision = `SELECT rev FROM heuristics WHERE id = ?`
	sqlGetHeuristic      = `SELECT ` + heuristicColumns + ` FROM heuristics WHERE id = ?`
	sqlDeleteHeuristic   = `DELETE FROM heuristics WHERE id = ?`
)

// storedHeuristic is a Heuristic without what has a column of its own.
type storedHeuristic Heuristic

// heuristicWrite is h in the form of its row.
func (s *Store) heuristicWrite(h *Heuristic) (w itemWrite, err error) {
	stored := storedHeuristic(*h)
	stored.ID, stored.Created, stored.Scope = ID{}, time.Time{}, Scope{}
	stored.Updated = truncateMicros(h.Updated)
	encoded, err := encodePayload(s.payloads, payload.Patterns, "heuristic", &stored)
	w = itemWrite{upsert: sqlUpsertHeuristic, replace: sqlReplaceHeuristic, look: sqlHeuristicRevision, rev: newRevision(), scope: h.Scope}
	w.columns = []any{h.ID.bytes(), h.Confidence, micros(h.Created), encoded, w.rev}
	return w, err
}

// heuristicFrom reads a row of heuristicColumns.
func (s *Store) heuristicFrom(ctx context.Context, row []any) (*Heuristic, int, error) {
	var h storedHeuristic
	in, err := s.itemFrom(ctx, row, &h)
	if err != nil {
		return nil, 0, fmt.Errorf("heuristic %w", err)
	}
	h.ID, h.Created, h.Revision, h.Scope = in.id, time.UnixMicro(in.created).UTC(), in.rev, in.scope
	return (*Heuristic)(&h), in.size, nil
}
