package episodic

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	heuristicColumns   = `seq, id, created_us, payload`
	sqlUpsertHeuristic = `INSERT INTO heuristics(id, confidence, created_us, payload) VALUES(?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET confidence = excluded.confidence, created_us = excluded.created_us, payload = excluded.payload`
	sqlGetHeuristic    = `SELECT ` + heuristicColumns + ` FROM heuristics WHERE id = ?`
	sqlDeleteHeuristic = `DELETE FROM heuristics WHERE id = ?`
)

// storedHeuristic is a Heuristic without what has a column of its own.
type storedHeuristic Heuristic

func (s *Store) heuristicUpsert(h *Heuristic) (engine.Stmt, error) {
	if err := h.prepare(time.Now()); err != nil {
		return engine.Stmt{}, err
	}
	stored := storedHeuristic(*h)
	stored.ID, stored.Created = ID{}, time.Time{}
	stored.Updated = whole(h.Updated)
	encoded, err := encodePayload(s.payloads, payload.Patterns, "heuristic", &stored)
	return engine.Stmt{SQL: sqlUpsertHeuristic, Args: []any{h.ID.bytes(), h.Confidence, micros(h.Created), encoded}}, err
}

// heuristicFrom reads a row of heuristicColumns.
func (s *Store) heuristicFrom(ctx context.Context, row []any) (*Heuristic, cursor, error) {
	var h storedHeuristic
	id, at, err := s.itemFrom(ctx, row, &h)
	if err != nil {
		return nil, at, fmt.Errorf("heuristic %w", err)
	}
	h.ID, h.Created = id, time.UnixMicro(at.us).UTC()
	return (*Heuristic)(&h), at, nil
}
