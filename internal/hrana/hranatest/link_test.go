package hranatest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// silence is how long nothing must happen to count as nothing.
const silence = 30 * time.Millisecond

func newLink(t *testing.T, to string) *Link {
	t.Helper()
	l, err := NewLink(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// echo is a server that answers with the body of the request.
func echo(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, _ = w.Write(body)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// newClient returns a client with connections of its own.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func post(client *http.Client, url, body string) (string, error) {
	resp, err := client.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

// mustEcho makes an exchange that must succeed.
func mustEcho(t *testing.T, client *http.Client, url string) {
	t.Helper()
	if answer, err := post(client, url, "hello"); err != nil || answer != "hello" {
		t.Fatalf("answer is %q, error %v", answer, err)
	}
}

// rawConn is a client's connection without a client that repeats requests or
// looks at an idle connection.
type rawConn struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, l *Link) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", l.port.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawConn{conn, t, bufio.NewReader(conn)}
}

func request(body string) string {
	return "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

func (c *rawConn) send(s string) {
	c.t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

// receive reads an answer and returns its body.
func (c *rawConn) receive() string {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}

// wantEnd reads to the end of the connection, which must be by err, and returns
// how many bytes there were.
func (c *rawConn) wantEnd(err error) int {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, got := io.Copy(io.Discard, c.r)
	if got == nil {
		got = io.EOF
	}
	if !errors.Is(got, err) {
		c.t.Errorf("connection ended with %v, want %v", got, err)
	}
	return int(n)
}

// wantSilence waits whether anything comes, the end of the connection included.
func (c *rawConn) wantSilence() {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(silence))
	if b, err := c.r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("got byte %d, error %v, want silence", b, err)
	}
	_ = c.SetReadDeadline(time.Time{})
}

func TestLinkPassesAndCounts(t *testing.T) {
	closed := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}
	server.Start()
	defer server.Close()
	l := newLink(t, server.URL)
	client := newClient(t)
	large := strings.Repeat("0123456789abcdef", 1<<16)
	for _, body := range []string{"", "x", large} {
		if answer, err := post(client, l.URL(), body); err != nil || answer != body {
			t.Fatalf("%d bytes gave %d bytes, error %v", len(body), len(answer), err)
		}
	}
	c := l.Counts()
	if c.BytesUp <= int64(len(large)) || c.BytesDown <= int64(len(large)) || c.BytesUp > int64(len(large)+1000) || c.BytesDown > int64(len(large)+1000) {
		t.Errorf("%d bytes up and %d down for %d each way and headers", c.BytesUp, c.BytesDown, len(large)+1)
	}
	if c.BytesUp, c.BytesDown = 0, 0; c != (LinkCounts{Accepted: 1, Open: 1, MostOpen: 1, Requests: 3}) {
		t.Errorf("counted %+v", c)
	}
	client.CloseIdleConnections()
	<-closed
	if c = l.Counts(); c.ClosedByClient != 1 || c.Open != 0 {
		t.Errorf("after the client closed: %+v", c)
	}
}

func TestLinkPassesTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	defer server.Close()
	l := newLink(t, server.URL)
	if !strings.HasPrefix(l.URL(), "https://127.0.0.1:") {
		t.Errorf("URL is %s", l.URL())
	}
	mustEcho(t, server.Client(), l.URL())
}

func TestLinkToABadAddressIsAnError(t *testing.T) {
	for _, to := range []string{"", "127.0.0.1", "http://127.0.0.1", "http://", "http://[::1"} {
		if l, err := NewLink(to); err == nil {
			l.Close()
			t.Errorf("no error for %q", to)
		}
	}
	server := echo(t)
	mustEcho(t, newClient(t), newLink(t, strings.TrimPrefix(server.URL, "http://")).URL())
}

func TestLinkResetsClientsOfAnUnreachableServer(t *testing.T) {
	server := echo(t)
	l := newLink(t, server.URL)
	server.Close()
	conn, err := net.Dial("tcp", l.port.addr)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) { // of the dial, if the link was quick
		t.Errorf("error is %v", err)
	}
	if c := l.Counts(); c != (LinkCounts{Accepted: 1, MostOpen: 1, ClosedByServer: 1}) {
		t.Errorf("counted %+v", c)
	}
}

