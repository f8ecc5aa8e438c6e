package episodic

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/payload"
)

func headOf(e *Episode) *episodePayload {
	return &episodePayload{
		Description: e.Description, Framework: e.Context.Framework, Complexity: e.Context.Complexity, Outcome: e.Outcome,
		Reward: e.Reward, Reflection: e.Reflection, AppliedPatterns: e.AppliedPatterns, Metadata: e.Metadata,
	}
}

// library is the JSON of encoding/json, without the escapes for HTML.
func library(t rapid.TB, v any) []byte {
	text, err := marshalDocument(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// byHand is the JSON that v writes by itself.
func byHand(t rapid.TB, v payload.Writer) []byte {
	text, ok := v.AppendJSON(nil)
	if !ok {
		t.Fatalf("%+v is left to encoding/json", v)
	}
	return text
}

func TestStoredJSONIsThatOfEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEpisode.Draw(t, "episode")
		check := func(v payload.Writer) {
			if got, want := byHand(t, v), library(t, v); !bytes.Equal(got, want) {
				t.Fatalf("writes\n%s\nencoding/json writes\n%s", got, want)
			}
		}
		check(headOf(e))
		for i := range e.Steps {
			check((*storedStep)(&e.Steps[i]))
		}
	})
}

// Texts that need care, alone and in their neighbours' company.
var oddTexts = []string{
	"", "a", `"`, `\`, "\b\f\n\r\t", "\x00\x01\x1f\x7f", "<&>", "é", "日本語", "😀", "\u2028\u2029", "\ufffd", "\xff", "a\xc3", "\xed\xa0\x80", `\u0041`, "a\"b\\c\nd",
}

func TestStoredTexts(t *testing.T) {
	for _, text := range append(oddTexts, strings.Join(oddTexts, "")) {
		head := &episodePayload{Description: text, Metadata: map[string]string{text: text, "k": text}, Outcome: Outcome{Artifacts: []string{text, text}}}
		if got, want := byHand(t, head), library(t, head); !bytes.Equal(got, want) {
			t.Errorf("%q: writes %s, encoding/json writes %s", text, got, want)
		}
		var fast, slow episodePayload
		if !fast.ReadJSON(payload.NewScanner(byHand(t, head))) {
			t.Errorf("%q: reading is left to encoding/json", text)
		}
		ok(t, json.Unmarshal(byHand(t, head), &slow))
		if !reflect.DeepEqual(fast, slow) {
			t.Errorf("%q: reads %+v, encoding/json reads %+v", text, fast, slow)
		}
	}
}

func TestStoredNumbersAndTimes(t *testing.T) {
	for _, f := range []float64{0, 1, -1, 0.1, 1e-6, 9.9e-7, 1e-9, 1e20, 1e21, -2.5e-12, 1e100, 5e-324, 1.7976931348623157e308} {
		head := &episodePayload{Reward: &Reward{Total: f, Components: map[string]float64{"a": -f}}}
		if got, want := byHand(t, head), library(t, head); !bytes.Equal(got, want) {
			t.Errorf("%v: writes %s, encoding/json writes %s", f, got, want)
		}
		var fast episodePayload
		if !fast.ReadJSON(payload.NewScanner(byHand(t, head))) || fast.Reward.Total != f {
			t.Errorf("%v is read as %+v", f, fast.Reward)
		}
	}
	for _, at := range []time.Time{time.Unix(0, 0).UTC(), time.UnixMicro(1).UTC(), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)} {
		step := &storedStep{Time: at, Latency: -1, Tokens: 1 << 40}
		if got, want := byHand(t, step), library(t, step); !bytes.Equal(got, want) {
			t.Errorf("%v: writes %s, encoding/json writes %s", at, got, want)
		}
		var fast storedSteps
		if !fast.ReadJSON(payload.NewScanner([]byte("["+string(byHand(t, step))+"]"))) || !reflect.DeepEqual(&fast.steps[0], step) {
			t.Errorf("%v is read as %+v", at, fast.steps)
		}
	}
	if _, ok := (&storedStep{Time: time.Now().In(time.FixedZone("", 3600))}).AppendJSON(nil); ok {
		t.Error("a time of another zone is not left to encoding/json")
	}
}

// sameAsLibrary fails if encoding/json does not read what fast was read from as fast.
func sameAsLibrary[V any](t *testing.T, text []byte, fast V) {
	t.Helper()
	var slow V
	if err := json.Unmarshal(text, &slow); err != nil {
		t.Fatalf("reads %q, encoding/json says %v", text, err)
	}
	if !reflect.DeepEqual(fast, slow) {
		t.Fatalf("reads %q as\n%+v\nencoding/json as\n%+v", text, fast, slow)
	}
}

func FuzzStoredHead(f *testing.F) {
	for i := range 3 {
		e := task(i)
		e.Reward = &Reward{Total: 1.5, Components: map[string]float64{"a": 1e-7}}
		e.AppliedPatterns = []AppliedPattern{{PatternID: NewID(), Step: 1, Effect: Helped, Note: "n"}}
		e.Reflection = Reflection{Successes: []string{"a\n"}, Insights: []string{"b", "ü"}}
		f.Add(byHand(f, headOf(e)))
	}
	f.Add([]byte(`{"description":"\u00e9\/","outcome":{"kind":"failure","stopped_at_step":12}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var fast episodePayload
		if fast.ReadJSON(payload.NewScanner(text)) {
			sameAsLibrary(t, text, fast)
		}
	})
}

func FuzzStoredSteps(f *testing.F) {
	for i := range 3 {
		e := task(i)
		e.Steps[0].Time, e.Steps[1].Latency, e.Steps[1].Metadata = time.UnixMicro(1e15).UTC(), 5, map[string]string{"a": "b"}
		text := []byte("[")
		for k := range e.Steps {
			text = append(append(text, byHand(f, (*storedStep)(&e.Steps[k]))...), ',')
		}
		f.Add(append(text[:len(text)-1], ']'))
	}
	f.Add([]byte(`[{"time":"2024-02-29T01:02:03.1Z"},{"result":{"kind":"error"},"latency_ns":-1}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var fast storedSteps
		if fast.ReadJSON(payload.NewScanner(text)) {
			sameAsLibrary(t, text, fast.steps)
		}
	})
}
