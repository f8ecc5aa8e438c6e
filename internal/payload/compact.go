package payload

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

// Compaction is what Compact did.
type Compaction struct {
	Trained []Training
	// Payloads is how many were not written with the dictionary in use. Rewritten
	// is how many of them became smaller, or had to leave a dictionary that is
	// given up, and Before and After are the bytes of those.
	Payloads  int64
	Rewritten int64
	Before    int64
	After     int64
	// Damaged is how many could not be read, and were left as they are; Damage says
	// which row was the first, and why.
	Damaged int64
	Damage  string
	// Retired is how many dictionaries nobody writes with any more. Forgotten is
	// how many, retired a week ago or longer, no payload needs; their content is
	// gone.
	Retired   int64
	Forgotten int64
}

// Compact trains dictionaries, if there is enough to train with, and recompresses
// what was not written with the active ones. progress, unless it is nil, is called
// now and then with how many of the Compaction's Payloads have been looked at, and
// how many there are. What was done before an error is returned with it.
func (c *Codec) Compact(ctx context.Context, progress func(done, all int64)) (Compaction, error) {
	run := &compactor{Codec: c, engine: c.dictionaries.engine, progress: progress}
	err := run.run(ctx)
	return run.done, err
}

type compactor struct {
	*Codec
	engine   engine.Engine
	progress func(done, all int64)
	done     Compaction
	looked   int64
	ids      [kinds]uint32 // of the dictionaries in use
	begins   [kinds][]byte // of the frames that are as they should be
}

func (c *compactor) run(ctx context.Context) (err error) {
	if c.done.Trained, err = c.dictionaries.trainDue(ctx, true); err != nil {
		return err
	}
	// Before payloads are rewritten: a reader that holds one may yet ask for its
	// dictionary.
	if err := c.retire(ctx); err != nil {
		return err
	}
	var encoders [kinds]*codec.Encoder
	var counts []engine.Stmt
	var list []*table
	for i := range tables {
		t := &tables[i]
		if !c.options.compresses(t.kind) {
			continue
		}
		if encoders[t.kind] == nil {
			if encoders[t.kind], err = c.encoder(ctx, t.kind); err != nil {
				return err
			}
		}
		list = append(list, t)
		counts = append(counts, t.count(c.begins[t.kind]))
	}
	if len(list) == 0 {
		return nil
	}
	r, err := c.engine.Query(ctx, counts...)
	if err != nil {
		return err
	}
	for i := range list {
		in := engine.Row{Values: r[i].Rows[0]}
		if c.done.Payloads += in.Int(0); in.Err != nil {
			return in.Err
		}
	}
	for _, t := range list {
		if err := c.recompressTable(ctx, t, encoders[t.kind]); err != nil {
			return err
		}
	}
	return nil
}

// encoder returns one that compresses as well as it can with what is in use.
func (c *compactor) encoder(ctx context.Context, k Kind) (*codec.Encoder, error) {
	dict, err := c.dictionaries.inUse(ctx, k)
	if err != nil {
		return nil, err
	}
	o := c.options.encoder(dict)
	o.Level = codec.Best
	if dict != nil {
		c.ids[k] = dict.ID()
	}
	c.begins[k] = codec.Prefix(o.Codec, c.ids[k])
	return codec.NewEncoder(o)
}

// recompressTable recompresses the rows of a table.
func (c *compactor) recompressTable(ctx context.Context, t *table, enc *codec.Encoder) error {
	after := t.start
	for {
		r, err := c.engine.Query(ctx, t.next(after, c.begins[t.kind]))
		if err != nil || len(r[0].Rows) == 0 {
			return err
		}
		var puts []engine.Stmt
		var before, stored []int64
		for _, row := range r[0].Rows {
			after = row[:len(t.keys)]
			payload, err := c.recompress(ctx, t.kind, enc, row[len(row)-1])
			switch {
			case errors.Is(err, ErrCorrupt):
				if c.done.Damaged++; c.done.Damaged == 1 {
					c.done.Damage = fmt.Sprintf("%s %s: %v", t.table, strings.Trim(fmt.Sprint(after), "[]"), err)
				}
			case err != nil:
				return err
			case payload != nil:
				puts = append(puts, t.put(payload, row))
				before = append(before, int64(len(row[len(row)-1].([]byte))))
				stored = append(stored, int64(len(payload)))
			}
		}
		if len(puts) > 0 {
			results, err := c.engine.Repeatable(ctx, puts...)
			if err != nil {
				return err
			}
			for i, result := range results {
				if result.Affected == 1 {
					c.done.Rewritten++
					c.done.Before += before[i]
					c.done.After += stored[i]
				}
			}
		}
		c.looked += int64(len(r[0].Rows))
		if c.progress != nil {
			c.progress(c.looked, max(c.looked, c.done.Payloads))
		}
	}
}

// recompress returns the payload encoded again, or nil if that would not make it
// smaller.
func (c *compactor) recompress(ctx context.Context, k Kind, enc *codec.Encoder, column any) ([]byte, error) {
	_, text, err := c.decode(ctx, nil, column)
	if err != nil {
		return nil, err
	}
	stored := column.([]byte)
	payload := encode(enc, text)
	// Those who use no dictionaries let others' be.
	leaves := false
	if h, err := codec.Inspect(stored); err == nil && c.options.trains(k) {
		leaves = h.Dictionary >= codec.MinTrainedID && h.Dictionary != c.ids[k]
	}
	if len(payload) < len(stored) || leaves {
		return payload, nil
	}
	return nil, nil
}

// retire retires dictionaries that were followed by newer ones, and forgets those
// that nothing needs.
func (c *compactor) retire(ctx context.Context) error {
	r, err := c.engine.Repeatable(ctx, engine.Stmt{SQL: sqlRetireDictionaries})
	if err != nil {
		return err
	}
	c.done.Retired = r[0].Affected
	r, err = c.engine.Query(ctx, engine.Stmt{SQL: sqlForgettable})
	if err != nil {
		return err
	}
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		id := in.Int(0)
		if in.Err != nil {
			return fmt.Errorf("dictionaries: %w: %w", ErrCorrupt, in.Err)
		}
		r, err := c.engine.Repeatable(ctx, forget(uint32(id)))
		if err != nil {
			return err
		}
		c.done.Forgotten += r[0].Affected
	}
	return nil
}
