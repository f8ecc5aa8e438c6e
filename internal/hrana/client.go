package hrana

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// Protocol is a version of Hrana and its encoding, in the order of preference.
type Protocol uint32

// The protocols a client speaks.
const (
	V3Protobuf Protocol = iota
	V3JSON
	V2JSON
)

var protocols = [...]struct{ name, path, contentType string }{
	V3Protobuf: {"Hrana 3 protobuf", "/v3-protobuf/pipeline", "application/x-protobuf"},
	V3JSON:     {"Hrana 3 JSON", "/v3/pipeline", "application/json"},
	V2JSON:     {"Hrana 2 JSON", "/v2/pipeline", "application/json"},
}

// String returns the protocol's name for people.
func (p Protocol) String() string { return protocols[p].name }

// maxMessage bounds a pipeline and its answer, unpacked, in bytes. Servers end
// far below it (10 MB a request).
const maxMessage = 256 << 20

// maxPingAnswer bounds how much is read of the answer to a ping, in bytes. Servers
// send a line of text.
const maxPingAnswer = 64 << 10

// preallocAnswer bounds, in bytes, what is allocated on the word of a
// Content-Length header alone.
const preallocAnswer = 16 << 20

var (
	// ErrNeedsV3 says that the pipeline uses IsAutocommit and the server speaks
	// only Hrana 2.
	ErrNeedsV3 = errors.New("condition is_autocommit needs Hrana 3")
	// ErrTooLarge says that a pipeline or its answer is over 256 MiB.
	ErrTooLarge = errors.New("message is over 256 MiB")
)

// TransportError says that a pipeline got no answer: it could not be encoded,
// sent, or its answer not be read.
type TransportError struct {
	// Sent is false if the server certainly has not got the whole request and so
	// has run nothing of it. If it is true nothing is known.
	Sent bool
	Err  error // never nil
}

