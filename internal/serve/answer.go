package serve

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
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
}

// answer is the answer to a request, and what is told of it afterwards.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	began   time.Time
	status  int
	message bool   // it is to a message that was carried out
	refused string // the reason of a problem
	plain   bool   // the text that is written is that of an error
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	// Some of the SDK's errors are plain texts.
	if h := a.Header(); status >= http.StatusBadRequest && strings.HasPrefix(h.Get("Content-Type"), "text/plain") {
		a.plain = true
		h.Set("Content-Type", "application/json")
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.plain {
		_, err := a.ResponseWriter.Write((&problem{status: a.status, text: strings.TrimSpace(string(p))}).json())
		return len(p), err
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find what it controls.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush implements http.Flusher.
func (a *answer) Flush() { _ = a.control.Flush() } // it cannot tell whether that worked

// refusals logs refused requests, one each second at most, so that nobody can fill a disk with
// them. Metrics count them all.
type refusals struct {
	mu     sync.Mutex
	logged time.Time // when one was
	passed int       // how many were not since
}

func (f *refusals) log(log *slog.Logger, p *problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.logged) < time.Second {
		f.passed++
		return
	}
	log.Warn("refused", "status", p.status, "problem", p.text, "more", f.passed)
	f.logged, f.passed = now, 0
}

// fail answers with a problem, as JSON-RPC does, so that clients show its text.
func (a *answer) fail(s *Server, p *problem) {
	a.refused = p.reason
	s.refusals.log(s.log, p)
	h := a.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Connection", "close") // the rest of the request is not worth reading
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	a.WriteHeader(p.status)
	_, _ = a.Write(p.json()) // whoever asked may be gone
}

// json is the problem as an error of JSON-RPC.
func (p *problem) json() []byte {
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
	}{"2.0", nil, jsonrpc.Error{Code: code, Message: strings.ToValidUTF8(p.text, "\uFFFD")}})
	if err != nil {
		panic(err) // it is made of texts and a number
	}
	return append(text, '\n')
}
