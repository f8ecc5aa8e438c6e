package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

var e0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestDerivedIDFollowsFromTheDocument(t *testing.T) {
	id := func(raw, format string) episodic.ID {
		e, err := parseDocument([]byte(raw), format, episodic.Scope{}, e0)
		if err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	a := id(`{"description":"x"}`, formatAuto)
	if s := a.String(); s[14] != '8' || !strings.ContainsRune("89ab", rune(s[19])) {
		t.Errorf("%v is no UUIDv8", a)
	}
	if id(` { "description" : "x" } `, formatEpisodic) != a {
		t.Error("spaces change the id")
	}
	if id(`{"description":"y"}`, formatAuto) == a {
		t.Error("another document has the same id")
	}
	if id(`{"description":"x","messages":[]}`, formatOpenAI) == a {
		t.Error("another format gives the same id")
	}
}

func TestParametersMayBeAnyJSON(t *testing.T) {
	e, err := parseDocument([]byte(`{"description":"x","steps":[{"tool":"a","parameters":"{\"q\": 1.0}"},{"tool":"b","parameters":{"q": 1.0}},{"tool":"c","parameters":null},{"tool":"d"}]}`), formatAuto, episodic.Scope{}, e0)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`{"q": 1.0}`, `{"q": 1.0}`, "", ""} {
		if got := e.Steps[i].Parameters; string(got) != want {
			t.Errorf("step %d has the parameters %q, want %q", i+1, got, want)
		}
	}
}

func TestRefusalsNameTheField(t *testing.T) {
	for doc, want := range map[string]string{
		`[1]`:                              ": is not a JSON object",
		`null`:                             ": is null",
		`{"description":"x"} {}`:           ": is not JSON",
		`{"description":["x"]}`:            "description: holds an array, want a string",
		`{"description":"x","id":"zz"}`:    `id: "zz" is not a UUID`,
		`{"description":"x","end":"2026"}`: "end: parsing time",
		`{"description":"x","reward":{"total":"1"}}`:                          "reward.total: holds a string, want a finite number",
		`{"description":"x","reward":{"total":1e999}}`:                        "reward.total: holds number 1e999, want a finite number",
		`{"description":"x","context":{"domian":"d"}}`:                        `context: unknown field "domian"`,
		`{"description":"x","steps":{}}`:                                      "steps: holds an object, want an array",
		`{"description":"x","steps":[{"tokens":1.5}]}`:                        "steps[0].tokens: holds number 1.5, want a whole number",
		`{"description":"x","steps":[{},{"result":"r"}]}`:                     "steps[1].result: holds a string, want an object",
		`{"description":"x","steps":[{"result":{"kind":"output","txt":""}}]}`: `steps[0].result: unknown field "txt"`,
		`{"description":"x","steps":[{"tool":"t","latency_ms":"fast"}]}`:      "steps[0].latency_ms: holds a string, want a finite number",
		`{"description":"x","steps":[{"tool":"t","latency_ms":1e300}]}`:       "steps[0].latency_ms: is 1e300; it must be milliseconds",
		`{"description":"x","steps":[{"time":"noon"}]}`:                       "steps[0].time: parsing time",
		`{"description":"x","metadata":{"n":1}}`:                              "metadata: holds a number, want a string",
	} {
		_, err := parseDocument([]byte(doc), formatAuto, episodic.Scope{}, e0)
		if !errors.Is(err, episodic.ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}

// Documents written before latency_ms have latency_ns.
func TestLatencyOfDocuments(t *testing.T) {
	for latency, want := range map[string]time.Duration{
		`"latency_ms":1.234567`: 1234567, `"latency_ms":1500`: 1500 * time.Millisecond, `"latency_ms":1.5e3`: 1500 * time.Millisecond,
		`"latency_ns":41000000000`: 41 * time.Second, `"latency_ms":2,"latency_ns":7`: 2 * time.Millisecond,
	} {
		e, err := parseDocument([]byte(`{"description":"x","steps":[{"tool":"t",`+latency+`}]}`), formatEpisodic, episodic.Scope{}, e0)
		if err != nil || e.Steps[0].Latency != want {
			t.Errorf("%s: %+v, %v", latency, e, err)
		}
	}
}

// FuzzParseDocument checks that whatever is read, nothing panics, a refusal is
// ErrInvalid, the same document always gives the same episode, and no call is lost.
func FuzzParseDocument(f *testing.F) {
	for _, doc := range []string{
		lineOne,
		`{"id":"0198c5f2-0000-7000-8000-000000000001","description":"d","context":{"tags":["a"]},"start":"2026-01-01T00:00:00Z","steps":[{"number":1,"tool":"t","parameters":{"a":[1]},"result":{"kind":"error","text":"x"},"latency_ms":5}],"outcome":{"kind":"failure","reason":"r"},"reward":{"total":0.5}}`,
		`{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"c1","function":{"name":"g","arguments":"broken"}}]},{"role":"tool","tool_call_id":"c1","content":"Error: no"}],"reward":1}`,
		`{"traj":[{"role":"assistant","content":[{"type":"text","text":"hi"},{"type":"image_url"}]}],"reward":0.5,"created":1717171717.25,"task_id":3,"info":{"task":{"instruction":"do"}}}`,
		`{"messages":[{"role":"tool","tool_call_id":"x"}]}`,
		`{"messages":null}`, `{"messages":[null]}`, `{"steps":[null]}`, `{"Steps":[{"x":1}]}`, `{"":0}`, `[]`, `{`, "\xff", `{"messages":[],"created_at":"x"}`,
		`{"messages":[{"role":"user","content":5}]}`,
		`{"messages":[{"role":"user","content":"0"},{"role":"tool"}]}`,
		`{"messages":[{"role":"user","content":"0"},{"role":"assistant","function_call":{"name":"f"}}]}`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, format := range []string{formatAuto, formatEpisodic, formatOpenAI} {
			e, err := parseDocument(raw, format, episodic.Scope{}, e0)
			if err != nil {
				if !errors.Is(err, episodic.ErrInvalid) {
					t.Fatalf("%s: %v is not ErrInvalid", format, err)
				}
				continue
			}
			if again, err := parseDocument(raw, format, episodic.Scope{}, e0.Add(time.Hour)); err != nil || again.ID != e.ID || e.ID.IsZero() {
				t.Fatalf("%s: parsed again: id %v and %v, %v", format, e.ID, again.ID, err)
			}
			if format != formatOpenAI {
				continue
			}
			var doc struct {
				Messages, Traj []struct {
					Role  string            `json:"role"`
					Calls []json.RawMessage `json:"tool_calls"`
					Call  *json.RawMessage  `json:"function_call"`
				}
			}
			if err := json.Unmarshal(raw, &doc); err != nil {
				continue // its keys differ in case only; the parser looks at the exact ones
			}
			calls, answers := 0, 0 // an answer whose call is not there is a step too
			for _, m := range append(doc.Messages, doc.Traj...) {
				switch m.Role {
				case "assistant":
					calls += len(m.Calls)
					if m.Call != nil {
						calls++
					}
				case "tool", "function":
					answers++
				}
			}
			if len(e.Steps) > calls+answers {
				t.Fatalf("%d steps of %d calls and %d answers", len(e.Steps), calls, answers)
			}
		}
	})
}