func (e *TransportError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Client sends pipelines to one database. Its methods may be called
// concurrently.
type Client struct {
	endpoints [len(protocols)]*url.URL
	ping      *url.URL
	token     func(context.Context) (string, error)
	limit     int           // of a pipeline and of its answer, in bytes
	learning  sync.Mutex    // held to change protocol and known
	protocol  atomic.Uint32 // the Protocol to try first
	known     atomic.Bool   // it has answered
	requests  atomic.Uint64
	pings     atomic.Uint64
}

// NewClient returns a client of the database at base, an http or https URL
// without credentials, query and fragment. token is asked once for each
// pipeline; nil, or an empty token, sends none. No error shows the URL.
func NewClient(base string, token func(context.Context) (string, error)) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil: // its text holds the URL
		return nil, errors.New("malformed server URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("server URL is neither http nor https")
	case u.Hostname() == "":
		return nil, errors.New("server URL names no host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("server URL holds credentials, a query or a fragment")
	}
	if u.Path == "" {
		u.Path = "/" // JoinPath would leave the result relative
	}
	c := &Client{token: token, limit: maxMessage, ping: u.JoinPath("/v3")}
	for p, info := range protocols {
		c.endpoints[p] = u.JoinPath(info.path)
	}
	return c, nil
}

// Protocol returns the protocol that is tried first: the one that the server
// answered first, or, if it has not answered yet, the best it may speak.
func (c *Client) Protocol() Protocol { return Protocol(c.protocol.Load()) }

// Requests returns how many HTTP requests were sent with a pipeline, those that
// only found out which protocol the server speaks included.
func (c *Client) Requests() uint64 { return c.requests.Load() }

// Pings returns how many pings were sent, those without an answer included.
func (c *Client) Pings() uint64 { return c.pings.Load() }

// Do sends p through rt and returns the answer, which has a result for each
// request. A refused pipeline is an *Error, everything else that leaves it
// without an answer a *TransportError.
//
// An answer in JSON is asked for zipped, one in protobuf is not: rt must not ask
// for it either, see [http.Transport.DisableCompression].
//
// The first pipeline also finds out what the server speaks: a server that does
// not know the path of a protocol has run nothing, so the next one is tried.
func (c *Client) Do(ctx context.Context, rt http.RoundTripper, p Pipeline) (*Answer, error) {
	token := ""
	if c.token != nil {
		var err error
		if token, err = c.token(ctx); err != nil {
			return nil, &TransportError{Err: fmt.Errorf("get token: %w", err)}
		}
	}
	for protocol := c.Protocol(); int(protocol) < len(protocols); protocol++ {
		body, err := encode(protocol, p)
		if err == nil && len(body) > c.limit {
			err = ErrTooLarge
		}
		if err != nil {
			return nil, &TransportError{Err: fmt.Errorf("encode pipeline: %w", err)}
		}
		r, err := c.post(ctx, rt, protocol, token, body)
		if err != nil {
			return nil, err
		}
		if r.status == http.StatusOK {
			if !c.known.Load() {
				c.learn(protocol, true)
			}
			answer, err := decode(protocol, r.body, p.Requests)
			if err != nil {
				return nil, &TransportError{Sent: true, Err: fmt.Errorf("read pipeline answer: %w", err)}
			}
			return answer, nil
		}
		if e := r.refusal(); e != nil {
			return nil, e
		}
		c.learn((protocol+1)%Protocol(len(protocols)), false)
	}
	return nil, &Error{Status: http.StatusNotFound, Message: "no libSQL server at this URL"}
}

// learn remembers which protocol to try first: once and for all the one that was
// answered. One that was not is left out too, for the server may close the
// connection behind its answer; but if it knew it before, or knows none at all,
// something else has answered for it.
func (c *Client) learn(protocol Protocol, answered bool) {
	c.learning.Lock()
	defer c.learning.Unlock()
	if !c.known.Load() {
		c.protocol.Store(uint32(protocol))
		c.known.Store(answered)
	}
}

// Ping asks through rt for a page of the server that needs neither a token nor a
// database, and returns nil if the answer is any below HTTP 500. It shows that
// the server can be reached, and no more. An answer of 500 and above is an
// *Error, everything else that leaves the ping without an answer a
// *TransportError. The connection stays usable if the answer is shorter than
// 64 KiB.
func (c *Client) Ping(ctx context.Context, rt http.RoundTripper) error {
	var sent atomic.Bool
	count := func() {
		if !sent.Swap(true) {
			c.pings.Add(1)
		}
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(w httptrace.WroteRequestInfo) {
		if w.Err == nil {
			count()
		}
	}})
	req := (&http.Request{Method: http.MethodGet, URL: c.ping, Header: newHeader()}).WithContext(ctx)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return &TransportError{Sent: sent.Load(), Err: fmt.Errorf("send ping: %w", err)}
	}
	count() // a round tripper may not tell the trace
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPingAnswer))
	if err != nil {
		return &TransportError{Sent: true, Err: fmt.Errorf("read ping answer: %w", err)}
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return newReply(resp, body).refusal()
	}
	return nil
}

func encode(protocol Protocol, p Pipeline) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if protocol == V3Protobuf {
		return encodeProtobuf(p), nil
	}
	return encodeJSON(p, protocol == V2JSON)
}

func decode(protocol Protocol, body []byte, requests []Request) (*Answer, error) {
	if protocol == V3Protobuf {
		return decodeProtobuf(body, requests)
	}
	return decodeJSON(body, requests)
}

// newHeader returns the header that every request has.
func newHeader() http.Header { return http.Header{"User-Agent": {"episodic"}} }

// reply is the answer to an HTTP request.
type reply struct {
	status      int
	contentType string
	body        []byte
}

func newReply(resp *http.Response, body []byte) *reply {
	return &reply{resp.StatusCode, resp.Header.Get("Content-Type"), body}
}

