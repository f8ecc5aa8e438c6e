package engine

import (
	"context"
	"time"
)

// softDeadlineKey is the context key of WithSoftDeadline.
type softDeadlineKey struct{}

// WithSoftDeadline returns a context whose calls should finish by t, the zero time
// being never. An engine divides the time until then between attempts. The context
// does not end at t.
func WithSoftDeadline(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, softDeadlineKey{}, t)
}

// SoftDeadline returns the time by which a call with ctx should finish: that of
// WithSoftDeadline, or else ctx's deadline. The zero time is never.
func SoftDeadline(ctx context.Context) time.Time {
	if t, ok := ctx.Value(softDeadlineKey{}).(time.Time); ok {
		return t
	}
	deadline, _ := ctx.Deadline()
	return deadline
}
