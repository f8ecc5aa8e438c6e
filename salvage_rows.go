package episodic

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/episodic-memory/episodic/internal/doctor"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

// salvager stores the rows of a damaged file in a new one.
type salvager struct {
	engine  engine.Engine
	atlas   *doctor.Atlas
	stmts   []engine.Stmt
	refused int64
}

// source is where rows of a table come from.
type source struct {
	table string // of the new file, whose columns its rows have
	name  string // of the tree, if it is another one
	// columns are those of the tree, if it is another one.
	columns []doctor.Column
	index   bool
	reached bool // see doctor.Table
	least   int  // see doctor.Table
	// where is a condition on the row, with numbered arguments.
	where string
	// fit changes the values of some columns, by their names.
	fit map[string]any
	// convert makes a row of the table; nil: there is none to be made.
	convert func(row []any) []any
}

// known is a table of the new file that holds, while it is made, which items the old one held.
const known = "salvage_known"

// sources are in the order in which the rows are stored: what is referred to comes first.
func sources() []source {
	integer := func(name string) doctor.Column { return doctor.Column{Name: name, Type: "INTEGER", NotNull: true} }
	blob := func(name string) doctor.Column { return doctor.Column{Name: name, Type: "BLOB", NotNull: true} }
	id, number := blob("id"), integer("n")
	number.Rowid = true
	oldID := number
	oldID.Name = "id"
	none := doctor.Column{Name: "gone_us", Type: "INTEGER"}
	key := doctor.Column{Name: "key", Type: "BLOB"}
	return []source{
		{table: "scopes"},
		// None is closed, or rows that name it would be refused, and all may hold text of what was
		// deleted, so that the next compaction replaces them.
		{table: "dictionaries", fit: map[string]any{"removals": int64(-1), "closed": int64(0)}},
		// Those of a file of before schema 5, where one that is not used any more has no content.
		{
			table: "dictionaries", columns: []doctor.Column{
				oldID, {Name: "kind", Type: "TEXT", NotNull: true}, integer("created_us"), integer("items"), integer("samples"),
				{Name: "ratio", Type: "REAL", NotNull: true}, {Name: "retired_us", Type: "INTEGER"}, blob("sha256"), blob("content"),
			},
			convert: func(row []any) []any {
				if len(row[8].([]byte)) == 0 {
					return nil
				}
				return []any{row[0], payload.TagOf(uint32(row[0].(int64))), row[1], row[2], row[4], row[5], int64(-1), int64(0), row[7], row[8]}
			},
		},
		{table: "models", least: 5, fit: map[string]any{"done": int64(0)}},
		{table: "episodes"},
		{table: "runs"},
		// The steps of a file of before schema 7.
		{
			table: "runs", columns: []doctor.Column{integer("episode"), integer("first"), integer("count"), key, blob("payload")},
			convert: func(row []any) []any {
				return []any{row[0].(int64)<<24 + row[1].(int64), row[2], row[3], row[4]}
			},
		},
		{table: "tags", reached: true, where: "EXISTS (SELECT 1 FROM episodes WHERE seq = ?2)"},
		{
			table: "tags", name: "tags_by_episode", index: true, columns: []doctor.Column{integer("episode"), integer("pos"), {Name: "tag", Type: "TEXT", NotNull: true}},
			where: "EXISTS (SELECT 1 FROM episodes WHERE seq = ?2)", convert: func(row []any) []any { return []any{row[2], row[0], row[1]} },
		},
		{table: "relations", where: "EXISTS (SELECT 1 FROM episodes WHERE seq = ?1) AND EXISTS (SELECT 1 FROM episodes WHERE seq = ?3)"},
		{table: "patterns"},
		{table: "heuristics"},
		{table: "embeddings"},
		{table: "document_vectors"},
		{table: "conflicts"},
		{table: "kept_steps", reached: true},
		{table: "imports"},
		{table: "pushed"},
		{
			table: known, name: "feed", columns: []doctor.Column{number, integer("kind"), blob("item"), integer("scope"), none},
			convert: func(row []any) []any {
				if row[4] != nil || row[1].(int64) > 3 {
					return nil // it was deleted, or is a set of relations or embeddings
				}
				return []any{row[1], row[2]}
			},
		},
		{
			table: known, name: "sqlite_autoindex_episodes_1", index: true, reached: true, columns: []doctor.Column{id, integer("seq")},
			convert: func(row []any) []any { return []any{int64(1), row[0]} },
		},
	}
}

