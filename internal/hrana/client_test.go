package hrana

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

var closeOnly = Pipeline{Requests: []Request{Close{}}}

func newClient(t *testing.T, base string) *Client {
	t.Helper()
	c, err := NewClient(base, func(context.Context) (string, error) { return "s3cret", nil })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve starts a server and returns a round tripper of its own.
func serve(t *testing.T, h http.HandlerFunc) (url string, rt *http.Transport) {
	t.Helper()
	s := httptest.NewServer(h)
	rt = &http.Transport{DisableCompression: true}
	t.Cleanup(s.Close)
	t.Cleanup(rt.CloseIdleConnections)
	return s.URL, rt
}

func answerClose(t *testing.T, w http.ResponseWriter, path string) {
	a := &Answer{Results: []Result{{}}}
	msg := writeJSONAnswer(t, a, false)
	if path == "/v3-protobuf/pipeline" {
		msg = writeAnswer(a)
	}
	_, _ = w.Write(msg)
}

func TestNewClientRefusesURLsWithoutShowingThem(t *testing.T) {
	for _, base := range []string{
		"http://user:s3cret@host", "http://host?token=s3cret", "http://host#s3cret", "libsql://s3cret",
		"http://s3cret:port:80/", "s3cret", "http:///s3cret",
	} {
		_, err := NewClient(base, nil)
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error is %v", base, err)
		}
	}
}

func TestClientNegotiatesProtocolOnce(t *testing.T) {
	for _, tt := range []struct {
		speaks   Protocol
		notFound string
		requests uint64 // for three pipelines
	}{
		{V3Protobuf, "", 3},
		{V3JSON, "404 page not found", 4},
		{V2JSON, "<html>", 5},
		{V2JSON, `{"message":"no such route"}`, 5},
	} {
		url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/base"+protocols[tt.speaks].path {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, tt.notFound)
				return
			}
			want := http.Header{
				"Authorization": {"Bearer s3cret"}, "Content-Length": {r.Header.Get("Content-Length")},
				"Content-Type": {protocols[tt.speaks].contentType}, "User-Agent": {"episodic"},
			}
			if tt.speaks != V3Protobuf {
				want["Accept-Encoding"] = []string{"gzip"}
			}
			if !reflect.DeepEqual(r.Header, want) || r.ContentLength <= 0 {
				t.Errorf("%v: header %v, want %v", tt.speaks, r.Header, want)
			}
			answerClose(t, w, strings.TrimPrefix(r.URL.Path, "/base"))
		})
		c := newClient(t, url+"/base/")
		for range 3 {
			if _, err := c.Do(t.Context(), rt, closeOnly); err != nil {
				t.Errorf("%v: %v", tt.speaks, err)
			}
		}
		if c.Protocol() != tt.speaks || c.Requests() != tt.requests {
			t.Errorf("speaks %v after %d requests, want %v after %d", c.Protocol(), c.Requests(), tt.speaks, tt.requests)
		}
	}
}

func TestClientReportsUnknownServer(t *testing.T) {
	url, rt := serve(t, http.NotFound)
	_, err := newClient(t, url).Do(t.Context(), rt, closeOnly)
	if e, ok := errors.AsType[*Error](err); !ok || e.Error() != "HTTP 404: no libSQL server at this URL: 404 page not found" {
		t.Errorf("error is %v", err)
	}
}

