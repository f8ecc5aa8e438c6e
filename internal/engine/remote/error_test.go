package remote

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
)

func TestServerErrors(t *testing.T) {
	for _, tt := range []struct {
		code, message string
		kind          engine.Kind
		text          string
	}{
		{"SQLITE_BUSY", "SQLite error: database is locked", engine.KindBusy, "database is locked"},
		{"SQLITE_UNKNOWN", "SQLite error: database is locked", engine.KindBusy, "database is locked"},
		{"TRANSACTION_TIMEOUT", "Transaction timed out", engine.KindBusy, "Transaction timed out"},
		{"SQLITE_CONSTRAINT", "SQLite error: UNIQUE constraint failed: t.c", engine.KindUnique, "UNIQUE constraint failed: t.c"},
		{"SQLITE_CONSTRAINT", "SQLite error: PRIMARY KEY constraint failed", engine.KindUnique, "PRIMARY KEY constraint failed"},
		{"SQLITE_CONSTRAINT", "SQLite error: FOREIGN KEY constraint failed", engine.KindConstraint, "FOREIGN KEY constraint failed"},
		{"SQLITE_CONSTRAINT", "SQLite error: told by a trigger", engine.KindConstraint, "told by a trigger"},
		{"PROXY_ERROR", "error executing a request on the primary: UNIQUE constraint failed: t.id", engine.KindUnique, "UNIQUE constraint failed: t.id"},
		{"PROXY_ERROR", "error executing a request on the primary: SQLite error: no such table: t", engine.KindNoTable, "no such table: t"},
		{"SQLITE_UNKNOWN", "SQLite error: no such table: t", engine.KindNoTable, "no such table: t"},
		{"SQLITE_UNKNOWN", "SQLite error: no such column: c", engine.KindOther, "no such column: c"},
		{"RESPONSE_TOO_LARGE", "Response is too large", engine.KindTooLarge, "Response is too large"},
		{"SQLITE_TOOBIG", "SQLite error: string or blob too big", engine.KindTooLarge, "string or blob too big"},
		{"ARGS_INVALID", "Arguments do not match SQL parameters: string or blob too big", engine.KindTooLarge, "Arguments do not match SQL parameters: string or blob too big"},
		{"SQLITE_READONLY", "SQLite error: attempt to write a readonly database", engine.KindReadOnly, "attempt to write a readonly database"},
		{"SQLITE_FULL", "SQLite error: database or disk is full", engine.KindFull, "database or disk is full"},
		{"SQLITE_CORRUPT", "SQLite error: database disk image is malformed", engine.KindCorrupt, "database disk image is malformed"},
		{"SQLITE_IOERR", "SQLite error: disk I/O error", engine.KindOther, "disk I/O error"},
		{"PROXY_ERROR", "error executing a request on the primary: SQLite error: attempt to write a readonly database", engine.KindReadOnly, "attempt to write a readonly database"},
		{"PROXY_ERROR", "error executing a request on the primary: SQLite error: database or disk is full", engine.KindFull, "database or disk is full"},
		{"SQLITE_UNKNOWN", "SQLite error: database disk image is malformed", engine.KindCorrupt, "database disk image is malformed"},
		{"SQLITE_UNKNOWN", "SQLite error: file is not a database", engine.KindNotADatabase, "file is not a database"},
		{"SQLITE_LOCKED", "SQLite error: database table is locked", engine.KindBusy, "database table is locked"},
		{"BLOCKED", "Operation was blocked: quota", engine.KindUnavailable, "Operation was blocked: quota"},
		{"", "something new", engine.KindOther, "something new"},
	} {
		got := serverError(&hrana.Error{Code: tt.code, Message: tt.message, Status: 200}, 3)
		if got.Kind != tt.kind || got.Code != tt.code || got.Stmt != 3 || got.Err.Error() != tt.text {
			t.Errorf("%s %s: %#v (%v)", tt.code, tt.message, got, got)
		}
	}
}

func TestRequestsWithoutAnAnswer(t *testing.T) {
	e := &Engine{host: "db:80"}
	late := &lateError{"db:80", 15 * time.Second}
	for _, tt := range []struct {
		err         error
		read, write engine.Kind
		text        string
	}{
		{&hrana.TransportError{Sent: true, Err: late}, engine.KindUnavailable, engine.KindUnknownOutcome, "no answer from db:80 in 15s"},
		{&hrana.TransportError{Err: late}, engine.KindUnavailable, engine.KindUnavailable, "no connection to db:80 was free in time"},
		{&hrana.TransportError{Sent: true, Err: hrana.ErrTooLarge}, engine.KindTooLarge, engine.KindUnknownOutcome, "message is over 256 MiB"},
		{&hrana.TransportError{Err: hrana.ErrTooLarge}, engine.KindTooLarge, engine.KindTooLarge, "message is over 256 MiB"},
	} {
		read := e.requestError(tt.err)
		wantError(t, read, tt.read, -1, tt.text)
		wantError(t, e.writeError(tt.err, nil), tt.write, -1, tt.text)
		if errors.Is(read, context.DeadlineExceeded) {
			t.Errorf("%v passes for the end of the caller's context", read)
		}
	}
}
