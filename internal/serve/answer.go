package serve

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// problem is why a request is not carried out.
type problem struct {
	status    int
	reason    string // in a word, for the metrics
	text      string // for whoever sent it
	challenge string // of WWW-Authenticate
	code      int64  // of JSON-RPC; 0: that of a bad request
	id        any    // of the request; nil: it is not known
}

// answer is the answer to a request, and what is told of it afterwards.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	began   time.Time
	status  int
	message bool   // it is to a message that was carried out
	refused string // the reason of a problem
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find what it controls.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush implements http.Flusher.
func (a *answer) Flush() { _ = a.control.Flush() } // it cannot tell whether that worked

// fail answers with a problem, as JSON-RPC does, so that clients show its text.
func (a *answer) fail(s *Server, p *problem) {
	a.refused = p.reason
	s.log.Debug("refused", "status", p.status, "problem", p.text)
	h := a.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Connection", "close") // the rest of the request is not worth reading
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	code := p.code
	switch {
	case code != 0:
	case p.status >= http.StatusInternalServerError:
		code = jsonrpc.CodeInternalError
	default:
		code = jsonrpc.CodeInvalidRequest
	}
	text, err := json.Marshal(struct {
		Version string        `json:"jsonrpc"`
		ID      any           `json:"id"`
		Error   jsonrpc.Error `json:"error"`
	}{"2.0", p.id, jsonrpc.Error{Code: code, Message: strings.ToValidUTF8(p.text, "\uFFFD")}})
	if err != nil {
		panic(err) // it is made of texts, a number and an ID
	}
	a.WriteHeader(p.status)
	_, _ = a.Write(append(text, '\n')) // whoever asked may be gone
}
