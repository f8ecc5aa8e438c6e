package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// The replica's side of a page. Row numbers are its own, and so are the numbers of its
// feed, which its triggers write: they grow also while the first fill goes backwards.
const (
	sqlAdvance = `INSERT INTO advance VALUES(?,?,?,?,?,?)`

	sqlStoreScope = `INSERT INTO scopes(n, project, user, agent) VALUES(?,?,?,?) ON CONFLICT DO NOTHING`
	// To set id has the triggers delete runs, tags and what the index has.
	sqlReplaceHead = `INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, end_us, steps, rev, payload, bytes, scope) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET id = excluded.id, task_type = excluded.task_type, domain = excluded.domain, language = excluded.language, outcome = excluded.outcome,
 start_us = excluded.start_us, end_us = excluded.end_us, steps = excluded.steps, rev = excluded.rev, payload = excluded.payload, bytes = excluded.bytes, scope = excluded.scope`
	sqlGrowHead = `UPDATE episodes SET task_type = ?2, domain = ?3, language = ?4, outcome = ?5, start_us = ?6, end_us = ?7, steps = ?8, rev = ?9, payload = ?10,
 bytes = ?11, scope = ?12 WHERE id = ?1`
	sqlDropTags  = `DELETE FROM tags WHERE episode = (SELECT seq FROM episodes WHERE id = ?)`
	sqlStoreTags = `INSERT INTO tags(tag, episode, pos) SELECT j.value, seq, j.key FROM json_each(?) j, episodes WHERE episodes.id = ?`
	sqlStoreRun  = `INSERT INTO runs(place, count, key, payload) SELECT (seq << 24) + ?, ?, ?, ? FROM episodes WHERE id = ?`

	sqlStorePattern = `INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload, scope, rev) VALUES(?,?,?,?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, domain = excluded.domain, success_rate = excluded.success_rate, created_us = excluded.created_us,
 payload = excluded.payload, scope = excluded.scope, rev = excluded.rev`
	sqlStoreHeuristic = `INSERT INTO heuristics(id, confidence, created_us, payload, scope, rev) VALUES(?,?,?,?,?,?)
 ON CONFLICT(id) DO UPDATE SET confidence = excluded.confidence, created_us = excluded.created_us, payload = excluded.payload, scope = excluded.scope, rev = excluded.rev`

	sqlDropRelations        = `DELETE FROM relations WHERE src = (SELECT seq FROM episodes WHERE id = ?)`
	sqlDropRelationsWaiting = `DELETE FROM relations_waiting WHERE src = ?`
	sqlDropEmbeddings       = `DELETE FROM embeddings WHERE kind IN ('episode', 'pattern', 'heuristic') AND item = ?`
	sqlStoreEmbedding       = `INSERT OR REPLACE INTO embeddings VALUES(?,?,?,?,?)`
	// An end of a relation may come later than the relation.
	sqlStoreRelation = `INSERT OR REPLACE INTO relations_waiting VALUES(?,?,?,?,?)`
	sqlTakeRelations = `INSERT OR REPLACE INTO relations(src, type, dst, created_us, payload)
 SELECT s.seq, w.type, d.seq, w.created_us, w.payload FROM relations_waiting w CROSS JOIN episodes s ON s.id = w.src CROSS JOIN episodes d ON d.id = w.dst`
	sqlTakenRelations = `DELETE FROM relations_waiting WHERE EXISTS (SELECT 1 FROM episodes WHERE id = src) AND EXISTS (SELECT 1 FROM episodes WHERE id = dst)`

	sqlSeen = `DELETE FROM unseen WHERE kind = ? AND item = ?`

	sqlIndexEpisode   = `INSERT INTO index_waiting SELECT seq FROM episodes WHERE id = ? ON CONFLICT DO NOTHING`
	sqlIndexPattern   = `INSERT INTO index_waiting SELECT -2 * seq FROM patterns WHERE id = ? ON CONFLICT DO NOTHING`
	sqlIndexHeuristic = `INSERT INTO index_waiting SELECT -2 * seq - 1 FROM heuristics WHERE id = ? ON CONFLICT DO NOTHING`
)

// sqlGone deletes an item of a scope. One that was deleted and stored again, or has moved
// to another scope, is here with that one before this is carried out.
var sqlGone = map[feed.Kind]string{
	feed.Episode:   `DELETE FROM episodes WHERE id = ? AND scope = ?`,
	feed.Pattern:   `DELETE FROM patterns WHERE id = ? AND scope = ?`,
	feed.Heuristic: `DELETE FROM heuristics WHERE id = ? AND scope = ?`,
}

// apply stores a page in one transaction, which takes the replica from one position to
// another, and does more if it is told to.
func (r *Replica) apply(ctx context.Context, p *fetched, from, to position, more ...engine.Stmt) error {
	if err := r.storeDictionaries(ctx, p.dictionaries); err != nil {
		return err
	}
	err := r.storePage(ctx, p, from, to, more)
	// A dictionary that is new since the look is not here: payloads that name it can be
	// neither decoded nor stored.
	if r.unsure = err != nil && !p.sure && !errors.Is(err, errMoved); r.unsure {
		return errMoved
	}
	if err == nil {
		r.count(p)
		if r.cfg.Stored != nil {
			r.cfg.Stored()
		}
	}
	return err
}