// post makes one HTTP exchange. Every error is a *TransportError.
func (c *Client) post(ctx context.Context, rt http.RoundTripper, protocol Protocol, token string, body []byte) (*reply, error) {
	header := newHeader()
	header.Set("Content-Type", protocols[protocol].contentType)
	if protocol != V3Protobuf { // in JSON blobs too are text
		header.Set("Accept-Encoding", "gzip")
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	out := &outgoing{}
	req := (&http.Request{
		Method:        http.MethodPost,
		URL:           c.endpoints[protocol],
		Header:        header,
		Body:          out.reader(body),
		GetBody:       func() (io.ReadCloser, error) { return out.reader(body), nil },
		ContentLength: int64(len(body)),
	}).WithContext(ctx)

	resp, err := rt.RoundTrip(req)
	if err != nil {
		sent := !out.revoke()
		if sent {
			c.requests.Add(1)
		}
		return nil, &TransportError{Sent: sent, Err: fmt.Errorf("send pipeline: %w", err)}
	}
	c.requests.Add(1)
	defer resp.Body.Close()
	answer, err := readAnswer(resp, c.limit)
	if err != nil {
		return nil, &TransportError{Sent: true, Err: fmt.Errorf("read pipeline answer: %w", err)}
	}
	return newReply(resp, answer), nil
}

// readAnswer reads the body to its end, which keeps the connection usable, and
// unpacks it if it is zipped. limit is that of the result.
func readAnswer(resp *http.Response, limit int) ([]byte, error) {
	body := io.Reader(resp.Body)
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		unzip, err := gzip.NewReader(body)
		if err == io.EOF { // no body
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		body = unzip
	}
	expected := min(max(resp.ContentLength, 0), preallocAnswer)
	buf := bytes.NewBuffer(make([]byte, 0, expected+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(body, int64(limit)+1)); err != nil {
		return nil, err
	}
	if buf.Len() > limit {
		return nil, ErrTooLarge
	}
	return buf.Bytes(), nil
}

// outgoing knows whether the transport has taken the last byte of a request. A
// server runs nothing of a request before it has that byte.
type outgoing struct{ state atomic.Uint32 }

const (
	outgoingHeld    = iota // the last byte has not been given away
	outgoingTaken          // it may be on its way
	outgoingRevoked        // it will never be given away
)

// reader returns a request body. A transport takes a second one if it resends
// the request on another connection.
func (o *outgoing) reader(body []byte) io.ReadCloser {
	return &outgoingBody{owner: o, rest: body}
}

// revoke keeps the last byte back for good; false means that it is gone.
func (o *outgoing) revoke() bool {
	return o.state.CompareAndSwap(outgoingHeld, outgoingRevoked)
}

type outgoingBody struct {
	owner *outgoing
	rest  []byte
}

func (b *outgoingBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	if len(p) >= len(b.rest) {
		b.owner.state.CompareAndSwap(outgoingHeld, outgoingTaken)
		if b.owner.state.Load() == outgoingRevoked {
			return 0, errors.New("request was given up")
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *outgoingBody) Close() error { return nil }

// refusal returns why the server refused a request, or nil if it just does not
// know the path: a 404 without the words of a database.
func (r *reply) refusal() *Error {
	e, fromDatabase := &Error{}, false
	var in struct{ Error, Message, Code string }
	switch {
	case r.contentType == protocols[V3Protobuf].contentType: // so sqld says that a stream has expired
		if m, err := decodeError(r.body); err == nil {
			e, fromDatabase = m, m.Message != ""
		}
	case json.Unmarshal(r.body, &in) == nil:
		e.Code, e.Message = in.Code, cmp.Or(in.Error, in.Message)
		fromDatabase = in.Error != ""
	default:
		e.Message = plainText(r.body)
	}
	if r.status == http.StatusNotFound && !fromDatabase {
		return nil
	}
	e.Status = r.status
	e.Message = cmp.Or(e.Message, http.StatusText(r.status))
	return e
}

// plainText returns body if it is a short text for people, and not a page of
// some gateway.
func plainText(body []byte) string {
	text := strings.TrimSpace(string(body))
	if len(text) > 1000 || strings.HasPrefix(text, "<") || !utf8.ValidString(text) {
		return ""
	}
	return text
}