func TestClientReadsRefusals(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		want   Error
	}{
		{400, `{"message":"The stream has expired due to inactivity","code":"STREAM_EXPIRED"}`, Error{Code: "STREAM_EXPIRED", Message: "The stream has expired due to inactivity", Status: 400}},
		{400, "Received an invalid baton", Error{Message: "Received an invalid baton", Status: 400}},
		{400, "Received a baton that has already been used\n", Error{Message: "Received a baton that has already been used", Status: 400}},
		{401, "{\"error\":\"Unauthorized: `The JWT has expired`\"}", Error{Message: "Unauthorized: `The JWT has expired`", Status: 401}},
		{403, `{"error":"Authorization forbidden: no Write permission"}`, Error{Message: "Authorization forbidden: no Write permission", Status: 403}},
		{404, "{\"error\":\"Namespace `x` doesn't exist\"}", Error{Message: "Namespace `x` doesn't exist", Status: 404}},
		{429, `{"error":"Timed out while opening database connection"}`, Error{Message: "Timed out while opening database connection", Status: 429}},
		{500, `{"error":"invalid utf-8 sequence of 1 bytes from index 0"}`, Error{Message: "invalid utf-8 sequence of 1 bytes from index 0", Status: 500}},
		{500, "", Error{Message: "Internal Server Error", Status: 500, Foreign: true}},
		{502, "<html>bad gateway</html>", Error{Message: "Bad Gateway", Status: 502, Foreign: true}},
		{503, strings.Repeat("long", 1000), Error{Message: "Service Unavailable", Status: 503, Foreign: true}},
		{503, "\xff\xfe", Error{Message: "Service Unavailable", Status: 503, Foreign: true}},
		{403, "<html>\r\n<head><TITLE>403\n Forbidden &amp; told</TITLE></head>", Error{Message: "403 Forbidden & told", Status: 403, Foreign: true}},
		{404, `{"message":"stream not found: 1","code":"STREAM_NOT_FOUND"}`, Error{Code: "STREAM_NOT_FOUND", Message: "stream not found: 1", Status: 404}},
		{302, "", Error{Message: "Found", Status: 302, Foreign: true}},
		{204, "", Error{Message: "No Content", Status: 204, Foreign: true}},
	} {
		url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		c := newClient(t, url)
		_, err := c.Do(t.Context(), rt, closeOnly)
		if e, ok := errors.AsType[*Error](err); !ok || *e != tt.want {
			t.Errorf("%d %.60s: error is %#v, want %#v", tt.status, tt.body, err, tt.want)
		}
		if c.Requests() != 1 {
			t.Errorf("%d %.60s: %d requests", tt.status, tt.body, c.Requests())
		}
	}
}

// A server answers in the encoding of the request, but not each refusal.
func TestClientReadsRefusalsInProtobuf(t *testing.T) {
	const expired = "\x0a\x28The stream has expired due to inactivity\x12\x0eSTREAM_EXPIRED" // as sqld 0.24 sends it
	for _, tt := range []struct {
		status   int
		body     string
		want     Error
		requests uint64
	}{
		{400, expired, Error{Code: "STREAM_EXPIRED", Message: "The stream has expired due to inactivity", Status: 400}, 1},
		{400, expired[:9], Error{Message: "Bad Request", Status: 400, Foreign: true}, 1},
		{404, "\x0a\x04gone", Error{Message: "gone", Status: 404}, 1},
		{404, "", Error{Message: "no libSQL server at this URL", Status: 404, Foreign: true}, 3},
	} {
		url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		c := newClient(t, url)
		_, err := c.Do(t.Context(), rt, closeOnly)
		if e, ok := errors.AsType[*Error](err); !ok || *e != tt.want || c.Requests() != tt.requests {
			t.Errorf("%d %q: %d requests, error is %#v, want %#v", tt.status, tt.body, c.Requests(), err, tt.want)
		}
	}
}

// gzipped returns text as gzip.
func gzipped(t *testing.T, text string) string {
	t.Helper()
	var buf strings.Builder
	w := gzip.NewWriter(&buf)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// serveGzip starts a server that answers everything with a status and a body
// labelled gzip.
func serveGzip(t *testing.T, status int, body string, chunked bool) (c *Client, rt *http.Transport) {
	t.Helper()
	url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		if !chunked {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(status)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, body)
	})
	c = newClient(t, url)
	c.protocol.Store(uint32(V3JSON))
	return c, rt
}

const closed = `{"results":[{"type":"ok","response":{"type":"close"}}]}`

func TestClientDecompressesAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   *Error // nil: an answer
	}{
		{"answer", 200, gzipped(t, closed), nil},
		{"answer in two parts", 200, gzipped(t, closed[:9]) + gzipped(t, closed[9:]), nil},
		{"refusal", 403, gzipped(t, `{"error":"Authorization forbidden"}`), &Error{Message: "Authorization forbidden", Status: 403}},
		{"refusal in words", 400, gzipped(t, "Received an invalid baton"), &Error{Message: "Received an invalid baton", Status: 400}},
		{"page", 502, gzipped(t, "<html>"), &Error{Message: "Bad Gateway", Status: 502, Foreign: true}},
		{"empty refusal", 503, gzipped(t, ""), &Error{Message: "Service Unavailable", Status: 503, Foreign: true}},
		{"no body", 503, "", &Error{Message: "Service Unavailable", Status: 503, Foreign: true}},
	} {
		for _, chunked := range []bool{false, true} {
			c, rt := serveGzip(t, tt.status, tt.body, chunked)
			dials := countDials(rt)
			for range 3 {
				_, err := c.Do(t.Context(), rt, closeOnly)
				e, _ := errors.AsType[*Error](err)
				if (err == nil) != (tt.want == nil) || tt.want != nil && (e == nil || *e != *tt.want) {
					t.Errorf("%s, chunked %v: error is %#v, want %#v", tt.name, chunked, err, tt.want)
				}
			}
			if *dials != 1 {
				t.Errorf("%s, chunked %v: %d dials for 3 requests", tt.name, chunked, *dials)
			}
		}
	}
}

func TestClientRefusesDamagedGzip(t *testing.T) {
	good := gzipped(t, closed)
	flip := func(i int) string { return good[:i] + string(good[i]^1) + good[i+1:] }
	for _, tt := range []struct {
		name, body string
		is         error
	}{
		{"not zipped", closed, gzip.ErrHeader},
		{"magic", flip(0), gzip.ErrHeader},
		{"checksum", flip(len(good) - 8), gzip.ErrChecksum},
		{"length", flip(len(good) - 4), gzip.ErrChecksum},
		{"cut header", good[:5], io.ErrUnexpectedEOF},
		{"cut text", good[:20], io.ErrUnexpectedEOF},
		{"cut checksum", good[:len(good)-1], io.ErrUnexpectedEOF},
		{"more behind it", good + "0123456789", gzip.ErrHeader},
	} {
		for _, status := range []int{200, 400} {
			c, rt := serveGzip(t, status, tt.body, true)
			_, err := c.Do(t.Context(), rt, closeOnly)
			if e, ok := errors.AsType[*TransportError](err); !ok || !e.Sent || !errors.Is(err, tt.is) {
				t.Errorf("%s, %d: error is %#v (%v), want %v", tt.name, status, err, err, tt.is)
			}
		}
	}
}

func TestClientBoundsMessages(t *testing.T) {
	if c := newClient(t, "http://host"); c.limit != 256<<20 {
		t.Errorf("limit is %d bytes, and %v", c.limit, ErrTooLarge)
	}
	const limit = 64 << 10
	padded := func(n int) string { return closed + strings.Repeat(" ", n-len(closed)) }
	plain := func(body string) (*Client, *http.Transport) {
		url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, body) })
		c := newClient(t, url)
		c.protocol.Store(uint32(V3JSON))
		return c, rt
	}
	packed := func(body string) (*Client, *http.Transport) { return serveGzip(t, 200, gzipped(t, body), false) }
	for name, serve := range map[string]func(string) (*Client, *http.Transport){"plain": plain, "zipped": packed} {
		for _, tt := range []struct {
			n  int
			is error
		}{{limit, nil}, {limit + 1, ErrTooLarge}, {64 * limit, ErrTooLarge}} {
			c, rt := serve(padded(tt.n))
			c.limit = limit
			_, err := c.Do(t.Context(), rt, closeOnly)
			if e, ok := errors.AsType[*TransportError](err); !errors.Is(err, tt.is) || tt.is != nil && (!ok || !e.Sent) {
				t.Errorf("%s answer of %d bytes: error is %v, want %v", name, tt.n, err, tt.is)
			}
		}
	}

	for p := range V2JSON + 1 {
		c, rt := plain(closed)
		c.protocol.Store(uint32(p))
		c.limit = limit
		_, err := c.Do(t.Context(), rt, Pipeline{Requests: []Request{Execute{Stmt{Args: []any{make([]byte, limit)}}}}})
		if e, ok := errors.AsType[*TransportError](err); !ok || e.Sent || !errors.Is(err, ErrTooLarge) || c.Requests() != 0 {
			t.Errorf("%v: error is %v after %d requests, want %v", p, err, c.Requests(), ErrTooLarge)
		}
	}
}

