package payload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

// Compaction is what Compact did.
type Compaction struct {
	Trained []Training
	// Payloads is how many were not written with the active dictionary, or were written
	// at level Fast. Rewritten is
	// how many of them became smaller, or named a dictionary that was deleted, and
	// Before and After are the bytes of those.
	Payloads, Rewritten, Before, After int64
	// Damaged is how many could not be read, and were left as they are; Damage says
	// which row was the first, and why.
	Damaged int64
	Damage  string
	Deleted int64 // dictionaries
}

// Compact trains dictionaries, if there is enough to train with, and recompresses
// what was not written with the active ones or was written fast. It then deletes all others, and an
// active one that is tainted unless a new one has followed it. progress, unless it
// is nil, is called now and then with how many of the Compaction's Payloads have
// been looked at, and how many there are. What was done before an error is returned
// with it.
func (c *Codec) Compact(ctx context.Context, progress func(done, all int64)) (Compaction, error) {
	return c.compact(ctx, asked, progress)
}

// CompactSecurely is Compact that takes all dictionaries that there are for tainted: what they
// were trained with may have been changed in ways that are not counted.
func (c *Codec) CompactSecurely(ctx context.Context, progress func(done, all int64)) (Compaction, error) {
	return c.compact(ctx, erasing, progress)
}

func (c *Codec) compact(ctx context.Context, o occasion, progress func(done, all int64)) (Compaction, error) {
	run := &compactor{Codec: c, occasion: o, engine: c.dictionaries.engine, progress: progress}
	err := run.run(ctx)
	return run.done, err
}

type compactor struct {
	*Codec
	occasion occasion
	engine   engine.Engine
	progress func(done, all int64)
	done     Compaction
	looked   int64
	kinds    [kinds]compaction
}

// compaction is what a compactor does with the payloads of a kind.
type compaction struct {
	encoder *codec.Encoder // nil: payloads become JSON
	begins  [2][]byte      // of the frames that are as they should be, with and without a seal
	closed  []uint32       // dictionaries that are to be deleted
}

func (k *compaction) namesClosed(payload []byte) bool {
	if payload[0] != formatFrame {
		return false
	}
	h, err := codec.Inspect(payload)
	return err == nil && slices.Contains(k.closed, h.Dictionary)
}

