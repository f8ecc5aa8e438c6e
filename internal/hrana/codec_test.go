package hrana

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// check compares what was decoded with what was encoded. An empty list and none
// are the same on the wire.
func check(t rapid.TB, got, want any) {
	t.Helper()
	if fmt.Sprintf("%#v", got) == fmt.Sprintf("%#v", want) {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("decoded %#v\n   want %#v", got, want)
	}
}

func TestProtobufPipelineRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyPipeline().Draw(t, "pipeline")
		check(t, parsePipeline(t, encodeProtobuf(want)), want)
	})
}

func TestProtobufAnswerRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requests := anyPipeline().Draw(t, "pipeline").Requests
		want := anyAnswer(requests).Draw(t, "answer")
		got, err := decodeProtobuf(writeAnswer(want), requests)
		if err != nil {
			t.Fatal(err)
		}
		check(t, got, want)
	})
}

func TestJSONAnswerRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requests := anyPipeline().Draw(t, "pipeline").Requests
		want := anyAnswer(requests).Draw(t, "answer")
		for _, r := range want.Results {
			if r.Batch != nil { // protobuf has no place for it
				r.Batch.ReplicationIndex = rapid.Uint64().Draw(t, "index")
			}
		}
		got, err := decodeJSON(writeJSONAnswer(t, want, rapid.Bool().Draw(t, "padded")), requests)
		if err != nil {
			t.Fatal(err)
		}
		check(t, got, want)
	})
}

func TestJSONIndexes(t *testing.T) {
	for text, want := range map[string]uint64{
		`"18446744073709551615"`: math.MaxUint64, `7`: 7, `null`: 0,
	} {
		msg := fmt.Sprintf(`{"results":[{"type":"ok","response":{"type":"execute","result":{"replication_index":%[1]s}}},`+
			`{"type":"ok","response":{"type":"batch","result":{"step_results":[],"replication_index":%[1]s}}}]}`, text)
		a, err := decodeJSON([]byte(msg), []Request{Execute{}, Batch{}})
		if err != nil || a.Results[0].Stmt.ReplicationIndex != want || a.Results[1].Batch.ReplicationIndex != want {
			t.Errorf("%s: decoded %+v, error %v", text, a, err)
		}
	}
}

