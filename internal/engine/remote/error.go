package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/pool"
)

// fromPrimary begins what a replica says of an error of its primary.
const fromPrimary = "error executing a request on the primary: "

// serverError translates the failure of a statement, or of a whole batch.
func serverError(h *hrana.Error, stmt int) *engine.Error {
	text := h.Message
	// What a replica passes on, and what the server puts before SQLite's words.
	for _, prefix := range []string{fromPrimary, "SQLite error: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return &engine.Error{Kind: kindOf(h.Code, text), Code: h.Code, Stmt: stmt, Err: errors.New(text)}
}

// kindOf goes by the code if it is specific. Servers omit extended codes, use
// SQLITE_UNKNOWN for much, and lose the code of an error that a replica passes on.
// Then the text decides, which is SQLite's own and has been stable for many years.
func kindOf(code, text string) engine.Kind {
	switch code {
	case "SQLITE_BUSY", "TRANSACTION_TIMEOUT":
		return engine.KindBusy
	case "SQLITE_READONLY":
		return engine.KindReadOnly
	case "BLOCKED": // by the server's operator, for a time; nothing was executed
		return engine.KindUnavailable
	case "SQLITE_FULL":
		return engine.KindFull
	case "SQLITE_TOOBIG", "RESPONSE_TOO_LARGE":
		return engine.KindTooLarge
	case "SQLITE_NOTADB":
		return engine.KindNotADatabase
	case "SQLITE_CORRUPT":
		return engine.KindCorrupt
	}
	for _, t := range []struct {
		part string
		kind engine.Kind
	}{
		{"UNIQUE constraint failed", engine.KindUnique},
		{"PRIMARY KEY constraint failed", engine.KindUnique},
		{"constraint failed", engine.KindConstraint},
		{"no such table", engine.KindNoTable},
		{"database is locked", engine.KindBusy},
		{"database table is locked", engine.KindBusy},
		{"string or blob too big", engine.KindTooLarge},
		{"Response is too large", engine.KindTooLarge},
		{"attempt to write a readonly database", engine.KindReadOnly},
		{"database or disk is full", engine.KindFull},
		{"database disk image is malformed", engine.KindCorrupt},
		{"file is not a database", engine.KindNotADatabase},
	} {
		if strings.Contains(text, t.part) {
			return t.kind
		}
	}
	if code == "SQLITE_CONSTRAINT" {
		return engine.KindConstraint
	}
	return engine.KindOther
}

// parseCodes are the codes with which a server refuses a whole batch because it
// cannot parse one of its statements. Nothing was executed.
var parseCodes = map[string]bool{
	"SQL_PARSE_ERROR": true, "SQL_MANY_STATEMENTS": true, "SQL_NO_STATEMENT": true,
}

// batchError translates the failure of a writing batch as a whole.
func (e *Engine) batchError(refusal *hrana.Error, group []*engine.Unit) error {
	if parseCodes[refusal.Code] {
		if len(group) > 1 {
			return &splitError{-1}
		}
		return serverError(refusal, e.blame(valuesOf(group), group[0].Stmts))
	}
	// The server ran some steps, perhaps COMMIT among them.
	err := serverError(refusal, -1)
	err.Kind = engine.KindUnknownOutcome
	return err
}

// writeError translates the failure of a request that carries a group.
func (e *Engine) writeError(err error, group []*engine.Unit) error {
	out := e.requestError(err)
	if h := refusalIn(err); h != nil {
		switch {
		case h.BatonUsed(), h.Status < 300 || h.Status >= 500 || h.Status == http.StatusRequestTimeout:
			// A gateway says so too when it has lost the server's answer.
			out.Kind = engine.KindUnknownOutcome
		case len(group) > 1 && (h.Status == http.StatusBadRequest || h.Status == http.StatusForbidden):
			return &splitError{-1}
		}
	}
	if t, ok := errors.AsType[*hrana.TransportError](err); ok && t.Sent {
		out.Kind = engine.KindUnknownOutcome
	}
	return out
}

// requestError translates the failure of a whole request for a reader, to whom it
// makes no difference whether the request was executed.
func (e *Engine) requestError(err error) *engine.Error {
	out := &engine.Error{Kind: engine.KindUnavailable, Stmt: -1}
	if own, ok := errors.AsType[*engine.Error](err); ok { // of the token callback or the breaker
		return own
	}
	if h := refusalIn(err); h != nil {
		return e.refusal(h)
	}
	t, _ := errors.AsType[*hrana.TransportError](err)
	unsent := t != nil && !t.Sent
	late, _ := errors.AsType[*lateError](err)
	saturated, _ := errors.AsType[*pool.SaturatedError](err)
	switch {
	case errors.Is(err, hrana.ErrTooLarge):
		out.Kind, out.Err = engine.KindTooLarge, hrana.ErrTooLarge
	case isTLSError(err):
		out.Kind = engine.KindOther // and stays so, however often it is tried
		out.Err = fmt.Errorf("no secure connection to %s: %w", e.host, cause(err))
	case saturated != nil:
		out.Err = saturated
	case unsent && errors.Is(err, context.DeadlineExceeded) && !dialFailed(err):
		out.Err = fmt.Errorf("no connection to %s was free in time", e.host)
	case unsent:
		out.Err = fmt.Errorf("cannot reach %s: %w", e.host, cause(err))
	case late != nil:
		out.Err = errors.New(late.Error()) // not wrapped: it is not the caller's deadline
	default:
		out.Err = fmt.Errorf("no usable answer from %s: %w", e.host, cause(err))
	}
	return out
}

// refusal translates an HTTP answer that is not 200.
func (e *Engine) refusal(h *hrana.Error) *engine.Error {
	out := serverError(h, -1)
	switch h.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		out.Kind = engine.KindAuth
		text := strings.TrimPrefix(strings.TrimPrefix(h.Message, "Unauthorized: "), "Authorization forbidden: ")
		out.Err = fmt.Errorf("server refused the token: %s", strings.Trim(text, "`"))
	case http.StatusNotFound:
		out.Kind = engine.KindNotFound
		out.Err = fmt.Errorf("no such database at %s: %s", e.host, h.Message)
	case http.StatusRequestEntityTooLarge:
		out.Kind = engine.KindTooLarge
		out.Err = fmt.Errorf("server refused the request: %w", h)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		out.Kind = engine.KindUnavailable
		out.Err = fmt.Errorf("server at %s is unavailable: %w", e.host, h)
	default:
		out.Err = fmt.Errorf("server refused the request: %w", h)
	}
	return out
}

// isTLSError reports whether err is a failure of TLS, which a retry does not cure.
func isTLSError(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return certificate || alert || record || errors.Is(err, http.ErrSchemeMismatch)
}

// cause shortens a network error to what went wrong: callers put the host in front.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New(dns.Err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}
