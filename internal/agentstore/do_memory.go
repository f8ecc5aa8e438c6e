package agentstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
	by    string // another table that the conditions ask; empty: none but episodes
	of    string // the condition for those of the episode ?
	loose string // the condition for those of no episode
}

const ofNoEpisode = "coalesce(episode_id NOT IN (SELECT episode_id FROM episodes), 1)"

var belongings = []belonging{
	{"episode_tags", "", "episode_id = ?", ofNoEpisode},
	{"episode_summaries", "", "episode_id = ?", ofNoEpisode},
	{"episode_pattern_relationships", "", "episode_id = ?", ofNoEpisode},
	{"recommendation_sessions", "", "episode_id = ?", ofNoEpisode},
	{"recommendation_feedback", "recommendation_sessions", "session_id IN (SELECT session_id FROM recommendation_sessions WHERE episode_id = ?)",
		"coalesce(session_id NOT IN (SELECT session_id FROM recommendation_sessions WHERE episode_id IN (SELECT episode_id FROM episodes)), 1)"},
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
	for _, t := range memoryTables[:3] {
		if slices.Contains(m.tables[t.name], t.id) {
			return m, err
		}
	}
	return nil, err
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
			if !slices.Contains(m.tables[t.name], t.id) || t.name == "episode_summaries" && m.tables["episodes"] == nil {
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
		for _, b := range belongings {
			read = append(read, b.table)
		}
		if err := m.rest(ctx, read, give); err != nil && err != errStopped {
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
	if !m.since.IsZero() && slices.Contains(m.tables[t.name], t.changed) {
		where += " AND (typeof(" + t.changed + ") <> 'integer' OR " + t.changed + " >= ?)"
		args = append(args, m.since.Unix())
	}
	ids, err := m.ids(ctx, t.name, where, t.order, args...)
	if !damaged(err) && err != nil {
		return err
	}
	if err != nil && !give(&memoryRow{Table: t.name, Error: err.Error()}) {
		return errStopped
	}
	seen, err := m.seenIn(ctx, t)
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

// seenIn are the episodes that name a pattern or a heuristic, by its id.
func (m *memory) seenIn(ctx context.Context, t memoryTable) (map[string]columnsList, error) {
	if t.name != "patterns" && t.name != "heuristics" || !slices.Contains(m.tables["episodes"], t.name) {
		return nil, nil
	}
	seen := make(map[string]columnsList)
	err := each(ctx, m.db, fmt.Sprintf(`SELECT j.value, e.episode_id FROM episodes e, json_each(iif(json_valid(e.%[1]s), e.%[1]s, '[]')) j
WHERE j.type = 'text' AND typeof(e.episode_id) = 'text' ORDER BY e.start_time, e.episode_id`, t.name), nil, func(rows *sql.Rows) error {
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

// rest gives what belongs to no episode, and how many rows there are in other tables.
func (m *memory) rest(ctx context.Context, read []string, give func(*memoryRow) bool) error {
	for _, b := range belongings {
		if m.tables[b.table] == nil {
			continue
		}
		where := b.loose
		if m.tables["episodes"] == nil || b.by != "" && m.tables[b.by] == nil {
			where = "true"
		}
		ids, err := m.ids(ctx, b.table, where, "rowid")
		if err != nil && !damaged(err) {
			return err
		}
		for _, id := range ids {
			if !give(&memoryRow{Table: b.table, Row: id, Orphan: true}) {
				return errStopped
			}
		}
	}
	var others []string
	for name := range m.tables {
		if !slices.Contains(read, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	for _, name := range others {
		ids, err := m.ids(ctx, name, "true", "rowid")
		if err != nil && !damaged(err) {
			return err
		}
		if len(ids) > 0 && !give(&memoryRow{Table: name, Rows: len(ids)}) {
			return errStopped
		}
	}
	return nil
}
