package engine

import (
	"errors"
	"fmt"
)

// ErrClosed is returned by every call on a closed engine.
var ErrClosed = errors.New("engine is closed")

// Kind says what a caller can do about an Error.
type Kind uint8

// The kinds of an Error.
const (
	KindOther          Kind = iota // anything else, such as a syntax error or an I/O error
	KindBusy                       // another writer held the database too long; nothing was written, try again
	KindUnavailable                // the server could not be reached or did not accept the request; nothing was written
	KindUnknownOutcome             // the answer to a write was lost: it may or may not be stored
	KindUnique                     // a UNIQUE or PRIMARY KEY constraint refused the row
	KindConstraint                 // another constraint refused the row
	KindNoTable                    // the statement names a table that does not exist
	KindAuth                       // the token is missing, wrong, expired or lacks a right
	KindNotFound                   // the server has no such database
	KindTooLarge                   // a value or an answer exceeds a limit of the database; a Query may ask for less
	KindNotADatabase               // the file is not a SQLite database
	KindCorrupt                    // the database file is damaged
	KindReadOnly                   // the file or database is read-only, or a Query tried to write
	KindStuck                      // the server no longer writes until it is restarted; nothing was written
	KindFull                       // the disk, or the size limit of the database, is exhausted
	KindReplaced                   // the file is not at its path any more, or another one is; of a write: it is not acknowledged
)

// Error is a failure reported by a database or on the way to it.
type Error struct {
	Kind Kind
	Code string // the database's own code, such as SQLITE_BUSY; may be empty
	Stmt int    // index of the failing statement in its Query or Batch; -1 if no single one failed
	Err  error  // never nil
}

func (e *Error) Error() string {
	if e.Stmt >= 0 {
		return fmt.Sprintf("statement %d: %v", e.Stmt, e.Err)
	}
	return e.Err.Error()
}

// Unwrap returns the cause, which may be a context's error.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain, KindOther if
// there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindOther
}
