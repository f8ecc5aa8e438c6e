package episodic

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	relationColumns   = `a.id, type, b.id, relations.created_us, relations.payload`
	relationTables    = `relations JOIN episodes a ON a.seq = src JOIN episodes b ON b.seq = dst`
	sqlDeleteRelation = `DELETE FROM relations WHERE src = ` + bySeq + ` AND dst = ` + bySeq + ` AND type = ?`
	sqlRelationEnds   = `SELECT EXISTS (SELECT 1 FROM episodes WHERE id = ?), EXISTS (SELECT 1 FROM episodes WHERE id = ?)`

	sqlUpsertRelation = `INSERT INTO relations(src, dst, type, created_us, payload)
 SELECT a.seq, b.seq, ?1, ?2, ?3 FROM episodes a, episodes b WHERE a.id = ?4 AND b.id = ?5`
	relationExists = ` ON CONFLICT(src, type, dst) DO UPDATE SET created_us = excluded.created_us, payload = excluded.payload`
)

// noCycle is the condition that what the target leads to does not lead to the
// source. It costs what the shorter of the two ways reaches, about: from the source
// back, or from the target on, each tried as far as a bound before the next one.
var noCycle = func() string {
	const source, target = `(SELECT seq FROM episodes WHERE id = ?4)`, `(SELECT seq FROM episodes WHERE id = ?5)`
	// 1: the way leads to its end; 0: it ends elsewhere; NULL: it is longer than the bound.
	reaches := func(from, step, to, end string, bound int) string {
		return fmt.Sprintf(`(WITH RECURSIVE way(seq) AS (SELECT %s UNION SELECT %s FROM relations JOIN way ON %s = way.seq AND type = ?1 LIMIT %d)
 SELECT iif(max(seq = %s), 1, iif(count(*) < %[4]d, 0, NULL)) FROM way)`, from, step, to, bound, end)
	}
	var ways []string
	for _, bound := range []int{64, 4096, 1 << 40} {
		ways = append(ways, reaches(source, "src", "dst", target, bound), reaches(target, "dst", "src", source, bound))
	}
	return " AND coalesce(" + strings.Join(ways, ", ") + ") = 0"
}()

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
	encoded, err := encodePayload(s.payloads, payload.Patterns, "relation", &storedRelation{r.Reason, r.Priority, r.By, r.Metadata})
	if err != nil {
		return nil, err
	}
	put := engine.Stmt{SQL: sqlUpsertRelation, Args: []any{string(r.Type), micros(r.Created), encoded, r.From.bytes(), r.To.bytes()}}
	if r.Type.acyclic() {
		put.SQL += noCycle
	}
	put.SQL += relationExists
	return []engine.Stmt{{SQL: sqlRelationEnds, Args: []any{r.From.bytes(), r.To.bytes()}}, put}, nil
}

// relationFrom reads a row of relationColumns.
func (s *Store) relationFrom(ctx context.Context, row []any) (r *Relation, size int, err error) {
	from, err := idFrom(row[0])
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	to, err := idFrom(row[2])
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	in := reader{row: row}
	r = &Relation{From: from, Type: RelationType(in.text(1)), To: to, Created: time.UnixMicro(in.int(3)).UTC()}
	if in.err != nil {
		return nil, 0, fmt.Errorf("%v: %w: %w", r, ErrCorrupt, in.err)
	}
	var stored storedRelation
	if size, err = s.payloads.DecodeSized(ctx, row[4], &stored); err != nil {
		return nil, 0, fmt.Errorf("%v: %w", r, err)
	}
	r.Reason, r.Priority, r.By, r.Metadata = stored.Reason, stored.Priority, stored.By, stored.Metadata
	return r, size, nil
}
