package episodic

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	patternColumns   = `seq, id, created_us, payload, rev, iif(scope, (SELECT text FROM scopes WHERE n = scope), '')`
	sqlUpsertPattern = `INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload, rev) VALUES(?,?,?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, domain = excluded.domain, success_rate = excluded.success_rate, created_us = excluded.created_us, payload = excluded.payload, rev = excluded.rev`
	sqlReplacePattern  = `UPDATE patterns SET kind = ?2, domain = ?3, success_rate = ?4, created_us = ?5, payload = ?6, rev = ?7 WHERE id = ?1 AND rev = ?8`
	sqlPatternRevision = `SELECT rev FROM patterns WHERE id = ?`
	sqlGetPattern      = `SELECT ` + patternColumns + ` FROM patterns WHERE id = ?`
	sqlDeletePattern   = `DELETE FROM patterns WHERE id = ?`
)

// storedPattern is a Pattern as payloads hold it, without what has a column of its
// own. The names in it must stay.
type storedPattern struct {
	plainPattern
	ToolSequence  *storedToolSequence  `json:"tool_sequence,omitempty"`
	DecisionPoint *storedDecisionPoint `json:"decision_point,omitempty"`
}

type plainPattern Pattern

type storedToolSequence struct {
	Tools       []string      `json:"tools"`
	MeanLatency time.Duration `json:"mean_latency_ns,omitempty"`
}

type storedDecisionPoint struct {
	Condition   string        `json:"condition"`
	Action      string        `json:"action"`
	Successes   int           `json:"successes,omitempty"`
	Failures    int           `json:"failures,omitempty"`
	MeanLatency time.Duration `json:"mean_latency_ns,omitempty"`
}

// patternWrite is p in the form of its row.
func (s *Store) patternWrite(p *Pattern) (w itemWrite, err error) {
	stored := storedPattern{plainPattern(*p), (*storedToolSequence)(p.ToolSequence), (*storedDecisionPoint)(p.DecisionPoint)}
	stored.ID, stored.Created, stored.Scope = ID{}, time.Time{}, Scope{}
	stored.Updated = truncateMicros(p.Updated)
	stored.Context.Tags = unique(p.Context.Tags)
	encoded, err := encodePayload(s.payloads, payload.Patterns, "pattern", &stored)
	w = itemWrite{upsert: sqlUpsertPattern, replace: sqlReplacePattern, look: sqlPatternRevision, rev: newRevision(), scope: p.Scope}
	w.columns = []any{p.ID.bytes(), string(p.Kind()), p.Context.Domain, p.SuccessRate, micros(p.Created), encoded, w.rev}
	return w, err
}

// patternFrom reads a row of patternColumns.
func (s *Store) patternFrom(ctx context.Context, row []any) (*Pattern, int, error) {
	var stored storedPattern
	in, err := s.itemFrom(ctx, row, &stored)
	if err != nil {
		return nil, 0, fmt.Errorf("pattern %w", err)
	}
	p := Pattern(stored.plainPattern)
	p.ToolSequence, p.DecisionPoint = (*ToolSequence)(stored.ToolSequence), (*DecisionPoint)(stored.DecisionPoint)
	p.ID, p.Created, p.Revision, p.Scope = in.id, time.UnixMicro(in.created).UTC(), in.rev, in.scope
	return &p, in.size, nil
}
