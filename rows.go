package episodic

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
)

// scopeIn reads the scope in column i of a row by read, which is scopeFrom or numberedScope.
func scopeIn(in *engine.Row, i int, read func(string) (Scope, error)) Scope {
	scope, err := read(in.Text(i))
	if in.Err == nil {
		in.Err = err
	}
	return scope
}

func intFrom(v any) (int, error) {
	n, ok := v.(int64)
	if !ok {
		return 0, fmt.Errorf("%w: a number column holds %T", ErrCorrupt, v)
	}
	return int(n), nil
}

// Paging chooses a page of a list. Nil and the zero value choose the first page of
// 50 items.
type Paging struct {
	// Limit is the most items on a page, from 1 to 1,000; 0 means 50. A page is
	// shorter although more follow where items are large: it holds at most 16 MiB,
	// or one item.
	Limit int
	// Cursor is Page.Next of the page before; empty for the first page.
	Cursor string
}

// marked reads a page of a list whose cursors begin with the Store's mark.
func marked[T any](s *Store, p *Paging, read func(*Paging) (*Page[T], error)) (*Page[T], error) {
	asked := *orZero(p)
	if asked.Cursor != "" {
		cursor, found := strings.CutPrefix(asked.Cursor, s.mark)
		if !found {
			return nil, badCursor(asked.Cursor)
		}
		asked.Cursor = cursor
	}
	page, err := read(&asked)
	if err == nil && page.Next != "" {
		page.Next = s.mark + page.Next
	}
	return page, err
}

func badCursor(s string) error {
	return invalid("cursor", "%.60q does not come from an earlier page of this list", s)
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T
	// Next is the cursor of the following page, for Paging.Cursor; empty if this is
	// the last page.
	Next string
	// Damaged are the items of the page that cannot be read, and so are not among Items. They
	// count towards Paging.Limit.
	Damaged []*DamagedError
}

// Bounds of pages.
const (
	defaultLimit = 50
	maxLimit     = 1000
	maxPage      = 16 << 20 // bytes of the payloads of a page, decoded
	maxIterated  = 200      // items that an iterator reads at once
)

// newestKinds are the kinds of the keys of a list that newestFirst returns.
const newestKinds = "ii"

// place returns the place behind which the page begins, nil for the first page. kinds
// are those of the list's keys.
func (p *Paging) place(kinds string) ([]any, error) {
	switch {
	case p == nil:
		return nil, nil
	case p.Limit < 0 || p.Limit > maxLimit:
		return nil, invalid("limit", "is %d; it must lie between 1 and %d, or be 0 for %d", p.Limit, maxLimit, defaultLimit)
	case p.Cursor == "":
		return nil, nil
	}
	return parseCursor(p.Cursor, kinds)
}

// listing is a SELECT whose rows are read in pages.
type listing[T any] struct {
	columns, from string
	where         where
	keys          []string // what rows are sorted by, which names a place together
	at            []int    // where the keys are among the columns
	kinds         string   // of keys: i for an integer, t for a text
	descending    bool     // all keys are
	// narrow says that from is a table with the column seq, and that a page is to be
	// chosen before its wide columns are read.
	narrow bool
	row    func(context.Context, []any) (item T, size int, err error)
}

// inParts calls read with a list in parts of at most so many, and with smaller ones if what
// that reads exceeds the engine's largest answer.
func inParts[T any](list []T, most int, read func(part []T) error) error {
	for len(list) > 0 {
		part := list[:min(most, len(list))]
		err := read(part)
		if engine.KindOf(err) == engine.KindTooLarge && len(part) > 1 {
			most = len(part) / 2
			continue
		}
		if err != nil {
			return err
		}
		list = list[len(part):]
	}
	return nil
}

// halving asks for n rows, and for half as many as long as they exceed the engine's largest
// answer. It returns how many it asked for in the end.
func halving(n int, ask func(n int) ([]engine.Result, error)) (r []engine.Result, asked int, err error) {
	for {
		r, err = ask(n)
		if engine.KindOf(err) != engine.KindTooLarge || n <= 1 {
			return r, n, err
		}
		n /= 2
	}
}

// page reads a page.
func (l *listing[T]) page(ctx context.Context, q querier, p *Paging) (*Page[T], error) {
	at, err := p.place(l.kinds)
	if err != nil {
		return nil, err
	}
	w := l.where
	if at != nil {
		w = l.after(at)
	}
	limit := cmp.Or(orZero(p).Limit, defaultLimit)
	r, asked, err := halving(limit+1, func(n int) ([]engine.Result, error) { // one row more tells whether there is a next page
		return q.Query(ctx, engine.Stmt{SQL: l.sql(w), Args: append(w.args[:len(w.args):len(w.args)], int64(n))})
	})
	if err != nil {
		return nil, err
	}
	return l.read(ctx, r[0].Rows, min(limit, asked), asked)
}

