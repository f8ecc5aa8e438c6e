package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/episodic-memory/episodic/internal/access"
	"github.com/episodic-memory/episodic/internal/mcpserver"
)

const (
	// maxBody is the longest message that is read, in bytes, as on stdin.
	maxBody = 4 << 20
	// listen is the request that is answered only when its connection ends.
	listen = "subscriptions/listen"
)

// serveMCP carries out a message of the protocol.
func (s *Server) serveMCP(a *answer, r *http.Request, token *access.Token) *problem {
	if token.Rights == access.Metrics {
		return &problem{status: http.StatusForbidden, reason: "rights", text: "this token is for /metrics only"}
	}
	if p := checkHeader(r); p != nil {
		if p.status == http.StatusMethodNotAllowed {
			a.Header().Set("Allow", http.MethodPost)
		}
		return p
	}
	caller, p := s.caller(r, token)
	if p != nil {
		return p
	}
	release, p := s.work.body(r)
	if p != nil {
		return p
	}
	defer release()
	buffer := s.work.buffer()
	defer s.work.giveBack(buffer)
	body, p := readBody(a, r, buffer)
	if p != nil {
		return p
	}
	_ = a.control.SetReadDeadline(time.Time{}) // or the connection would be taken for broken during a long call
	method, p := readMessage(body)
	if p != nil {
		return p
	}
	ctx := context.WithValue(mcpserver.For(r.Context(), caller), tokenKey{}, token)
	var cancel context.CancelFunc
	if method == listen {
		_ = a.control.SetWriteDeadline(time.Time{})
		ctx, cancel = context.WithCancel(ctx)
		defer context.AfterFunc(s.ending, cancel)()
	} else {
		ctx, cancel = context.WithTimeout(ctx, answerPatience)
	}
	defer cancel()
	done, p := s.work.begin(r.Context(), len(body), method == listen)
	if p != nil {
		return p
	}
	defer done()
	a.message = method != listen
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	s.mcp.ServeHTTP(a, r)
	return nil
}

// checkHeader finds what is wrong with the header of a message. Answers are JSON, and whoever
// takes that need not name what the specification has clients name besides.
func checkHeader(r *http.Request) *problem {
	if r.Method != http.MethodPost {
		return &problem{status: http.StatusMethodNotAllowed, reason: "message", text: "send messages by POST: this server keeps no sessions, and has nothing to send by itself"}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &problem{status: http.StatusUnsupportedMediaType, reason: "message", text: `send the header "Content-Type: application/json"`}
	}
	if !acceptsJSON(r.Header.Values("Accept")) {
		return &problem{status: http.StatusNotAcceptable, reason: "message", text: `the answer is JSON: send the header "Accept: application/json, text/event-stream"`}
	}
	if r.ContentLength > maxBody {
		return tooLarge
	}
	return nil
}

var tooLarge = &problem{status: http.StatusRequestEntityTooLarge, reason: "size", text: fmt.Sprintf("the message is longer than %d bytes", maxBody)}

func acceptsJSON(accept []string) bool {
	for _, value := range accept {
		for part := range strings.SplitSeq(value, ",") {
			kind, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case "application/json", "application/*", "*/*":
				return true
			}
		}
	}
	return len(accept) == 0
}

// readBody reads the body of a request into a buffer.
func readBody(w http.ResponseWriter, r *http.Request, body *bytes.Buffer) ([]byte, *problem) {
	body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead) // so that it is not copied
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return nil, tooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &problem{status: http.StatusRequestTimeout, reason: "slow", text: "the message did not come in time"}
	}
	if err != nil {
		return nil, &problem{status: http.StatusBadRequest, reason: "message", text: "the message could not be read: " + err.Error()}
	}
	return body.Bytes(), nil
}

// readMessage finds the method of a message, empty if it is an answer, and what is wrong with
// it. Of its parameters, which may be long, it makes no copy.
func readMessage(body []byte) (method string, _ *problem) {
	refused := func(code int64, text string) (string, *problem) {
		return "", &problem{status: http.StatusBadRequest, reason: "message", code: code, text: text}
	}
	body = bytes.TrimSpace(body)
	switch {
	case !json.Valid(body): // it also refuses what is nested so deeply that decoders fail
		return refused(jsonrpc.CodeParseError, "the message is no JSON")
	case body[0] == '[':
		return refused(jsonrpc.CodeInvalidRequest, "batches are not supported: send each message by itself")
	}
	var msg struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		ID      any    `json:"id"`
	}
	err := json.Unmarshal(body, &msg)
	switch msg.ID.(type) {
	case nil, string, float64:
	default:
		err = errors.New("the id is neither a text nor a number")
	}
	if err != nil || msg.Version != "2.0" {
		return refused(jsonrpc.CodeInvalidRequest, `this is no message of JSON-RPC 2.0: it needs "jsonrpc" and "method", and an "id" that is a text or a whole number`)
	}
	return msg.Method, nil
}
