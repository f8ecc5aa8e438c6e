package payload

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	// For each kind: the active dictionary, which is the newest that is not closed,
	// whether it is tainted, how many items there are, as far as it matters, and how
	// many there were at the last training.
	sqlDictionaryState = `SELECT r.kind, d.id, d.ratio, d.removals <> r.n, iif(r.kind = 'episode',
  (SELECT count(*) FROM (SELECT 1 FROM episodes LIMIT 600)),
  (SELECT count(*) FROM (SELECT 1 FROM patterns UNION ALL SELECT 1 FROM heuristics UNION ALL SELECT 1 FROM relations LIMIT 600))),
 (SELECT max(items) FROM trainings t WHERE t.kind = r.kind), d.sha256
 FROM removals r LEFT JOIN dictionaries d ON d.kind = r.kind AND d.closed = 0
 AND d.created_us = (SELECT max(created_us) FROM dictionaries n WHERE n.kind = r.kind AND n.closed = 0)`
	sqlGetDictionary = `SELECT content, sha256 FROM dictionaries WHERE id = ?`

	// Of several processes that train at once, the first one stores.
	sqlInsertTraining = `INSERT INTO trainings(id, kind, items) SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM trainings WHERE kind = ?2 AND items >= ?3)`
	// Clocks differ, but a later dictionary is always the newer one.
	sqlInsertDictionary = `INSERT OR IGNORE INTO dictionaries(id, tag, kind, created_us, samples, ratio, removals, sha256, content)
 SELECT ?1, ?2, kind, max(?3, coalesce((SELECT max(created_us) + 1 FROM dictionaries), 0)), ?4, ?5, ?6, ?7, ?8
 FROM trainings WHERE id = ?1`

	// Some payloads of some items, 4 MB of rows at most, by the item they are of.
	sqlSampleEpisodes = `WITH chosen AS MATERIALIZED (SELECT seq, random() AS r FROM episodes ORDER BY r LIMIT 200),
 several AS (SELECT seq, r, 0 AS first, payload FROM chosen JOIN episodes USING (seq)
  UNION ALL SELECT seq, r, first, payload FROM chosen JOIN runs ON place > (seq << 24) AND place <= (seq << 24) + 10)
 SELECT seq, payload FROM (SELECT seq, payload, sum(length(payload)) OVER (ORDER BY r, first) AS upto
  FROM several WHERE length(payload) <= 262144) WHERE upto <= 4000000`
	sqlSamplePatterns = `WITH chosen AS MATERIALIZED (SELECT random() AS r, payload FROM (SELECT payload FROM patterns
  UNION ALL SELECT payload FROM heuristics UNION ALL SELECT payload FROM relations) WHERE length(payload) <= 262144 ORDER BY r LIMIT 200)
 SELECT r, payload FROM (SELECT r, payload, sum(length(payload)) OVER (ORDER BY r) AS upto FROM chosen) WHERE upto <= 4000000`
)

// dictionaryRow is a dictionary in the form of its row, or, without one, an
// attempt to train one.
type dictionaryRow struct {
	id         uint32
	kind       Kind
	items      int64 // how many there were of the kind, as far as it matters
	samples    int
	ratio      float64
	removals   int64 // at the time of sampling
	dictionary *codec.Dictionary
}

// insert returns the statements that store the row, unless another one was stored
// of as many items.
func (r *dictionaryRow) insert(now time.Time) []engine.Stmt {
	stmts := []engine.Stmt{{SQL: sqlInsertTraining, Args: []any{int64(r.id), r.kind.String(), r.items}}}
	if r.dictionary == nil {
		return stmts
	}
	content := r.dictionary.Bytes()
	sum := sha256.Sum256(content)
	return append(stmts, engine.Stmt{SQL: sqlInsertDictionary, Args: []any{
		int64(r.id), TagOf(r.id), now.UnixMicro(), int64(r.samples), r.ratio, r.removals, sum[:], content,
	}})
}

// TagOf returns the id of a trained dictionary as frames hold it.
func TagOf(id uint32) []byte { return codec.Prefix(codec.Zstd, id, false)[2:] }

// readDictionary reads a dictionary of the database.
func readDictionary(ctx context.Context, e engine.Engine, id uint32) (*codec.Dictionary, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlGetDictionary, Args: []any{int64(id)}})
	if err != nil {
		return nil, fmt.Errorf("read dictionary %d: %w", id, err)
	}
	if len(r[0].Rows) == 0 {
		return nil, fmt.Errorf("%w: dictionary %d is %w", ErrCorrupt, id, errDictionaryGone)
	}
	in := engine.Row{Values: r[0].Rows[0]}
	content, sum := in.Blob(0), in.Blob(1)
	if in.Err != nil {
		return nil, fmt.Errorf("%w: dictionary %d: %w", ErrCorrupt, id, in.Err)
	}
	if got := sha256.Sum256(content); string(got[:]) != string(sum) {
		return nil, fmt.Errorf("%w: dictionary %d in the database is not what was stored: its hash differs", ErrCorrupt, id)
	}
	d, err := codec.NewDictionary(id, content)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return d, nil
}

// dictionaryState is a row of sqlDictionaryState.
type dictionaryState struct {
	id      uint32 // of the active dictionary; 0: none
	sum     []byte // SHA-256 of its content
	ratio   float64
	tainted bool // it may hold text that no item holds any more
	// items is how many there are, as far as it matters, trained how many there were
	// at the last training.
	items, trained int64
}

func stateFrom(row []any) (k Kind, s dictionaryState, err error) {
	in := engine.Row{Values: row}
	name := in.Text(0)
	if row[1] != nil {
		s.id, s.ratio, s.tainted, s.sum = uint32(in.Int(1)), in.Float(2), in.Int(3) != 0, in.Blob(6)
	}
	s.items = in.Int(4)
	if row[5] != nil {
		s.trained = in.Int(5)
	}
	if in.Err != nil {
		return k, s, fmt.Errorf("dictionaries: %w: %w", ErrCorrupt, in.Err)
	}
	for k.String() != name {
		if k++; k == kinds {
			return k, s, fmt.Errorf("dictionaries: %w: there is no kind %q", ErrCorrupt, name)
		}
	}
	return k, s, nil
}