func (c *compactor) run(ctx context.Context) (err error) {
	if c.done.Trained, err = c.dictionaries.train(ctx, c.occasion); err != nil {
		return err
	}
	if err := c.closeOthers(ctx); err != nil {
		return err
	}
	var counts []engine.Stmt
	for i := range tables {
		t := &tables[i]
		k := &c.kinds[t.kind]
		if k.encoder == nil && c.options.compresses(t.kind) {
			if err := c.openEncoder(ctx, t.kind); err != nil {
				return err
			}
		}
		counts = append(counts, t.count(c.stale(t)))
	}
	r, err := c.engine.Query(ctx, counts...)
	if err != nil {
		return err
	}
	for i := range tables {
		in := engine.Row{Values: r[i].Rows[0]}
		if c.done.Payloads += in.Int(0); in.Err != nil {
			return in.Err
		}
	}
	for i := range tables {
		if c.kinds[tables[i].kind].encoder == nil {
			continue // deleteClosed does what there is to do
		}
		if _, err := c.rewrite(ctx, &tables[i], c.stale(&tables[i])); err != nil {
			return err
		}
	}
	for k := range Kind(kinds) {
		if err := c.deleteClosed(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// closeOthers closes the dictionaries that are not active, and those that are but
// are tainted: from then on nobody can store a payload that names them. A Codec
// that uses no dictionaries closes only what is tainted.
func (c *compactor) closeOthers(ctx context.Context) error {
	states, err := c.dictionaries.refresh(ctx)
	if err != nil {
		return err
	}
	for k := range Kind(kinds) {
		keep := states[k].id
		isNew := slices.ContainsFunc(c.done.Trained, func(t Training) bool { return t.Dictionary == keep && keep != 0 })
		if (states[k].tainted || c.occasion == erasing) && !isNew {
			keep = 0
		}
		shut := engine.Stmt{SQL: `UPDATE dictionaries SET closed = 1 WHERE kind = ?1 AND id <> ?2 AND closed = 0
 AND created_us <= (SELECT created_us FROM dictionaries WHERE id = ?3)`, Args: []any{k.String(), int64(keep), int64(states[k].id)}}
		if !c.options.trains(k) && c.occasion != erasing {
			shut.SQL += ` AND removals <> (SELECT n FROM removals WHERE kind = ?1)`
		}
		if _, err := c.engine.Repeatable(ctx, shut); err != nil {
			return err
		}
		r, err := c.engine.Query(ctx, engine.Stmt{SQL: `SELECT id FROM dictionaries WHERE kind = ? AND closed = 1`, Args: []any{k.String()}})
		if err != nil {
			return err
		}
		var in engine.Row
		for _, in.Values = range r[0].Rows {
			c.kinds[k].closed = append(c.kinds[k].closed, uint32(in.Int(0)))
		}
		if in.Err != nil {
			return fmt.Errorf("dictionaries: %w: %w", ErrCorrupt, in.Err)
		}
	}
	_, err = c.dictionaries.refresh(ctx)
	return err
}

// openEncoder opens one that compresses with the active dictionary, and not fast.
func (c *compactor) openEncoder(ctx context.Context, k Kind) error {
	dict, err := c.dictionaries.active(ctx, k)
	if err != nil {
		return err
	}
	o := c.options.encoder(dict)
	o.Level = max(o.Level, codec.Better)
	id := uint32(0)
	if dict != nil {
		id = dict.ID()
	}
	c.kinds[k].begins = [...][]byte{codec.Prefix(o.Codec, id, true), codec.Prefix(o.Codec, id, false)}
	c.kinds[k].encoder, err = codec.NewEncoder(o)
	return err
}

// stale is the condition that a payload is not yet what it could be. If the kind
// is not compressed, only names of closed dictionaries matter.
func (c *compactor) stale(t *table) condition {
	if k := &c.kinds[t.kind]; k.encoder != nil {
		return t.stale(k.begins)
	}
	return t.names(c.kinds[t.kind].closed)
}

// rewrite recompresses the rows of a table that fulfil the condition, and returns
// how many there were. It looks at the table page by page, so that no snapshot is
// held for long.
func (c *compactor) rewrite(ctx context.Context, t *table, cond condition) (found int, err error) {
	after := t.start
	for {
		r, err := c.engine.Query(ctx, t.page(after))
		if err != nil {
			return found, err
		}
		var end []any
		if len(r[0].Rows) > 0 {
			end = r[0].Rows[0]
		}
		n, err := c.rewritePage(ctx, t, after, t.upTo(end, cond))
		found += n
		if err != nil || end == nil {
			return found, err
		}
		after = end
	}
}

func (c *compactor) rewritePage(ctx context.Context, t *table, after []any, cond condition) (found int, err error) {
	for {
		r, err := c.engine.Query(ctx, t.next(after, cond))
		if err != nil || len(r[0].Rows) == 0 {
			return found, err
		}
		found += len(r[0].Rows)
		var puts []engine.Stmt
		var before, stored []int64
		for _, row := range r[0].Rows {
			after = row[:len(t.keys)]
			payload, err := c.recompress(ctx, &c.kinds[t.kind], row[len(row)-1])
			switch {
			case errors.Is(err, ErrCorrupt):
				if c.done.Damaged++; c.done.Damaged == 1 {
					c.done.Damage = fmt.Sprintf("%s %s: %v", t.table, strings.Trim(fmt.Sprint(after), "[]"), err)
				}
			case err != nil:
				return found, err
			case payload != nil:
				puts = append(puts, t.put(payload, row))
				before = append(before, int64(len(row[len(row)-1].([]byte))))
				stored = append(stored, int64(len(payload)))
			}
		}
		if err := c.store(ctx, puts, before, stored); err != nil {
			return found, err
		}
		c.looked += int64(len(r[0].Rows))
		if c.progress != nil {
			c.progress(c.looked, max(c.looked, c.done.Payloads))
		}
	}
}

func (c *compactor) store(ctx context.Context, puts []engine.Stmt, before, stored []int64) error {
	if len(puts) == 0 {
		return nil
	}
	// While the table has a row the change feed takes no notice.
	puts = append([]engine.Stmt{{SQL: "INSERT INTO compacting VALUES(1)"}}, append(puts, engine.Stmt{SQL: "DELETE FROM compacting"})...)
	results, err := c.engine.Repeatable(ctx, puts...)
	if err != nil {
		return err
	}
	for i, result := range results[1 : len(results)-1] {
		if result.Affected == 1 {
			c.done.Rewritten++
			c.done.Before += before[i]
			c.done.After += stored[i]
		}
	}
	return nil
}

// deleteClosed deletes the closed dictionaries of the kind that no row names any
// more. Whether one does is read outside a transaction: that a row names a closed
// dictionary can end, but not begin. A row may have been changed, without its
// payload, between its reading and its rewriting, so there are several passes.
func (c *compactor) deleteClosed(ctx context.Context, k Kind) error {
	closed := c.kinds[k].closed
	if len(closed) == 0 {
		return nil
	}
	for range 5 {
		var found int
		damaged := c.done.Damaged
		for i := range tables {
			t := &tables[i]
			if t.kind != k {
				continue
			}
			n, err := c.rewrite(ctx, t, t.names(closed))
			if err != nil {
				return err
			}
			found += n
		}
		if c.done.Damaged > damaged {
			if c.kinds[k].encoder != nil {
				c.done.Damaged = damaged // they have been counted before
			}
			return nil
		}
		if found > 0 {
			continue
		}
		for _, id := range closed {
			r, err := c.engine.Repeatable(ctx, engine.Stmt{SQL: `DELETE FROM dictionaries WHERE id = ? AND closed = 1`, Args: []any{int64(id)}})
			if err != nil {
				return err
			}
			c.done.Deleted += r[0].Affected
		}
		return nil
	}
	return nil
}

// recompress returns the payload encoded again, with the seal that it has, or nil if that
// would not make it smaller and it names no closed dictionary.
func (c *compactor) recompress(ctx context.Context, k *compaction, column any) ([]byte, error) {
	_, text, err := c.decode(ctx, nil, column)
	if err != nil {
		return nil, err
	}
	stored := column.([]byte)
	payload := encode(k.encoder, sealOf(stored), text)
	if len(payload) < len(stored) || k.namesClosed(stored) {
		return payload, nil
	}
	return nil, nil
}