func TestStreamGone(t *testing.T) {
	for _, tt := range []struct {
		err  Error
		gone bool
	}{
		// sqld
		{Error{Code: "STREAM_EXPIRED", Message: "The stream has expired due to inactivity", Status: 400}, true},
		{Error{Message: "Received an invalid baton", Status: 400}, true},
		{Error{Message: "Received a baton that has already been used", Status: 400}, false}, // by a copy of this very pipeline, perhaps
		{Error{Message: "Stream for this baton was closed", Status: 400}, false},            // after a Close, when some was run
		// Turso, by its protocol's description
		{Error{Code: "STREAM_EXPIRED", Message: "stream expired: idle 31s (limit 30s)", Status: 410}, true},
		{Error{Code: "STREAM_LOST", Status: 410}, true},
		{Error{Code: "STREAM_NOT_FOUND", Status: 404}, true},
		{Error{Message: "stream not found: 1", Status: 404}, true},

		{Error{Message: "invalid utf-8 sequence of 1 bytes from index 0", Status: 500}, false},
		{Error{Message: "Received an invalid baton", Status: 500}, false},
		{Error{Message: "no libSQL server at this URL", Status: 404}, false},
		{Error{Message: "Namespace `x` doesn't exist", Status: 404}, false},
		{Error{Code: "SQLITE_UNKNOWN", Message: "no such table: baton", Status: 200}, false},
		{Error{Code: "STREAM_EXPIRED", Status: 200}, false},
	} {
		if got := tt.err.StreamGone(); got != tt.gone {
			t.Errorf("%v: gone is %v", &tt.err, got)
		}
	}
}

func TestErrorTextHoldsStatusAndCode(t *testing.T) {
	for want, e := range map[string]*Error{
		"no such table: t (SQLITE_UNKNOWN)":                {Code: "SQLITE_UNKNOWN", Message: "no such table: t", Status: 200},
		"HTTP 400: gone (STREAM_EXPIRED)":                  {Code: "STREAM_EXPIRED", Message: "gone", Status: 400},
		"HTTP 308: Permanent Redirect, to https://db.test": {Message: "Permanent Redirect", Status: 308, Location: "https://db.test"},
		"HTTP 429: slow down, to be repeated in 2s":        {Message: "slow down", Status: 429, RetryAfter: 2 * time.Second},
	} {
		if e.Error() != want {
			t.Errorf("text is %q, want %q", e, want)
		}
	}
}

// What a refusal tells beside its text.
func TestClientReadsHeadersOfRefusals(t *testing.T) {
	for _, tt := range []struct {
		status   int
		header   http.Header
		location string
		after    time.Duration
	}{
		{308, http.Header{"Location": {"https://db.test/x/v3-protobuf/pipeline?authToken=s3cret#s3cret"}}, "https://db.test/x", 0},
		{301, http.Header{"Location": {"https://user:s3cret@db.test/"}}, "https://db.test/", 0},
		{302, http.Header{"Location": {"//other.test:81/login"}}, "http://other.test:81/login", 0},
		{302, http.Header{"Location": {":"}}, "", 0},
		{401, http.Header{"Location": {"https://db.test"}}, "", 0},
		{429, http.Header{"Retry-After": {"3"}}, "", 3 * time.Second},
		{429, http.Header{"Retry-After": {"-3"}}, "", 0},
		{429, http.Header{"Retry-After": {"99999999999999999999"}}, "", 0},
		{503, http.Header{"Retry-After": {"soon"}}, "", 0},
		// The client's clock may be wrong.
		{503, http.Header{"Retry-After": {"Fri, 31 Dec 1999 23:59:59 GMT"}, "Date": {"Fri, 31 Dec 1999 23:59:49 GMT"}}, "", 10 * time.Second},
		{503, http.Header{"Retry-After": {"Fri, 31 Dec 1999 23:59:59 GMT"}}, "", 0},
	} {
		url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
			for k, v := range tt.header {
				w.Header()[k] = v
			}
			w.WriteHeader(tt.status)
		})
		_, err := newClient(t, url).Do(t.Context(), rt, closeOnly)
		if e, ok := errors.AsType[*Error](err); !ok || e.Location != tt.location || e.RetryAfter != tt.after {
			t.Errorf("%d %v: %#v", tt.status, tt.header, err)
		}
	}
}

// partial takes n bytes of a request before it fails, or all of them if n < 0.
type partial int

