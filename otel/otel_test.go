package otel_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/otel"
)

func TestCallsBecomeSpans(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	ctx, parent := provider.Tracer("test").Start(t.Context(), "parent")
	store, err := episodic.Open(ctx, filepath.Join(t.TempDir(), "m.db"), &episodic.Options{Tracer: otel.NewTracer(provider)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const secret = "private text"
	e := &episodic.Episode{Description: secret}
	_, missing := store.Episode(ctx, episodic.NewID())
	invalid := store.PutEpisode(ctx, &episodic.Episode{Description: "x", Outcome: episodic.Outcome{Kind: secret}})
	if err := store.PutEpisode(ctx, e); err != nil || missing == nil || !errors.Is(invalid, episodic.ErrInvalid) {
		t.Fatal(err, missing, invalid)
	}
	for range store.Episodes(ctx, nil) {
	}
	var got []string
	for _, s := range spans.Ended() {
		if s.Parent().SpanID() != parent.SpanContext().SpanID() {
			t.Errorf("%s is not within the caller's span", s.Name())
		}
		var attributes []string
		for _, a := range s.Attributes() {
			attributes = append(attributes, string(a.Key)+"="+a.Value.AsString())
		}
		slices.Sort(attributes)
		got = append(got, fmt.Sprint(s.Name(), " ", strings.Join(attributes, " "), " ", s.Status().Code == codes.Error))
		if strings.Contains(fmt.Sprint(s.Attributes(), s.Events(), s.Status()), secret) {
			t.Errorf("%s holds the text", s.Name())
		}
	}
	want := []string{
		"Episode db.operation.name=Episode db.system.name=sqlite error.type=not_found true",
		"PutEpisode db.operation.name=PutEpisode db.system.name=sqlite error.type=invalid true",
		"PutEpisode db.operation.name=PutEpisode db.system.name=sqlite false",
		"ListEpisodes db.operation.name=ListEpisodes db.system.name=sqlite false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("spans are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
