package hrana

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

// anyValue draws a value that every protocol can carry.
func anyValue() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Just[any](nil),
		rapid.Int64().AsAny(),
		rapid.Float64().Filter(func(f float64) bool { return CheckValue(f) == nil }).AsAny(),
		rapid.String().AsAny(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return append([]byte{}, b...) }),
	)
}

func anyStmt() *rapid.Generator[Stmt] {
	return rapid.Custom(func(t *rapid.T) Stmt {
		return Stmt{
			SQL:  rapid.String().Draw(t, "sql"),
			Args: rapid.SliceOfN(anyValue(), 0, 5).Draw(t, "args"),
		}
	})
}

func anyCond(depth int) *rapid.Generator[Cond] {
	return rapid.Custom(func(t *rapid.T) Cond {
		kinds := 2
		if depth > 0 {
			kinds = 4
		}
		switch rapid.IntRange(1, kinds).Draw(t, "kind") {
		case 1:
			return Ok(rapid.IntRange(0, 300).Draw(t, "step"))
		case 2:
			return IsAutocommit()
		case 3:
			return Not(anyCond(depth-1).Draw(t, "sub"))
		default:
			return And(rapid.SliceOfN(anyCond(depth-1), 1, 3).Draw(t, "subs")...)
		}
	})
}

func anyPipeline() *rapid.Generator[Pipeline] {
	return rapid.Custom(func(t *rapid.T) Pipeline {
		p := Pipeline{Baton: rapid.String().Draw(t, "baton")}
		index := rapid.Uint64().Draw(t, "index")
		for range rapid.IntRange(1, 4).Draw(t, "requests") {
			switch rapid.IntRange(0, 2).Draw(t, "request") {
			case 0:
				p.Requests = append(p.Requests, Execute{Stmt: anyStmt().Draw(t, "stmt")})
				p.ReplicationIndex = index
			case 1:
				b := Batch{}
				p.ReplicationIndex = index
				for range rapid.IntRange(1, 4).Draw(t, "steps") {
					s := Step{Stmt: anyStmt().Draw(t, "stmt")}
					if rapid.Bool().Draw(t, "conditional") {
						s.Cond = anyCond(3).Draw(t, "cond")
					}
					b.Steps = append(b.Steps, s)
				}
				p.Requests = append(p.Requests, b)
			case 2:
				p.Requests = append(p.Requests, Close{})
			}
		}
		return p
	})
}

// anyAnswer draws an answer to requests.
func anyAnswer(requests []Request) *rapid.Generator[*Answer] {
	failure := rapid.Custom(func(t *rapid.T) *Error {
		return &Error{Code: rapid.String().Draw(t, "code"), Message: rapid.String().Draw(t, "message"), Status: http.StatusOK}
	})
	result := rapid.Custom(func(t *rapid.T) *StmtResult {
		r := &StmtResult{
			Affected:         rapid.Int64Min(0).Draw(t, "affected"),
			ReplicationIndex: rapid.Uint64().Draw(t, "index"),
		}
		cols := rapid.IntRange(1, 4).Draw(t, "columns")
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			r.Rows = append(r.Rows, rapid.SliceOfN(anyValue(), cols, cols).Draw(t, "row"))
		}
		return r
	})
	return rapid.Custom(func(t *rapid.T) *Answer {
		a := &Answer{Baton: rapid.String().Draw(t, "baton"), BaseURL: rapid.String().Draw(t, "base URL")}
		for _, request := range requests {
			r := Result{}
			switch request := request.(type) {
			case Execute:
				r.Stmt = result.Draw(t, "result")
			case Batch:
				r.Batch = &BatchResult{Steps: make([]StepResult, len(request.Steps))}
				for i := range r.Batch.Steps {
					switch rapid.IntRange(0, 2).Draw(t, "outcome") {
					case 0:
						r.Batch.Steps[i].Result = result.Draw(t, "result")
					case 1:
						r.Batch.Steps[i].Err = failure.Draw(t, "failure")
					}
				}
			}
			if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
				r = Result{Err: failure.Draw(t, "failure")}
			}
			a.Results = append(a.Results, r)
		}
		return a
	})
}

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

// --- protobuf, from the server's side ---

type message map[protowire.Number][][]byte