// read makes a page of at most limit of the rows; as many as were asked for mean
// that there may be more.
func (l *listing[T]) read(ctx context.Context, rows [][]any, limit, asked int) (*Page[T], error) {
	var damage damages
	page, size, n := &Page[T]{}, 0, 0
	for ; n < min(limit, len(rows)) && size < maxPage; n++ {
		item, plain, err := l.row(ctx, rows[n])
		if err == nil {
			page.Items = append(page.Items, item)
			size += plain
		} else if err := damage.pass(err); err != nil {
			return nil, err
		}
	}
	page.Damaged = damage.all()
	if n > 0 && (n < len(rows) || len(rows) == asked) {
		page.Next = l.cursor(rows[n-1])
	}
	return page, nil
}

// cursor names the place of a row.
func (l *listing[T]) cursor(row []any) string {
	keys := make([]any, len(l.at))
	for i, at := range l.at {
		keys[i] = row[at]
	}
	return cursorOf(keys)
}

// after adds the condition for rows behind a place.
func (l *listing[T]) after(at []any) where {
	w := where{sql: l.where.sql, args: slices.Clone(l.where.args)}
	compare := ">"
	if l.descending {
		compare = "<"
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(at)), ", ")
	w.and(fmt.Sprintf("(%s) %s (%s)", strings.Join(l.keys, ", "), compare, marks), at...)
	return w
}

func (l *listing[T]) sql(w where) string {
	order := strings.Join(l.keys, ", ")
	if l.descending {
		order = strings.Join(l.keys, " DESC, ") + " DESC"
	}
	if !l.narrow {
		return fmt.Sprintf("SELECT %s FROM %s WHERE 1%s ORDER BY %s LIMIT ?", l.columns, l.from, w.sql, order)
	}
	return fmt.Sprintf("SELECT %s FROM %[2]s WHERE %[2]s.seq IN (SELECT %[2]s.seq FROM %[2]s WHERE 1%[3]s ORDER BY %[4]s LIMIT ?) ORDER BY %[4]s",
		l.columns, l.from, w.sql, order)
}

// newestFirst lists a table with the columns seq, which is the first of columns, and
// timeCol, which is at the place timeAt of them.
func newestFirst[T any](columns, table, timeCol string, timeAt int, w where, row func(context.Context, []any) (T, int, error)) *listing[T] {
	return &listing[T]{
		columns: columns, from: table, where: w, keys: []string{timeCol, table + ".seq"}, at: []int{timeAt, 0}, kinds: newestKinds,
		descending: true, narrow: true, row: row,
	}
}

