package episodic

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
)

// reader reads typed columns of a row and keeps the first error.
type reader struct {
	row []any
	err error
}

func column[T any](r *reader, i int) (v T) {
	v, ok := r.row[i].(T)
	if !ok && r.err == nil {
		r.err = fmt.Errorf("column %d holds %T, want %T", i, r.row[i], v)
	}
	return v
}

func (r *reader) int(i int) int64     { return column[int64](r, i) }
func (r *reader) float(i int) float64 { return column[float64](r, i) }

// text returns a copy: a server's answer is one piece of memory, which a short
// text would keep alive.
func (r *reader) text(i int) string { return strings.Clone(column[string](r, i)) }

func intFrom(v any) (int, error) {
	n, ok := v.(int64)
	if !ok {
		return 0, fmt.Errorf("%w: a number column holds %T", ErrCorrupt, v)
	}
	return int(n), nil
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T
	// Next is the cursor of the following page, for the filter's Cursor; empty
	// if this is the last page.
	Next string
}

// cursor is a place in a list that is sorted by time, then by row number.
type cursor struct {
	us, seq int64
}

func (c cursor) String() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(c.us))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, uint64(c.seq)))
}

func parseCursor(s string) (cursor, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 16 {
		return cursor{}, invalid("cursor", "%.60q does not come from an earlier page", s)
	}
	return cursor{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}, nil
}

// Bounds of a filter's Limit.
const (
	defaultLimit = 50
	maxLimit     = 1000
)

// where collects the conditions of a SELECT.
type where struct {
	sql  string
	args []any
}

func (w *where) and(cond string, args ...any) {
	w.sql += " AND " + cond
	w.args = append(w.args, args...)
}

// andText adds a condition unless value is empty.
func (w *where) andText(cond, value string) {
	if value != "" {
		w.and(cond, value)
	}
}

// checkPage checks the paging of a filter.
func checkPage(limit int, cursor string) error {
	if limit < 0 || limit > maxLimit {
		return invalid("limit", "is %d; it must lie between 1 and %d, or be 0 for %d", limit, maxLimit, defaultLimit)
	}
	if cursor == "" {
		return nil
	}
	_, err := parseCursor(cursor)
	return err
}

// newestFirst runs a paged SELECT over a table with the columns seq and timeCol,
// and reads each row with from.
func newestFirst[T any](ctx context.Context, q querier, columns, table, timeCol string, w where, limit int, after string,
	from func(context.Context, []any) (T, cursor, error)) (*Page[T], error) {
	if err := checkPage(limit, after); err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = defaultLimit
	}
	if after != "" {
		at, err := parseCursor(after)
		if err != nil {
			return nil, err
		}
		w.and(fmt.Sprintf("(%s, %s.seq) < (?, ?)", timeCol, table), at.us, at.seq)
	}
	for {
		// The page is chosen by the narrow columns alone, so that payloads are read
		// for its rows only. One row more tells whether there is a next page.
		order := fmt.Sprintf("ORDER BY %s DESC, %s.seq DESC", timeCol, table)
		sql := fmt.Sprintf("SELECT %s FROM %[2]s WHERE %[2]s.seq IN (SELECT %[2]s.seq FROM %[2]s WHERE 1%s %s LIMIT ?) %[4]s", columns, table, w.sql, order)
		r, err := q.Query(ctx, engine.Stmt{SQL: sql, Args: append(w.args[:len(w.args):len(w.args)], int64(limit)+1)})
		if engine.KindOf(err) == engine.KindTooLarge && limit > 1 {
			limit /= 2 // a shorter page fits into the server's answer
			continue
		}
		if err != nil {
			return nil, err
		}
		page := &Page[T]{}
		for i, row := range r[0].Rows {
			if i == limit {
				break
			}
			item, at, err := from(ctx, row)
			if err != nil {
				return nil, err
			}
			page.Items = append(page.Items, item)
			if i == limit-1 && len(r[0].Rows) > limit {
				page.Next = at.String()
			}
		}
		return page, nil
	}
}

// delete runs a DELETE by id that must hit one row.
func (s *Store) delete(ctx context.Context, n noun, name, sql string, id ID) error {
	defer s.changed(n, id)
	r, err := s.engine.Batch(ctx, engine.Stmt{SQL: sql, Args: []any{id.bytes()}})
	if err == nil && r[0].Affected == 0 {
		err = ErrNotFound
	}
	return failed(err, "delete %s %v", name, id)
}

// itemFrom reads a row of the columns seq, id, created_us, payload; the payload
// goes into v. Its error begins with the item's id.
func (s *Store) itemFrom(ctx context.Context, row []any, v any) (ID, cursor, error) {
	id, err := idFrom(row[1])
	if err != nil {
		return id, cursor{}, fmt.Errorf("%v: %w: %w", row[0], ErrCorrupt, err)
	}
	in := reader{row: row}
	at := cursor{us: in.int(2), seq: in.int(0)}
	if in.err != nil {
		return id, at, fmt.Errorf("%v: %w: %w", id, ErrCorrupt, in.err)
	}
	if err := s.payloads.Decode(ctx, row[3], v); err != nil {
		return id, at, fmt.Errorf("%v: %w", id, err)
	}
	return id, at, nil
}

// getOne runs a SELECT by id and reads its row with from.
func getOne[T any](ctx context.Context, q querier, sql string, id ID, from func(context.Context, []any) (T, cursor, error)) (item T, err error) {
	r, err := q.Query(ctx, engine.Stmt{SQL: sql, Args: []any{id.bytes()}})
	if err != nil {
		return item, err
	}
	if len(r[0].Rows) == 0 {
		return item, ErrNotFound
	}
	item, _, err = from(ctx, r[0].Rows[0])
	return item, err
}