// parse splits a message into its fields; the value of a varint or a fixed
// field keeps its encoding.
func parse(t rapid.TB, msg []byte) message {
	t.Helper()
	out := message{}
	for len(msg) > 0 {
		number, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			t.Fatalf("tag: %v", protowire.ParseError(n))
		}
		msg = msg[n:]
		n = protowire.ConsumeFieldValue(number, typ, msg)
		if n < 0 {
			t.Fatalf("field %d: %v", number, protowire.ParseError(n))
		}
		value := msg[:n]
		if typ == protowire.BytesType {
			if value, _ = protowire.ConsumeBytes(value); n != protowire.SizeBytes(len(value)) {
				t.Fatalf("field %d: the length of %d bytes takes %d", number, len(value), n-len(value))
			}
		}
		out[number] = append(out[number], value)
		msg = msg[n:]
	}
	return out
}

func (m message) has(n protowire.Number) bool { return len(m[n]) == 1 }

func (m message) uint(n protowire.Number) uint64 {
	v, _ := protowire.ConsumeVarint(m[n][0])
	return v
}

// optional returns the number of a field that may be left out.
func (m message) optional(n protowire.Number) uint64 {
	if !m.has(n) {
		return 0
	}
	return m.uint(n)
}

func (m message) text(n protowire.Number) string {
	if !m.has(n) {
		return ""
	}
	return string(m[n][0])
}

func parsePipeline(t rapid.TB, msg []byte) Pipeline {
	m := parse(t, msg)
	p := Pipeline{Baton: m.text(1)}
	told := false
	tell := func(index uint64) {
		if told && index != p.ReplicationIndex {
			t.Fatalf("requests with the indexes %d and %d", p.ReplicationIndex, index)
		}
		told, p.ReplicationIndex = true, index
	}
	for _, r := range m[2] {
		switch r := parse(t, r); {
		case r.has(1):
			p.Requests = append(p.Requests, Close{})
		case r.has(2):
			stmt := parse(t, parse(t, r[2][0])[1][0])
			tell(stmt.optional(6))
			p.Requests = append(p.Requests, Execute{Stmt: parseStmt(t, stmt)})
		case r.has(3):
			b, batch := Batch{}, parse(t, parse(t, r[3][0])[1][0])
			tell(batch.optional(2))
			for _, s := range batch[1] {
				step, s := Step{}, parse(t, s)
				if s.has(1) {
					step.Cond = parseCond(t, s[1][0])
				}
				stmt := parse(t, s[2][0])
				if stmt.has(6) {
					t.Fatalf("a step of a batch has index %d", stmt.uint(6))
				}
				step.Stmt = parseStmt(t, stmt)
				b.Steps = append(b.Steps, step)
			}
			p.Requests = append(p.Requests, b)
		}
	}
	return p
}

func parseCond(t rapid.TB, msg []byte) Cond {
	switch m := parse(t, msg); {
	case m.has(1):
		return Ok(int(m.uint(1)))
	case m.has(3):
		return Not(parseCond(t, m[3][0]))
	case m.has(4):
		var subs []Cond
		for _, sub := range parse(t, m[4][0])[1] {
			subs = append(subs, parseCond(t, sub))
		}
		return And(subs...)
	case m.has(6):
		return IsAutocommit()
	}
	t.Fatalf("condition %x", msg)
	return Cond{}
}

func parseStmt(t rapid.TB, m message) Stmt {
	s := Stmt{SQL: m.text(1), Args: []any{}}
	for _, v := range m[3] {
		switch v := parse(t, v); {
		case v.has(1):
			s.Args = append(s.Args, nil)
		case v.has(2):
			s.Args = append(s.Args, protowire.DecodeZigZag(v.uint(2)))
		case v.has(3):
			bits, _ := protowire.ConsumeFixed64(v[3][0])
			s.Args = append(s.Args, math.Float64frombits(bits))
		case v.has(4):
			s.Args = append(s.Args, v.text(4))
		case v.has(5):
			s.Args = append(s.Args, append([]byte{}, v[5][0]...))
		}
	}
	return s
}