// cursorOf names a place in a list by the values of its keys.
func cursorOf(keys []any) string {
	text, err := json.Marshal(keys)
	if err != nil {
		return "" // numbers, texts and blobs always have JSON
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseCursor(s, kinds string) ([]any, error) {
	bad := badCursor(s)
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, bad
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil || len(raw) != len(kinds) {
		return nil, bad
	}
	keys := make([]any, len(raw))
	for i := range raw {
		var err error
		switch kinds[i] {
		case 'i':
			var n int64
			err = json.Unmarshal(raw[i], &n)
			keys[i] = n
		default:
			var t string
			err = json.Unmarshal(raw[i], &t)
			keys[i] = t
		}
		if err != nil || string(raw[i]) == "null" {
			return nil, bad
		}
	}
	return keys, nil
}

// iterate returns the items of all pages in turn. It reads a page when the one
// before is used up, and ends with the first error, but for a *DamagedError, which comes in
// the place of an item.
func iterate[T any](ctx context.Context, page func(context.Context, *Paging) (*Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for p := (&Paging{Limit: defaultLimit}); ; {
			got, err := readAgain(ctx, func(ctx context.Context) (*Page[T], error) { return page(ctx, p) })
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range got.Items {
				if !yield(item, nil) {
					return
				}
			}
			for _, damage := range got.Damaged {
				if !yield(none, damage) {
					return
				}
			}
			if got.Next == "" {
				return
			}
			// Where items are large, pages have proved to be short.
			p.Cursor, p.Limit = got.Next, min(maxIterated, 2*(len(got.Items)+len(got.Damaged)))
		}
	}
}

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

// delete deletes an item.
func (s *Store) delete(ctx context.Context, n noun, kind ItemKind, id ID) (err error) {
	if err := s.check(ctx, true, ""); err != nil {
		return fmt.Errorf("delete %s %v: %w", kind, id, err)
	}
	defer func() { s.changed(err, n, id) }()
	return failed(s.carryOut(ctx, &deleteItem{Kind: kind, ID: id}), "delete %s %v", kind, id)
}

// deleteItem deletes an item, which must be stored.
type deleteItem struct {
	Kind ItemKind
	ID   ID
	Base int64 // the revision that was deleted here, if it is queued; 0: it is not known
	only int64 // the revision that is deleted, and no other; 0: any
}

func (o *deleteItem) encode(_ context.Context, s *Store) (*encoded, error) {
	st := engine.Stmt{SQL: "DELETE FROM " + string(o.Kind) + "s WHERE id = ?", Args: []any{o.ID.bytes()}}
	if o.only != 0 {
		st = engine.Stmt{SQL: st.SQL + " AND rev = ?", Args: append(st.Args, o.only)}
	}
	return &encoded{stmts: []engine.Stmt{s.scope.guardOne(st)}, once: true, told: deleted}, nil
}

// deleted tells whether there was something that a DELETE could delete.
func deleted(_ context.Context, r []engine.Result, err error) error {
	if err == nil && r[0].Affected == 0 {
		err = ErrNotFound
	}
	return err
}

// stored is what the rows of patterns and heuristics have in common.
type stored struct {
	id      ID
	created int64 // microseconds
	rev     int64
	scope   Scope
	size    int // of the payload, decoded
}

// itemFrom reads a row of the columns seq, id, created_us, payload, rev, scope; the
// payload goes into v.
func (s *Store) itemFrom(ctx context.Context, kind ItemKind, row []any, v any) (at stored, err error) {
	if at.id, err = idFrom(row[1]); err != nil {
		return at, s.damaged(ctx, string(kind), ID{}, fmt.Errorf("%w: row %v: %w", ErrCorrupt, row[0], err))
	}
	in := engine.Row{Values: row}
	at.created, at.rev, at.scope = in.Int(2), in.Int(4), scopeIn(&in, 5, numberedScope)
	if in.Err != nil {
		return at, s.damaged(ctx, string(kind), at.id, fmt.Errorf("%w: %w", ErrCorrupt, in.Err))
	}
	if at.size, err = s.payloads.DecodeSized(ctx, row[3], boundItem(at.id, at.created), v); err != nil {
		return at, s.damaged(ctx, string(kind), at.id, err)
	}
	return at, nil
}

// getOne runs a SELECT by id and reads its row.
func getOne[T any](ctx context.Context, q querier, sql string, id ID, row func(context.Context, []any) (T, int, error)) (item T, err error) {
	r, err := q.Query(ctx, engine.Stmt{SQL: sql, Args: []any{id.bytes()}})
	if err != nil {
		return item, err
	}
	if len(r[0].Rows) == 0 {
		return item, ErrNotFound
	}
	item, _, err = row(ctx, r[0].Rows[0])
	return item, err
}

// itemWrite is a pattern or a heuristic in the form of its row.
type itemWrite struct {
	upsert, replace, look string // SQL
	columns               []any  // of upsert; replace has the revision behind them
	created               int64  // the column created_us
	words                 engine.Stmt
	rev                   int64
	scope                 Scope
}

// over stores an item, over the one that has the revision if that is not 0.
func (w itemWrite) over(revision int64) *encoded {
	if revision == 0 {
		stmts := append([]engine.Stmt{w.scope.insert(engine.Stmt{SQL: w.upsert, Args: w.columns}), w.words}, storeScopes(w.scope)...)
		return &encoded{stmts: stmts, told: func(_ context.Context, r []engine.Result, err error) error {
			if err == nil && w.scope != (Scope{}) && r[0].Affected == 0 {
				return errOtherScope
			}
			return err
		}}
	}
	// The look behind the write tells a write that was sent twice from one that came
	// too late.
	stmts := []engine.Stmt{
		w.scope.guardOne(engine.Stmt{SQL: w.replace, Args: append(w.columns[:len(w.columns):len(w.columns)], revision)}),
		{SQL: w.look, Args: w.columns[:1:1]}, w.words,
	}
	return &encoded{stmts: stmts, told: func(_ context.Context, r []engine.Result, err error) error { return w.replaced(r, err, revision) }}
}

// replaced tells what came of storing an item over the one that had the revision.
func (w itemWrite) replaced(r []engine.Result, err error, revision int64) error {
	switch {
	case err != nil || r[0].Affected == 1:
		return err
	case len(r[1].Rows) == 0:
		return fmt.Errorf("%w: it was deleted after it was read; set Revision to 0 to store it anew", ErrConflict)
	case r[1].Rows[0][0] == revision:
		return errOtherScope
	case r[1].Rows[0][0] != w.rev:
		return fmt.Errorf("%w: it was changed after it was read; read it again", ErrConflict)
	}
	return nil
}

// newRevision returns a random number, which names a write. It is not 0.
func newRevision() int64 { return 1 + rand.Int64N(math.MaxInt64) }
