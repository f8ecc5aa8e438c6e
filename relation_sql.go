package episodic

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	sqlRelations = `SELECT a.id, type, b.id, created_us, relations.payload
 FROM relations JOIN episodes a ON a.seq = src JOIN episodes b ON b.seq = dst WHERE 1`
	sqlDeleteRelation = `DELETE FROM relations WHERE src = ` + bySeq + ` AND dst = ` + bySeq + ` AND type = ?`
	sqlRelationEnds   = `SELECT EXISTS (SELECT 1 FROM episodes WHERE id = ?), EXISTS (SELECT 1 FROM episodes WHERE id = ?)`

	sqlUpsertRelation = `INSERT INTO relations(src, dst, type, created_us, payload)
 SELECT a.seq, b.seq, ?, ?, ? FROM episodes a, episodes b WHERE a.id = ? AND b.id = ?`
	// Everything that the target leads to must not be the source.
	noCycle = ` AND a.seq NOT IN (WITH RECURSIVE reach(seq) AS (
 SELECT ` + bySeq + ` UNION SELECT dst FROM relations JOIN reach ON src = reach.seq AND type = ?) SELECT seq FROM reach)`
	relationExists = ` ON CONFLICT(src, type, dst) DO UPDATE SET created_us = excluded.created_us, payload = excluded.payload`
)

// storedRelation is what of a Relation is not in columns of its own.
type storedRelation struct {
	Reason   string            `json:"reason,omitempty"`
	Priority int               `json:"priority,omitempty"`
	By       string            `json:"by,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// relationUpsert returns a look at what could refuse the relation, and the
// conditional write itself.
func (s *Store) relationUpsert(r *Relation) ([]engine.Stmt, error) {
	if err := r.prepare(time.Now()); err != nil {
		return nil, err
	}
	encoded, err := encodePayload(s.payloads, payload.Patterns, "relation", &storedRelation{r.Reason, r.Priority, r.By, r.Metadata})
	if err != nil {
		return nil, err
	}
	put := engine.Stmt{SQL: sqlUpsertRelation, Args: []any{string(r.Type), micros(r.Created), encoded, r.From.bytes(), r.To.bytes()}}
	if r.Type.acyclic() {
		put.SQL += noCycle
		put.Args = append(put.Args, r.To.bytes(), string(r.Type))
	}
	put.SQL += relationExists
	return []engine.Stmt{{SQL: sqlRelationEnds, Args: []any{r.From.bytes(), r.To.bytes()}}, put}, nil
}

// relationFrom reads a row of sqlRelations.
func (s *Store) relationFrom(ctx context.Context, row []any) (*Relation, error) {
	from, err := idFrom(row[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	to, err := idFrom(row[2])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	in := reader{row: row}
	r := &Relation{From: from, Type: RelationType(in.text(1)), To: to, Created: time.UnixMicro(in.int(3)).UTC()}
	if in.err != nil {
		return nil, fmt.Errorf("%v: %w: %w", r, ErrCorrupt, in.err)
	}
	var stored storedRelation
	if err := s.payloads.Decode(ctx, row[4], &stored); err != nil {
		return nil, fmt.Errorf("%v: %w", r, err)
	}
	r.Reason, r.Priority, r.By, r.Metadata = stored.Reason, stored.Priority, stored.By, stored.Metadata
	return r, nil
}
