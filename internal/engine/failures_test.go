package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestFailureCounter(t *testing.T) {
	failed := func(k Kind) error { return fmt.Errorf("call: %w", &Error{Kind: k, Err: errors.New("failed")}) }
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	late, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want string // empty: not counted
	}{
		{t.Context(), nil, ""},
		{t.Context(), ErrClosed, ""},
		{t.Context(), failed(KindUnique), ""},
		{t.Context(), failed(KindConstraint), ""},
		{cancelled, context.Canceled, ""},
		{late, context.Canceled, "timeout"},
		{late, context.DeadlineExceeded, "timeout"},
		{cancelled, &Error{Kind: KindUnknownOutcome, Err: context.Canceled}, "unknown_outcome"},
		{t.Context(), failed(KindUnavailable), "unavailable"},
		{t.Context(), failed(KindBusy), "busy"},
		{t.Context(), failed(KindStuck), "stuck"},
		{t.Context(), failed(KindAuth), "refused"},
		{t.Context(), failed(KindNotFound), "refused"},
		{t.Context(), failed(KindNoTable), "replaced"},
		{t.Context(), failed(KindTooLarge), "too_large"},
		{t.Context(), failed(KindFull), "storage"},
		{t.Context(), failed(KindReadOnly), "storage"},
		{t.Context(), failed(KindCorrupt), "storage"},
		{t.Context(), failed(KindNotADatabase), "storage"},
		{t.Context(), failed(KindOther), "other"},
		{t.Context(), errors.New("something"), "other"},
	} {
		var c FailureCounter
		c.Count(tt.ctx, tt.err)
		got, sum := "", uint64(0)
		for reason, n := range c.Load() {
			if sum += n; n > 0 {
				got = FailureReason(reason).String()
			}
		}
		if got != tt.want || sum > 1 {
			t.Errorf("%v: %d counted as %s, want %s", tt.err, sum, got, tt.want)
		}
	}
}
