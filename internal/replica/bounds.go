package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// A bounded replica holds the episodes that began at a time or later, since. Of others nothing
// is fetched, neither their relations nor their vectors. Patterns and heuristics are
// few, and all are held. MaxAge moves since forward with the clock, and MaxBytes when the file
// becomes too large. The bounds in force are those in the file: of several processes that
// have it open, those of the one that opened it last.
const (
	sqlSetBounds = `UPDATE replica SET max_age_us = ?1, max_bytes = ?2, since_us = ?3, downto = iif(?3 < since_us AND upto > 0, upto + 1, downto)
 WHERE max_age_us <> ?1 OR max_bytes <> ?2`
	sqlRaiseSince = `UPDATE replica SET since_us = max(since_us, ?)`
	// The index episodes_by_time finds them.
	sqlDropOlder = `DELETE FROM episodes WHERE seq IN (SELECT seq FROM episodes WHERE start_us < ? AND id NOT IN (SELECT item FROM pinned) ORDER BY start_us LIMIT ?)`
	sqlFileBytes = `SELECT ((SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)) * (SELECT page_size FROM pragma_page_size)`
	// The start of the first episode that stays if a part of them all is dropped.
	sqlCutoff = `SELECT start_us + 1 FROM episodes ORDER BY start_us LIMIT 1 OFFSET (SELECT cast(count(*) * ? AS INTEGER) FROM episodes)`

	// The conditions of what is held, by the time since.
	headsSince      = ` AND e.start_us >= %d`
	belowSince      = ` AND (f.kind <> 1 OR e.start_us >= %d)`
	relationsSince  = ` AND s.start_us >= %[1]d AND d.start_us >= %[1]d`
	embeddingsSince = ` AND (e.kind <> 'episode' OR (SELECT start_us FROM episodes x WHERE x.id = e.item) >= %d)`
)

const (
	// So many episodes are dropped in one transaction.
	droppedAtOnce = 200
	// What is too old is dropped once a hundredth of MaxAge has passed, or a minute.
	ageSteps, leastAgeStep = 100, time.Minute
	// A file that has become too large is brought down to this part of MaxBytes.
	keptOfBytes = 0.9
)

// setBounds puts the bounds of cfg into force. If that makes room, the fill begins again: of
// what is here in the same revision nothing is sent.
func (r *Replica) setBounds(ctx context.Context) error {
	since := int64(0)
	if r.cfg.MaxAge > 0 {
		since = max(0, time.Now().Add(-r.cfg.MaxAge).UnixMicro())
	}
	res, err := r.cfg.Local.Repeatable(ctx, engine.Stmt{SQL: sqlSetBounds, Args: []engine.Value{r.cfg.MaxAge.Microseconds(), r.cfg.MaxBytes, since}})
	if err != nil {
		return fmt.Errorf("set the replica's bounds: %w", err)
	}
	if since == 0 || res[0].Affected == 0 {
		return nil
	}
	return r.dropOlder(ctx, since)
}

// bound drops what lies outside the bounds, and returns the position with the new since.
func (r *Replica) bound(ctx context.Context, p position) (position, error) {
	if p.maxAge > 0 {
		if since := time.Now().Add(-p.maxAge).UnixMicro(); since-p.since >= max(p.maxAge/ageSteps, leastAgeStep).Microseconds() {
			p.since = max(p.since, since)
			if err := r.dropOlder(ctx, p.since); err != nil {
				return p, err
			}
		}
	}
	if p.maxBytes == 0 {
		return p, nil
	}
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlFileBytes})
	if err != nil {
		return p, fmt.Errorf("read how large the replica is: %w", err)
	}
	used := engine.Row{Values: res[0].Rows[0]}
	size := used.Int(0)
	if used.Err != nil || size <= p.maxBytes {
		return p, used.Err
	}
	res, err = r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlCutoff, Args: []engine.Value{1 - keptOfBytes*float64(p.maxBytes)/float64(size)}})
	if err != nil || len(res[0].Rows) == 0 { // none: it is not the episodes that are too large
		return p, err
	}
	cutoff := engine.Row{Values: res[0].Rows[0]}
	p.since = max(p.since, cutoff.Int(0))
	if cutoff.Err != nil {
		return p, cutoff.Err
	}
	return p, r.dropOlder(ctx, p.since)
}

// dropOlder drops the episodes that began before since, which are not fetched any more. Those
// with writes that were not pushed yet stay until they are.
func (r *Replica) dropOlder(ctx context.Context, since int64) error {
	stmts := []engine.Stmt{{SQL: sqlRaiseSince, Args: []engine.Value{since}}, {SQL: sqlDropOlder, Args: []engine.Value{since, int64(droppedAtOnce)}}}
	for {
		res, err := r.cfg.Local.Repeatable(ctx, stmts...)
		if err != nil {
			return fmt.Errorf("drop what lies outside the replica's bounds: %w", err)
		}
		if res[1].Affected < droppedAtOnce {
			return nil
		}
	}
}

// within is a condition of what is held, if the replica is bounded.
func within(cond string, since int64) string {
	if since == 0 || cond == "" {
		return ""
	}
	return fmt.Sprintf(cond, since)
}

// outside returns the statements that delete the episodes of a page that have come to lie
// outside the bounds: they have changed, and were not sent.
func (p *fetched) outside(since int64) (stmts []engine.Stmt) {
	if since == 0 {
		return nil
	}
	sent := make(map[[16]byte]bool, len(p.Heads))
	for i := range p.Heads {
		sent[p.Heads[i].ID] = true
	}
	for _, c := range p.changes {
		if id, ok := idOf(c.item); ok && c.kind == feed.Episode && !c.gone && !sent[id] {
			stmts = append(stmts, engine.Stmt{SQL: sqlAbsent[feed.Episode], Args: []engine.Value{id[:]}})
		}
	}
	return stmts
}
