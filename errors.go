package episodic

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/schema"
)

// Errors that callers can ask for with errors.Is.
var (
	// ErrNotFound: no item has this id; of Open: nothing is there.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the write contradicts what is stored: the episode already
	// exists or is already complete, a step number is taken, a relation would
	// close a cycle, a vector has another dimension than its model.
	ErrConflict = errors.New("conflicts with what is stored")
	// ErrClosed: the Store is closed.
	ErrClosed = errors.New("store is closed")
	// ErrInvalid: the input was refused before anything was written; the error
	// is an *InvalidError that names the field.
	ErrInvalid = errors.New("invalid")
	// ErrUnknownOutcome: the answer to a write was lost, or the caller stopped
	// waiting for it: it may or may not be stored. Put, Add and Complete can
	// simply be repeated, and so can AppendStepsOnce; a repeated Start says ErrConflict,
	// a repeated Delete ErrNotFound, if the first one was stored. Before repeating
	// AppendSteps compare the episode's step count, or number the steps yourself.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrUnauthorized: the server refused the auth token, or requires one, or a gateway
	// before it refused the request; the error says which.
	ErrUnauthorized = errors.New("not authorized")
	// ErrSchema: the file is no database, or the database is of a newer version
	// or another program's.
	ErrSchema = errors.New("unsuitable database")
	// ErrUnknownDatabase: the server has no such database.
	ErrUnknownDatabase = errors.New("unknown database")
	// ErrReplaced: the database has lost its tables, or its file its place, while the Store
	// was open: it was emptied, removed or moved, or another one has taken its place. Such a
	// write is not acknowledged. Restore the database, or close the Store and open it anew,
	// which makes a new memory where there is none (unless Options.MustExist is set). A
	// file whose log or index of the log alone was removed is gone on with.
	ErrReplaced = errors.New("database was emptied or replaced behind the open store; restore it, or open it anew")
	// ErrReadOnly: the database cannot be written: its file, folder or token allows
	// only reading.
	ErrReadOnly = errors.New("read-only database")
	// ErrServerStuck: the server answers reads and no longer any write, and has to be
	// restarted. Nothing was written; of a write that was under way when this was found
	// out, the outcome is unknown. Reads go on, and writes as soon as it is restarted.
	ErrServerStuck = errors.New("server is stuck")
	// ErrFull: there is no space left for the database.
	ErrFull = errors.New("disk full")
	// ErrTooLarge: something exceeds what the database can store or answer at once, or
	// what a gateway before it lets pass.
	ErrTooLarge = errors.New("too large")
	// ErrHistoryLost: what changed since a number cannot be told; see Store.Changes.
	ErrHistoryLost = feed.ErrForgotten
	// ErrCorrupt: something stored cannot be read back; the error says what, of an item as a
	// *DamagedError. Examine says
	// what else is damaged, Repair repairs a file, and Salvage saves what is left of it.
	ErrCorrupt = payload.ErrCorrupt
)

// InvalidError says which field of the input is refused and why. It matches
// ErrInvalid.
type InvalidError struct {
	Field   string // in the form of the JSON document: steps[3].latency_ms
	Problem string // what is wrong and what would be right
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Problem }

// Is reports whether target is ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// Retryable reports whether the same call may succeed later: another process
// held the database too long, or the server could not be reached or is stuck. Nothing was
// written by the failed call. An ErrUnknownOutcome is not Retryable, because
// whether to repeat then depends on the call.
func Retryable(err error) bool {
	switch engine.KindOf(err) {
	case engine.KindBusy, engine.KindUnavailable, engine.KindStuck:
		return true
	}
	return false
}

// failed puts what was attempted in front of an engine's error and adds the
// sentinel that callers ask for. It returns nil for nil.
func failed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	attempt := fmt.Sprintf(format, args...)
	sentinel := func() error {
		if errors.Is(err, engine.ErrClosed) {
			return ErrClosed
		}
		switch engine.KindOf(err) {
		case engine.KindUnknownOutcome:
			return ErrUnknownOutcome
		case engine.KindUnique:
			return ErrConflict
		case engine.KindAuth:
			return ErrUnauthorized
		case engine.KindNotADatabase:
			return ErrSchema
		case engine.KindCorrupt:
			return ErrCorrupt
		case engine.KindNotFound:
			return ErrUnknownDatabase
		case engine.KindNoTable, engine.KindReplaced:
			return ErrReplaced
		case engine.KindReadOnly:
			return ErrReadOnly
		case engine.KindStuck:
			return ErrServerStuck
		case engine.KindFull:
			return ErrFull
		case engine.KindTooLarge:
			return ErrTooLarge
		}
		if _, ok := errors.AsType[*schema.NewerError](err); ok {
			return ErrSchema
		}
		if _, ok := errors.AsType[*schema.ForeignError](err); ok {
			return ErrSchema
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) { // of a file that is no database
			return ErrFull
		}
		return nil
	}()
	switch {
	case sentinel == nil:
		return fmt.Errorf("%s: %w", attempt, err)
	case sentinel == ErrClosed:
		return fmt.Errorf("%s: %w", attempt, ErrClosed)
	default:
		return fmt.Errorf("%s: %w: %w", attempt, sentinel, err)
	}
}
