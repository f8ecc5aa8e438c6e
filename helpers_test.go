package episodic

import (
	"context"
	"iter"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
)

func stmt(sql string, args ...any) engine.Stmt { return engine.Stmt{SQL: sql, Args: args} }

// number runs a SELECT that gives one integer.
func number(t testing.TB, s *Store, sql string, args ...any) int64 {
	t.Helper()
	r, err := s.engine.Query(t.Context(), stmt(sql, args...))
	ok(t, err)
	return r[0].Rows[0][0].(int64)
}

// same compares an item that was read with one that was stored, but for their
// revisions: each write has its own.
func same(t *rapid.T, got, want any) {
	got, want = withoutRevision(got), withoutRevision(want)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("read back\n%#v\nstored\n%#v", got, want)
	}
}

// Generators of everything a noun may hold.

var anyText = rapid.String()

var someText = rapid.StringN(1, 40, -1)

var anyName = rapid.OneOf(
	rapid.StringOfN(rapid.RuneFrom(nil, unicode.L, unicode.N, unicode.P, unicode.S, unicode.Zs), 0, 30, -1),
	rapid.Just("go"), rapid.Just("日本語"), rapid.Just(`'"%_*`),
)

var someName = anyName.Filter(func(s string) bool { return strings.TrimSpace(s) != "" })

var anyTime = rapid.Custom(func(t *rapid.T) time.Time {
	// Years 1 to 9999, but not the zero time.
	return time.UnixMicro(rapid.Int64Range(-62135596800_000_000+1, 253402300799_999_999).Draw(t, "µs")).UTC()
})

var anyID = rapid.Custom(func(t *rapid.T) ID {
	return ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Filter(func(b []byte) bool { return ID(b) != ID{} }).Draw(t, "id"))
})

func texts(t *rapid.T, label string) []string {
	return list(rapid.SliceOfN(anyText, 0, 3).Draw(t, label))
}

// list makes empty lists nil, as they are read back.
func list[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

func metadata(t *rapid.T) map[string]string {
	if m := rapid.MapOfN(anyText, anyText, 0, 3).Draw(t, "metadata"); len(m) > 0 {
		return m
	}
	return nil
}

var finite = rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) })

var anyContext = rapid.Custom(func(t *rapid.T) Context {
	return Context{
		Domain: anyName.Draw(t, "domain"), Language: anyName.Draw(t, "language"), Framework: anyName.Draw(t, "framework"),
		Complexity: rapid.SampledFrom([]Complexity{"", Simple, Moderate, Complex}).Draw(t, "complexity"),
		Tags:       list(rapid.SliceOfNDistinct(someName, 0, 4, rapid.ID).Draw(t, "tags")),
	}
})

var anyStep = rapid.Custom(func(t *rapid.T) Step {
	s := Step{
		Tool: anyText.Draw(t, "tool"), Action: someText.Draw(t, "action"),
		Parameters: rapid.SampledFrom([]JSON{"", "{}", `{"a": 1}`, "[1,\n 2]", `"\u003c<>&"`, "1e400", `{"b":"日本語\u0000"}`}).Draw(t, "parameters"),
		Latency:    time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "latency")),
		Tokens:     rapid.IntRange(0, math.MaxInt).Draw(t, "tokens"),
		Metadata:   metadata(t),
	}
	if rapid.Bool().Draw(t, "timed") {
		s.Time = anyTime.Draw(t, "time")
	}
	if rapid.Bool().Draw(t, "answered") {
		s.Result = &Result{Kind: rapid.SampledFrom([]ResultKind{ResultOutput, ResultError, ResultTimeout}).Draw(t, "kind"), Text: anyText.Draw(t, "text")}
	}
	return s
})

var anyOutcome = rapid.Custom(func(t *rapid.T) Outcome {
	o := Outcome{Kind: rapid.SampledFrom([]OutcomeKind{"", Success, PartialSuccess, Failure, Abstained}).Draw(t, "kind")}
	switch o.Kind {
	case Success:
		o.Verdict, o.Artifacts = anyText.Draw(t, "verdict"), texts(t, "artifacts")
	case PartialSuccess:
		o.Verdict, o.Completed, o.Failed = anyText.Draw(t, "verdict"), texts(t, "completed"), texts(t, "failed")
	case Failure:
		o.Reason, o.Details = anyText.Draw(t, "reason"), anyText.Draw(t, "details")
	case Abstained:
		o.Reason, o.Signals = anyText.Draw(t, "reason"), texts(t, "signals")
		o.StoppedAtStep = rapid.IntRange(0, math.MaxInt).Draw(t, "stopped at")
	}
	return o
})

// anyEpisode has everything set that storing would fill in.
var anyEpisode = rapid.Custom(func(t *rapid.T) *Episode {
	e := &Episode{
		ID: anyID.Draw(t, "id"), TaskType: TaskType(someName.Draw(t, "task type")), Description: someText.Draw(t, "description"),
		Context: anyContext.Draw(t, "context"), Start: anyTime.Draw(t, "start"), Outcome: anyOutcome.Draw(t, "outcome"),
		Steps:      list(rapid.SliceOfN(anyStep, 0, 4).Draw(t, "steps")),
		Reflection: Reflection{texts(t, "successes"), texts(t, "improvements"), texts(t, "insights")},
		Metadata:   metadata(t),
		Scope:      anyScope.Draw(t, "scope"),
	}
	for i := range e.Steps {
		e.Steps[i].Number = i + 1
	}
	e.StepCount = len(e.Steps)
	if e.Outcome.Kind != "" || rapid.Bool().Draw(t, "ended") {
		if e.End = anyTime.Draw(t, "end"); e.End.Before(e.Start) {
			e.Start, e.End = e.End, e.Start
		}
	}
	if rapid.Bool().Draw(t, "scored") {
		e.Reward = &Reward{Total: finite.Draw(t, "total")}
		if m := rapid.MapOfN(anyText, finite, 0, 3).Draw(t, "components"); len(m) > 0 {
			e.Reward.Components = m
		}
	}
	e.AppliedPatterns = list(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) AppliedPattern {
		return AppliedPattern{
			PatternID: anyID.Draw(t, "pattern"), Step: rapid.IntRange(0, 99).Draw(t, "step"), Note: anyText.Draw(t, "note"),
			Effect: rapid.SampledFrom([]Effect{Helped, NoEffect, Hindered, EffectPending}).Draw(t, "effect"),
		}
	}), 0, 2).Draw(t, "applied"))
	return e
})

// collect reads an iterator to its end, or to its first error.
func collect[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for item, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, item)
	}
	return all, nil
}

// withoutRevision is the item that v is or points to, with a zero Revision.
func withoutRevision(v any) any {
	in := reflect.Indirect(reflect.ValueOf(v))
	if in.Kind() != reflect.Struct || !in.FieldByName("Revision").IsValid() {
		return v
	}
	item := reflect.New(in.Type()).Elem()
	item.Set(in)
	item.FieldByName("Revision").SetInt(0)
	return item.Interface()
}

// searchHits returns the hits of a search in which every run of a task is one.
func (s *Store) searchHits(ctx context.Context, query string, opts *SearchOptions) ([]Hit, error) {
	o := *orZero(opts)
	o.EachRun = true
	found, err := s.Search(ctx, query, &o)
	return orZero(found).Hits, err
}
