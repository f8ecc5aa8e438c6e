package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	sqlDictionaryUse = `SELECT * FROM dictionary_use`
	sqlGetDictionary = `SELECT content, sha256 FROM dictionaries WHERE id = ?`
	sqlDictionaryIDs = `SELECT id FROM dictionaries`

	// Clocks differ, but a later dictionary is always the newer one. Of several
	// processes that train at once, the first one stores.
	sqlInsertDictionary = `INSERT INTO dictionaries(id, kind, created_us, items, samples, ratio, retired_us, sha256, content)
 SELECT ?, ?, max(?, coalesce((SELECT max(created_us) + 1 FROM dictionaries), 0)), ?, ?, ?, ?, ?, ?
 WHERE NOT EXISTS (SELECT 1 FROM dictionaries WHERE kind = ? AND items >= ?)`

	// Some payloads of some items, 4 MB of rows at most, by the item they are of.
	sqlSampleEpisodes = `WITH chosen AS MATERIALIZED (SELECT seq, random() AS r FROM episodes ORDER BY r LIMIT 200),
 several AS (SELECT seq, r, 0 AS first, payload FROM chosen JOIN episodes USING (seq)
  UNION ALL SELECT seq, r, first, payload FROM chosen JOIN runs ON episode = seq AND first <= 10)
 SELECT seq, payload FROM (SELECT seq, payload, sum(length(payload)) OVER (ORDER BY r, first) AS upto
  FROM several WHERE length(payload) <= 262144) WHERE upto <= 4000000`
	sqlSamplePatterns = `WITH chosen AS MATERIALIZED (SELECT random() AS r, payload FROM (SELECT payload FROM patterns
  UNION ALL SELECT payload FROM heuristics UNION ALL SELECT payload FROM relations) WHERE length(payload) <= 262144 ORDER BY r LIMIT 200)
 SELECT r, payload FROM (SELECT r, payload, sum(length(payload)) OVER (ORDER BY r) AS upto FROM chosen) WHERE upto <= 4000000`
)

// Bounds of what is trained with, in plain bytes: of a payload, more than whose
// beginning a dictionary does not take from, and of all.
const (
	maxSample  = 64 << 10
	maxSamples = 16 << 20
)

// dictionarySizes are those for long payloads and for short ones, in bytes.
var dictionarySizes = [...]int{Episodes: 112 << 10, Patterns: 32 << 10}

// dictionaryRow is a dictionary in the form of its row, or, without one, an
// attempt to train one.
type dictionaryRow struct {
	kind       Kind
	items      int64 // how many there were of the kind, as far as it matters
	samples    int
	ratio      float64
	dictionary *codec.Dictionary
}

// insert returns the statement that stores the row under the id.
func (r *dictionaryRow) insert(id uint32, now time.Time) engine.Stmt {
	content, retired := []byte{}, any(now.UnixMicro())
	if r.dictionary != nil {
		content, retired = r.dictionary.Bytes(), nil
	}
	sum := sha256.Sum256(content)
	return engine.Stmt{SQL: sqlInsertDictionary, Args: []any{
		int64(id), r.kind.String(), now.UnixMicro(), r.items, int64(r.samples), r.ratio, retired, sum[:], content,
		r.kind.String(), r.items,
	}}
}

