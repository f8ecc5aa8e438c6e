package hrana

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// JSON requests. Pointers and `any` are optional fields.
type (
	jsonPipeline struct {
		Baton    string        `json:"baton,omitempty"`
		Requests []jsonRequest `json:"requests"`
	}
	jsonRequest struct {
		Type  string     `json:"type"`
		Stmt  *jsonStmt  `json:"stmt,omitempty"`
		Batch *jsonBatch `json:"batch,omitempty"`
	}
	jsonBatch struct {
		Steps            []jsonStep `json:"steps"`
		ReplicationIndex uint64     `json:"replication_index,omitempty,string"`
	}
	jsonStep struct {
		Condition *jsonCond `json:"condition,omitempty"`
		Stmt      *jsonStmt `json:"stmt"`
	}
	jsonCond struct {
		Type  string      `json:"type"`
		Step  *int        `json:"step,omitempty"`
		Cond  *jsonCond   `json:"cond,omitempty"`
		Conds []*jsonCond `json:"conds,omitzero"` // nil is omitted, an empty list is not
	}
	jsonStmt struct {
		SQL              string      `json:"sql"`
		Args             []jsonValue `json:"args,omitempty"`
		ReplicationIndex uint64      `json:"replication_index,omitempty,string"`
	}
	// jsonValue encodes integers as strings, because many decoders read JSON numbers
	// as float64.
	jsonValue struct {
		Type   string  `json:"type"`
		Value  any     `json:"value,omitempty"`
		Base64 *string `json:"base64,omitempty"`
	}
)

// encodeJSON encodes p, which must have passed check, for Hrana 3, or for Hrana 2
// if v2 is set.
func encodeJSON(p Pipeline, v2 bool) ([]byte, error) {
	out := jsonPipeline{Baton: p.Baton, Requests: make([]jsonRequest, 0, len(p.Requests))}
	for i, r := range p.Requests {
		request, err := toJSONRequest(r, p.ReplicationIndex, v2)
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i, err)
		}
		out.Requests = append(out.Requests, request)
	}
	var buf bytes.Buffer
	buf.Grow(sizeHint(p))
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func toJSONRequest(r Request, index uint64, v2 bool) (jsonRequest, error) {
	switch r := r.(type) {
	case Execute:
		stmt := toJSONStmt(r.Stmt)
		stmt.ReplicationIndex = index
		return jsonRequest{Type: "execute", Stmt: stmt}, nil
	case Batch:
		batch := &jsonBatch{Steps: make([]jsonStep, len(r.Steps)), ReplicationIndex: index}
		for i, s := range r.Steps {
			batch.Steps[i].Stmt = toJSONStmt(s.Stmt)
			if s.Cond.op == condAlways {
				continue
			}
			if v2 && s.Cond.needsV3() {
				return jsonRequest{}, fmt.Errorf("step %d: %w", i, ErrNeedsV3)
			}
			batch.Steps[i].Condition = toJSONCond(s.Cond)
		}
		return jsonRequest{Type: "batch", Batch: batch}, nil
	default:
		return jsonRequest{Type: "close"}, nil
	}
}

func (c Cond) needsV3() bool {
	for _, sub := range c.subs {
		if sub.needsV3() {
			return true
		}
	}
	return c.op == condIsAutocommit
}

func toJSONCond(c Cond) *jsonCond {
	switch c.op {
	case condOk:
		return &jsonCond{Type: "ok", Step: &c.step}
	case condNot:
		return &jsonCond{Type: "not", Cond: toJSONCond(c.subs[0])}
	case condIsAutocommit:
		return &jsonCond{Type: "is_autocommit"}
	default:
		conds := make([]*jsonCond, 0, len(c.subs))
		for _, sub := range c.subs {
			conds = append(conds, toJSONCond(sub))
		}
		return &jsonCond{Type: "and", Conds: conds}
	}
}

func toJSONStmt(s Stmt) *jsonStmt {
	out := &jsonStmt{SQL: s.SQL, Args: make([]jsonValue, len(s.Args))}
	for i, v := range s.Args {
		switch v := v.(type) {
		case nil:
			out.Args[i] = jsonValue{Type: "null"}
		case int64:
			out.Args[i] = jsonValue{Type: "integer", Value: strconv.FormatInt(v, 10)}
		case float64:
			out.Args[i] = jsonValue{Type: "float", Value: v}
		case string:
			out.Args[i] = jsonValue{Type: "text", Value: v}
		case []byte:
			text := base64.StdEncoding.EncodeToString(v)
			out.Args[i] = jsonValue{Type: "blob", Base64: &text}
		}
	}
	return out
}

