// Package engine is the seam between the Store and a database.
//
// An Engine runs SQL. It has one write lane and several readers, because a SQLite
// or libSQL database has a single writer: Batch combines concurrent writes into one
// transaction (see [Lane]), Query reads a snapshot meanwhile.
// The two engines are embedded (a local file) and remote (a libSQL server);
// enginetest is the test suite that both pass.
package engine

import (
	"context"
	"time"
)

// Value is one SQL value: nil, int64, float64, string or []byte, nothing else.
// Text must be valid UTF-8 and floats finite, because not every protocol can
// carry the rest. An empty blob is []byte{}, never a nil []byte.
type Value = any

// Stmt is one SQL statement with positional arguments for its `?` marks.
//
// The text must begin with its verb (no comment, no WITH before a write), must
// not control transactions (BEGIN, OR ROLLBACK) or keep part of what it did when it
// fails (OR FAIL), and must be valid in SQLite 3.45, on which libSQL is based.
type Stmt struct {
	SQL  string
	Args []Value
}

// Result is the outcome of one statement.
type Result struct {
	// Rows are the rows of a SELECT or of a RETURNING clause, in the statement's
	// column order. They belong to the caller.
	Rows [][]Value
	// Affected counts the rows the statement itself inserted, updated or deleted;
	// rows changed by its triggers do not count.
	Affected int64
}

// Engine runs statements on one database. All methods may be called
// concurrently. Errors are *Error, a context's error, or ErrClosed.
type Engine interface {
	// Query runs reading statements in one round trip. All of them see the same
	// snapshot of the database. KindTooLarge means that the answer exceeds what the
	// server sends at once (10 MB); a file has no such limit.
	Query(ctx context.Context, stmts ...Stmt) ([]Result, error)

	// Batch runs stmts in order as one unit: all of them are stored or none, and
	// a nil error means that they are committed. The engine may commit several
	// callers' batches together; one caller's failure does not touch another's.
	//
	// When ctx ends before the unit was begun, nothing is written and the error
	// is the context's. When it ends later the wait is over at once, but the unit
	// may still be committed: the error then also is KindUnknownOutcome.
	// The arguments must not be changed after the call, even when it failed.
	Batch(ctx context.Context, stmts ...Stmt) ([]Result, error)

	// Repeatable is Batch for idempotent stmts: executing them again changes nothing,
	// and the results of the second time, or its KindUnique, tell the caller as much
	// as those of the first. When the answer is lost they are sent again, and only if
	// that fails too is the error KindUnknownOutcome.
	Repeatable(ctx context.Context, stmts ...Stmt) ([]Result, error)

	// Stats returns what the engine has done since it was opened.
	Stats() Stats

	// Close refuses new calls, waits for accepted writes, ends the reads under way,
	// which return ErrClosed at once, and frees everything the engine holds. Closing
	// twice is harmless.
	Close() error
}

// Stats counts what an engine did since it was opened. Every field only grows.
type Stats struct {
	Queries uint64 // Query calls that succeeded
	Batches uint64 // Batch and Repeatable calls that were committed
	Commits uint64 // transactions committed; Batches/Commits is the mean group
	Retries uint64 // transactions retried because the database was busy, and requests sent again

	// Requests counts HTTP requests sent; always 0 for a local file.
	Requests uint64

	Turns    TurnStats
	Failures Failures // Query, Batch and Repeatable calls that failed
}

// TurnStats counts how an engine took turns with others who write to the same database.
type TurnStats struct {
	Taken    uint64        // turns that were taken
	Waited   time.Duration // for them
	Unlocked uint64        // turns taken without the lock of this machine, which could not be had
	Missed   uint64        // writes that came to a server when it was not this machine's turn
}