func (r *Replica) storePage(ctx context.Context, p *fetched, from, to position, more []engine.Stmt) error {
	pinned, err := r.passOver(ctx, p, from.anew)
	if err != nil {
		return err
	}
	var index []engine.Stmt
	if r.cfg.Words == nil {
		index = p.index()
	} else {
		if index, err = r.cfg.Words(ctx, &p.Page); err != nil {
			return fmt.Errorf("index what the server sent: %w", err)
		}
	}
	return r.store(ctx, slices.Concat([]engine.Stmt{advance(from, to)}, pinned, p.stmts(from.anew), p.witnesses(), index, more))
}

// errMoved says that what was fetched is out of date: another process has stored a page since
// the position was read, or the server has changed. The pull is to look again.
var errMoved = errors.New("the replica or the server has changed meanwhile; try again")

// store carries out statements that begin with advance. Errors: errMoved.
func (r *Replica) store(ctx context.Context, stmts []engine.Stmt) error {
	_, err := r.cfg.Local.Repeatable(ctx, stmts...)
	if e, ok := errors.AsType[*engine.Error](err); ok && e.Kind == engine.KindConstraint && e.Stmt >= 0 {
		if sql := stmts[e.Stmt].SQL; sql == sqlAdvance || sql == sqlUnpinned {
			return errMoved
		}
	}
	if err != nil {
		return fmt.Errorf("store what the server sent: %w", err)
	}
	return nil
}

func advance(from, to position) engine.Stmt {
	return engine.Stmt{SQL: sqlAdvance, Args: []engine.Value{from.upto, from.downto, to.upto, to.downto, to.remaining, to.schema}}
}

// stmts stores the items. seen notes that they are on the server.
func (p *fetched) stmts(seen bool) []engine.Stmt {
	var stmts []engine.Stmt
	add := func(sql string, args ...engine.Value) { stmts = append(stmts, engine.Stmt{SQL: sql, Args: args}) }
	for _, row := range p.scopes {
		add(sqlStoreScope, row...)
	}
	for i := range p.Heads {
		h := &p.Heads[i]
		if h.Kept > 0 {
			add(sqlGrowHead, h.Values...)
			add(sqlDropTags, h.Values[0])
		} else {
			add(sqlReplaceHead, h.Values...)
		}
		if h.Tags != "[]" {
			add(sqlStoreTags, h.Tags, h.Values[0])
		}
		for _, run := range p.Runs[h.ID] {
			var key engine.Value
			if run.Key != nil {
				key = run.Key
			}
			add(sqlStoreRun, run.First, run.Count, key, run.Payload, h.Values[0])
		}
	}
	for _, it := range p.Patterns {
		add(sqlStorePattern, it.Values...)
	}
	for _, it := range p.Heuristics {
		add(sqlStoreHeuristic, it.Values...)
	}
	for _, c := range p.changes {
		switch sql := sqlGone[c.kind]; {
		case c.kind == feed.Relations:
			add(sqlDropRelations, c.item)
			add(sqlDropRelationsWaiting, c.item)
		case c.kind == feed.Embeddings:
			add(sqlDropEmbeddings, c.item)
		case c.gone && sql != "":
			add(sql, c.item, c.scope)
		}
		if seen && !c.gone {
			add(sqlSeen, int64(c.kind), c.item)
		}
	}
	for _, row := range p.relations {
		add(sqlStoreRelation, row...)
	}
	for _, row := range p.embeddings {
		add(sqlStoreEmbedding, row...)
	}
	add(sqlTakeRelations)
	add(sqlTakenRelations)
	return stmts
}

// index has the items indexed later, by any Store that has the file open.
func (p *fetched) index() (stmts []engine.Stmt) {
	for _, h := range p.Heads {
		stmts = append(stmts, engine.Stmt{SQL: sqlIndexEpisode, Args: h.Values[:1:1]})
	}
	for _, it := range p.Patterns {
		stmts = append(stmts, engine.Stmt{SQL: sqlIndexPattern, Args: it.Values[:1:1]})
	}
	for _, it := range p.Heuristics {
		stmts = append(stmts, engine.Stmt{SQL: sqlIndexHeuristic, Args: it.Values[:1:1]})
	}
	return stmts
}

func (r *Replica) count(p *fetched) {
	n := uint64(0)
	for _, row := range p.embeddings {
		n += uint64(engine.ValueSize(row[4]))
	}
	for i := range p.Heads {
		n += uint64(engine.ValueSize(p.Heads[i].Values[9]))
		for _, run := range p.Runs[p.Heads[i].ID] {
			n += uint64(len(run.Payload))
		}
	}
	for _, it := range p.Patterns {
		n += uint64(engine.ValueSize(it.Values[5]))
	}
	for _, it := range p.Heuristics {
		n += uint64(engine.ValueSize(it.Values[3]))
	}
	r.counters.pages.Add(1)
	r.counters.items.Add(uint64(len(p.changes)))
	r.counters.payload.Add(n)
}
