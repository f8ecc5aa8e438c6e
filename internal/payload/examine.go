package payload

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
)

// DictionaryState is what became of a dictionary.
type DictionaryState struct {
	ID    uint32
	Bytes int64
	// Missing: payloads name it, and it is not stored. Damaged says why one that is stored
	// cannot be used; nil: it can.
	Missing bool
	Damaged error
	Active  bool  // payloads are written with it
	Used    int64 // payloads that name it
}

// hasDictionary is the condition that a payload is a frame that names a dictionary of the
// database, as the triggers of the schema tell one.
const hasDictionary = `substr(payload, 1, 1) = x'02' AND substr(payload, 3, 1) >= x'80' AND substr(payload, 4, 1) >= x'80'`

// Dictionaries reads all dictionaries of a database, and counts who names them.
func Dictionaries(ctx context.Context, e engine.Engine) ([]DictionaryState, error) {
	parts := make([]string, len(tables))
	for i := range tables {
		parts[i] = `SELECT substr(payload, 3, 3) AS tag FROM ` + tables[i].table + ` WHERE ` + hasDictionary
	}
	r, err := e.Query(ctx,
		engine.Stmt{SQL: `SELECT id, tag, length(content), closed = 0 AND created_us = (SELECT max(created_us) FROM dictionaries n WHERE n.kind = d.kind AND closed = 0) FROM dictionaries d ORDER BY id`},
		engine.Stmt{SQL: `SELECT tag, count(*) FROM (` + strings.Join(parts, " UNION ALL ") + `) GROUP BY tag ORDER BY tag`})
	if err != nil {
		return nil, err
	}
	used := make(map[string]int64)
	for _, row := range r[1].Rows {
		in := engine.Row{Values: row}
		used[string(in.Blob(0))] = in.Int(1)
		if in.Err != nil {
			return nil, in.Err
		}
	}
	var list []DictionaryState
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		tag := string(in.Blob(1))
		d := DictionaryState{ID: uint32(in.Int(0)), Bytes: in.Int(2), Active: in.Int(3) != 0, Used: used[tag]}
		if in.Err != nil {
			return nil, fmt.Errorf("dictionaries: %w: %w", ErrCorrupt, in.Err)
		}
		delete(used, tag)
		if _, err := readDictionary(ctx, e, d.ID); errors.Is(err, ErrCorrupt) {
			d.Damaged = err
		} else if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	for _, row := range r[1].Rows {
		if tag := row[0].([]byte); used[string(tag)] > 0 {
			list = append(list, DictionaryState{ID: idOf(tag), Missing: true, Used: used[string(tag)]})
		}
	}
	return list, nil
}

// idOf is the id that a tag of three bytes stands for.
func idOf(tag []byte) (id uint32) {
	for i := len(tag) - 1; i >= 0; i-- {
		id = id<<7 | uint32(tag[i]&0x7f)
	}
	return id
}
