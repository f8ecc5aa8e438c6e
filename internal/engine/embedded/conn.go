package embedded

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"modernc.org/sqlite"

	"github.com/episodic-memory/episodic/internal/engine"
)

// maxAnswer bounds the values of an answer in bytes, but for its last row, as
// libSQL servers do. It bounds the memory of whoever asks for too much.
const maxAnswer = 10 << 20

// maxStmts bounds the prepared statements that a connection keeps; the Store's
// SQL has fewer variants.
const maxStmts = 256

// schemaTries is how often a statement is prepared while other processes change the schema:
// SQLite tries twice, and what it has read in between may lack a table that is there.
const schemaTries = 10

// conn is one connection to the file, with its prepared statements. It is used
// by one goroutine at a time.
type conn struct {
	db    *sql.DB // of this connection alone
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// openConn opens a connection and sets it up with the given pragmas.
func openConn(ctx context.Context, path string, pragmas ...string) (*conn, error) {
	return openAs(ctx, path, writable, pragmas...)
}

// openAs is openConn for a file that may not be written, too.
func openAs(ctx context.Context, path string, a access, pragmas ...string) (*conn, error) {
	connector, err := newConnector(path, a, append(pragmas, fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))...)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &conn{db: db, conn: c, stmts: make(map[string]*sql.Stmt)}, nil
}

func newConnector(path string, a access, pragmas ...string) (driver.Connector, error) {
	dsn, err := fileURL(path)
	if err != nil {
		return nil, err
	}
	dsn.RawQuery = url.Values{"_pragma": pragmas}.Encode() + string(a)
	return sqlite.NewConnector(dsn.String())
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.conn.Close(), c.db.Close())...)
}

// leaveOpen ends all but the connection itself: closing a DB leaves alone what is in use.
func (c *conn) leaveOpen() error { return c.db.Close() }

// keepLog has close leave alone what lies where the log and its index were.
func (c *conn) keepLog() error {
	return c.conn.Raw(func(driver any) error {
		_, err := driver.(sqlite.FileControl).FileControlPersistWAL("main", 1)
		return err
	})
}

// exec runs a statement that controls the transaction.
func (c *conn) exec(ctx context.Context, text string) error {
	s, err := c.prepared(ctx, text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// abandon ends the transaction without storing anything, also after ctx has
// ended. Its only error is that SQLite has already rolled back, which is what
// is wanted.
func (c *conn) abandon(ctx context.Context) { _ = c.exec(context.WithoutCancel(ctx), "ROLLBACK") }

// runAll runs statements in order until one fails.
func (c *conn) runAll(ctx context.Context, stmts []engine.Stmt) ([]engine.Result, error) {
	results := make([]engine.Result, len(stmts))
	for i, s := range stmts {
		if err := c.run(ctx, s, &results[i]); err != nil {
			return nil, classify(err, i)
		}
	}
	return results, nil
}

func (c *conn) run(ctx context.Context, s engine.Stmt, into *engine.Result) error {
	stmt, err := c.prepared(ctx, s.SQL)
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

// prepared returns the statement for a text and keeps it for the next time. When
// maxStmts are kept a random one makes room: if it is used often it soon returns.
func (c *conn) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	var s *sql.Stmt
	var err error
	for range schemaTries {
		if s, err = c.conn.PrepareContext(ctx, text); !schemaChanged(err) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if len(c.stmts) >= maxStmts {
		for old, s := range c.stmts {
			if err := s.Close(); err != nil {
				return nil, fmt.Errorf("close statement: %w", err)
			}
			delete(c.stmts, old)
			break
		}
	}
	c.stmts[text] = s
	return s, nil
}

// collect reads all rows and closes them.
func collect(rows *sql.Rows) (out [][]engine.Value, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	into := make([]any, len(cols))
	size := 0
	for rows.Next() {
		if size > maxAnswer {
			return nil, &engine.Error{Kind: engine.KindTooLarge, Stmt: -1, Err: fmt.Errorf("answer exceeds %d bytes", maxAnswer)}
		}
		row := make([]engine.Value, len(cols))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for _, v := range row {
			size += engine.ValueSize(v)
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// reads reports whether a statement only reads; engine.Stmt promises that the text
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
