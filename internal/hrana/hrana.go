// Package hrana speaks Hrana over HTTP, the protocol of libSQL servers (sqld,
// Turso): it encodes a pipeline of requests, sends it and decodes the answer.
//
// A [Client] sends pipelines to one database. A [Pipeline] is a list of requests that
// the server runs in order on one stream. A stream is a connection to the database
// inside the server, with its own transaction. A pipeline without a baton opens a
// stream, the baton of the last answer continues it, and a [Close] request ends it. A
// [Batch] is a request that consists of steps, each of which runs only if its
// condition holds, so that a whole transaction, with its rollback, is one request.
//
// The package knows nothing of pools, retries or the SQL it carries. The caller passes
// an http.RoundTripper to each exchange.
package hrana

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
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

// Ok holds if the earlier step ran successfully. The protocol's condition "error" is
// not offered, because servers disagree on whether it holds for a skipped step.
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

// IsAutocommit holds if no transaction is open on the stream. Hrana 2 does not support
// it; see [ErrNeedsV3].
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

// Pipeline is the content of one HTTP request.
type Pipeline struct {
	// Baton identifies the stream to continue: the baton of its last answer. Empty
	// opens a new stream.
	Baton    string
	Requests []Request
	// ReplicationIndex is the minimum replication index of the database state that
	// answers every Execute and Batch; 0 is no minimum. A replica waits, without a
	// timeout, until it has reached the index; a primary ignores it. After a crash, a
	// primary starts again from 1. Until a replica has noticed, in about a second, it
	// may answer from its old state.
	ReplicationIndex uint64
}

// check returns an error if a value of p cannot be encoded.
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
	if !utf8.ValidString(s.SQL) { // encoding/json would replace invalid bytes
		return fmt.Errorf("statement: %w", errNotUTF8)
	}
	for i, v := range s.Args {
		if err := CheckValue(v); err != nil {
			return fmt.Errorf("argument %d: %w", i, err)
		}
	}
	return nil
}

// Answer is the server's response to a pipeline.
type Answer struct {
	// Baton identifies the stream in the next pipeline. It is empty if the stream is
	// closed.
	Baton string
	// BaseURL is where the next pipeline should be sent, empty for the same URL. A
	// Client ignores it.
	BaseURL string
	// Results has one result for each request, in the same order.
	Results []Result
}

// ReplicationIndex returns the highest replication index in the results, 0 if there is
// none.
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
// whole. Otherwise Stmt is set for an Execute, Batch for a Batch, and none for a Close.
type Result struct {
	Stmt  *StmtResult
	Batch *BatchResult
	Err   *Error
}

// StmtResult is the outcome of one statement.
//
// Strings and byte slices in Rows share the memory of the whole answer: each keeps all
// of it alive.
type StmtResult struct {
	Rows     [][]any // values as in Stmt.Args, in the statement's column order
	Affected int64   // rows inserted, updated or deleted by the statement itself
	// ReplicationIndex is the index that a replica must have reached to see the
	// statement's effect; 0 if the server sent none.
	ReplicationIndex uint64
}

// BatchResult is the outcome of a batch.
type BatchResult struct {
	Steps []StepResult // one for each step of the batch
	// ReplicationIndex is that of the whole batch; its steps have none. It is 0 over
	// protobuf, whose messages lack the field: there, an Execute after the batch in
	// the same pipeline returns the index. A replica answers a SELECT itself, with its
	// own lower index, but forwards PRAGMA user_version to the primary.
	ReplicationIndex uint64
}

// StepResult is the outcome of a step. Both fields are nil if its condition did
// not hold.
type StepResult struct {
	Result *StmtResult
	Err    *Error
}

// Error is an error reported by the server, or by what stands before it. Its texts
// hold no credentials.
type Error struct {
	Code    string // such as SQLITE_CONSTRAINT or STREAM_EXPIRED; often empty
	Message string
	// Status is the HTTP status if the whole pipeline was refused, or 200 if a request
	// or a step failed.
	Status int
	// Foreign: the refusal is not in a form that libSQL servers use. A gateway or
	// another program has most likely answered.
	Foreign bool
	// Location is where a redirect leads, without the path of the protocol.
	Location string
	// RetryAfter is how long the answer asks to wait; 0 if it does not.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	text := e.Message
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.Location != "" {
		text += ", to " + e.Location
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", to be repeated in %v", e.RetryAfter.Round(time.Second))
	}
	if e.Status != http.StatusOK {
		text = fmt.Sprintf("HTTP %d: %s", e.Status, text)
	}
	return text
}

// StreamGone reports whether the server rejected the baton (its stream expired or was
// closed, or the server was restarted). Nothing of the pipeline was executed.
func (e *Error) StreamGone() bool {
	switch e.Code {
	case "STREAM_EXPIRED", "STREAM_LOST", "STREAM_NOT_FOUND":
		return e.Status != http.StatusOK
	}
	if e.Status != http.StatusBadRequest && e.Status != http.StatusNotFound {
		return false
	}
	// "Stream for this baton was closed" is the error of a request after a Close: the
	// requests before it were executed.
	return strings.Contains(e.Message, "baton") && !strings.Contains(e.Message, "was closed") && !e.BatonUsed() ||
		strings.Contains(e.Message, "stream not found")
}

// BatonUsed reports whether the server has received a pipeline with this baton before.
// As a client uses each baton once, the pipeline was then delivered twice, for example
// by a gateway, and may have been executed the first time.
func (e *Error) BatonUsed() bool {
	return strings.Contains(e.Message, "baton that has already been used")
}

// CheckValue returns an error if not every protocol can transmit v unchanged.
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
