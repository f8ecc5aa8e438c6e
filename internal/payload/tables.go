package payload

import (
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
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
		kind: Episodes, table: "runs", keys: []string{"place"}, start: []any{int64(-1)},
		from: "runs JOIN episodes ON seq = episode", guards: []string{"count", "rev"},
		sqlPut: "UPDATE runs SET payload = ? WHERE place = ? AND count = ? AND (SELECT rev FROM episodes WHERE seq = episode) = ?",
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

// condition is one on the rows of a table.
type condition struct {
	sql  string
	args []any
}

// stale is the condition that a payload does not begin in one of two ways, and is no text too
// short to be compressed.
func (t *table) stale(begins [2][]byte) condition {
	return condition{
		fmt.Sprintf("substr(%s.payload, 1, %d) NOT IN (?, ?) AND (substr(%[1]s.payload, 1, 1) NOT IN (x'01', x'03') OR length(%[1]s.payload) > 68)", t.table, len(begins[0])),
		[]any{begins[0], begins[1]},
	}
}

// names is the condition that a payload names one of the dictionaries.
func (t *table) names(ids []uint32) condition {
	c := condition{sql: fmt.Sprintf("substr(%s.payload, 1, 1) = x'02' AND substr(%[1]s.payload, 3, 3) IN (%s)", t.table, strings.TrimSuffix(strings.Repeat("?, ", len(ids)), ", "))}
	for _, id := range ids {
		c.args = append(c.args, TagOf(id))
	}
	return c
}

func (t *table) count(c condition) engine.Stmt {
	return engine.Stmt{SQL: "SELECT count(*) FROM " + t.table + " WHERE " + c.sql, Args: c.args}
}

// pageSize is how many rows one statement looks at.
const pageSize = 5000

// page returns the SELECT of the keys at which the page after some keys ends; of no
// row, if the table ends before.
func (t *table) page(after []any) engine.Stmt {
	keys, marks := strings.Join(t.keys, ", "), t.marks()
	return engine.Stmt{SQL: fmt.Sprintf("SELECT %s FROM %s WHERE (%[1]s) > (%[3]s) ORDER BY %[1]s LIMIT 1 OFFSET %[4]d", keys, t.table, marks, pageSize-1), Args: after}
}

// upTo adds the end of a page to the condition; nil: the end of the table.
func (t *table) upTo(end []any, c condition) condition {
	if end == nil {
		return c
	}
	return condition{
		fmt.Sprintf("(%s) <= (%s) AND %s", strings.Join(t.keys, ", "), t.marks(), c.sql),
		append(append([]any{}, end...), c.args...),
	}
}

// marks are the parameters for keys.
func (t *table) marks() string {
	return strings.TrimSuffix(strings.Repeat("?, ", len(t.keys)), ", ")
}

// next returns the SELECT of the next rows that fulfil the condition: the keys, the
// guards, and the payload.
func (t *table) next(after []any, c condition) engine.Stmt {
	keys, marks := strings.Join(t.keys, ", "), t.marks()
	columns := strings.Join(append(append([]string{}, t.keys...), t.guards...), ", ")
	return engine.Stmt{
		SQL: fmt.Sprintf(`SELECT %s, payload FROM (SELECT %[1]s, payload, length(payload) AS size, sum(length(payload)) OVER (ORDER BY %[2]s) AS upto
 FROM (SELECT %[1]s, %[3]s.payload FROM %[4]s WHERE (%[2]s) > (%[5]s) AND %[6]s ORDER BY %[2]s LIMIT 200)) WHERE upto <= 1000000 OR upto = size ORDER BY %[2]s`,
			columns, keys, t.table, t.from, marks, c.sql),
		Args: append(append([]any{}, after...), c.args...),
	}
}

// put returns the UPDATE of a row of next, unless it has changed since.
func (t *table) put(payload []byte, row []any) engine.Stmt {
	if len(t.guards) > 0 {
		row = row[:len(row)-1]
	}
	return engine.Stmt{SQL: t.sqlPut, Args: append([]any{payload}, row...)}
}
