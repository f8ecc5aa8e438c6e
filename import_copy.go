package episodic

import (
	"context"
	"encoding/json"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	sqlImportsAfter = `SELECT lower(hex(item)), lower(hex(hash)) FROM imports WHERE item > unhex(?) ORDER BY item LIMIT 1000`
	sqlCopyImports  = `INSERT INTO imports SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each(?) WHERE true ON CONFLICT DO NOTHING`
)

// importsOf is what a memory knows of imports, as parameters of sqlCopyImports. They are to be read
// before the episodes are copied, and stored after them: a record that is known, and whose episode
// is not there, is taken for deleted.
func importsOf(ctx context.Context, e engine.Engine) (lists []string, err error) {
	for last := any(""); ; {
		res, err := e.Query(ctx, engine.Stmt{SQL: sqlImportsAfter, Args: []any{last}})
		if err != nil || len(res[0].Rows) == 0 {
			return lists, err
		}
		last = res[0].Rows[len(res[0].Rows)-1][0]
		list, err := json.Marshal(res[0].Rows)
		if err != nil {
			return nil, err
		}
		lists = append(lists, string(list))
	}
}

func copyImports(ctx context.Context, e engine.Engine, lists []string) error {
	for _, list := range lists {
		if _, err := e.Repeatable(ctx, engine.Stmt{SQL: sqlCopyImports, Args: []any{list}}); err != nil {
			return err
		}
	}
	return nil
}