func (w *salvager) run(ctx context.Context, file *doctor.File) error {
	if _, err := w.engine.Batch(ctx, engine.Stmt{SQL: "CREATE TABLE " + known + "(kind INTEGER, item BLOB, PRIMARY KEY(kind, item)) WITHOUT ROWID"}); err != nil {
		return err
	}
	list := sources()
	tables := make([]doctor.Table, len(list))
	inserts := make([]string, len(list))
	for i, s := range list {
		t, err := w.tableOf(ctx, s.table)
		if err != nil {
			return err
		}
		inserts[i] = insertOf(&t, s.where)
		if s.columns != nil {
			t.Columns, t.Index = s.columns, s.index
		}
		if s.name != "" {
			t.Name = s.name
		}
		t.Reached, t.Least = s.reached, s.least
		tables[i] = t
	}
	var err error
	if w.atlas, err = file.Chart(tables); err != nil {
		return err
	}
	for i, s := range list {
		for row, err := range w.atlas.Rows(i) {
			if err != nil {
				return err
			}
			for c, col := range tables[i].Columns {
				if v, ok := s.fit[col.Name]; ok {
					row[c] = v
				}
			}
			if s.convert != nil {
				if row = s.convert(row); row == nil {
					continue
				}
			}
			if err := w.add(ctx, engine.Stmt{SQL: inserts[i], Args: row}); err != nil {
				return err
			}
		}
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// tableOf is how a table of the new file stores its rows.
func (w *salvager) tableOf(ctx context.Context, name string) (t doctor.Table, err error) {
	r, err := w.engine.Query(ctx,
		engine.Stmt{SQL: `SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?`, Args: []any{name}},
		engine.Stmt{SQL: `SELECT name, type, "notnull", ifnull(dflt_value, ''), pk FROM pragma_table_xinfo(?) WHERE hidden = 0`, Args: []any{name}})
	if err != nil {
		return t, err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	t = doctor.Table{Name: name, Index: in.Int(0) != 0}
	var keys []int64
	keyed := 0
	for _, row := range r[1].Rows {
		in.Values = row
		col := doctor.Column{Name: in.Text(0), Type: in.Text(1), NotNull: in.Int(2) != 0}
		if n, err := strconv.ParseInt(in.Text(3), 10, 64); err == nil {
			col.Default = n
		}
		t.Columns, keys = append(t.Columns, col), append(keys, in.Int(4))
		if in.Int(4) > 0 {
			keyed++
		}
	}
	if in.Err != nil {
		return t, in.Err
	}
	for i, key := range keys {
		if key == 1 && keyed == 1 && !t.Index && t.Columns[i].Type == "INTEGER" {
			t.Columns[i].Rowid = true
		}
	}
	if t.Index { // the key comes first
		sorted := make([]doctor.Column, 0, len(t.Columns))
		for n := int64(1); n <= int64(keyed); n++ {
			sorted = append(sorted, t.Columns[slices.Index(keys, n)])
		}
		for i, key := range keys {
			if key == 0 {
				sorted = append(sorted, t.Columns[i])
			}
		}
		t.Columns = sorted
	}
	return t, nil
}

// insertOf inserts a row unless there is one of the same key.
func insertOf(t *doctor.Table, where string) string {
	var names, marks []string
	for i, col := range t.Columns {
		names, marks = append(names, col.Name), append(marks, fmt.Sprintf("?%d", i+1))
	}
	sql := fmt.Sprintf("INSERT OR IGNORE INTO %s(%s) SELECT %s", t.Name, strings.Join(names, ", "), strings.Join(marks, ", "))
	if where != "" {
		sql += " WHERE " + where
	}
	return sql
}

// How much is stored in one transaction.
const (
	salvageRowsAtOnce = 256
	salvageBytes      = 1 << 20
)

func (w *salvager) add(ctx context.Context, s engine.Stmt) error {
	w.stmts = append(w.stmts, s)
	if len(w.stmts) >= salvageRowsAtOnce || engine.Size(w.stmts) >= salvageBytes {
		return w.flush(ctx)
	}
	return nil
}

// flush stores what was added.
func (w *salvager) flush(ctx context.Context) error {
	stmts := w.stmts
	w.stmts = nil
	return w.store(ctx, stmts)
}

// store stores rows without those that a trigger or a constraint refuses.
func (w *salvager) store(ctx context.Context, stmts []engine.Stmt) error {
	if len(stmts) == 0 {
		return nil
	}
	_, err := w.engine.Batch(ctx, stmts...)
	switch kind := engine.KindOf(err); {
	case kind != engine.KindConstraint && kind != engine.KindUnique:
		return err
	case len(stmts) == 1:
		w.refused++
		return nil
	}
	half := len(stmts) / 2
	if err := w.store(ctx, stmts[:half:half]); err != nil {
		return err
	}
	return w.store(ctx, stmts[half:])
}

// lost returns the items that the old file held and the new one does not, and ends the
// table that tells the former.
func (w *salvager) lost(ctx context.Context) (items []LostItem, n int64, err error) {
	const kinds = `(SELECT 1 AS k, 'episode' AS kind UNION ALL SELECT 2, 'pattern' UNION ALL SELECT 3, 'heuristic')`
	r, err := w.engine.Query(ctx, engine.Stmt{SQL: fmt.Sprintf(`SELECT t.kind, item, count(*) OVER () FROM %s h JOIN %s t ON k = h.kind
 WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.id = item AND items.kind = t.kind) ORDER BY 1, 2 LIMIT %d`, known, kinds, maxLost)})
	if err != nil {
		return nil, 0, err
	}
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		kind := ItemKind(in.Text(0))
		if n = in.Int(2); in.Err != nil {
			return nil, 0, in.Err
		}
		if id, err := idFrom(row[1]); err == nil {
			items = append(items, LostItem{kind, id})
		}
	}
	_, err = w.engine.Batch(ctx, engine.Stmt{SQL: "DROP TABLE " + known})
	return items, n, err
}
