// Package otel traces the calls of an episodic.Store with OpenTelemetry.
//
//	store, err := episodic.Open(ctx, target, &episodic.Options{Tracer: otel.NewTracer(provider)})
package otel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/episodic-memory/episodic"
)

type tracer struct{ spans trace.Tracer }

// NewTracer returns an episodic.Options.Tracer that makes a span of each call. The
// span is of kind client, is named after the method, such as PutEpisode, and has the
// attributes of OpenTelemetry's database conventions: db.system.name (sqlite, for a
// server too), db.operation.name (the method), and error.type if the call failed. It
// holds nothing that is stored or searched for; the text of an error may repeat some,
// so that it is left out.
func NewTracer(p trace.TracerProvider) episodic.Tracer {
	return tracer{p.Tracer("github.com/episodic-memory/episodic/otel")}
}

func (t tracer) Start(ctx context.Context, operation string) (context.Context, func(error)) {
	ctx, span := t.spans.Start(ctx, operation, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("db.system.name", "sqlite"), attribute.String("db.operation.name", operation)))
	return ctx, func(err error) {
		if err != nil {
			name := errorType(err)
			span.SetAttributes(attribute.String("error.type", name))
			span.SetStatus(codes.Error, name)
		}
		span.End()
	}
}

// errorType names the sentinel that err matches.
func errorType(err error) string {
	for _, s := range []struct {
		err  error
		name string
	}{
		{context.Canceled, "canceled"}, {context.DeadlineExceeded, "deadline_exceeded"}, {episodic.ErrUnknownOutcome, "unknown_outcome"},
		{episodic.ErrNotFound, "not_found"}, {episodic.ErrConflict, "conflict"}, {episodic.ErrClosed, "closed"}, {episodic.ErrInvalid, "invalid"},
		{episodic.ErrUnauthorized, "unauthorized"}, {episodic.ErrSchema, "schema"}, {episodic.ErrUnknownDatabase, "unknown_database"},
		{episodic.ErrReadOnly, "read_only"}, {episodic.ErrFull, "full"}, {episodic.ErrTooLarge, "too_large"},
		{episodic.ErrHistoryLost, "history_lost"}, {episodic.ErrCorrupt, "corrupt"},
	} {
		if errors.Is(err, s.err) {
			return s.name
		}
	}
	if episodic.Retryable(err) {
		return "unavailable"
	}
	return "_OTHER" // what the conventions say for the rest
}
