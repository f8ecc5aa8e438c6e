package engine

import (
	"context"
	"time"
)

// expectedKey is the context key of WithExpected.
type expectedKey struct{}

// WithExpected returns a context for calls that are of less use after a moment,
// though they may go on. The zero time is never.
func WithExpected(ctx context.Context, by time.Time) context.Context {
	return context.WithValue(ctx, expectedKey{}, by)
}

// ExpectedBy returns by when a call with this context is to have its answer, which
// is how an engine divides its time: what WithExpected was told, or the context's
// deadline. The zero time is never.
func ExpectedBy(ctx context.Context) time.Time {
	if by, ok := ctx.Value(expectedKey{}).(time.Time); ok {
		return by
	}
	deadline, _ := ctx.Deadline()
	return deadline
}