func TestLinkPassesOnThatTheServerCloses(t *testing.T) {
	server := echo(t)
	l := newLink(t, server.URL)
	c := dial(t, l)
	c.send("POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
	if answer := c.receive(); answer != "hello" {
		t.Errorf("answer is %q", answer)
	}
	c.wantEnd(io.EOF)
	if c := l.Counts(); c.ClosedByServer != 1 || c.Open != 0 {
		t.Errorf("counted %+v", c)
	}
}

func TestLinkDelays(t *testing.T) {
	const rtt = 100 * time.Millisecond
	l := newLink(t, echo(t).URL)
	l.SetRTT(rtt)
	client := newClient(t)
	for _, tt := range []struct {
		name        string
		bytes       int // 64 chunks or more if large
		least, most time.Duration
	}{
		{"with a new connection", 5, 2 * rtt, 30 * rtt},
		{"on a connection", 5, rtt, 30 * rtt},
		{"of many chunks", 64 * linkBuffer, rtt, 30 * rtt},
	} {
		start := time.Now()
		answer, err := post(client, l.URL(), strings.Repeat("x", tt.bytes))
		took := time.Since(start)
		if err != nil || len(answer) != tt.bytes {
			t.Fatalf("exchange %s: %d bytes, error %v", tt.name, len(answer), err)
		}
		if took < tt.least || took > tt.most {
			t.Errorf("exchange %s took %v, want %v to %v", tt.name, took, tt.least, tt.most)
		}
	}
}

// What is lost comes 200 ms later, once, with all that is behind it, and in order.
func TestLinkLoss(t *testing.T) {
	l := newLink(t, echo(t).URL)
	client := newClient(t)
	mustEcho(t, client, l.URL())
	l.SetLoss(1)
	start := time.Now()
	text := strings.Repeat("0123456789", 50_000)
	answer, err := post(client, l.URL(), text)
	if err != nil || answer != text {
		t.Fatalf("%d bytes, error %v", len(answer), err)
	}
	if took := time.Since(start); took < 2*retransmission || took > 30*retransmission { // one way and the other
		t.Errorf("it took %v", took)
	}
	l.SetLoss(0)
	start = time.Now()
	mustEcho(t, client, l.URL())
	if took := time.Since(start); took >= retransmission {
		t.Errorf("without loss it took %v", took)
	}
}

func TestLinkBlackhole(t *testing.T) {
	server := echo(t)
	l := newLink(t, server.URL)
	before := dial(t, l)
	before.send(request("hello"))
	before.receive()
	passed := l.Counts()

	l.Blackhole(true)
	during := dial(t, l)
	during.send(request("hello"))
	before.send(request("hello"))
	before.wantSilence()
	during.wantSilence()
	server.CloseClientConnections()
	l.CloseIdle()
	l.IdleClose(time.Nanosecond)
	before.wantSilence()
	l.IdleClose(0)

	l.Blackhole(false)
	before.send(request("hello"))
	before.wantSilence()
	during.wantSilence()
	if c := l.Counts(); c.BytesUp != passed.BytesUp || c.BytesDown != passed.BytesDown || c.Open != 2 {
		t.Errorf("counted %+v, and %+v before the black hole", c, passed)
	}
	mustEcho(t, newClient(t), l.URL())

	l.ResetAll()
	before.wantEnd(syscall.ECONNRESET)
	during.wantEnd(syscall.ECONNRESET)
}

func TestLinkBlackholeSwallowsWhatIsOnItsWay(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-goOn
	}))
	defer server.Close()
	l := newLink(t, server.URL)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL(), nil)
		if err == nil {
			_, err = newClient(t).Do(req)
		}
		failed <- err
	}()
	<-arrived
	l.Blackhole(true)
	close(goOn)
	select {
	case err := <-failed:
		t.Fatalf("the request ended: %v", err)
	case <-time.After(silence):
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestLinkRefuses(t *testing.T) {
	l := newLink(t, echo(t).URL)
	before := dial(t, l)
	before.send(request("one"))
	before.receive()
	for range 3 {
		l.Refuse(true)
		l.Refuse(true)
		if conn, err := net.Dial("tcp", l.port.addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v, error %v", conn, err)
		}
		before.send(request("two"))
		if answer := before.receive(); answer != "two" {
			t.Errorf("answer is %q", answer)
		}
		l.Refuse(false)
		l.Refuse(false)
		mustEcho(t, newClient(t), l.URL())
	}
}

func TestLinkWaitsForItsPort(t *testing.T) {
	l := newLink(t, echo(t).URL)
	l.Refuse(true)
	other, err := net.Listen("tcp", l.port.addr)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		l.Refuse(false)
	}()
	select {
	case <-taken:
		t.Error("listens on a taken port")
	case <-time.After(silence):
	}
	other.Close()
	<-taken
	mustEcho(t, newClient(t), l.URL())
}

func TestLinkResetsAll(t *testing.T) {
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(arrived)
		<-r.Context().Done() // the connection to the server ends too
	}))
	defer server.Close()
	l := newLink(t, server.URL)
	fresh := dial(t, l)
	failed := make(chan error)
	go func() {
		_, err := post(newClient(t), l.URL(), "hello")
		failed <- err
	}()
	<-arrived
	l.ResetAll()
	if err := <-failed; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error is %v", err)
	}
	fresh.wantEnd(syscall.ECONNRESET)
	if c := l.Counts(); c.ClosedByLink != 2 || c.Open != 0 || c.Accepted != 2 {
		t.Errorf("counted %+v", c)
	}
}

func TestLinkCloses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		order func(*Link)
	}{
		{"in use", func(*Link) {}},
		{"with chunks on their way", func(l *Link) { l.SetRTT(time.Hour) }},
		{"in a black hole", func(l *Link) { l.Blackhole(true) }},
		{"refusing", func(l *Link) { l.Refuse(true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLink(t, echo(t).URL)
			c := dial(t, l)
			c.send(request("hello"))
			c.receive()
			tt.order(l)
			c.send(request("hello"))
			l.Close()
			l.Close()
			if got := l.Counts(); got.ClosedByLink != 1 || got.Open != 0 {
				t.Errorf("counted %+v", got)
			}
			if len(l.conns) != 0 {
				t.Error("a connection is still served")
			}
			l.Refuse(false)
			if conn, err := net.Dial("tcp", l.port.addr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial: %v, error %v", conn, err)
			}
		})
	}
}

func BenchmarkLink(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	l, err := NewLink(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for name, url := range map[string]string{"direct": server.URL, "link": l.URL()} {
		b.Run(name, func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for b.Loop() {
				if _, err := post(client, url, "hello"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
