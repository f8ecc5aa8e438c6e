package replica

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

const (
	sqlOwn = `SELECT w.item, w.rev, e.rev, w.was FROM (SELECT item, rev, 0 AS was FROM pinned UNION ALL SELECT item, rev, 1 FROM was_pinned) w LEFT JOIN episodes e ON e.id = w.item`

	sqlForgetOwn = `DELETE FROM was_pinned WHERE rev IN (SELECT value FROM json_each(?))`
	sqlUnpin     = `DELETE FROM pinned WHERE rev = ?`
	sqlWasPinned = `INSERT INTO was_pinned SELECT item, rev FROM pinned WHERE rev = ? ON CONFLICT(item) DO UPDATE SET rev = excluded.rev`
)

// Unpin returns the statements that let the replica have again what the server sends of an
// item, once the write that made a revision was pushed.
func Unpin(rev int64) []engine.Stmt {
	args := []engine.Value{rev}
	return []engine.Stmt{{SQL: sqlWasPinned, Args: args}, {SQL: sqlUnpin, Args: args}}
}

// ownWrites are the items whose writes are pinned, or were until not long ago.
type ownWrites struct {
	pinned map[[16]byte]bool
	revs   map[[16]byte]int64 // of episodes, without what is pinned
	pushed []int64            // of was_pinned
}

// own reads them. A write that changes a part of an episode makes its revision of the one
// before, by XOR with its own: without those that are pinned it is the server's, if nobody
// else has changed the episode.
func (r *Replica) own(ctx context.Context) (*ownWrites, error) {
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlOwn})
	if err != nil {
		return nil, fmt.Errorf("read which items were written here: %w", err)
	}
	own := &ownWrites{pinned: make(map[[16]byte]bool), revs: make(map[[16]byte]int64)}
	for _, row := range res[0].Rows {
		id, ok := idOf(row[0])
		if !ok {
			continue
		}
		if _, known := own.revs[id]; !known {
			own.revs[id], _ = row[2].(int64) // NULL: it is no episode, or not here
		}
		if rev, _ := row[1].(int64); row[3] == int64(0) {
			own.pinned[id] = true
			own.revs[id] ^= rev
		} else {
			own.pushed = append(own.pushed, rev)
		}
	}
	return own, nil
}

// here reports whether a change is that of a write that is here.
func (own *ownWrites) here(c *change) bool {
	id, ok := idOf(c.item)
	return ok && c.kind == feed.Episode && !c.gone && c.rev != 0 && own.revs[id] == c.rev
}

// passed reports whether a change is not to be stored now.
func (own *ownWrites) passed(c *change) bool {
	id, ok := idOf(c.item)
	return ok && own.pinned[id] && !own.here(c)
}

// none reports whether none of the changes is to be fetched.
func (own *ownWrites) none(changes []change) bool {
	for i := range changes {
		if c := &changes[i]; !own.here(c) && !own.passed(c) {
			return false
		}
	}
	return true
}

// rev has have tell the server's own revision of what is not to be fetched.
func (own *ownWrites) rev(c *change, _ engine.Value) engine.Value {
	if c.rev != 0 && (own.here(c) || own.passed(c)) {
		return c.rev
	}
	return nil
}

// forget returns the statement that forgets what was pinned.
func (own *ownWrites) forget() []engine.Stmt {
	if own.pushed == nil {
		return nil
	}
	return []engine.Stmt{{SQL: sqlForgetOwn, Args: []engine.Value{jsonOf(own.pushed)}}}
}

// drop takes changes out of a page of which it brings nothing: those that are here, and those
// that were not to be fetched, whose items it returns in hex.
func (own *ownWrites) drop(ahead []change, p *fetched) (passed []string) {
	sent := make(map[string]bool, len(p.Heads))
	for i := range p.Heads {
		sent[string(p.Heads[i].ID[:])] = true // what was looked at has changed since
	}
	dropped := make(map[string]bool)
	for i := range ahead {
		c := &ahead[i]
		switch {
		case c.kind != feed.Episode || sent[string(c.item)]:
		case own.here(c):
			dropped[string(c.item)] = true
		case own.rev(c, nil) != nil:
			dropped[string(c.item)] = true
			passed = append(passed, hex.EncodeToString(c.item))
		}
	}
	p.changes = slices.DeleteFunc(p.changes, func(c change) bool { return c.kind == feed.Episode && !c.gone && dropped[string(c.item)] })
	return passed
}

// passBy notes what has changed where nothing of it is to be fetched.
func (r *Replica) passBy(ctx context.Context, p position, l look, own *ownWrites, began time.Time) (step, error) {
	to := p
	to.upto, to.schema = l.newest, l.schema
	var passed []string
	for i := range l.ahead {
		if c := &l.ahead[i]; own.passed(c) {
			passed = append(passed, hex.EncodeToString(c.item))
		}
	}
	page := &fetched{changes: l.ahead}
	if err := r.store(ctx, slices.Concat([]engine.Stmt{advance(p, to)}, notePassed(passed), page.witnesses(), own.forget())); err != nil {
		return step{}, err
	}
	return r.unless(ctx, passed != nil, step{again: p.filling(), asOf: began})
}

// unless is a step that passed over some items, if passed, unless one of them has been unpinned meanwhile:
// then there is more to be done.
func (r *Replica) unless(ctx context.Context, passed bool, s step) (step, error) {
	if !passed {
		return s, nil
	}
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlPassedOver, Args: []engine.Value{int64(1)}})
	if err == nil && len(res[0].Rows) > 0 {
		s = step{again: true}
	}
	return s, err
}
