package payload

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Stats is what a Codec has encoded since it was made, and how its dictionaries
// fare.
type Stats struct {
	Kinds [kinds]KindStats // by Kind
	// Trainings are attempts to train a dictionary that came to an end. Failures are
	// trainings and refreshes in the background that failed; LastFailure says why.
	Trainings, Failures uint64
	LastFailure         string
}

// KindStats is what a Codec has encoded of a kind.
type KindStats struct {
	Payloads, PlainBytes, StoredBytes uint64
	Skipped                           uint64 // stored as JSON
	Time                              time.Duration
	Dictionary                        uint32  // the active one; 0: none
	Ratio                             float64 // what it made of payloads that it was not trained with; 0 if it is built in
}

// Stats returns what the Codec has done since it was made.
func (c *Codec) Stats() Stats {
	d := c.dictionaries
	d.mu.Lock()
	s := Stats{Trainings: d.trainings, Failures: d.failures, LastFailure: d.lastFailure}
	d.mu.Unlock()
	for k := range c.kinds {
		kind := &c.kinds[k]
		s.Kinds[k] = KindStats{
			Payloads: kind.payloads.Load(), PlainBytes: kind.plain.Load(), StoredBytes: kind.stored.Load(), Skipped: kind.skipped.Load(),
			Time: time.Duration(kind.time.Load()),
		}
		if use := kind.active.Load(); use != nil {
			s.Kinds[k].Dictionary, s.Kinds[k].Ratio = use.dictionary, use.ratio
		}
	}
	return s
}

// StorageStats are sizes of the payloads in a database, in bytes.
type StorageStats struct {
	Payloads, StoredBytes int64
	// A sample: the last payloads in the order of their keys, at most 1,000 of each
	// table.
	SamplePayloads, SampleStored, SamplePlain int64
	Dictionaries, DictionaryBytes             int64
}

// StorageStats reads the sizes of what the database holds. Errors: ErrCorrupt; the
// engine's.
func (c *Codec) StorageStats(ctx context.Context) (v StorageStats, err error) {
	const head = 20 // bytes: what a frame says about itself
	stmts := []engine.Stmt{{SQL: "SELECT count(*), coalesce(sum(length(content)), 0) FROM dictionaries"}}
	for _, t := range tables {
		order := strings.Join(t.keys, " DESC, ") + " DESC"
		stmts = append(stmts,
			engine.Stmt{SQL: "SELECT count(*), coalesce(sum(length(payload)), 0) FROM " + t.table},
			engine.Stmt{SQL: fmt.Sprintf("SELECT length(payload), substr(payload, 1, %d) FROM %s ORDER BY %s LIMIT 1000", head, t.table, order)})
	}
	r, err := c.dictionaries.engine.Query(ctx, stmts...)
	if err != nil {
		return v, err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	v.Dictionaries, v.DictionaryBytes = in.Int(0), in.Int(1)
	for i := range tables {
		in.Values = r[1+2*i].Rows[0]
		v.Payloads += in.Int(0)
		v.StoredBytes += in.Int(1)
		for _, row := range r[2+2*i].Rows {
			in.Values = row
			size, begin := in.Int(0), in.Blob(1)
			plain := size
			// A damaged frame saves nothing.
			if n, ok := PlainSize(begin); ok {
				plain = n
			}
			v.SamplePayloads++
			v.SampleStored += size
			v.SamplePlain += plain
		}
	}
	if in.Err != nil {
		return StorageStats{}, fmt.Errorf("%w: %w", ErrCorrupt, in.Err)
	}
	return v, nil
}
