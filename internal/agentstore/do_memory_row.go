package agentstore

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// memoryRow is a row of such a database, with what belongs to it.
type memoryRow struct {
	Table   string                 `json:"table"`
	Row     int64                  `json:"row,omitempty"` // its rowid
	Columns columns                `json:"columns,omitempty"`
	Of      map[string]columnsList `json:"of,omitempty"`     // rows of other tables that belong to it
	Orphan  bool                   `json:"orphan,omitempty"` // it belongs to a row that is not there
	Error   string                 `json:"error,omitempty"`  // why the row, or the rest of the table, cannot be read
	Rows    int                    `json:"rows,omitempty"`   // how many there are, of a table that is not read
}

type (
	columns     map[string]any
	columnsList []columns
)

// ids are the rowids of a table, as far as they can be read. Indexes are not asked: one of vectors
// is empty for SQLite.
func (m *memory) ids(ctx context.Context, table, where, order string, args ...any) (ids []int64, err error) {
	err = each(ctx, m.db, "SELECT rowid FROM "+quote(table)+" NOT INDEXED WHERE "+where+" ORDER BY "+order, args, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// row reads a row, and what belongs to it.
func (m *memory) row(ctx context.Context, r *memoryRow, t memoryTable, seen map[string]columnsList) error {
	list, err := m.list(ctx, t.name, "rowid = ?", r.Row)
	if err != nil || len(list) == 0 {
		return err
	}
	r.Columns, r.Of = list[0], make(map[string]columnsList)
	id := list[0][t.id]
	if name, ok := id.(string); ok && len(seen[name]) > 0 {
		r.Of["episodes"] = seen[name]
	}
	if t.name != "episodes" {
		return nil
	}
	for _, b := range belongings {
		if m.tables[b.table] == nil || b.by != "" && m.tables[b.by] == nil {
			continue
		}
		if list, err = m.list(ctx, b.table, b.of, id); err != nil {
			return fmt.Errorf("%s: %w", b.table, err)
		}
		if len(list) > 0 {
			r.Of[b.table] = list
		}
	}
	return nil
}

// list are rows of a table. What is NULL is left out.
func (m *memory) list(ctx context.Context, table, where string, args ...any) (list columnsList, err error) {
	err = each(ctx, m.db, "SELECT * FROM "+quote(table)+" WHERE "+where, args, func(rows *sql.Rows) error {
		names, err := rows.Columns()
		if err != nil {
			return err
		}
		values, to := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			return err
		}
		c := make(columns)
		for i, name := range names {
			if values[i] != nil {
				c[name] = jsonOf(values[i])
			}
		}
		list = append(list, c)
		return nil
	})
	return list, err
}

// jsonOf is a value of a column as JSON can have it. What is no text in UTF-8 is an object with
// the bytes.
func jsonOf(value any) any {
	switch v := value.(type) {
	case []byte:
		return map[string]string{"$bytes": base64.StdEncoding.EncodeToString(v)}
	case string:
		if !utf8.ValidString(v) {
			return jsonOf([]byte(v))
		}
	case float64:
		if math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
	case time.Time: // the driver reads columns of some types so
		return v.UTC().Format(time.RFC3339Nano)
	}
	return value
}

// damaged reports whether an error is that of a damaged page: other rows can be read.
func damaged(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_CORRUPT
}

// quote is a name in SQL.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
