package payload

import (
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	// By the database's clock: those of its users differ. A dictionary is forgotten
	// a week after it was retired, in case a writer uses it still, which is far
	// longer than useFor and any call.
	databaseNow = `CAST(unixepoch('subsec') * 1000000 AS INTEGER)`
	longRetired = `retired_us < ` + databaseNow + ` - 7 * 86400000000 AND length(content) > 0`

	sqlRetireDictionaries = `UPDATE dictionaries SET retired_us = ` + databaseNow + ` WHERE retired_us IS NULL AND created_us <
 (SELECT max(created_us) FROM dictionaries newer WHERE newer.kind = dictionaries.kind AND newer.retired_us IS NULL)`
	sqlForgettable = `SELECT id FROM dictionaries WHERE ` + longRetired
)

// table is a table with a column payload, and how its rows are compressed
// again.
type table struct {
	kind  Kind
	table string
	keys  []string // columns that the rows are sorted by
	start []any    // comes before all keys
	from  string   // the table, and what else the guards need
	// guards are columns whose values tell that the payload is what was read: the
	// revision of an episode changes with every write of it and of its runs, except
	// when steps are added; rows without one are compared as a whole.
	guards []string
	sqlPut string // with the payload, the keys and the guards for arguments
}

var tables = []table{
	{
		kind: Episodes, table: "episodes", keys: []string{"seq"}, start: []any{int64(-1)},
		from: "episodes", guards: []string{"rev"},
		sqlPut: "UPDATE episodes SET payload = ? WHERE seq = ? AND rev = ?",
	},
	{
		kind: Episodes, table: "runs", keys: []string{"episode", "first"}, start: []any{int64(-1), int64(-1)},
		from: "runs JOIN episodes ON seq = episode", guards: []string{"count", "rev"},
		sqlPut: "UPDATE runs SET payload = ? WHERE episode = ? AND first = ? AND count = ? AND (SELECT rev FROM episodes WHERE seq = episode) = ?",
	},
	{
		kind: Patterns, table: "patterns", keys: []string{"seq"}, start: []any{int64(-1)}, from: "patterns",
		sqlPut: "UPDATE patterns SET payload = ? WHERE seq = ? AND payload = ?",
	},
	{
		kind: Patterns, table: "heuristics", keys: []string{"seq"}, start: []any{int64(-1)}, from: "heuristics",
		sqlPut: "UPDATE heuristics SET payload = ? WHERE seq = ? AND payload = ?",
	},
	{
		kind: Patterns, table: "relations", keys: []string{"src", "type", "dst"}, start: []any{int64(-1), "", int64(-1)}, from: "relations",
		sqlPut: "UPDATE relations SET payload = ? WHERE src = ? AND type = ? AND dst = ? AND payload = ?",
	},
}

// stale is the condition that a payload is not yet what it could be: it does not
// begin as it should, and is no text too short to be compressed.
func (t *table) stale(begin []byte) (sql string, args []any) {
	payload := t.table + ".payload"
	return fmt.Sprintf("substr(%s, 1, %d) <> ? AND (substr(%[1]s, 1, 1) <> x'01' OR length(%[1]s) > 64)", payload, len(begin)), []any{begin}
}

func (t *table) count(begin []byte) engine.Stmt {
	cond, args := t.stale(begin)
	return engine.Stmt{SQL: "SELECT count(*) FROM " + t.table + " WHERE " + cond, Args: args}
}

// next returns the SELECT of the next rows that are stale: the keys, the guards,
// and the payload.
func (t *table) next(after []any, begin []byte) engine.Stmt {
	keys := strings.Join(t.keys, ", ")
	columns := strings.Join(append(append([]string{}, t.keys...), t.guards...), ", ")
	cond, args := t.stale(begin)
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(t.keys)), ", ")
	return engine.Stmt{
		SQL: fmt.Sprintf(`SELECT %s, payload FROM (SELECT %[1]s, payload, length(payload) AS size, sum(length(payload)) OVER (ORDER BY %[2]s) AS upto
 FROM (SELECT %[1]s, %[3]s.payload FROM %[4]s WHERE (%[2]s) > (%[5]s) AND %[6]s ORDER BY %[2]s LIMIT 200)) WHERE upto <= 1000000 OR upto = size ORDER BY %[2]s`,
			columns, keys, t.table, t.from, marks, cond),
		Args: append(append([]any{}, after...), args...),
	}
}

// put returns the UPDATE of a row of next, unless it has changed since.
func (t *table) put(payload []byte, row []any) engine.Stmt {
	if len(t.guards) > 0 {
		row = row[:len(row)-1]
	}
	return engine.Stmt{SQL: t.sqlPut, Args: append([]any{payload}, row...)}
}

// forget returns the statement that takes the content from a dictionary that was
// retired, unless a payload needs it.
func forget(id uint32) engine.Stmt {
	zstd, gzip := codec.Prefix(codec.Zstd, id), codec.Prefix(codec.Gzip, id) // of one length
	sql := `UPDATE dictionaries SET content = x'' WHERE id = ?1 AND ` + longRetired
	for _, t := range tables {
		sql += fmt.Sprintf(" AND NOT EXISTS (SELECT 1 FROM %s WHERE substr(payload, 1, %d) IN (?2, ?3))", t.table, len(zstd))
	}
	return engine.Stmt{SQL: sql, Args: []any{int64(id), zstd, gzip}}
}
