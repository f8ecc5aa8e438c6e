package hrana

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"strconv"

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
