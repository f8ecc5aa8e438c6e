package hrana

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Protocol is a version of Hrana and its encoding, in order of preference.
type Protocol uint32

// The protocols that a client supports.
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

// String returns the protocol's name, such as "Hrana 3 protobuf".
func (p Protocol) String() string { return protocols[p].name }

// maxMessage bounds a pipeline and its decompressed answer, in bytes. Servers have
// much lower limits (10 MB per request).
const maxMessage = 256 << 20

// maxPingAnswer bounds the bytes read of the answer to a ping. Servers send a line of
// text.
const maxPingAnswer = 64 << 10

// preallocAnswer bounds the bytes allocated on the basis of a Content-Length header.
const preallocAnswer = 16 << 20

var (
	// ErrNeedsV3 is returned if a pipeline uses IsAutocommit and the server supports
	// only Hrana 2.
	ErrNeedsV3 = errors.New("condition is_autocommit needs Hrana 3")
	// ErrTooLarge is returned if a pipeline or its answer exceeds 256 MiB.
	ErrTooLarge = errors.New("message is over 256 MiB")
)

// TransportError is returned if a pipeline got no answer: it could not be encoded or
// sent, or its answer could not be read.
type TransportError struct {
	// Sent is false if the server cannot have received the whole request and so has
	// executed nothing of it. Otherwise the outcome is unknown.
	Sent bool
	Err  error // never nil
}

func (e *TransportError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Client sends pipelines to one database. Its methods are safe for concurrent use. Its
// fields must not be changed after the first call of one.
type Client struct {
	// Namespace is the database on a server that has several. If it is empty, the
	// server goes by the first label of the URL's host.
	Namespace string
	// AuthScheme is what the token is in the Authorization header, Bearer if empty.
	AuthScheme string

	endpoints [len(protocols)]*url.URL
	ping      *url.URL
	token     func(context.Context) (string, error)
	limit     int           // maximum size of a pipeline and of its answer, in bytes
	learning  sync.Mutex    // held to change protocol and known
	protocol  atomic.Uint32 // the Protocol to try first
	known     atomic.Bool   // the server has answered it
	requests  atomic.Uint64
	pings     atomic.Uint64
}

// NewClient returns a client of the database at base, an http or https URL
// without credentials, query and fragment. token is called once per pipeline; no token
// is sent if it is nil or returns an empty one. Errors do not contain the URL.
func NewClient(base string, token func(context.Context) (string, error)) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil: // its text contains the URL
		return nil, errors.New("malformed server URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("server URL is neither http nor https")
	case u.Hostname() == "":
		return nil, errors.New("server URL has no host")
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

// Protocol returns the protocol that is tried first: the one that the server has
// answered, or the most preferred one not yet rejected.
func (c *Client) Protocol() Protocol { return Protocol(c.protocol.Load()) }

// Requests returns the number of HTTP requests sent with a pipeline, including those
// that only negotiated the protocol.
func (c *Client) Requests() uint64 { return c.requests.Load() }

// Pings returns the number of pings sent, including those without an answer.
func (c *Client) Pings() uint64 { return c.pings.Load() }

// Do sends p through rt and returns the answer, which has a result for each
// request. The error is an *Error if the server refused the pipeline, and otherwise a
// *TransportError.
//
// JSON answers are requested with gzip, protobuf answers are not. rt must not request
// compression itself: see [http.Transport.DisableCompression].
//
// The first pipeline also negotiates the protocol: a server that does not know the
// path of one has executed nothing, so the next one is tried.
//
// No text of an answer or an error holds a credential; see [Clean].
func (c *Client) Do(ctx context.Context, rt http.RoundTripper, p Pipeline) (*Answer, error) {
	token := ""
	if c.token != nil {
		var err error
		if token, err = c.token(ctx); err != nil {
			return nil, &TransportError{Err: fmt.Errorf("get token: %w", err)}
		}
	}
	answer, err := c.do(ctx, rt, token, p)
	return answer, clean(answer, err, token)
}

func (c *Client) do(ctx context.Context, rt http.RoundTripper, token string, p Pipeline) (*Answer, error) {
	var refusal *Error
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
				if page := pageTitle(r.body); page != "" { // of a login, or of a gateway
					err = fmt.Errorf("it is the page %q", page)
				}
				return nil, &TransportError{Sent: true, Err: fmt.Errorf("read pipeline answer: %w", err)}
			}
			return answer, nil
		}
		if refusal = r.refusal(); refusal.Status != http.StatusNotFound || !refusal.Foreign {
			return nil, refusal
		}
		c.learn((protocol+1)%Protocol(len(protocols)), false)
	}
	const text = "no libSQL server at this URL"
	if refusal.Message == http.StatusText(http.StatusNotFound) {
		refusal.Message = text
	} else {
		refusal.Message = text + ": " + refusal.Message
	}
	return nil, refusal
}

// learn records the protocol to try first. One that was answered is final. One that was
// rejected is skipped from then on, because the server may close the connection after
// rejecting it; a rejection after an answer came from something other than the server
// and is ignored.
func (c *Client) learn(protocol Protocol, answered bool) {
	c.learning.Lock()
	defer c.learning.Unlock()
	if !c.known.Load() {
		c.protocol.Store(uint32(protocol))
		c.known.Store(answered)
	}
}

