package hranatest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy passes HTTP requests to a server and makes faults on the way.
type Proxy struct {
	front *httptest.Server
	back  http.Transport
	to    string

	// mu guards the fields below. It is not held while a request is on its way.
	mu       sync.Mutex
	requests map[string]int
	conns    int
	hidden   []string
	delay    time.Duration
	faults   []Fault
}

// Fault decides what happens to one request. It must end in one of the methods
// of Exchange that settle it.
type Fault func(*Exchange)

// Exchange is one request on its way through a proxy, its body already read.
type Exchange struct {
	Path string

	proxy *Proxy
	w     http.ResponseWriter
	r     *http.Request
	body  []byte
}

// NewProxy starts a proxy to the server at url for the length of a test.
func NewProxy(t testing.TB, url string) *Proxy {
	p := &Proxy{to: url, requests: map[string]int{}}
	p.front = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.front.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.mu.Lock()
			p.conns++
			p.mu.Unlock()
		}
	}
	p.front.Start()
	t.Cleanup(func() {
		p.front.CloseClientConnections() // a held request ends with its connection
		p.front.Close()
		p.back.CloseIdleConnections()
	})
	return p
}

// URL returns the proxy's address.
func (p *Proxy) URL() string { return p.front.URL }

// Hide makes the proxy answer all paths with one of the prefixes with an empty
// 404, as a server does that does not know the path.
func (p *Proxy) Hide(prefixes ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hidden = prefixes
}

// Delay makes every request wait before it goes to the server.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Next orders faults for the next requests, one for each; those to hidden paths
// do not count.
func (p *Proxy) Next(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, faults...)
}

// Requests returns how many requests came in for paths with the prefix.
func (p *Proxy) Requests(prefix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for path, count := range p.requests {
		if strings.HasPrefix(path, prefix) {
			n += count
		}
	}
	return n
}

// Conns returns how many connections were accepted.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	fault, delay := p.admit(r.URL.Path)
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	fault(&Exchange{Path: r.URL.Path, proxy: p, w: w, r: r, body: body})
}

// admit counts a request and decides what is to happen to it.
func (p *Proxy) admit(path string) (Fault, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[path]++
	for _, prefix := range p.hidden {
		if strings.HasPrefix(path, prefix) {
			return Refuse(http.StatusNotFound, ""), p.delay
		}
	}
	if len(p.faults) == 0 {
		return Pass, p.delay
	}
	fault := p.faults[0]
	p.faults = p.faults[1:]
	return fault, p.delay
}

// Forward sends the request to the server and returns the answer once it is
// complete. It settles nothing.
func (x *Exchange) Forward() (status int, header http.Header, body []byte, err error) {
	out := x.r.Clone(x.r.Context())
	out.URL.Scheme, out.URL.Host, _ = strings.Cut(x.proxy.to, "://")
	out.Body = io.NopCloser(bytes.NewReader(x.body))
	resp, err := x.proxy.back.RoundTrip(out)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, body, err
}

// Answer settles the exchange with an answer.
func (x *Exchange) Answer(status int, header http.Header, body []byte) {
	for k, v := range header {
		x.w.Header()[k] = v
	}
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // an error means that the client is gone
}

// Reset settles the exchange by resetting the client's connection.
func (x *Exchange) Reset() {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(err) // only HTTP/1.1 is served here
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // Close then sends RST instead of FIN
	conn.Close()
}

// Hold settles the exchange by doing nothing until the client is gone.
func (x *Exchange) Hold() { <-x.r.Context().Done() }

// Pass is no fault: it brings the request to the server and the answer back.
// When the server cannot be reached it resets the connection.
func Pass(x *Exchange) {
	status, header, body, err := x.Forward()
	if err != nil {
		x.Reset()
		return
	}
	x.Answer(status, header, body)
}

// CutAnswer lets the server run the request and loses the answer.
func CutAnswer(x *Exchange) {
	_, _, _, _ = x.Forward() // whatever it was, the client must not know
	x.Reset()
}

// BlackHole takes the request and never answers; the server does not see it.
func BlackHole(x *Exchange) { x.Hold() }

// Refuse answers with a status and a body; the server does not see the request.
func Refuse(status int, body string) Fault {
	return func(x *Exchange) { x.Answer(status, nil, []byte(body)) }
}

// Then runs f before fault, for instance to tell the test that the request is
// there.
func Then(f func(), fault Fault) Fault {
	return func(x *Exchange) {
		f()
		fault(x)
	}
}
