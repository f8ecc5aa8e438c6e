// Package hrana speaks Hrana over HTTP, the protocol of libSQL servers (sqld,
// Turso): it encodes a pipeline of requests, sends it and decodes the answer.
//
// The nouns, from the outside in: a [Client] stands for one database and sends
// one [Pipeline] at a time for each caller. A pipeline is a list of requests
// that the server runs in order on one stream. A stream is a connection to the
// database inside the server, with its own transaction; it is opened by a
// pipeline without a baton, named by the baton of the last answer, and ends
// with a [Close] request. A [Batch] is a request made of steps, each of which
// runs only if its condition holds, so that a whole transaction, with its
// rollback, is one request.
//
// The package knows nothing of pools, retries or the SQL it carries. How a
// request reaches the server is the business of the http.RoundTripper that the
// caller gives to each exchange.
package hrana

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Stmt is one SQL statement with positional arguments. An argument is nil,
// int64, float64 (finite), string (valid UTF-8) or []byte; see [CheckValue].
type Stmt struct {
	SQL  string
	Args []any
}

// Cond decides whether a step of a batch runs. The zero Cond always holds.
type Cond struct {
	op   condOp
	step int
	subs []Cond
}

type condOp uint8

const (
	condAlways condOp = iota
	condOk
	condNot
	condAnd
	condIsAutocommit
)

// Ok holds if the earlier step was run and did not fail. The protocol's condition
// on a failure has no counterpart here: servers disagree on whether it holds for
// a step that was skipped.
func Ok(step int) Cond { return Cond{op: condOk, step: step} }

// Not holds if c does not.
func Not(c Cond) Cond { return Cond{op: condNot, subs: []Cond{c}} }

// And holds if all of conds do.
func And(conds ...Cond) Cond {
	if len(conds) == 1 {
		return conds[0]
	}
	return Cond{op: condAnd, subs: conds}
}

// IsAutocommit holds if no transaction is open on the stream. Hrana 2 does not
// have it; see [ErrNeedsV3].
func IsAutocommit() Cond { return Cond{op: condIsAutocommit} }

// Step is one statement of a batch and the condition on which it runs.
type Step struct {
	Cond Cond
	Stmt Stmt
}

// Request is one request of a pipeline: Execute, Batch or Close.
type Request interface{ isRequest() }

// Execute runs one statement.
type Execute struct{ Stmt Stmt }

// Batch runs its steps in order. A failing step does not stop the batch; the
// conditions of the later steps decide.
type Batch struct{ Steps []Step }

// Close ends the stream and rolls back the transaction open on it, if any. It
// must be the last request of a pipeline.
type Close struct{}

func (Execute) isRequest() {}
func (Batch) isRequest()   {}
func (Close) isRequest()   {}

// Pipeline is what one HTTP request carries.
type Pipeline struct {
	// Baton names the stream to go on with, as the last answer gave it. Empty
	// opens a new stream.
	Baton    string
	Requests []Request
	// ReplicationIndex makes every Execute and Batch be answered from a state at
	// least as new as that which told the index; 0 asks for nothing. A replica
	// waits until it has come so far, without a limit of its own; a primary does
	// not look at it. After a crash a primary counts from 1 again, and until a
	// replica has noticed, a second or so, it may answer from its old state.
	ReplicationIndex uint64
}

// check returns nil if every value of p can be carried to the server.
func (p Pipeline) check() error {
	for i, r := range p.Requests {
		var err error
		switch r := r.(type) {
		case Execute:
			err = r.Stmt.check()
		case Batch:
			err = r.check()
		}
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
	}
	return nil
}

