package transcript

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

// readOne reads a file that holds one run. Its error is the first that was told.
func readOne(raw, format string) (e *episodic.Episode, err error) {
	for run, problem := range Read(strings.NewReader(raw), "one.jsonl", &Options{Format: format}) {
		switch {
		case problem != nil && err == nil:
			err = problem
		case run != nil && e == nil && run.Episode != nil:
			e = run.Episode
			e.ID = run.ID(episodic.Scope{})
		}
	}
	return e, err
}

func TestDerivedIDFollowsFromTheDocument(t *testing.T) {
	id := func(raw, format string) episodic.ID {
		e, err := readOne(raw, format)
		if err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	a := id(`{"description":"x"}`, "")
	if s := a.String(); s[14] != '8' || !strings.ContainsRune("89ab", rune(s[19])) {
		t.Errorf("%v is no UUIDv8", a)
	}
	if id(` { "description" : "x" } `, "episodic") != a {
		t.Error("spaces change the id")
	}
	if id(`{"description":"y"}`, "") == a {
		t.Error("another document has the same id")
	}
	if id(`{"description":"x","messages":[]}`, "openai") == a {
		t.Error("another format gives the same id")
	}
}

func TestParametersMayBeAnyJSON(t *testing.T) {
	e, err := readOne(`{"description":"x","steps":[{"tool":"a","parameters":"{\"q\": 1.0}"},{"tool":"b","parameters":{"q": 1.0}},{"tool":"c","parameters":null},{"tool":"d"}]}`, "")
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
		`[1]`:                                                                 "is not a JSON object",
		`{"description":"x"} null`:                                            "is null",
		"{\"description\":\"x\xff\"}":                                         "is not valid UTF-8 at byte 18",
		`{"description":["x"]}`:                                               "description: holds an array, want a string",
		`{"description":"x","id":"zz"}`:                                       `id: "zz" is not a UUID`,
		`{"description":"x","end":"2026"}`:                                    "end: parsing time",
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
		_, err := readOne(doc, "episodic")
		if _, told := errors.AsType[*Problem](err); !told || !strings.HasPrefix(err.Error(), want) {
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
		e, err := readOne(`{"description":"x","steps":[{"tool":"t",`+latency+`}]}`, "episodic")
		if err != nil || e.Steps[0].Latency != want {
			t.Errorf("%s: %+v, %v", latency, e, err)
		}
	}
}
