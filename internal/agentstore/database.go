package agentstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// ErrUnknown says that a database holds no sessions that are known.
var ErrUnknown = errors.New("is an SQLite database, and holds no sessions of OpenCode or Cursor, and no memory of do-memory")

// open opens a database read-only. Nothing is ever written to it; beside one in WAL mode SQLite
// may make its two files again.
func open(path string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	path = filepath.ToSlash(abs)
	if strings.HasPrefix(path, "//") {
		path = "//" + path // a Windows share is not the authority of the URL
	}
	query := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	connector, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: path, OmitHost: true, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// database reads the sessions of a database, each by itself, so that the agent that owns it is
// never kept waiting for long.
func database(ctx context.Context, path string, since time.Time) (io.ReadCloser, error) {
	db, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sessions, err := kept(ctx, db, since)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return stream(func(yield func([]byte, error) bool) {
		defer db.Close() // nothing was written
		for value, err := range sessions {
			if err != nil {
				err = fmt.Errorf("%s: %w; if its agent is running, end it and import again", path, err)
			}
			if !yield(value, err) {
				return
			}
		}
	}), nil
}

// kept are the sessions of a database, told by its tables.
func kept(ctx context.Context, db *sql.DB, since time.Time) (iter.Seq2[[]byte, error], error) {
	names, err := column(ctx, db, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		return nil, err
	}
	tables := make(map[string]bool)
	for _, name := range names {
		tables[name] = true
	}
	switch {
	case tables["session"] && tables["message"] && tables["part"]:
		return openCode(ctx, db, since), nil
	case tables["cursorDiskKV"]:
		return cursor(ctx, db, since), nil
	}
	m, err := memoryOf(ctx, db, since)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, ErrUnknown
	}
	return m.rows(ctx), nil
}

// column is what a query returns that has one column of texts.
func column(ctx context.Context, db *sql.DB, query string, args ...any) (texts []string, err error) {
	err = each(ctx, db, query, args, func(rows *sql.Rows) error {
		var text string
		err := rows.Scan(&text)
		texts = append(texts, text)
		return err
	})
	return texts, err
}

// each calls f for each row of a query.
func each(ctx context.Context, db *sql.DB, query string, args []any, f func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// openCode yields the sessions of OpenCode since version 1.2, whose tables have a message or a
// part as JSON without its ids.
func openCode(ctx context.Context, db *sql.DB, since time.Time) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ids, err := column(ctx, db, "SELECT id FROM session ORDER BY time_created, id")
		if err != nil {
			yield(nil, err)
			return
		}
		for _, id := range ids {
			s := &session{}
			updated, err := s.row(ctx, db, id)
			if err == nil && old(updated, since) {
				continue
			}
			if err == nil {
				err = s.rows(ctx, db, id)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(json.Marshal(s)) {
				return
			}
		}
	}
}

// row reads what a session is. Versions have columns of their own; these are in all of them.
func (s *session) row(ctx context.Context, db *sql.DB, id string) (updated float64, err error) {
	var parent, directory, title, version, revert sql.NullString
	var created, changed sql.NullFloat64
	err = db.QueryRowContext(ctx, "SELECT parent_id, directory, title, version, revert, time_created, time_updated FROM session WHERE id = ?", id).
		Scan(&parent, &directory, &title, &version, &revert, &created, &changed)
	if err != nil {
		return 0, err
	}
	info := map[string]any{
		"id": id, "parentID": parent.String, "directory": directory.String, "title": title.String, "version": version.String,
		"time": map[string]float64{"created": created.Float64, "updated": changed.Float64},
	}
	if revert.Valid {
		info["revert"] = s.piece("revert of "+id, []byte(revert.String))
	}
	s.Info, err = json.Marshal(info)
	return changed.Float64, err
}

// rows reads the messages of a session, and their parts.
func (s *session) rows(ctx context.Context, db *sql.DB, id string) error {
	parts := make(map[string][]json.RawMessage)
	err := each(ctx, db, "SELECT id, message_id, data FROM part WHERE session_id = ? ORDER BY message_id, id", []any{id}, func(rows *sql.Rows) error {
		var part, of string
		var data []byte
		if err := rows.Scan(&part, &of, &data); err != nil {
			return err
		}
		if text := s.piece(part, data); text != nil {
			parts[of] = append(parts[of], text)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, db, "SELECT id, data FROM message WHERE session_id = ? ORDER BY time_created, id", []any{id}, func(rows *sql.Rows) error {
		var of string
		var data []byte
		if err := rows.Scan(&of, &data); err != nil {
			return err
		}
		info := make(map[string]json.RawMessage)
		if err := json.Unmarshal(data, &info); err != nil {
			s.Damaged = append(s.Damaged, of)
			return nil
		}
		info["id"], _ = json.Marshal(of) // a string can always be
		text, err := json.Marshal(info)
		s.Messages = append(s.Messages, message{Info: text, Parts: append([]json.RawMessage{}, parts[of]...)})
		return err
	})
}

// cursor yields the conversations of Cursor: what a conversation is, with its bubbles by their
// ids.
func cursor(ctx context.Context, db *sql.DB, since time.Time) iter.Seq2[[]byte, error] {
	type conversation struct {
		Composer json.RawMessage            `json:"composer"`
		Bubbles  map[string]json.RawMessage `json:"bubbles"`
		Damaged  []string                   `json:"damaged,omitempty"`
	}
	return func(yield func([]byte, error) bool) {
		keys, err := column(ctx, db, "SELECT key FROM cursorDiskKV WHERE key > 'composerData:' AND key < 'composerData;' AND value IS NOT NULL ORDER BY key")
		if err != nil {
			yield(nil, err)
			return
		}
		for _, key := range keys {
			c := conversation{Bubbles: make(map[string]json.RawMessage)}
			var data []byte
			if err := db.QueryRowContext(ctx, "SELECT value FROM cursorDiskKV WHERE key = ?", key).Scan(&data); err != nil {
				yield(nil, err)
				return
			}
			var about struct{ LastUpdatedAt float64 }
			if json.Unmarshal(data, &about) == nil && old(about.LastUpdatedAt, since) {
				continue
			}
			id := strings.TrimPrefix(key, "composerData:")
			if c.Composer = data; !json.Valid(data) {
				c.Composer = json.RawMessage(quoteID(id))
				c.Damaged = append(c.Damaged, key)
			}
			prefix := "bubbleId:" + id + ":"
			err := each(ctx, db, "SELECT key, value FROM cursorDiskKV WHERE key > ? AND key < ? AND value IS NOT NULL", []any{prefix, prefix[:len(prefix)-1] + ";"}, func(rows *sql.Rows) error {
				var key string
				var data []byte
				if err := rows.Scan(&key, &data); err != nil {
					return err
				}
				if !json.Valid(data) {
					c.Damaged = append(c.Damaged, key)
					return nil
				}
				c.Bubbles[strings.TrimPrefix(key, prefix)] = data
				return nil
			})
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(json.Marshal(c)) {
				return
			}
		}
	}
}

// Conversations are the ids of the conversations of Cursor that a database holds, with what was
// said in them.
func Conversations(ctx context.Context, path string) (ids map[string]bool, err error) {
	db, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer db.Close() // nothing was written
	keys, err := column(ctx, db, "SELECT key FROM cursorDiskKV WHERE key > 'bubbleId:' AND key < 'bubbleId;' AND value IS NOT NULL")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ids = make(map[string]bool)
	for _, key := range keys {
		id, _, _ := strings.Cut(strings.TrimPrefix(key, "bubbleId:"), ":")
		ids[id] = true
	}
	return ids, nil
}
