package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/episodic-memory/episodic/internal/engine"
)

// kinds maps SQLite's extended, then primary result codes.
var kinds = map[int]struct {
	kind engine.Kind
	code string
}{
	sqlite3.SQLITE_BUSY:                  {engine.KindBusy, "SQLITE_BUSY"},
	sqlite3.SQLITE_LOCKED:                {engine.KindBusy, "SQLITE_LOCKED"},
	sqlite3.SQLITE_PROTOCOL:              {engine.KindBusy, "SQLITE_PROTOCOL"}, // others hold the WAL's locks
	sqlite3.SQLITE_CONSTRAINT_UNIQUE:     {engine.KindUnique, "SQLITE_CONSTRAINT_UNIQUE"},
	sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: {engine.KindUnique, "SQLITE_CONSTRAINT_PRIMARYKEY"},
	sqlite3.SQLITE_CONSTRAINT_ROWID:      {engine.KindUnique, "SQLITE_CONSTRAINT_ROWID"},
	sqlite3.SQLITE_CONSTRAINT:            {engine.KindConstraint, "SQLITE_CONSTRAINT"},
	sqlite3.SQLITE_TOOBIG:                {engine.KindTooLarge, "SQLITE_TOOBIG"},
	sqlite3.SQLITE_NOTADB:                {engine.KindNotADatabase, "SQLITE_NOTADB"},
	sqlite3.SQLITE_CORRUPT:               {engine.KindCorrupt, "SQLITE_CORRUPT"},
	sqlite3.SQLITE_IOERR_SHORT_READ:      {engine.KindCorrupt, "SQLITE_IOERR_SHORT_READ"}, // its end is missing
	sqlite3.SQLITE_READONLY:              {engine.KindReadOnly, "SQLITE_READONLY"},
	sqlite3.SQLITE_FULL:                  {engine.KindFull, "SQLITE_FULL"},
	sqlite3.SQLITE_IOERR_SHMSIZE:         {engine.KindFull, "SQLITE_IOERR_SHMSIZE"}, // no room for the index of a log
}

// interrupted reports whether a statement was ended by its context.
func interrupted(err error) bool {
	lite, ok := errors.AsType[*sqlite.Error](err)
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		ok && lite.Code()&0xff == sqlite3.SQLITE_INTERRUPT
}

// schemaChanged reports whether a statement could not be prepared because the schema has
// changed meanwhile.
func schemaChanged(err error) bool {
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && lite.Code()&0xff == sqlite3.SQLITE_SCHEMA
}

// classify turns a driver's error into an engine.Error that blames statement
// stmt. A context's error and an engine.Error pass unchanged.
func classify(err error, stmt int) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, ok := errors.AsType[*engine.Error](err); ok {
		return err
	}
	out := &engine.Error{Stmt: stmt, Err: err}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		out.Kind, out.Code = kindOf(lite.Code(), lite.Error())
	}
	return out
}

// kindOf goes by the extended code, then by the primary one.
func kindOf(code int, text string) (engine.Kind, string) {
	k, ok := kinds[code]
	if !ok {
		k = kinds[code&0xff]
	}
	if k.code == "" {
		k.code = fmt.Sprintf("SQLITE_%d", code)
	}
	if code == sqlite3.SQLITE_ERROR && strings.Contains(text, "no such table") {
		k.kind = engine.KindNoTable
	}
	return k.kind, k.code
}