// Ping requests a page through rt that needs neither a token nor a database, and
// returns nil for any status below 500. It proves only that the server is reachable.
// The error is an *Error for a status of 500 and above, and otherwise a
// *TransportError. The connection stays usable if the answer is shorter than 64 KiB.
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
		return clean(nil, &TransportError{Sent: sent.Load(), Err: fmt.Errorf("send ping: %w", err)}, "")
	}
	count() // a round tripper may not call the trace
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPingAnswer))
	if err != nil {
		return &TransportError{Sent: true, Err: fmt.Errorf("read ping answer: %w", err)}
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return clean(nil, (&reply{c.ping, "/v3", resp.StatusCode, resp.Header, body}).refusal(), "")
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

// newHeader returns the common header of all requests.
func newHeader() http.Header { return http.Header{"User-Agent": {"episodic"}} }

// reply is the answer to an HTTP request.
type reply struct {
	url    *url.URL // that was asked
	path   string   // the end of url that a redirect is told without
	status int
	header http.Header
	body   []byte
}

// post makes one HTTP exchange. Every error is a *TransportError.
func (c *Client) post(ctx context.Context, rt http.RoundTripper, protocol Protocol, token string, body []byte) (*reply, error) {
	header := newHeader()
	header.Set("Content-Type", protocols[protocol].contentType)
	if protocol != V3Protobuf { // JSON carries blobs as base64 text
		header.Set("Accept-Encoding", "gzip")
	}
	if token != "" {
		header.Set("Authorization", cmp.Or(c.AuthScheme, "Bearer")+" "+token)
	}
	if c.Namespace != "" { // as gRPC carries bytes; sqld refuses padding
		header.Set("X-Namespace-Bin", base64.RawStdEncoding.EncodeToString([]byte(c.Namespace)))
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
	return &reply{c.endpoints[protocol], protocols[protocol].path, resp.StatusCode, resp.Header, answer}, nil
}

// readAnswer reads the body to its end, which keeps the connection usable, and
// decompresses it if it is gzip. limit bounds the decompressed size.
func readAnswer(resp *http.Response, limit int) ([]byte, error) {
	body := io.Reader(resp.Body)
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		gz, err := gzip.NewReader(body)
		if err == io.EOF { // no body
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		body = gz
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

// outgoing tracks whether the transport has read the last byte of a request. A server
// executes nothing of a request before it has received that byte.
type outgoing struct{ state atomic.Uint32 }

const (
	outgoingHeld    = iota // the last byte has not been read
	outgoingTaken          // it may have been sent
	outgoingRevoked        // it will never be read
)

// reader returns a request body. A transport takes a second one if it resends
// the request on another connection.
func (o *outgoing) reader(body []byte) io.ReadCloser {
	return &outgoingBody{owner: o, rest: body}
}

// revoke withholds the last byte from now on. It returns false if it was read already.
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
			return 0, errors.New("request was revoked")
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *outgoingBody) Close() error { return nil }

// maxRefusalText bounds the text of a refusal, in bytes.
const maxRefusalText = 1000

// refusal returns the error of a refused request.
func (r *reply) refusal() *Error {
	e := &Error{Status: r.status, Foreign: true, RetryAfter: r.retryAfter(), Location: r.location()}
	var in struct{ Error, Message, Code string }
	switch {
	case r.header.Get("Content-Type") == protocols[V3Protobuf].contentType: // sqld reports expired streams this way
		if m, err := decodeError(r.body); err == nil {
			e.Code, e.Message, e.Foreign = m.Code, m.Message, m.Message == ""
		}
	case json.Unmarshal(r.body, &in) == nil:
		e.Code, e.Message = in.Code, cmp.Or(in.Error, in.Message)
		e.Foreign = in.Error == "" || strings.EqualFold(in.Error, http.StatusText(r.status)) // as gateways say it
	default:
		e.Message = cmp.Or(plainText(r.body), pageTitle(r.body))
		// A server says in words what it cannot read of a request.
		e.Foreign = r.status != http.StatusBadRequest || e.Message == ""
	}
	e.Foreign = e.Foreign && !e.StreamGone()
	e.Message = cmp.Or(e.Message, http.StatusText(r.status))
	return e
}

// retryAfter returns how long the answer asks to wait, 0 if it does not.
func (r *reply) retryAfter() time.Duration {
	text := r.header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(r.header.Get("Date")) // by the same clock
	if err != nil {
		now = time.Now()
	}
	return max(0, at.Sub(now))
}

// location returns where a redirect leads, empty if there is none: without credentials
// and parameters, and without the path of the protocol, so that it can be used as the
// server's address.
func (r *reply) location() string {
	text := r.header.Get("Location")
	if text == "" || r.status/100 != 3 {
		return ""
	}
	to, err := r.url.Parse(text)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: strings.TrimSuffix(to.Path, r.path)}).String()
}

// plainText returns body if it is a short plain text, and "" otherwise.
func plainText(body []byte) string {
	text := strings.TrimSpace(string(body))
	if len(text) > maxRefusalText || strings.HasPrefix(text, "<") || !utf8.ValidString(text) {
		return ""
	}
	return text
}

// title is in the beginning of an HTML page.
var title = regexp.MustCompile(`(?is)<title[^>]*>(.{1,300}?)</title>`)

// pageTitle returns the title of an HTML page, as gateways answer with, empty if body
// is none.
func pageTitle(body []byte) string {
	body = body[:min(len(body), 4<<10)]
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return ""
	}
	found := title.FindSubmatch(body)
	if found == nil {
		return ""
	}
	text := strings.ToValidUTF8(html.UnescapeString(string(found[1])), "\uFFFD")
	return strings.Join(strings.Fields(text), " ")
}