func (b Batch) check() error {
	for i, s := range b.Steps {
		if err := s.Stmt.check(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func (s Stmt) check() error {
	if !utf8.ValidString(s.SQL) { // encoding/json would quietly change it
		return fmt.Errorf("statement: %w", errNotUTF8)
	}
	for i, v := range s.Args {
		if err := CheckValue(v); err != nil {
			return fmt.Errorf("argument %d: %w", i, err)
		}
	}
	return nil
}

// Answer is what the server says to a pipeline.
type Answer struct {
	// Baton names the stream in the next pipeline. An empty Baton says that the
	// stream is closed.
	Baton string
	// BaseURL is where the server wants that pipeline; empty means where this one
	// went. A Client does not follow it.
	BaseURL string
	// Results holds one result for each request, in their order.
	Results []Result
}

// ReplicationIndex returns the highest index that the results of the answer tell;
// 0 if none does.
func (a *Answer) ReplicationIndex() uint64 {
	var index uint64
	stmt := func(r *StmtResult) {
		if r != nil {
			index = max(index, r.ReplicationIndex)
		}
	}
	for _, r := range a.Results {
		stmt(r.Stmt)
		if r.Batch == nil {
			continue
		}
		index = max(index, r.Batch.ReplicationIndex)
		for _, s := range r.Batch.Steps {
			stmt(s.Result)
		}
	}
	return index
}

// Result is the outcome of one request. Err is set if the request failed as a
// whole; otherwise Stmt answers an Execute, Batch a Batch, and nothing a Close.
type Result struct {
	Stmt  *StmtResult
	Batch *BatchResult
	Err   *Error
}

// StmtResult is the outcome of one statement.
//
// Strings and byte slices in Rows share the memory of the whole answer: one of
// them keeps all of it alive.
type StmtResult struct {
	Rows     [][]any // values as in Stmt.Args, in the statement's column order
	Affected int64   // rows inserted, updated or deleted by the statement itself
	// ReplicationIndex is how far a replica must have come to see the statement's
	// effect; 0 if the server told none.
	ReplicationIndex uint64
}

// BatchResult is the outcome of a batch.
type BatchResult struct {
	Steps []StepResult // one for each step of the batch
	// ReplicationIndex is that of the whole batch; its steps tell none. It is 0
	// over protobuf, whose messages have no place for it: there an Execute that
	// follows the batch in its pipeline tells the index. A replica answers a
	// SELECT itself, with its own lower index, but passes PRAGMA user_version on.
	ReplicationIndex uint64
}

// StepResult is the outcome of a step. Both fields are nil if its condition did
// not hold.
type StepResult struct {
	Result *StmtResult
	Err    *Error
}

// Error is a failure told by the server.
type Error struct {
	Code    string // such as SQLITE_CONSTRAINT or STREAM_EXPIRED; often empty
	Message string
	// Status is the status of an HTTP answer that refused the whole pipeline, or
	// 200 if the failure is that of a request or a step inside an answer.
	Status int
}

func (e *Error) Error() string {
	text := e.Message
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.Status != http.StatusOK {
		text = fmt.Sprintf("HTTP %d: %s", e.Status, text)
	}
	return text
}

// StreamGone says that the server did not take the pipeline's baton (its stream
// expired or was closed, or the server was restarted), and so has run nothing of
// the pipeline.
func (e *Error) StreamGone() bool {
	switch e.Code {
	case "STREAM_EXPIRED", "STREAM_LOST", "STREAM_NOT_FOUND":
		return e.Status != http.StatusOK
	}
	if e.Status != http.StatusBadRequest && e.Status != http.StatusNotFound {
		return false
	}
	// That the "Stream for this baton was closed" is said of a request that comes
	// after a Close: what comes before it in the pipeline was run.
	return strings.Contains(e.Message, "baton") && !strings.Contains(e.Message, "was closed") && !e.BatonUsed() ||
		strings.Contains(e.Message, "stream not found")
}

// BatonUsed says that the server has had a pipeline with this baton before. A
// client that uses each baton once learns from it that its pipeline was
// delivered twice, by a gateway perhaps, and may have been run the first time.
func (e *Error) BatonUsed() bool {
	return strings.Contains(e.Message, "baton that has already been used")
}

// CheckValue returns nil if every protocol can carry v to the server unchanged,
// and otherwise an error that names what is wrong with it.
func CheckValue(v any) error {
	switch v := v.(type) {
	case nil, int64, []byte:
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("float %v is not finite", v)
		}
	case string:
		if !utf8.ValidString(v) {
			return errNotUTF8
		}
	default:
		return fmt.Errorf("type %T is none of nil, int64, float64, string and []byte", v)
	}
	return nil
}
