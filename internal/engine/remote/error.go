package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
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
			return &splitError{unit: -1}
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
		switch a := classOf(h); {
		case a.disposition >= maybeExecuted:
			out.Kind = engine.KindUnknownOutcome
		case len(group) > 1 && a.apart:
			return &splitError{unit: -1, large: a.kind == engine.KindTooLarge}
		}
	}
	if t, ok := errors.AsType[*hrana.TransportError](err); ok && t.Sent && !refusedByTLS(err) {
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
		out.Err = fmt.Errorf("no secure connection to %s: %w", e.where(), cause(err))
	case saturated != nil:
		out.Err = cleaned(saturated)
	case unsent && errors.Is(err, context.DeadlineExceeded) && !dialFailed(err):
		out.Err = fmt.Errorf("no connection to %s was free in time", e.host)
	case unsent:
		out.Err = fmt.Errorf("cannot reach %s: %w", e.where(), cause(err))
	case late != nil:
		out.Err = errors.New(late.Error()) // not wrapped: it is not the caller's deadline
	default:
		out.Err = fmt.Errorf("no usable answer from %s: %w", e.where(), cause(err))
	}
	return out
}

// refusal translates an HTTP answer that is not 200.
func (e *Engine) refusal(h *hrana.Error) *engine.Error {
	out := serverError(h, -1)
	a := classOf(h)
	says := strings.NewReplacer("SERVER", e.where(), "PROXY", e.proxy()).Replace(a.says)
	out.Kind = a.kind
	switch {
	case h.Foreign || a.kind != engine.KindAuth && a.kind != engine.KindNotFound:
		out.Err = fmt.Errorf("%s: %w", says, h)
	default: // the server's own words
		text := strings.TrimPrefix(strings.TrimPrefix(h.Message, "Unauthorized: "), "Authorization forbidden: ")
		out.Err = fmt.Errorf("%s: %s", says, strings.Trim(text, "`"))
	}
	return out
}

// where names the server, and the proxy on the way to it if there is one.
func (e *Engine) where() string {
	if proxy := e.proxy(); proxy != "" {
		return e.host + " through the proxy " + proxy
	}
	return e.host
}

// proxy returns the address of the proxy on the way to the server, empty if there is
// none.
func (e *Engine) proxy() string {
	if e.transport == nil || e.transport.Proxy == nil {
		return ""
	}
	u, err := e.transport.Proxy(&http.Request{URL: &url.URL{Scheme: e.scheme, Host: e.host}})
	if err != nil || u == nil {
		return ""
	}
	return u.Host
}

// isTLSError reports whether err is a failure of TLS, which a retry does not cure.
func isTLSError(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return certificate || record || refusedByTLS(err) || errors.Is(err, http.ErrSchemeMismatch)
}

// refusedByTLS reports whether the server has refused the client in the handshake. With
// TLS 1.3 it may say so only after the first request was sent, which it does not execute.
func refusedByTLS(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return false
	}
	alert := reflect.ValueOf(op.Err) // crypto/tls does not export its type
	return alert.Kind() == reflect.Uint8 && refusingAlerts[uint8(alert.Uint())]
}

// refusingAlerts are the alerts of TLS (RFC 8446) that end a handshake for good.
var refusingAlerts = map[uint8]bool{
	40: true, 42: true, 43: true, 44: true, 45: true, 46: true, // handshake failure; the client's certificate
	48: true, 49: true, 70: true, 71: true, // unknown CA, access denied, version, security
	112: true, 116: true, // name, certificate required
}

// cause shortens a network error to what went wrong: callers put the host in front.
func cause(err error) error {
	op, isOp := errors.AsType[*net.OpError](err)
	if isOp && op.Op == "proxyconnect" {
		return fmt.Errorf("the proxy does not answer: %w", networkCause(op.Err))
	}
	return networkCause(err)
}

func networkCause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New(dns.Err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return cleaned(op.Err)
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	switch _, plain := errors.AsType[tls.RecordHeaderError](err); {
	case plain, errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; if the server speaks no TLS, begin its address with http://", err)
	}
	return cleaned(err)
}

// cleaned returns err, or an error with its text if that holds credentials: those of a
// proxy's address, for instance. What is under it would show them.
func cleaned(err error) error {
	if text := hrana.Clean(err.Error(), ""); text != err.Error() {
		return errors.New(text)
	}
	return err
}
