package agentstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// The database of the Rust crate do-memory-storage-turso: a table for each kind of item, whose
// columns are text, numbers and JSON, and tables of what belongs to an episode.

// memoryTable is a table of items.
type memoryTable struct {
	name    string
	id      string // the column that tells it from a table of that name in other databases
	changed string // the column that says when a row was stored last, in seconds
	order   string
	only    string // a condition for its rows
}

var memoryTables = []memoryTable{
	{"episodes", "episode_id", "created_at", "rowid", "true"},
	{"patterns", "pattern_id", "updated_at", "rowid", "true"},
	{"heuristics", "heuristic_id", "updated_at", "rowid", "true"},
	{"procedural_memory", "procedural_id", "updated_at", "rowid", "true"},
	{"episode_relationships", "relationship_id", "created_at", "from_episode_id, rowid", "true"},
	{"episode_summaries", "summary_embedding", "created_at", "rowid", "summary_embedding IS NOT NULL AND episode_id IN (SELECT episode_id FROM episodes)"},
}

// embeddings are the names of tables of vectors: one, or one for each of some dimensions.
func embeddings(table string) bool {
	return table == "embeddings" || strings.HasPrefix(table, "embeddings_")
}

// belonging is a table whose rows belong to episodes.
type belonging struct {
	table string
	key   string // a column of it, and of the table by
	by    string // another table, whose rows have the episode; empty: the key is that of an episode
}

var belongings = []belonging{
	{"episode_tags", "episode_id", ""},
	{"episode_summaries", "episode_id", ""},
	{"episode_pattern_relationships", "episode_id", ""},
	{"recommendation_sessions", "episode_id", ""},
	{"recommendation_feedback", "session_id", "recommendation_sessions"},
}

// of is the condition for the rows of the episode ?.
func (b belonging) of() string {
	if b.by == "" {
		return b.key + " = ?"
	}
	return b.key + " IN (SELECT " + b.key + " FROM " + b.by + " WHERE episode_id = ?)"
}

// orphan is the condition for the rows of no episode.
func (b belonging) orphan() string {
	if b.by == "" {
		return "coalesce(" + b.key + " NOT IN (SELECT episode_id FROM episodes), 1)"
	}
	return "coalesce(" + b.key + " NOT IN (SELECT " + b.key + " FROM " + b.by + " WHERE episode_id IN (SELECT episode_id FROM episodes)), 1)"
}

// ownTables serve the crate itself: what they hold follows from other tables, or says how far
// its replication has come.
var ownTables = []string{"metadata", "tag_metadata", "episode_revisions", "capacity_eviction_intents"}

// memory is an open database of the crate.
type memory struct {
	db    *sql.DB
	since time.Time
	// tables have the names of their columns. Indexes that are tables are not among them.
	tables map[string][]string
}

