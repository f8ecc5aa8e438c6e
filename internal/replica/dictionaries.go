package replica

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	sqlHeldDictionaries = `SELECT id, lower(hex(sha256)) FROM dictionaries`
	// Those that are here come without their content.
	sqlFetchDictionaries = `SELECT d.id, tag, kind, created_us, samples, ratio, removals, sha256,
 iif(EXISTS (SELECT 1 FROM json_each(?1) h WHERE h.value ->> 0 = d.id AND unhex(h.value ->> 1) = sha256), NULL, content) FROM dictionaries d`
	sqlStoreDictionary = `INSERT INTO dictionaries(id, tag, kind, created_us, samples, ratio, removals, sha256, content) VALUES(?,?,?,?,?,?,?,?,?)
 ON CONFLICT DO NOTHING`
	sqlDictionaryHash = `SELECT sha256 FROM dictionaries WHERE id = ?`
)

// dictionary is a dictionary of the server.
type dictionary struct {
	id     int64
	sha256 []byte
	values []engine.Value // columns; nil: it is here
}

// heldDictionaries tells the server which dictionaries are here, as JSON.
func (r *Replica) heldDictionaries(ctx context.Context) (string, error) {
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlHeldDictionaries})
	if err != nil {
		return "", fmt.Errorf("read the replica's dictionaries: %w", err)
	}
	if len(res[0].Rows) == 0 {
		return "[]", nil
	}
	text, err := json.Marshal(res[0].Rows)
	return string(text), err
}

func dictionariesFrom(rows [][]engine.Value) ([]dictionary, error) {
	list := make([]dictionary, len(rows))
	for i, row := range rows {
		in := engine.Row{Values: row}
		d := dictionary{id: in.Int(0), sha256: in.Blob(7)}
		if row[8] != nil {
			d.values = row
		}
		if list[i] = d; in.Err != nil {
			return nil, fmt.Errorf("dictionary %v of the server: %w", row[0], in.Err)
		}
	}
	return list, nil
}

// storeDictionaries stores those that are not here, before the payloads that name them:
// these are decoded for the search index before they are stored.
func (r *Replica) storeDictionaries(ctx context.Context, list []dictionary) error {
	for _, d := range list {
		if d.values == nil {
			continue
		}
		if _, err := r.cfg.Local.Repeatable(ctx, engine.Stmt{SQL: sqlStoreDictionary, Args: d.values}); err != nil {
			return fmt.Errorf("store dictionary %d: %w", d.id, err)
		}
		res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlDictionaryHash, Args: []engine.Value{d.id}})
		if err != nil {
			return fmt.Errorf("store dictionary %d: %w", d.id, err)
		}
		if len(res[0].Rows) != 1 || !bytes.Equal(res[0].Rows[0][0].([]byte), d.sha256) {
			return fmt.Errorf("%w: dictionary %x… has the number of another one that is here", ErrReset, hex.EncodeToString(d.sha256[:4]))
		}
	}
	return nil
}

// lacking returns the ids of those that are here which the server does not have. Both are
// JSON arrays.
func lacking(here, there string) (gone []int64, err error) {
	if here == there {
		return nil, nil
	}
	var a, b []int64
	if err := errors.Join(json.Unmarshal([]byte(here), &a), json.Unmarshal([]byte(there), &b)); err != nil {
		return nil, err
	}
	for _, id := range a {
		if !slices.Contains(b, id) {
			gone = append(gone, id)
		}
	}
	return gone, nil
}

const (
	names         = `substr(payload, 1, 1) = x'02' AND substr(payload, 3, 3) = (SELECT tag FROM dictionaries WHERE id = ?1)`
	sqlItemsNamed = `SELECT id FROM episodes WHERE ` + names + ` UNION SELECT id FROM patterns WHERE ` + names + ` UNION SELECT id FROM heuristics WHERE ` + names + `
 UNION SELECT id FROM episodes WHERE seq IN (SELECT episode FROM runs WHERE ` + names + ` UNION SELECT src FROM relations WHERE ` + names + `)
 UNION SELECT src FROM relations_waiting WHERE ` + names
	sqlDropDictionary = `DELETE FROM dictionaries WHERE id = ?1 AND NOT EXISTS (` + sqlItemsNamed + `)`
)

// dropDictionaries deletes dictionaries that a compaction of the server has deleted, so that
// no text of deleted items stays in them. It changes no revision, so what names them is
// fetched again. One that pinned items name stays until they are pinned no more. It reports
// whether any was deleted.
func (r *Replica) dropDictionaries(ctx context.Context, gone []int64) (dropped bool, err error) {
	for _, id := range gone {
		res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlItemsNamed, Args: []engine.Value{id}})
		if err != nil {
			return dropped, fmt.Errorf("find what names dictionary %d: %w", id, err)
		}
		ids := make([][16]byte, 0, len(res[0].Rows))
		for _, row := range res[0].Rows {
			if item, ok := idOf(row[0]); ok {
				ids = append(ids, item)
			}
		}
		if err := r.refetch(ctx, ids, false); err != nil {
			return dropped, err
		}
		res, err = r.cfg.Local.Repeatable(ctx, engine.Stmt{SQL: sqlDropDictionary, Args: []engine.Value{id}})
		if err != nil {
			return dropped, fmt.Errorf("delete dictionary %d: %w", id, err)
		}
		dropped = dropped || res[0].Affected > 0
	}
	return dropped, nil
}