// dictionary reads a dictionary of the database.
func readDictionary(ctx context.Context, e engine.Engine, id uint32) (*codec.Dictionary, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlGetDictionary, Args: []any{int64(id)}})
	if err != nil {
		return nil, fmt.Errorf("read dictionary %d: %w", id, err)
	}
	if len(r[0].Rows) == 0 {
		return nil, fmt.Errorf("%w: dictionary %d is not in the database", ErrCorrupt, id)
	}
	in := engine.Row{Values: r[0].Rows[0]}
	content, sum := in.Blob(0), in.Blob(1)
	if in.Err != nil {
		return nil, fmt.Errorf("%w: dictionary %d: %w", ErrCorrupt, id, in.Err)
	}
	if len(content) == 0 {
		return nil, fmt.Errorf("%w: dictionary %d is not in the database any more", ErrCorrupt, id)
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

// dictionaryUse is a row of sqlDictionaryUse.
type dictionaryUse struct {
	kind  Kind
	id    uint32 // of the dictionary to write with; 0: none
	ratio float64
	// items is how many there are, as far as it matters, trained how many there were
	// at the last training.
	items, trained int64
}

// milestones are the numbers of items at which a dictionary is trained. One of
// 20 episodes of tau-bench makes others a tenth larger than one of 60.
var milestones = [...]int64{2000, 600, 200, 60, 20}

func dictionaryUseFrom(row []any) (use dictionaryUse, err error) {
	in := engine.Row{Values: row}
	name := in.Text(0)
	if row[1] != nil {
		use.id, use.ratio = uint32(in.Int(1)), in.Float(2)
	}
	use.items = in.Int(3)
	if row[4] != nil {
		use.trained = in.Int(4)
	}
	if in.Err != nil {
		return use, fmt.Errorf("dictionaries: %w: %w", ErrCorrupt, in.Err)
	}
	for use.kind.String() != name {
		if use.kind++; use.kind == kinds {
			return use, fmt.Errorf("dictionaries: %w: there is no kind %q", ErrCorrupt, name)
		}
	}
	return use, nil
}

// due returns what is recorded as the number of items if a dictionary is trained
// now; 0 if it is not time, and nobody asked for it.
func (u *dictionaryUse) due(asked bool) int64 {
	for _, m := range milestones {
		if u.items >= m && u.trained < m {
			return m
		}
	}
	if asked && u.items >= milestones[len(milestones)-1] {
		return u.trained + 1
	}
	return 0
}

// sample reads some payloads of the kind to train with, and an id that is free.
func (d *dictionaries) sample(ctx context.Context, k Kind) ([]codec.Sample, uint32, error) {
	sql := [...]string{Episodes: sqlSampleEpisodes, Patterns: sqlSamplePatterns}[k]
	r, err := d.engine.Query(ctx, engine.Stmt{SQL: sqlDictionaryIDs}, engine.Stmt{SQL: sql})
	if err != nil {
		return nil, 0, err
	}
	taken := make(map[int64]bool)
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		taken[in.Int(0)] = true
		if in.Err != nil {
			return nil, 0, fmt.Errorf("dictionaries: %w: %w", ErrCorrupt, in.Err)
		}
	}
	id := codec.MinTrainedID + rand.Uint32N(codec.MaxTrainedID-codec.MinTrainedID+1)
	for taken[int64(id)] {
		id = codec.MinTrainedID + rand.Uint32N(codec.MaxTrainedID-codec.MinTrainedID+1)
	}
	samples, err := d.samplesFrom(ctx, k, r[1].Rows)
	return samples, id, err
}

// samplesFrom reads rows of an item and a payload. A row that is damaged teaches
// nothing. What has the same task, or is of the same item, is one group.
func (d *dictionaries) samplesFrom(ctx context.Context, k Kind, rows [][]any) ([]codec.Sample, error) {
	var samples []codec.Sample
	tasks := make(map[string]string) // by item
	var buf []byte
	plain := 0
	for _, row := range rows {
		if plain >= maxSamples {
			break
		}
		var text []byte
		var err error
		buf, text, err = d.codec.decode(ctx, buf[:0], row[1])
		if errors.Is(err, ErrCorrupt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		item := fmt.Sprint(row[0])
		if _, found := tasks[item]; !found {
			var head struct {
				Description string `json:"description"`
			}
			if k == Episodes && json.Unmarshal(text, &head) == nil && head.Description != "" {
				tasks[item] = head.Description
			} else {
				tasks[item] = "item " + item
			}
		}
		text = bytes.Clone(text[:min(len(text), maxSample)])
		plain += len(text)
		samples = append(samples, codec.Sample{Group: tasks[item], Data: text})
	}
	return samples, nil
}