// JSON answers. The type of a raw result follows from its request.
type (
	jsonAnswer struct {
		Baton   string       `json:"baton"`
		BaseURL string       `json:"base_url"`
		Results []jsonResult `json:"results"`
	}
	jsonResult struct {
		Type     string `json:"type"`
		Response *struct {
			Type   string          `json:"type"`
			Result json.RawMessage `json:"result"`
		} `json:"response"`
		Error *jsonError `json:"error"`
	}
	jsonError struct {
		Message string `json:"message"`
		Code    string `json:"code"`
	}
	jsonBatchResult struct {
		StepResults      []*jsonStmtResult `json:"step_results"`
		StepErrors       []*jsonError      `json:"step_errors"`
		ReplicationIndex jsonIndex         `json:"replication_index"`
	}
	jsonStmtResult struct {
		Rows             [][]jsonCell `json:"rows"`
		Affected         int64        `json:"affected_row_count"`
		ReplicationIndex jsonIndex    `json:"replication_index"`
	}
	jsonCell  struct{ v any }
	jsonIndex uint64
)

func decodeJSON(msg []byte, requests []Request) (*Answer, error) {
	var in jsonAnswer
	if err := json.Unmarshal(msg, &in); err != nil {
		return nil, err
	}
	if len(in.Results) != len(requests) {
		return nil, fmt.Errorf("%d results for %d requests", len(in.Results), len(requests))
	}
	a := &Answer{Baton: in.Baton, BaseURL: in.BaseURL, Results: make([]Result, len(requests))}
	for i, r := range in.Results {
		var err error
		if a.Results[i], err = r.decode(requests[i]); err != nil {
			return nil, fmt.Errorf("result %d: %w", i, err)
		}
	}
	return a, nil
}

func (r jsonResult) decode(request Request) (Result, error) {
	if r.Type == "error" && r.Error != nil {
		return Result{Err: r.Error.decode()}, nil
	}
	if r.Type != "ok" || r.Response == nil {
		return Result{}, errors.New("neither ok nor error")
	}
	switch request := request.(type) {
	case Close:
		if r.Response.Type == "close" {
			return Result{}, nil
		}
	case Execute:
		if r.Response.Type == "execute" {
			var in jsonStmtResult
			err := json.Unmarshal(r.Response.Result, &in)
			return Result{Stmt: in.decode()}, err
		}
	case Batch:
		if r.Response.Type == "batch" {
			var in jsonBatchResult
			if err := json.Unmarshal(r.Response.Result, &in); err != nil {
				return Result{}, err
			}
			result, err := in.decode(len(request.Steps))
			return Result{Batch: result}, err
		}
	}
	return Result{}, fmt.Errorf("no answer to a %T", request)
}

func (e *jsonError) decode() *Error {
	return &Error{Code: e.Code, Message: e.Message, Status: http.StatusOK}
}

func (b jsonBatchResult) decode(steps int) (*BatchResult, error) {
	if len(b.StepResults) > steps || len(b.StepErrors) > steps {
		return nil, fmt.Errorf("results of more than the %d steps of the batch", steps)
	}
	out := &BatchResult{Steps: make([]StepResult, steps), ReplicationIndex: uint64(b.ReplicationIndex)}
	for i, r := range b.StepResults {
		if r != nil {
			out.Steps[i].Result = r.decode()
		}
	}
	for i, e := range b.StepErrors {
		if e != nil {
			out.Steps[i].Err = e.decode()
		}
	}
	return out, nil
}

func (r jsonStmtResult) decode() *StmtResult {
	out := &StmtResult{Affected: r.Affected, ReplicationIndex: uint64(r.ReplicationIndex)}
	for _, cells := range r.Rows {
		row := make([]any, len(cells))
		for i, c := range cells {
			row[i] = c.v
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// UnmarshalJSON decodes an index that is a string or a number; null leaves it 0.
func (x *jsonIndex) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	n, err := strconv.ParseUint(strings.Trim(string(b), `"`), 10, 64)
	*x = jsonIndex(n)
	return err
}

// UnmarshalJSON decodes one value of a row.
func (c *jsonCell) UnmarshalJSON(b []byte) error {
	var in struct {
		Type   string          `json:"type"`
		Value  json.RawMessage `json:"value"`
		Base64 *string         `json:"base64"`
	}
	err := json.Unmarshal(b, &in)
	if err != nil {
		return err
	}
	switch in.Type {
	case "null":
		c.v = nil
	case "integer":
		c.v, err = strconv.ParseInt(strings.Trim(string(in.Value), `"`), 10, 64)
	case "float":
		var f *float64
		if err = json.Unmarshal(in.Value, &f); err == nil && f == nil {
			err = errors.New("float is not finite, which JSON cannot carry")
		}
		if err == nil {
			c.v = *f
		}
	case "text":
		var s *string
		if err = json.Unmarshal(in.Value, &s); err == nil && s == nil {
			err = errors.New("text is null")
		}
		if err == nil {
			c.v = *s
		}
	case "blob":
		if in.Base64 == nil {
			return errors.New("blob without base64")
		}
		// Some servers pad, some do not.
		c.v, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(*in.Base64, "="))
	default:
		err = fmt.Errorf("value of unknown type %q", in.Type)
	}
	if err != nil {
		return fmt.Errorf("%s value: %w", in.Type, err)
	}
	return nil
}
