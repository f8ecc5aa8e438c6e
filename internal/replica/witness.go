package replica

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// An older copy of the server's database has the same life, and after a while numbers as
// high. So some changes that were pulled last are kept as witnesses: the item of each must
// still have its number, or one that is not here yet.
const (
	maxWitnesses = 8

	sqlForgetWitnesses = `DELETE FROM witness WHERE item IN (SELECT unhex(value) FROM json_each(?))`
	sqlWitness         = `INSERT OR REPLACE INTO witness VALUES(?,?)`
	sqlFewWitnesses    = `DELETE FROM witness WHERE n NOT IN (SELECT n FROM witness ORDER BY n DESC LIMIT 8)`
	sqlNoWitnesses     = `DELETE FROM witness`
	sqlWitnesses       = `SELECT n, lower(hex(item)) FROM witness`

	// How many of them contradict. Parameters are the witnesses and upto.
	sqlAskWitnesses = `SELECT count(*) FROM json_each(?1) w WHERE EXISTS (SELECT 1 FROM feed WHERE n = w.value ->> 0 AND item <> unhex(w.value ->> 1))
 OR NOT EXISTS (SELECT 1 FROM feed WHERE item = unhex(w.value ->> 1) AND (n = w.value ->> 0 OR n > ?2))`
)

// witnesses returns the statements that keep the page's last changes, those included that
// are not stored here. Deletions are none: the server forgets them.
func (p *fetched) witnesses() []engine.Stmt {
	changes := p.told
	if changes == nil {
		changes = p.changes
	}
	items := make([]string, len(changes))
	var kept []engine.Stmt
	for i := len(changes) - 1; i >= 0; i-- {
		c := &changes[i]
		items[i] = hex.EncodeToString(c.item)
		if !c.gone && len(kept) < maxWitnesses {
			kept = append(kept, engine.Stmt{SQL: sqlWitness, Args: []engine.Value{c.n, c.item}})
		}
	}
	list, _ := json.Marshal(items) // texts can always be marshalled
	stmts := append([]engine.Stmt{{SQL: sqlForgetWitnesses, Args: []engine.Value{string(list)}}}, kept...)
	return append(stmts, engine.Stmt{SQL: sqlFewWitnesses})
}

// askWitnesses returns the statement that asks the server how many witnesses contradict.
func (r *Replica) askWitnesses(ctx context.Context, p position) (engine.Stmt, error) {
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlWitnesses})
	if err != nil {
		return engine.Stmt{}, fmt.Errorf("read the replica's witnesses: %w", err)
	}
	list := "[]"
	if len(res[0].Rows) > 0 {
		text, err := json.Marshal(res[0].Rows)
		if err != nil {
			return engine.Stmt{}, err
		}
		list = string(text)
	}
	return engine.Stmt{SQL: sqlAskWitnesses, Args: []engine.Value{list, p.upto}}, nil
}