// memoryOf is the memory that a database holds, told by its tables; nil: it holds none.
func memoryOf(ctx context.Context, db *sql.DB, since time.Time) (*memory, error) {
	m := &memory{db: db, since: since, tables: make(map[string][]string)}
	err := each(ctx, db, `SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c
WHERE t.type = 'table' AND t.sql NOT LIKE 'CREATE VIRTUAL%' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name NOT LIKE 'libsql\_%' ESCAPE '\'
AND t.name NOT LIKE '%\_shadow' ESCAPE '\' AND t.name NOT LIKE '%\_fts\_%' ESCAPE '\'`, nil, func(rows *sql.Rows) error {
		var table, column string
		err := rows.Scan(&table, &column)
		m.tables[table] = append(m.tables[table], column)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, t := range memoryTables[:3] {
		if m.has(t.name, t.id) {
			return m, nil
		}
	}
	return nil, nil
}

// has reports whether there is a table with a column.
func (m *memory) has(table, column string) bool { return slices.Contains(m.tables[table], column) }

// hasEpisodes reports whether there is the table that others refer to.
func (m *memory) hasEpisodes() bool { return m.has("episodes", "episode_id") }

// joins reports whether the columns are there that join the rows of a table to episodes.
func (m *memory) joins(b belonging) bool {
	return m.hasEpisodes() && m.has(b.table, b.key) && (b.by == "" || m.has(b.by, b.key) && m.has(b.by, "episode_id"))
}

// rows yields the rows: episodes first, because others name them.
func (m *memory) rows(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		give := func(r *memoryRow) bool { return yield(json.Marshal(r)) }
		tables := slices.Clone(memoryTables)
		for name := range m.tables {
			if embeddings(name) {
				tables = append(tables, memoryTable{name, "embedding_id", "created_at", "rowid", "true"})
			}
		}
		slices.SortStableFunc(tables[len(memoryTables):], func(a, b memoryTable) int { return strings.Compare(a.name, b.name) })
		read := append([]string{}, ownTables...)
		for _, t := range tables {
			if !m.has(t.name, t.id) || t.name == "episode_summaries" && !m.hasEpisodes() {
				continue
			}
			read = append(read, t.name)
			if err := m.table(ctx, t, give); err != nil {
				if err != errStopped {
					yield(nil, err)
				}
				return
			}
		}
		err := m.orphans(ctx, give)
		for _, b := range belongings {
			read = append(read, b.table)
		}
		if err == nil {
			err = m.countOthers(ctx, read, give)
		}
		if err != nil && err != errStopped {
			yield(nil, err)
		}
	}
}

// errStopped says that whoever reads has stopped.
var errStopped = errors.New("stopped")

// table gives the rows of a table, each read by itself. Pages that are damaged cost what is on
// them.
func (m *memory) table(ctx context.Context, t memoryTable, give func(*memoryRow) bool) error {
	where, args := t.only, []any(nil)
	if !m.since.IsZero() && m.has(t.name, t.changed) {
		where += " AND (typeof(" + t.changed + ") <> 'integer' OR " + t.changed + " >= ?)"
		args = append(args, m.since.Unix())
	}
	ids, err := m.ids(ctx, t.name, where, t.order, args...)
	if err := reportDamage(t.name, err, give); err != nil {
		return err
	}
	seen, err := m.evidence(ctx, t)
	if err != nil {
		return err
	}
	for _, id := range ids {
		r := &memoryRow{Table: t.name, Row: id}
		err := m.row(ctx, r, t, seen)
		if !damaged(err) && err != nil {
			return err
		}
		if err != nil {
			r.Error = err.Error()
		}
		if (r.Columns != nil || err != nil) && !give(r) { // neither: it was deleted meanwhile
			return errStopped
		}
	}
	return nil
}

// evidence returns the episodes that name a pattern or a heuristic, by its id.
func (m *memory) evidence(ctx context.Context, t memoryTable) (map[string]columnsList, error) {
	if t.name != "patterns" && t.name != "heuristics" || !m.hasEpisodes() || !m.has("episodes", t.name) {
		return nil, nil
	}
	seen := make(map[string]columnsList)
	err := each(ctx, m.db, fmt.Sprintf(`SELECT j.value, e.episode_id FROM episodes e, json_each(iif(json_valid(e.%[1]s), e.%[1]s, '[]')) j
WHERE j.type = 'text' AND typeof(e.episode_id) = 'text' ORDER BY e.rowid`, t.name), nil, func(rows *sql.Rows) error {
		var of, episode string
		err := rows.Scan(&of, &episode)
		seen[of] = append(seen[of], columns{"episode_id": episode})
		return err
	})
	if damaged(err) {
		err = nil // the rows of episodes tell
	}
	return seen, err
}

// orphans gives the rows that belong to no episode.
func (m *memory) orphans(ctx context.Context, give func(*memoryRow) bool) error {
	for _, b := range belongings {
		if m.tables[b.table] == nil {
			continue
		}
		where := "true"
		if m.joins(b) {
			where = b.orphan()
		}
		ids, err := m.ids(ctx, b.table, where, "rowid")
		if err := reportDamage(b.table, err, give); err != nil {
			return err
		}
		for _, id := range ids {
			if !give(&memoryRow{Table: b.table, Row: id, Orphan: true}) {
				return errStopped
			}
		}
	}
	return nil
}

// countOthers gives the number of rows of each table that was not read.
func (m *memory) countOthers(ctx context.Context, read []string, give func(*memoryRow) bool) error {
	for _, name := range slices.Sorted(maps.Keys(m.tables)) {
		if slices.Contains(read, name) {
			continue
		}
		r := &memoryRow{Table: name}
		err := m.db.QueryRowContext(ctx, "SELECT count(*) FROM "+quote(name)+" NOT INDEXED").Scan(&r.Rows)
		if err := reportDamage(name, err, give); err != nil {
			return err
		}
		if r.Rows > 0 && !give(r) {
			return errStopped
		}
	}
	return nil
}

// reportDamage gives a row that says that the rest of a table cannot be read, if err is that of a
// damaged page. It returns any other error.
func reportDamage(table string, err error, give func(*memoryRow) bool) error {
	switch {
	case err == nil || !damaged(err):
		return err
	case !give(&memoryRow{Table: table, Error: err.Error()}):
		return errStopped
	}
	return nil
}
