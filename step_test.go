package episodic

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// anyDuration draws durations of all magnitudes, whole milliseconds as well.
var anyDuration = rapid.OneOf(
	rapid.Int64(),
	rapid.Int64Range(-2e9, 2e9),
	rapid.Map(rapid.Int64Range(-1e9, 1e9), func(n int64) int64 { return n * int64(time.Millisecond) }),
	rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 0, 1, -1, 999_999, 1_000_000}),
)

// Every duration is read back from JSON exactly, in each place that has one, and
// from the form of older documents and of payloads.
func TestLatencyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(anyDuration.Draw(t, "duration"))
		for _, v := range []any{
			Step{Tool: "t <&>", Result: &Result{Kind: ResultError, Text: "x"}, Latency: d, Tokens: 3, Metadata: map[string]string{"k": "v"}},
			ToolSequence{Tools: []string{"a"}, MeanLatency: d},
			DecisionPoint{Condition: "c", Action: "a", Failures: 2, MeanLatency: d},
		} {
			text, err := json.Marshal(v)
			if err != nil || strings.Contains(string(text), "latency_ns") {
				t.Fatalf("%+v: %s, %v", v, text, err)
			}
			again := reflect.New(reflect.TypeOf(v))
			if err := json.Unmarshal(text, again.Interface()); err != nil || !reflect.DeepEqual(again.Elem().Interface(), v) {
				t.Fatalf("%+v: read back from %s as %+v, %v", v, text, again.Elem(), err)
			}
		}
		stored, err := json.Marshal(storedStep{Tool: "t", Latency: d})
		var s Step
		if err == nil {
			err = json.Unmarshal(stored, &s)
		}
		if err != nil || !reflect.DeepEqual(s, Step{Tool: "t", Latency: d}) {
			t.Fatalf("%v: read back from %s as %+v, %v", d, stored, s, err)
		}
	})
}

func TestLatencyMilliseconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1.234567": 1234567, "0.000001": 1, "41000": 41 * time.Second, "1e3": time.Second, "1.5E-3": 1500, "-2.5": -2500 * time.Microsecond,
		"41.00000000000001": 41 * time.Millisecond, "0.0000005": 1, "0.00000049": 0, "-0": 0, "0e9": 0,
		"9223372036854.775807": math.MaxInt64, "-9223372036854.775808": math.MinInt64, "null": 7,
	} {
		s := Step{Latency: 7}
		if err := json.Unmarshal([]byte(`{"latency_ms":`+text+`}`), &s); err != nil || s.Latency != want {
			t.Errorf("%s: %d, %v, want %d", text, s.Latency, err, want)
		}
	}
	for _, text := range []string{"9223372036854.775808", "1e400", "1e999999999999", "1e-999", strings.Repeat("1", 500)} {
		err := json.Unmarshal([]byte(`{"latency_ms":`+text+`}`), new(Step))
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{`"1"`, "true", "[]", "{}"} {
		err := json.Unmarshal([]byte(`{"latency_ms":`+text+`}`), new(Step))
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	text, err := json.Marshal(Step{Latency: 1234567})
	if want := `{"latency_ms":1.234567}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}