func (n partial) RoundTrip(r *http.Request) (*http.Response, error) {
	if n < 0 {
		_, _ = io.Copy(io.Discard, r.Body)
	} else {
		_, _ = io.CopyN(io.Discard, r.Body, int64(n))
	}
	return nil, syscall.ECONNRESET
}

// faulty returns the URLs of three servers: one that is not there, one that cuts
// the connection instead of answering, and one that ends in the middle.
func faulty(t *testing.T) (unreachable, cut, short string, rt *http.Transport) {
	t.Helper()
	cut, rt = serve(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	short, _ = serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	return "http://" + hranatest.Unused(t), cut, short, rt
}

func TestTransportErrorSaysWhetherTheRequestWasSent(t *testing.T) {
	unreachable, cut, short, rt := faulty(t)
	damaged, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "\xff") })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	bad := Pipeline{Requests: []Request{Execute{Stmt{SQL: "\xff"}}}}
	errToken := errors.New("vault is locked")

	for _, tt := range []struct {
		name     string
		ctx      context.Context
		url      string
		rt       http.RoundTripper
		pipeline Pipeline
		token    error
		sent     bool
		is       error
	}{
		{"token", t.Context(), cut, rt, closeOnly, errToken, false, errToken},
		{"encoding", t.Context(), cut, rt, bad, nil, false, errNotUTF8},
		{"dial", t.Context(), unreachable, rt, closeOnly, nil, false, syscall.ECONNREFUSED},
		{"cancelled", gone, cut, rt, closeOnly, nil, false, context.Canceled},
		{"taken in part", t.Context(), cut, partial(3), closeOnly, nil, false, syscall.ECONNRESET},
		{"taken", t.Context(), cut, partial(-1), closeOnly, nil, true, syscall.ECONNRESET},
		{"cut", t.Context(), cut, rt, closeOnly, nil, true, io.EOF},
		{"short answer", t.Context(), short, rt, closeOnly, nil, true, io.ErrUnexpectedEOF},
		{"damaged answer", t.Context(), damaged, rt, closeOnly, nil, true, io.ErrUnexpectedEOF},
	} {
		c, err := NewClient(tt.url, func(context.Context) (string, error) { return "", tt.token })
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Do(tt.ctx, tt.rt, tt.pipeline)
		e, ok := errors.AsType[*TransportError](err)
		if !ok || e.Sent != tt.sent || !errors.Is(err, tt.is) {
			t.Errorf("%s: error is %#v (%v), want sent %v and %v", tt.name, err, err, tt.sent, tt.is)
		}
		if got := c.Requests() == 1; got != tt.sent {
			t.Errorf("%s: %d requests counted", tt.name, c.Requests())
		}
	}
}

// lateReader keeps a request's body and reads it only after the failure.
type lateReader struct{ body io.Reader }

func (l *lateReader) RoundTrip(r *http.Request) (*http.Response, error) {
	l.body = r.Body
	return nil, syscall.ECONNRESET
}

func TestRequestReportedUnsentStaysUnsent(t *testing.T) {
	late := &lateReader{}
	_, err := newClient(t, "http://host").Do(t.Context(), late, closeOnly)
	if e, ok := errors.AsType[*TransportError](err); !ok || e.Sent {
		t.Fatalf("error is %#v", err)
	}
	want := encodeProtobuf(closeOnly)
	if got, err := io.ReadAll(late.body); err == nil || len(got) == len(want) {
		t.Errorf("the transport got %d of %d bytes afterwards, error %v", len(got), len(want), err)
	}
}

func TestClientAsksForTheTokenOncePerPipeline(t *testing.T) {
	url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/pipeline" {
			http.NotFound(w, r)
			return
		}
		if _, ok := r.Header["Authorization"]; ok {
			t.Error("an empty token was sent")
		}
		answerClose(t, w, r.URL.Path)
	})
	asked := 0
	c, err := NewClient(url, func(context.Context) (string, error) { asked++; return "", nil })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Do(t.Context(), rt, closeOnly); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times for 2 pipelines", asked)
	}
}

// countDials makes rt count its connections.
func countDials(rt *http.Transport) *int {
	dials := new(int)
	rt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		*dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	return dials
}

