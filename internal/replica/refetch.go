package replica

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// refetched is how many items one request fetches anew.
const refetched = 200

// sqlAbsent deletes what is here of an item, by kind, that the server does not have.
var sqlAbsent = map[feed.Kind]string{
	feed.Episode:    `DELETE FROM episodes WHERE id = ?`,
	feed.Pattern:    `DELETE FROM patterns WHERE id = ?`,
	feed.Heuristic:  `DELETE FROM heuristics WHERE id = ?`,
	feed.Relations:  sqlDropRelations,
	feed.Embeddings: sqlDropEmbeddings,
}

// Fetch replaces what is here of items, their relations and embeddings by what the server
// has now, or deletes it if the server has none. Until a pull has followed, which Fetch asks
// for, the replica is behind: other items may be older. Errors: those of the server and of
// the file; that of ctx.
func (r *Replica) Fetch(ctx context.Context, ids ...[16]byte) error {
	ctx, release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer r.Kick()
	defer release()
	return r.refetch(ctx, ids, false)
}

// refetch is Fetch for who holds the lock. changed leaves out episodes that have the same
// revision here and there.
func (r *Replica) refetch(ctx context.Context, ids [][16]byte, changed bool) error {
	for part := range slices.Chunk(ids, refetched) {
		if err := r.refetchSome(ctx, part, changed); err != nil {
			return fmt.Errorf("fetch items anew: %w", err)
		}
	}
	return nil
}

func (r *Replica) refetchSome(ctx context.Context, ids [][16]byte, changed bool) error {
	p, err := readPosition(ctx, r.cfg.Local)
	if err != nil {
		return err
	}
	before, err := r.pins(ctx)
	if err != nil {
		return err
	}
	if ids = slices.DeleteFunc(slices.Clone(ids), func(id [16]byte) bool { return before.pinned[id] }); len(ids) == 0 {
		return nil
	}
	if err := r.missing(); err != nil {
		return err
	}
	items, episodes := make([]string, len(ids)), make([]change, len(ids))
	for i, id := range ids {
		items[i], episodes[i] = hex.EncodeToString(id[:]), change{kind: feed.Episode, item: id[:]}
	}
	have := nothing
	if changed {
		if have, err = r.have(ctx, episodes, revHere); err != nil {
			return err
		}
	}
	text, err := json.Marshal(items)
	if err != nil {
		return err
	}
	which := choice{items: string(text), since: p.since}
	page, err := r.fetch(ctx, which, have, everything)
	if engine.KindOf(err) == engine.KindTooLarge {
		if len(ids) > 1 {
			half := len(ids) / 2
			return errors.Join(r.refetchSome(ctx, ids[:half], changed), r.refetchSome(ctx, ids[half:], changed))
		}
		page, err = r.fetchLarge(ctx, which)
	}
	if err != nil {
		return err
	}
	if !page.continues(p) {
		return errMoved // the next look tells what has become of the database
	}
	page.before = before
	gone := page.absent(ids)
	if !changed { // otherwise what was not sent may be what has not changed
		gone = append(gone, page.outside(p.since)...)
	}
	return r.apply(ctx, page, p, p, append(gone, before.unpinned(items), engine.Stmt{SQL: sqlFetched, Args: []engine.Value{which.items}})...)
}

// absent returns the statements that delete what the server does not have of some items.
func (p *fetched) absent(ids [][16]byte) (stmts []engine.Stmt) {
	type key struct {
		kind feed.Kind
		id   [16]byte
	}
	there := make(map[key]bool)
	for _, c := range p.changes {
		if id, ok := idOf(c.item); ok && !c.gone {
			there[key{c.kind, id}] = true
		}
	}
	for _, id := range ids {
		for kind, sql := range sqlAbsent {
			if !there[key{kind, id}] {
				stmts = append(stmts, engine.Stmt{SQL: sql, Args: []engine.Value{id[:]}})
			}
		}
	}
	return stmts
}
