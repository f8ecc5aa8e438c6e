package episodic

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	patternColumns   = `seq, id, created_us, payload`
	sqlUpsertPattern = `INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload) VALUES(?,?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, domain = excluded.domain, success_rate = excluded.success_rate,
 created_us = excluded.created_us, payload = excluded.payload`
	sqlGetPattern    = `SELECT ` + patternColumns + ` FROM patterns WHERE id = ?`
	sqlDeletePattern = `DELETE FROM patterns WHERE id = ?`
)

// storedPattern is a Pattern without what has a column of its own.
type storedPattern Pattern

func (s *Store) patternUpsert(p *Pattern) (engine.Stmt, error) {
	if err := p.prepare(time.Now()); err != nil {
		return engine.Stmt{}, err
	}
	stored := storedPattern(*p)
	stored.ID, stored.Created = ID{}, time.Time{}
	stored.Updated = whole(p.Updated)
	stored.Context.Tags = unique(p.Context.Tags)
	encoded, err := encodePayload(s.payloads, payload.Patterns, "pattern", &stored)
	return engine.Stmt{SQL: sqlUpsertPattern, Args: []any{
		p.ID.bytes(), string(p.Kind()), p.Context.Domain, p.SuccessRate, micros(p.Created), encoded,
	}}, err
}

// patternFrom reads a row of patternColumns.
func (s *Store) patternFrom(ctx context.Context, row []any) (*Pattern, cursor, error) {
	var p storedPattern
	id, at, err := s.itemFrom(ctx, row, &p)
	if err != nil {
		return nil, at, fmt.Errorf("pattern %w", err)
	}
	p.ID, p.Created = id, time.UnixMicro(at.us).UTC()
	return (*Pattern)(&p), at, nil
}
