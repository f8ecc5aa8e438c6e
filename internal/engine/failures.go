package engine

import (
	"context"
	"errors"
	"sync/atomic"
)

// FailureReason says why a call of an engine failed.
type FailureReason uint8

// The reasons for a failed call.
const (
	FailedUnavailable    FailureReason = iota // the server was not reached, or it or a gateway did not serve the request
	FailedTimeout                             // the caller's deadline passed
	FailedBusy                                // another process was writing for too long
	FailedStuck                               // the server no longer writes until it is restarted
	FailedUnknownOutcome                      // a write whose answer was lost, or whose caller left too early
	FailedRefused                             // the token is missing, void or lacks a right, or there is no such database
	FailedReplaced                            // the database has no such table, or its file is not at its path: it was emptied or replaced
	FailedTooLarge                            // a value, a request or an answer exceeds a limit
	FailedStorage                             // the disk is full, the database is read-only or damaged
	FailedOther                               // anything else, such as an SQL error

	// FailureReasons is the number of reasons.
	FailureReasons = iota
)

var failureReasons = [FailureReasons]string{"unavailable", "timeout", "busy", "stuck", "unknown_outcome", "refused", "replaced", "too_large", "storage", "other"}

// String returns the reason in snake case.
func (r FailureReason) String() string { return failureReasons[r] }

// Failures counts calls that failed, by reason.
type Failures [FailureReasons]uint64

// FailureCounter counts the failed calls of an engine. It is safe for concurrent use.
type FailureCounter struct{ counts [FailureReasons]atomic.Uint64 }

// Count counts a call that ended with err. It does not count constraints, which are an
// answer, nor calls that the caller cancelled or that came after Close. The deadline of a
// caller is known from the cause of ctx also where another context was cancelled for it.
func (c *FailureCounter) Count(ctx context.Context, err error) {
	if err == nil {
		return
	}
	if _, known := errors.AsType[*Error](err); !known {
		if errors.Is(err, context.Canceled) {
			err = context.Cause(ctx)
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			c.counts[FailedTimeout].Add(1)
		case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed):
			c.counts[FailedOther].Add(1)
		}
		return
	}
	reason := FailedOther
	switch KindOf(err) {
	case KindUnique, KindConstraint:
		return
	case KindUnavailable:
		reason = FailedUnavailable
	case KindBusy:
		reason = FailedBusy
	case KindStuck:
		reason = FailedStuck
	case KindUnknownOutcome:
		reason = FailedUnknownOutcome
	case KindAuth, KindNotFound:
		reason = FailedRefused
	case KindNoTable, KindReplaced:
		reason = FailedReplaced
	case KindTooLarge:
		reason = FailedTooLarge
	case KindNotADatabase, KindCorrupt, KindReadOnly, KindFull:
		reason = FailedStorage
	}
	c.counts[reason].Add(1)
}

// Load returns the counts.
func (c *FailureCounter) Load() Failures {
	var f Failures
	for i := range f {
		f[i] = c.counts[i].Load()
	}
	return f
}
