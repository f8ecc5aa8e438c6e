package episodic

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
	Trained []Training `json:"trained,omitempty"`
	// Payloads is how many were not written with the dictionary in use. Rewritten
	// is how many of them became smaller, or had to leave a dictionary that is
	// given up, and Before and After are the bytes of those.
	Payloads  int64 `json:"payloads"`
	Rewritten int64 `json:"rewritten"`
	Before    int64 `json:"before_bytes"`
	After     int64 `json:"after_bytes"`
	// Damaged is how many could not be read, and were left as they are; Damage says
	// which row was the first, and why.
	Damaged int64  `json:"damaged"`
	Damage  string `json:"damage,omitempty"`
	// Retired is how many dictionaries nobody writes with any more. Forgotten is
	// how many, retired a week ago or longer, no payload needs; their content is
	// gone.
	Retired   int64 `json:"retired"`
	Forgotten int64 `json:"forgotten"`
}

// Compact trains dictionaries, if there are 20 items or more, and compresses again,
// as well as it can, what was stored without the dictionary in use. Other Stores may read
// and write meanwhile; what they change is left as they made it. It can be
// interrupted at any moment, and goes on where it was when it is called again.
// The freed space is used for what is stored next. progress, unless it is nil, is
// called now and then with how many of the Compaction's Payloads have been looked
// at, and how many there are. What was done before an error is returned with it.
func (s *Store) Compact(ctx context.Context, progress func(done, all int64)) (Compaction, error) {
	c := &compactor{Store: s, progress: progress}
	err := c.run(ctx)
	return c.done, failed(err, "compact")
}

type compactor struct {
	*Store
	progress func(done, all int64)
	done     Compaction
	looked   int64
	ids      [payloadKinds]uint32 // of the dictionaries in use
	begins   [payloadKinds][]byte // of the frames that are as they should be
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
	var encoders [payloadKinds]*codec.Encoder
	var counts []engine.Stmt
	var tables []*payloadTable
	for i := range payloadTables {
		t := &payloadTables[i]
		if !c.packer.compresses(t.kind) {
			continue
		}
		if encoders[t.kind] == nil {
			if encoders[t.kind], err = c.encoder(ctx, t.kind); err != nil {
				return err
			}
		}
		tables = append(tables, t)
		counts = append(counts, t.count(c.begins[t.kind]))
	}
	if len(tables) == 0 {
		return nil
	}
	r, err := c.engine.Query(ctx, counts...)
	if err != nil {
		return err
	}
	for i := range tables {
		in := reader{row: r[i].Rows[0]}
		if c.done.Payloads += in.int(0); in.err != nil {
			return in.err
		}
	}
	for _, t := range tables {
		if err := c.table(ctx, t, encoders[t.kind]); err != nil {
			return err
		}
	}
	return nil
}

// encoder returns one that compresses as well as it can with what is in use.
func (c *compactor) encoder(ctx context.Context, k payloadKind) (*codec.Encoder, error) {
	dict, err := c.dictionaries.inUse(ctx, k)
	if err != nil {
		return nil, err
	}
	o := c.packer.codecOptions(dict)
	o.Level = codec.Best
	if dict != nil {
		c.ids[k] = dict.ID()
	}
	c.begins[k] = codec.Prefix(o.Codec, c.ids[k])
	return codec.NewEncoder(o)
}

// table compresses the rows of a table again.
func (c *compactor) table(ctx context.Context, t *payloadTable, enc *codec.Encoder) error {
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
			payload, err := c.again(ctx, t.kind, enc, row[len(row)-1])
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

// again returns the payload compressed again, or nil if it had better stay as it
// is.
func (c *compactor) again(ctx context.Context, k payloadKind, enc *codec.Encoder, column any) ([]byte, error) {
	_, text, err := c.packer.unpack(ctx, nil, column)
	if err != nil {
		return nil, err
	}
	stored := column.([]byte)
	payload := packed(enc, append([]byte{formatJSON}, text...))
	// Those who use no dictionaries let others' be.
	leaves := false
	if h, err := codec.Inspect(stored); err == nil && c.packer.trains(k) {
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
		in := reader{row: row}
		id := in.int(0)
		if in.err != nil {
			return fmt.Errorf("dictionaries: %w: %w", ErrCorrupt, in.err)
		}
		r, err := c.engine.Repeatable(ctx, forget(uint32(id)))
		if err != nil {
			return err
		}
		c.done.Forgotten += r[0].Affected
	}
	return nil
}
