package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
)

// writer is the one connection that writes. It is used by one goroutine at a
// time.
type writer struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func openWriter(ctx context.Context, path string) (*writer, error) {
	db, err := openDB(path, url.Values{"_pragma": {
		"journal_mode(WAL)",
		"synchronous(FULL)", // an acknowledged write survives power loss
		"foreign_keys(1)",
		"journal_size_limit(67108864)",
	}})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &writer{db: db, conn: conn, stmts: make(map[string]*sql.Stmt)}, nil
}

func (w *writer) close() error {
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

func (w *writer) begin(ctx context.Context) error  { return w.exec(ctx, "BEGIN IMMEDIATE") }
func (w *writer) commit(ctx context.Context) error { return w.exec(ctx, "COMMIT") }

// abandon ends the transaction without storing anything. Its only error is that
// SQLite has rolled back already, which is the wanted state.
func (w *writer) abandon(ctx context.Context) { _ = w.exec(ctx, "ROLLBACK") }

func (w *writer) exec(ctx context.Context, text string) error {
	s, err := w.prepared(ctx, text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// runAll runs statements inside the open transaction, until one fails.
func (w *writer) runAll(ctx context.Context, stmts []engine.Stmt) ([]engine.Result, error) {
	results := make([]engine.Result, len(stmts))
	for i, s := range stmts {
		if err := w.run(ctx, s, &results[i]); err != nil {
			return nil, classify(err, i)
		}
	}
	return results, nil
}

func (w *writer) run(ctx context.Context, s engine.Stmt, into *engine.Result) error {
	stmt, err := w.prepared(ctx, s.SQL)
	if err != nil {
		return err
	}
	if !returnsRows(s.SQL) {
		res, err := stmt.ExecContext(ctx, s.Args...)
		if err != nil {
			return err
		}
		into.Affected, err = res.RowsAffected()
		return err
	}
	rows, err := stmt.QueryContext(ctx, s.Args...)
	if err != nil {
		return err
	}
	into.Rows, err = collect(rows)
	if err == nil && !reads(s.SQL) {
		into.Affected = int64(len(into.Rows)) // RETURNING gives a row for each one changed
	}
	return err
}

// prepared returns the statement for a text and keeps it for the next time. A
// full set drops any one: what is used often is soon back.
func (w *writer) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := w.stmts[text]; ok {
		return s, nil
	}
	s, err := w.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if len(w.stmts) >= maxStmts {
		for old, s := range w.stmts {
			if err := s.Close(); err != nil {
				return nil, fmt.Errorf("close statement: %w", err)
			}
			delete(w.stmts, old)
			break
		}
	}
	w.stmts[text] = s
	return s, nil
}

// reads tells a statement that only reads; engine.Stmt promises that the text
// begins with its verb.
func reads(text string) bool {
	verb, _, _ := strings.Cut(text, " ")
	switch strings.ToUpper(verb) {
	case "SELECT", "WITH", "PRAGMA", "EXPLAIN", "VALUES":
		return true
	}
	return false
}

func returnsRows(text string) bool {
	return reads(text) || strings.Contains(strings.ToUpper(text), "RETURNING")
}
