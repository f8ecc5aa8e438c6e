package hranatest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math/rand/v2"
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
	pings    []Fault // faults of GET requests
	always   Fault
	batons   map[string]struct{} // of the open streams
	most     int                 // batons there were
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
	p := &Proxy{to: url, requests: map[string]int{}, always: Pass, batons: map[string]struct{}{}}
	p.back.DisableCompression = true // what a client does not ask for it must not get
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
// and GET requests, which are pings, do not count.
func (p *Proxy) Next(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, faults...)
}

// NextPing is Next for GET requests.
func (p *Proxy) NextPing(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pings = append(p.pings, faults...)
}

// Always makes f happen to all requests, pings too, for which no other fault is
// ordered. nil, the default, is Pass.
func (p *Proxy) Always(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.always = f
	if f == nil {
		p.always = Pass
	}
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

// CloseConns closes all connections of clients, as a restarted server has.
func (p *Proxy) CloseConns() { p.front.CloseClientConnections() }

// Streams returns how many Hrana streams the server's answers have left open, now
// and at most. Only pipelines in JSON are looked at, and a stream that times out
// stays counted until its baton is used.
func (p *Proxy) Streams() (open, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.batons), p.most
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	fault, delay := p.admit(r.Method, r.URL.Path)
	x := &Exchange{Path: r.URL.Path, proxy: p, w: w, r: r, body: body}
	if x.wait(delay) {
		fault(x)
	}
}

// admit counts a request and decides what is to happen to it.
func (p *Proxy) admit(method, path string) (Fault, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[path]++
	for _, prefix := range p.hidden {
		if strings.HasPrefix(path, prefix) {
			return Refuse(http.StatusNotFound, ""), p.delay
		}
	}
	faults := &p.faults
	if method == http.MethodGet {
		faults = &p.pings
	}
	if len(*faults) == 0 {
		return p.always, p.delay
	}
	fault := (*faults)[0]
	*faults = (*faults)[1:]
	return fault, p.delay
}

// noteStream notes which stream an exchange has left open. The baton of a stream
// changes with every answer.
func (p *Proxy) noteStream(request, answer []byte, encoding string) {
	var plain io.Reader = bytes.NewReader(answer)
	if encoding == "gzip" {
		unzip, err := gzip.NewReader(plain)
		if err != nil {
			return // the client will find out
		}
		plain = unzip
	}
	var before, after struct{ Baton string }
	if json.Unmarshal(request, &before) != nil || json.NewDecoder(plain).Decode(&after) != nil {
		return // not JSON
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.batons, before.Baton)
	if after.Baton != "" {
		p.batons[after.Baton] = struct{}{}
	}
	p.most = max(p.most, len(p.batons))
}

// Body returns the body of the request.
func (x *Exchange) Body() []byte { return x.body }

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
	if err == nil {
		x.proxy.noteStream(x.body, body, resp.Header.Get("Content-Encoding"))
	}
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

// flush sends what was written so far.
func (x *Exchange) flush() {
	_ = http.NewResponseController(x.w).Flush() // an error means that the client is gone
}

// wait reports whether the client is still there after d.
func (x *Exchange) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-x.r.Context().Done():
		return false
	}
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

// CutAnswerAfter lets the server run the request; the client gets the status
// line, the headers and n bytes of the body, at most 64 KiB, before its connection
// is reset. An answer with no more than n bytes is complete by then.
func CutAnswerAfter(n int) Fault {
	return func(x *Exchange) {
		if status, header, body, err := x.Forward(); err == nil {
			x.Answer(status, header, body[:min(n, len(body))])
			x.flush()
		}
		x.Reset()
	}
}

// GoAway passes the exchange and closes the connection behind the answer, which
// says so in a header.
func GoAway(x *Exchange) {
	status, header, body, err := x.Forward()
	if err != nil {
		x.Reset()
		return
	}
	header.Set("Connection", "close")
	x.Answer(status, header, body)
}

// SlowDrip passes the exchange, the headers of the answer at once and its body in
// 8 pieces over d.
func SlowDrip(d time.Duration) Fault {
	const pieces = 8
	return func(x *Exchange) {
		status, header, body, err := x.Forward()
		if err != nil {
			x.Reset()
			return
		}
		x.Answer(status, header, nil)
		for i := range pieces {
			x.flush()
			if !x.wait(d / pieces) {
				return
			}
			_, _ = x.w.Write(body[len(body)*i/pieces : len(body)*(i+1)/pieces]) // as in Answer
		}
	}
}

// Share makes f happen to percent of the requests, chosen at random but alike
// for the same seed, and passes the others.
func Share(percent int, seed uint64, f Fault) Fault {
	var mu sync.Mutex // guards random
	random := rand.New(rand.NewPCG(seed, 0))
	return func(x *Exchange) {
		mu.Lock()
		chosen := random.IntN(100) < percent
		mu.Unlock()
		if chosen {
			f(x)
		} else {
			Pass(x)
		}
	}
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
