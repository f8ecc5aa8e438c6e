package hranatest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLinkClosesIdle(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) == "wait" {
			close(arrived)
			<-goOn
		}
		_, _ = w.Write(body)
	}))
	defer server.Close()
	l := newLink(t, server.URL)
	idle, busy, held := dial(t, l), dial(t, l), dial(t, l)
	idle.send(request("hello"))
	idle.receive()
	busy.send(request("wait"))
	<-arrived
	l.SetRTT(2 * silence)
	held.send(request("hello"))
	for !l.holdsOne() {
		runtime.Gosched() // until the link has read it
	}

	l.CloseIdle()
	idle.wantEnd(io.EOF)
	close(goOn)
	if answer := busy.receive(); answer != "wait" {
		t.Errorf("answer is %q", answer)
	}
	if answer := held.receive(); answer != "hello" {
		t.Errorf("answer is %q", answer)
	}
	if c := l.Counts(); c.ClosedByLink != 1 || c.Open != 2 {
		t.Errorf("counted %+v", c)
	}
}

func (l *Link) holdsOne() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.held > 0 {
			return true
		}
	}
	return false
}

func TestLinkClosesAfterIdleTime(t *testing.T) {
	const idle = 250 * time.Millisecond
	l := newLink(t, echo(t).URL)
	c := dial(t, l)
	c.send(request("hello"))
	c.receive()
	l.IdleClose(idle)
	c.wantEnd(io.EOF) // it was idle when idleness was given an end

	c = dial(t, l)
	c.wantSilence()
	last := time.Now()
	c.send(request("hello"))
	c.receive()
	c.wantEnd(io.EOF)
	if quiet := time.Since(last); quiet < idle || quiet > 20*idle {
		t.Errorf("closed after %v, want %v", quiet, idle)
	}
	if c := l.Counts(); c.ClosedByLink != 2 || c.Open != 0 {
		t.Errorf("counted %+v", c)
	}

	l.IdleClose(0)
	c = dial(t, l)
	c.wantSilence()
	c.send(request("hello"))
	c.receive()
}

func TestLinkCutsRequests(t *testing.T) {
	bodies := make(chan int, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- len(body)
	}))
	defer server.Close()
	l := newLink(t, server.URL)
	text := request(strings.Repeat("x", 100))
	header := len(text) - 100
	for _, tt := range []struct{ passed, body int }{
		{0, -1},
		{header - 1, -1},
		{header, 0},
		{header + 40, 40},
		{header + 100, 100},
	} {
		l.CutRequest(tt.passed)
		before := l.Counts()
		c := dial(t, l)
		c.send(text)
		c.wantEnd(syscall.ECONNRESET)
		if tt.body >= 0 {
			if got := <-bodies; got != tt.body {
				t.Errorf("cut after %d: the server got %d bytes of the body, want %d", tt.passed, got, tt.body)
			}
		}
		after := l.Counts()
		if got := after.BytesUp - before.BytesUp; got != int64(tt.passed) || after.ClosedByLink != before.ClosedByLink+1 {
			t.Errorf("cut after %d: %d bytes passed, counted %+v", tt.passed, got, after)
		}
	}
}

func TestLinkCutsAnswers(t *testing.T) {
	bodies := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- string(body)
		_, _ = w.Write(bytes.Repeat([]byte{'y'}, 1<<20))
	}))
	defer server.Close()
	l := newLink(t, server.URL)
	cuts := []int{0, 1, 1000}
	for _, k := range cuts {
		l.CutAnswer(k)
	}
	large := strings.Repeat("x", 1<<20)
	for _, k := range cuts {
		c := dial(t, l)
		c.send(request(large))
		if n := c.wantEnd(syscall.ECONNRESET); n != k {
			t.Errorf("cut after %d: %d bytes", k, n)
		}
		if <-bodies != large {
			t.Errorf("cut after %d: the server got another request", k)
		}
	}
	if c := l.Counts(); c.BytesDown != 1001 || c.ClosedByLink != 3 {
		t.Errorf("counted %+v", c)
	}
}

func TestLinkCutIsSpentOnOneExchange(t *testing.T) {
	l := newLink(t, echo(t).URL)
	c := dial(t, l)
	l.CutRequest(1000)
	l.CutAnswer(1000)
	for _, body := range []string{"short", strings.Repeat("long", 1000)} {
		c.send(request(body))
		if answer := c.receive(); answer != body {
			t.Errorf("%d bytes gave %d bytes", len(body), len(answer))
		}
	}
	l.CutRequest(0)
	c.send(request("cut"))
	c.wantEnd(syscall.ECONNRESET)
	mustEcho(t, newClient(t), l.URL())
}