func TestAnswerTellsItsHighestIndex(t *testing.T) {
	stmt := func(index uint64) *StmtResult { return &StmtResult{ReplicationIndex: index} }
	for _, tt := range []struct {
		name    string
		results []Result
		want    uint64
	}{
		{"no result", nil, 0},
		{"none that tells it", []Result{{}, {Err: &Error{}}, {Batch: &BatchResult{Steps: make([]StepResult, 2)}}}, 0},
		{"statements", []Result{{Stmt: stmt(3)}, {Stmt: stmt(9)}, {Stmt: stmt(4)}, {}}, 9},
		{"a batch", []Result{{Stmt: stmt(3)}, {Batch: &BatchResult{ReplicationIndex: 5}}}, 5},
		{"a step", []Result{{Batch: &BatchResult{ReplicationIndex: 5, Steps: []StepResult{{Result: stmt(6)}, {Err: &Error{}}}}}, {Stmt: stmt(3)}}, 6},
	} {
		if got := (&Answer{Results: tt.results}).ReplicationIndex(); got != tt.want {
			t.Errorf("%s: index %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestJSONOfASmallPipeline(t *testing.T) {
	got, err := encodeJSON(smallPipeline, false)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"baton":"b","requests":[{"type":"batch","batch":{"steps":[` +
		`{"stmt":{"sql":"A<"}},` +
		`{"condition":{"type":"and","conds":[{"type":"ok","step":0},{"type":"not","cond":{"type":"is_autocommit"}}]},` +
		`"stmt":{"sql":"B","args":[{"type":"null"},{"type":"integer","value":"-1"},{"type":"float","value":1.5},{"type":"text","value":""},{"type":"blob","base64":""}]}},` +
		`{"condition":{"type":"and","conds":[]},"stmt":{"sql":"C"}}` +
		`],"replication_index":"7"}},` +
		`{"type":"execute","stmt":{"sql":"D","replication_index":"7"}},{"type":"close"}]}` + "\n"
	if string(got) != want {
		t.Errorf("encoded %s\n   want %s", got, want)
	}
}

var smallPipeline = Pipeline{Baton: "b", ReplicationIndex: 7, Requests: []Request{
	Batch{Steps: []Step{
		{Stmt: Stmt{SQL: "A<"}},
		{Cond: And(Ok(0), Not(IsAutocommit())), Stmt: Stmt{SQL: "B", Args: []any{nil, int64(-1), 1.5, "", []byte{}}}},
		{Cond: And(), Stmt: Stmt{SQL: "C"}},
	}},
	Execute{Stmt{SQL: "D"}},
	Close{},
}}

func TestProtobufOfASmallPipeline(t *testing.T) {
	got := encodeProtobuf(smallPipeline)
	want := "0a0162" + // baton
		"1249" + "1a47" + "0a45" + // request, batch request, batch
		"0a06" + // step
		"1204" + "0a02413c" + // A<
		"0a2e" + // step
		"0a0c" + "220a" + // and
		"0a02" + "0800" + // ok(0)
		"0a04" + "1a02" + "3200" + // not(is_autocommit)
		"121e" + "0a0142" +
		"1a02" + "0a00" + // null
		"1a02" + "1001" + // -1
		"1a09" + "19000000000000f83f" + // 1.5
		"1a02" + "2200" + // ""
		"1a02" + "2a00" + // an empty blob
		"0a09" + // step
		"0a02" + "2200" + // and()
		"1203" + "0a0143" +
		"1007" + // index of the batch
		"1209" + "1207" + "0a05" + "0a0144" + "3007" + // request: execute D, index
		"1202" + "0a00" // request: close
	if g := fmt.Sprintf("%x", got); g != want {
		t.Errorf("encoded %s\n   want %s", g, want)
	}
}

func TestProtobufLengths(t *testing.T) {
	for _, n := range []int{0, 100, 127, 128, 16_000, 16_383, 16_384, 2_097_000, 2_097_151, 2_097_152, 4 << 20} {
		for name, value := range map[string]any{"text": strings.Repeat("x", n), "blob": make([]byte, n)} {
			want := Pipeline{Requests: []Request{Batch{Steps: []Step{{Ok(1), Stmt{SQL: "A", Args: []any{value}}}}}, Close{}}}
			if got := parsePipeline(t, encodeProtobuf(want)); !reflect.DeepEqual(got, want) {
				t.Errorf("%s of %d bytes is not what was encoded", name, n)
			}
		}
	}
}

// Conditions are not part of the size that the encoder expects.
func TestProtobufOfManyConditions(t *testing.T) {
	conds := make([]Cond, 10_000)
	for i := range conds {
		conds[i] = Ok(i)
	}
	want := Pipeline{Baton: "b", Requests: []Request{Batch{Steps: []Step{{And(conds...), Stmt{SQL: "A", Args: []any{int64(1)}}}}}}}
	check(t, parsePipeline(t, encodeProtobuf(want)), want)
}

// --- what must be refused ---

func TestEncodersRefuseWhatNoServerTakes(t *testing.T) {
	for _, tt := range []struct {
		stmt Stmt
		text string
	}{
		{Stmt{SQL: "\xff"}, "step 0: statement: text is not valid UTF-8"},
		{Stmt{Args: []any{nil, "\xff"}}, "step 0: argument 1: text is not valid UTF-8"},
		{Stmt{Args: []any{math.Inf(-1)}}, "step 0: argument 0: float -Inf is not finite"},
		{Stmt{Args: []any{math.NaN()}}, "step 0: argument 0: float NaN is not finite"},
		{Stmt{Args: []any{1}}, "step 0: argument 0: type int is none of nil, int64, float64, string and []byte"},
	} {
		for p := V3Protobuf; p <= V2JSON; p++ {
			_, err := encode(p, Pipeline{Requests: []Request{Batch{Steps: []Step{{Stmt: tt.stmt}}}}})
			if err == nil || !strings.HasSuffix(err.Error(), tt.text) {
				t.Errorf("%v: error is %v, want %s", p, err, tt.text)
			}
		}
	}
}

func TestHrana2HasNoAutocommitCondition(t *testing.T) {
	if _, err := encode(V2JSON, smallPipeline); !errors.Is(err, ErrNeedsV3) {
		t.Errorf("error is %v, want %v", err, ErrNeedsV3)
	}
}

func TestDecodersRefuseAnswersToOtherRequests(t *testing.T) {
	batch := []Request{Batch{Steps: make([]Step, 2)}}
	for _, tt := range []struct {
		name     string
		answer   Answer
		requests []Request
	}{
		{"too few results", Answer{}, batch},
		{"too many results", Answer{Results: make([]Result, 2)}, []Request{Close{}}},
		{"a close for a batch", Answer{Results: make([]Result, 1)}, batch},
		{"a batch for a close", Answer{Results: []Result{{Batch: &BatchResult{}}}}, []Request{Close{}}},
		{"a statement for a batch", Answer{Results: []Result{{Stmt: &StmtResult{}}}}, batch},
		{"a step too many", Answer{Results: []Result{{Batch: &BatchResult{Steps: []StepResult{{}, {}, {Err: &Error{}}}}}}}, batch},
	} {
		if _, err := decodeProtobuf(writeAnswer(&tt.answer), tt.requests); err == nil {
			t.Errorf("protobuf took %s", tt.name)
		}
		if _, err := decodeJSON(writeJSONAnswer(t, &tt.answer, true), tt.requests); err == nil {
			t.Errorf("JSON took %s", tt.name)
		}
	}
}

func TestJSONRefusesDamagedValues(t *testing.T) {
	for _, cell := range []string{
		`{}`, `{"type":"date"}`, `{"type":"integer"}`, `{"type":"integer","value":"1.5"}`, `{"type":"integer","value":"9223372036854775808"}`,
		`{"type":"float","value":null}`, `{"type":"float","value":"1"}`, `{"type":"text"}`, `{"type":"text","value":null}`, `{"type":"blob"}`, `{"type":"blob","base64":"*"}`,
	} {
		msg := `{"results":[{"type":"ok","response":{"type":"execute","result":{"rows":[[` + cell + `]]}}}]}`
		if a, err := decodeJSON([]byte(msg), []Request{Execute{}}); err == nil {
			t.Errorf("%s became %v", cell, a.Results[0].Stmt.Rows)
		}
	}
}

// fuzzRequests are answered by the fuzzed bytes: one request of each kind, so
// that every decoder is reached.
var fuzzRequests = [][]Request{
	{Execute{}},
	{Batch{Steps: make([]Step, 3)}, Close{}},
}

// checkSize fails if an answer is larger than a damaged one of n bytes may make
// it. A value takes 16 bytes of a row, a row 24 and both at least 2 on the wire.
func checkSize(t *testing.T, a *Answer, n int) {
	t.Helper()
	values := 0
	count := func(r *StmtResult) {
		if r == nil {
			return
		}
		for _, row := range r.Rows {
			values += 1 + cap(row)
		}
	}
	for _, r := range a.Results {
		count(r.Stmt)
		if r.Batch != nil {
			for _, s := range r.Batch.Steps {
				count(s.Result)
			}
		}
	}
	if values > 4*n {
		t.Errorf("%d bytes became %d rows and values", n, values)
	}
}

func fuzz(f *testing.F, decode func([]byte, []Request) (*Answer, error)) {
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, requests := range fuzzRequests {
			if a, err := decode(msg, requests); err == nil {
				checkSize(t, a, len(msg))
				if len(a.Results) != len(requests) {
					t.Errorf("%d results for %d requests", len(a.Results), len(requests))
				}
			}
		}
	})
}

var fuzzSeeds = []*Answer{
	{Baton: "b", Results: []Result{{Stmt: &StmtResult{Rows: [][]any{{nil, int64(-5), 2.5, "text", []byte{1}}}, Affected: 3, ReplicationIndex: 9}}}},
	{BaseURL: "u", Results: []Result{{Batch: &BatchResult{ReplicationIndex: 9, Steps: []StepResult{{Result: &StmtResult{Rows: [][]any{{}}}}, {Err: &Error{Code: "c", Message: "m"}}, {}}}}, {}}},
	{Results: []Result{{Err: &Error{Code: "c", Message: "m"}}}},
}

func FuzzProtobufAnswer(f *testing.F) {
	for _, a := range fuzzSeeds {
		f.Add(writeAnswer(a))
	}
	fuzz(f, decodeProtobuf)
}

func FuzzJSONAnswer(f *testing.F) {
	for _, a := range fuzzSeeds {
		f.Add(writeJSONAnswer(f, a, false))
	}
	fuzz(f, decodeJSON)
}

func BenchmarkDecodeProtobuf(b *testing.B) {
	rows := make([][]any, 50)
	for i := range rows {
		rows[i] = []any{int64(i), strings.Repeat("x", 4096)}
	}
	msg := writeAnswer(&Answer{Results: []Result{{Stmt: &StmtResult{Rows: rows}}}})
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeProtobuf(msg, []Request{Execute{}}); err != nil {
			b.Fatal(err)
		}
	}
}

// insertOne is what the engine sends for one row.
var insertOne = Pipeline{Requests: []Request{
	Execute{Stmt{SQL: "INSERT INTO steps(episode, seq, kind, tool, input, at) VALUES(?, ?, ?, ?, ?, ?)", Args: []any{
		"01932b5e-8c4f-7a31-9d5e-2f6b8a7c1d20", int64(7), "tool_call", "grep", []byte(`{"pattern":"func main"}`), int64(1_763_863_000_000),
	}}},
	Close{},
}}

// group is a transaction of n statements as the engine sends it.
func group(n int, stmt Stmt) Pipeline {
	inside := Not(IsAutocommit())
	steps := []Step{{Stmt: Stmt{SQL: "BEGIN IMMEDIATE"}}}
	for i := range n {
		steps = append(steps, Step{And(Ok(i), inside), stmt})
	}
	steps = append(steps, Step{And(Ok(n), inside), Stmt{SQL: "COMMIT"}})
	steps = append(steps, Step{And(Not(Ok(n+1)), inside), Stmt{SQL: "ROLLBACK"}})
	return Pipeline{Requests: []Request{Batch{steps}, Close{}}}
}

// encoded keeps a message until there is the next one, as a request does: without
// it the large ones measure how soon the collector gives memory back.
var encoded []byte

func BenchmarkEncodeProtobuf(b *testing.B) {
	small := insertOne.Requests[0].(Execute).Stmt
	for _, bb := range []struct {
		name     string
		pipeline Pipeline
	}{
		{"one row", insertOne},
		{"one row of 4 KiB", Pipeline{Requests: []Request{Execute{Stmt{SQL: "INSERT INTO t VALUES(?)", Args: []any{strings.Repeat("x", 4096)}}}, Close{}}}},
		{"group of 3", group(3, small)},
		{"group of 256", group(256, small)},
		{"group with 4 MiB", group(3, Stmt{SQL: "INSERT INTO t VALUES(?)", Args: []any{make([]byte, 4<<20/3)}})},
		{"blob of 4 MiB", group(1, Stmt{SQL: "INSERT INTO t VALUES(?)", Args: []any{make([]byte, 4<<20)}})},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if encoded, err = encode(V3Protobuf, bb.pipeline); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(encoded)), "B/request")
		})
	}
}
