package embedded

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/episodic-memory/episodic/internal/engine"
)

func TestKindsOfCodes(t *testing.T) {
	for _, tt := range []struct {
		code int
		text string
		kind engine.Kind
	}{
		{sqlite3.SQLITE_BUSY, "", engine.KindBusy},
		{sqlite3.SQLITE_BUSY_SNAPSHOT, "", engine.KindBusy},
		{sqlite3.SQLITE_BUSY_RECOVERY, "", engine.KindBusy},
		{sqlite3.SQLITE_LOCKED_SHAREDCACHE, "", engine.KindBusy},
		{sqlite3.SQLITE_PROTOCOL, "", engine.KindBusy},
		{sqlite3.SQLITE_READONLY, "", engine.KindReadOnly},
		{sqlite3.SQLITE_READONLY_DIRECTORY, "", engine.KindReadOnly},
		{sqlite3.SQLITE_READONLY_DBMOVED, "", engine.KindReadOnly},
		{sqlite3.SQLITE_FULL, "", engine.KindFull},
		{sqlite3.SQLITE_TOOBIG, "", engine.KindTooLarge},
		{sqlite3.SQLITE_NOTADB, "", engine.KindNotADatabase},
		{sqlite3.SQLITE_CORRUPT, "", engine.KindCorrupt},
		{sqlite3.SQLITE_CORRUPT_INDEX, "", engine.KindCorrupt},
		{sqlite3.SQLITE_CONSTRAINT_UNIQUE, "", engine.KindUnique},
		{sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, "", engine.KindConstraint},
		{sqlite3.SQLITE_ERROR, "SQL logic error: no such table: t (1)", engine.KindNoTable},
		{sqlite3.SQLITE_ERROR, "SQL logic error: no such column: c (1)", engine.KindOther},
		{sqlite3.SQLITE_IOERR, "", engine.KindOther},
		{sqlite3.SQLITE_IOERR_READ, "", engine.KindOther},
		{sqlite3.SQLITE_IOERR_FSYNC, "", engine.KindOther},
		{sqlite3.SQLITE_CANTOPEN, "", engine.KindOther},
	} {
		if kind, code := kindOf(tt.code, tt.text); kind != tt.kind || code == "" {
			t.Errorf("%d: kind %d, %q; want %d", tt.code, kind, code, tt.kind)
		}
	}
}

// writable opens a file that has a table and is in WAL mode.
func withTable(t *testing.T) *Engine {
	e := open(t, filepath.Join(t.TempDir(), "m.db"))
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "CREATE TABLE a(k)"}); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestKindsOfFailedWrites(t *testing.T) {
	insert := engine.Stmt{SQL: "INSERT INTO a VALUES(zeroblob(?))", Args: []any{int64(100_000)}}
	for _, tt := range []struct {
		name    string
		prepare func(*Engine) error
		kind    engine.Kind
	}{
		{"a file that cannot be written", func(e *Engine) error {
			connector, err := sqlite.NewConnector("file:" + filepath.ToSlash(e.cfg.Path) + "?mode=ro")
			if err != nil {
				return err
			}
			db := sql.OpenDB(connector)
			c, err := db.Conn(t.Context())
			if _, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT * FROM a"}); err != nil { // who keeps the log
				return err
			}
			err = errors.Join(err, e.writer.close())
			e.writer = &conn{db: db, conn: c, stmts: map[string]*sql.Stmt{}}
			return err
		}, engine.KindReadOnly},
		{"a full database", func(e *Engine) error {
			return e.writer.run(t.Context(), engine.Stmt{SQL: "PRAGMA max_page_count(3)"}, &engine.Result{})
		}, engine.KindFull},
		{"another writer", func(e *Engine) error {
			other := open(t, e.cfg.Path)
			t.Cleanup(func() { other.writer.abandon(t.Context()) })
			e.patience = 10 * time.Millisecond
			return errors.Join(e.writer.exec(t.Context(), "PRAGMA busy_timeout(0)"), other.writer.exec(t.Context(), "BEGIN IMMEDIATE"))
		}, engine.KindBusy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := withTable(t)
			if err := tt.prepare(e); err != nil {
				t.Fatal(err)
			}
			for _, stmts := range [][]engine.Stmt{{insert}, {insert, insert}} {
				if _, err := e.Batch(t.Context(), stmts...); engine.KindOf(err) != tt.kind {
					t.Errorf("kind %d, want %d: %v", engine.KindOf(err), tt.kind, err)
				}
			}
			if r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT count(*) FROM a"}); err != nil || r[0].Rows[0][0] != int64(0) {
				t.Errorf("stored: %v, %v", r, err)
			}
		})
	}
}