func TestClientReusesConnections(t *testing.T) {
	url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v3") {
			http.Error(w, strings.Repeat("x", 100_000), http.StatusNotFound)
			return
		}
		answerClose(t, w, r.URL.Path)
	})
	dials := countDials(rt)
	c := newClient(t, url)
	for range 5 {
		if _, err := c.Do(t.Context(), rt, closeOnly); err != nil {
			t.Fatal(err)
		}
	}
	if *dials != 1 {
		t.Errorf("%d dials for %d requests", *dials, c.Requests())
	}
}

func TestPingTakesAnyAnswerBelow500(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		want   *Error
	}{
		{200, "Hello", nil},
		{200, strings.Repeat("x", maxPingAnswer-1), nil},
		{302, "", nil},
		{401, "", nil},
		{404, "<html>", nil},
		{429, `{"error":"later"}`, nil},
		{500, `{"error":"broken","code":"C"}`, &Error{Code: "C", Message: "broken", Status: 500}},
		{503, "<html>", &Error{Message: "Service Unavailable", Status: 503, Foreign: true}},
	} {
		url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if len(r.Header) != 1 || r.UserAgent() != "episodic" || r.Method != http.MethodGet || r.URL.Path != "/base/v3" {
				t.Errorf("%s %s with header %v", r.Method, r.URL, r.Header)
			}
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		dials := countDials(rt)
		c, err := NewClient(url+"/base", func(context.Context) (string, error) { return "", errors.New("asked for a token") })
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err := c.Ping(t.Context(), rt)
			e, _ := errors.AsType[*Error](err)
			if (err == nil) != (tt.want == nil) || tt.want != nil && (e == nil || *e != *tt.want) {
				t.Errorf("%d %.20s: error is %#v, want %#v", tt.status, tt.body, err, tt.want)
			}
		}
		if c.Pings() != 3 || c.Requests() != 0 || *dials != 1 {
			t.Errorf("%d %.20s: %d pings and %d requests on %d connections", tt.status, tt.body, c.Pings(), c.Requests(), *dials)
		}
	}
}

func TestPingBoundsTheAnswer(t *testing.T) {
	url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, maxPingAnswer)
		for range 1000 { // far more than sockets hold
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		t.Error("all of the answer was read")
	})
	if err := newClient(t, url).Ping(t.Context(), rt); err != nil {
		t.Error(err)
	}
}

// answering answers without telling the trace of a request.
type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestPingWithoutAnAnswer(t *testing.T) {
	unreachable, cut, short, rt := faulty(t)
	waiting, abandon := context.WithCancel(t.Context())
	silent, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		abandon()
		<-r.Context().Done()
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()

	for _, tt := range []struct {
		name string
		ctx  context.Context
		url  string
		rt   http.RoundTripper
		sent bool
		is   error
	}{
		{"dial", t.Context(), unreachable, rt, false, syscall.ECONNREFUSED},
		{"cancelled", gone, silent, rt, false, context.Canceled},
		{"silence", waiting, silent, rt, true, context.Canceled},
		{"cut", t.Context(), cut, rt, true, io.EOF},
		{"short answer", t.Context(), short, rt, true, io.ErrUnexpectedEOF},
		{"no trace", t.Context(), silent, answering{}, true, nil},
	} {
		c := newClient(t, tt.url)
		err := c.Ping(tt.ctx, tt.rt)
		e, ok := errors.AsType[*TransportError](err)
		if !errors.Is(err, tt.is) || tt.is != nil && (!ok || e.Sent != tt.sent) {
			t.Errorf("%s: error is %#v (%v), want sent %v and %v", tt.name, err, err, tt.sent, tt.is)
		}
		if got := c.Pings() == 1; got != tt.sent || c.Requests() != 0 {
			t.Errorf("%s: %d pings and %d requests counted", tt.name, c.Pings(), c.Requests())
		}
	}
}

func TestNamespaceAndSchemeAreSent(t *testing.T) {
	url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("X-Namespace-Bin") + " " + r.Header.Get("Authorization"); r.Method == http.MethodPost && got != "YWxwaGE Basic s3cret" {
			t.Errorf("headers are %s", got)
		}
		answerClose(t, w, r.URL.Path)
	})
	c := newClient(t, url)
	c.Namespace, c.AuthScheme = "alpha", "Basic"
	if _, err := c.Do(t.Context(), rt, closeOnly); err != nil {
		t.Fatal(err)
	}
}
