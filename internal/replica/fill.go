package replica

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// The first fill brings the items that changed last first, page by page, from the newest
// number on down. What changes meanwhile gets a number above, and comes with the pulls
// that go forward. The same fill makes a replica anew: what is here stays, and is readable,
// until the server has told all that it has; what it has in the same revision is not sent.
const (
	sqlBegin = `UPDATE replica SET life = ?`

	sqlNothingSeen = `DELETE FROM unseen`
	sqlUnseen      = `INSERT INTO unseen SELECT 1, id FROM episodes UNION ALL SELECT 2, id FROM patterns UNION ALL SELECT 3, id FROM heuristics
 UNION SELECT 4, id FROM episodes WHERE seq IN (SELECT src FROM relations) UNION SELECT 4, src FROM relations_waiting UNION SELECT 5, item FROM embeddings`
	sqlAnew = `UPDATE replica SET anew = EXISTS (SELECT 1 FROM unseen)`
)

// sqlEnd deletes what the fill has not seen on the server. What is pinned may not be there yet,
// or may have been deleted there: it is looked for when it is pinned no more.
var sqlEnd = []string{
	`INSERT INTO passed_over SELECT item FROM unseen WHERE item IN (SELECT item FROM pinned) ON CONFLICT DO NOTHING`,
	`DELETE FROM unseen WHERE item IN (SELECT item FROM pinned)`,
	`DELETE FROM relations WHERE src IN (SELECT seq FROM episodes WHERE id IN (SELECT item FROM unseen WHERE kind = 4))`,
	`DELETE FROM relations_waiting WHERE src IN (SELECT item FROM unseen WHERE kind = 4)`,
	`DELETE FROM embeddings WHERE kind IN ('episode', 'pattern', 'heuristic') AND item IN (SELECT item FROM unseen WHERE kind = 5)`,
	`DELETE FROM episodes WHERE id IN (SELECT item FROM unseen WHERE kind = 1)`,
	`DELETE FROM patterns WHERE id IN (SELECT item FROM unseen WHERE kind = 2)`,
	`DELETE FROM heuristics WHERE id IN (SELECT item FROM unseen WHERE kind = 3)`,
	sqlNothingSeen,
	sqlAnew,
}

// continues reports whether what is here at p is an earlier state of the same database,
// all of whose later deletions are known.
func (s server) continues(p position) bool {
	return bytes.Equal(s.life, p.life) && p.upto >= s.forgotten && p.upto <= s.newest
}

// lagging returns an error if the server seems to lag behind what is here, until it has
// seemed so for againFor.
func (r *Replica) lagging(p position, s server) error {
	if !bytes.Equal(s.life, p.life) || s.newest >= p.upto {
		r.lagsSince = time.Time{}
		return nil
	}
	if r.lagsSince.IsZero() {
		r.lagsSince = time.Now()
	}
	if time.Since(r.lagsSince) >= r.againFor {
		return nil
	}
	return &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf(
		"the server's changes end at number %d, and %d is here: it lags behind, or an older copy was restored, which a later pull will tell", s.newest, p.upto)}
}

// begin begins to fill the replica from the server, whose state is l.
func (r *Replica) begin(ctx context.Context, p position, l look) error {
	res, err := r.cfg.Server.Query(ctx, r.scoped(sqlRemaining, ""))
	if err != nil {
		return err
	}
	in := engine.Row{Values: res[0].Rows[0]}
	to := position{upto: l.newest, downto: l.newest + 1, remaining: in.Int(0), schema: l.schema}
	if in.Err != nil {
		return in.Err
	}
	if len(p.life) > 0 {
		r.log.Warn("replica is made anew: the server's database is another one, an older copy, or has forgotten deletions since the last pull", "upto", p.upto, "newest", l.newest)
		if err := r.missing(); err != nil {
			return err
		}
	}
	r.fillBytes = firstFillBytes
	return r.store(ctx, []engine.Stmt{advance(p, to), {SQL: sqlBegin, Args: []engine.Value{l.life}},
		{SQL: sqlNothingSeen}, {SQL: sqlUnseen}, {SQL: sqlAnew}, {SQL: sqlNoWitnesses}})
}

// fill stores a page of the items that are missing.
func (r *Replica) fill(ctx context.Context, p position, l look) error {
	before, err := r.pins(ctx)
	if err != nil {
		return err
	}
	have, err := r.have(ctx, l.below, revHere)
	if err != nil {
		return err
	}
	n := cut(l.below, r.fillBytes)
	last := n == len(l.below) && n < r.lookRows
	which := choice{after: 0, upto: p.downto - 1, since: p.since}
	if !last {
		which.after = l.below[n-1].n - 1
	}
	if last {
		which.beyond = p.upto
	}
	page, err := r.fetch(ctx, which, have, needs(l.below, true))
	if engine.KindOf(err) == engine.KindTooLarge {
		if n > 1 {
			r.fillBytes = max(r.fillBytes/2, 1)
			return nil
		}
		page, err = r.fetchLarge(ctx, which)
		last = false // the next page, which has nothing, ends the fill
	}
	if err != nil {
		return fmt.Errorf("fetch items: %w", err)
	}
	if !page.continues(p) {
		return nil // the next look tells what has become of the database
	}
	page.before = before
	page.changes = slices.DeleteFunc(page.changes, func(c change) bool { return c.gone })
	to := p
	to.downto, to.schema = which.after+1, l.schema
	to.remaining = max(0, p.remaining-int64(len(page.changes)))
	var end []engine.Stmt
	if last {
		to.downto, to.remaining = 0, 0
		for _, c := range page.beyond { // what has changed since the look is on the server too
			if !c.gone {
				end = append(end, engine.Stmt{SQL: sqlSeen, Args: []engine.Value{int64(c.kind), c.item}})
			}
		}
		for _, sql := range sqlEnd {
			end = append(end, engine.Stmt{SQL: sql})
		}
	}
	r.fillBytes = min(2*r.fillBytes, r.pageBytes)
	return r.apply(ctx, page, p, to, end...)
}