// writeAnswer encodes an answer with shortest lengths, as servers do.
func writeAnswer(a *Answer) []byte {
	var out []byte
	out = add(out, 1, []byte(a.Baton))
	out = add(out, 2, []byte(a.BaseURL))
	for _, r := range a.Results {
		var response []byte
		switch {
		case r.Err != nil:
			out = add(out, 3, add(nil, 2, writeError(r.Err)))
			continue
		case r.Stmt != nil:
			response = add(nil, 2, add(nil, 1, writeStmtResult(r.Stmt)))
		case r.Batch != nil:
			var batch []byte
			for i, s := range r.Batch.Steps {
				var key []byte
				if i > 0 { // a map key of 0 is left out
					key = protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(i))
				}
				if s.Result != nil {
					batch = add(batch, 1, add(key, 2, writeStmtResult(s.Result)))
				}
				if s.Err != nil {
					batch = add(batch, 2, add(key, 2, writeError(s.Err)))
				}
			}
			response = add(nil, 3, add(nil, 1, batch))
		default:
			response = add(nil, 1, nil)
		}
		out = add(out, 3, add(nil, 1, response))
	}
	return out
}

func add(msg []byte, n protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(msg, n, protowire.BytesType), value)
}

func writeError(e *Error) []byte { return add(add(nil, 1, []byte(e.Message)), 2, []byte(e.Code)) }

func writeStmtResult(r *StmtResult) []byte {
	var out []byte
	for _, row := range r.Rows {
		var values []byte
		for _, v := range row {
			e := encoder{}
			e.value(v)
			value, _ := protowire.ConsumeBytes(e.buf[e.start+1:])
			values = add(values, 1, value)
		}
		out = add(out, 2, values)
	}
	out = protowire.AppendVarint(protowire.AppendTag(out, 3, protowire.VarintType), uint64(r.Affected))
	return protowire.AppendVarint(protowire.AppendTag(out, 5, protowire.VarintType), r.ReplicationIndex)
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

// --- JSON, from the server's side ---

type object = map[string]any

func writeJSONAnswer(t rapid.TB, a *Answer, padded bool) []byte {
	out := object{"baton": a.Baton, "base_url": a.BaseURL}
	if a.Baton == "" {
		out["baton"] = nil
	}
	results := []any{}
	for _, r := range a.Results {
		response := object{"type": "close"}
		switch {
		case r.Err != nil:
			results = append(results, object{"type": "error", "error": jsonFailure(r.Err)})
			continue
		case r.Stmt != nil:
			response = object{"type": "execute", "result": jsonResultOf(r.Stmt, padded)}
		case r.Batch != nil:
			ok, failed := []any{}, []any{}
			for _, s := range r.Batch.Steps {
				ok, failed = append(ok, nil), append(failed, nil)
				if s.Result != nil {
					ok[len(ok)-1] = jsonResultOf(s.Result, padded)
				}
				if s.Err != nil {
					failed[len(failed)-1] = jsonFailure(s.Err)
				}
			}
			response = object{"type": "batch", "result": object{
				"step_results": ok, "step_errors": failed, "replication_index": strconv.FormatUint(r.Batch.ReplicationIndex, 10),
			}}
		}
		results = append(results, object{"type": "ok", "response": response})
	}
	out["results"] = results
	msg, err := json.Marshal(out)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return msg
}

func jsonFailure(e *Error) object { return object{"message": e.Message, "code": e.Code} }

func jsonResultOf(r *StmtResult, padded bool) object {
	rows := []any{}
	for _, row := range r.Rows {
		cells := []any{}
		for _, v := range row {
			cell := object{"type": "null"}
			switch v := v.(type) {
			case int64:
				cell = object{"type": "integer", "value": strconv.FormatInt(v, 10)}
			case float64:
				cell = object{"type": "float", "value": v}
			case string:
				cell = object{"type": "text", "value": v}
			case []byte:
				encoding := base64.RawStdEncoding
				if padded {
					encoding = base64.StdEncoding
				}
				cell = object{"type": "blob", "base64": encoding.EncodeToString(v)}
			}
			cells = append(cells, cell)
		}
		rows = append(rows, cells)
	}
	return object{
		"cols": []any{}, "rows": rows, "affected_row_count": r.Affected,
		"replication_index": strconv.FormatUint(r.ReplicationIndex, 10),
	}
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
