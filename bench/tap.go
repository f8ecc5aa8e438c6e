package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// exchange is an HTTP request and its answer as they were on the socket, in
// bytes.
type exchange struct {
	address int // request line, Host and Authorization
	headers int // the request's others, and the empty line
	body    int
	status  int // status line and headers of the answer
	answer  int // its body, with what frames it
}

// traffic is a sum of exchanges.
type traffic struct {
	requests        int
	up, down, heads int64
}

func (t *traffic) add(all ...exchange) {
	for _, x := range all {
		t.requests++
		t.up += int64(x.address + x.headers + x.body)
		t.down += int64(x.status + x.answer)
		t.heads += int64(x.address + x.headers + x.status)
	}
}

func (t traffic) total() float64 { return float64(t.up + t.down) }

// tap is a TCP relay that keeps what passes.
type tap struct {
	to       string // host:port
	listener net.Listener
	pumps    sync.WaitGroup

	mu     sync.Mutex // guards the fields below and what the flows hold
	closed bool
	flows  []*flow
}

// flow is a connection and what passed on it that was not taken yet.
type flow struct {
	client, server *net.TCPConn
	up, down       []byte
}

func newTap(to string) (*tap, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	t := &tap{to: u.Host}
	if t.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	t.pumps.Go(t.accept)
	return t, nil
}

// url is that of the tap.
func (t *tap) url() string { return "http://" + t.listener.Addr().String() }

func (t *tap) accept() {
	for {
		client, err := t.listener.Accept()
		if err != nil {
			return // closed; of another error the clients tell
		}
		server, err := net.Dial("tcp", t.to)
		if err != nil {
			client.Close()
			continue
		}
		f := &flow{client: client.(*net.TCPConn), server: server.(*net.TCPConn)}
		t.mu.Lock()
		if t.closed {
			f.client.Close()
			f.server.Close()
		}
		t.flows = append(t.flows, f)
		t.mu.Unlock()
		t.pumps.Go(func() { t.pump(&f.up, f.client, f.server) })
		t.pumps.Go(func() { t.pump(&f.down, f.server, f.client) })
	}
}

// pump passes on what comes in one direction, once it is kept.
func (t *tap) pump(kept *[]byte, from, to *net.TCPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		t.mu.Lock()
		*kept = append(*kept, buf[:n]...)
		t.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				from.Close()
				return
			}
		}
		if err != nil {
			_ = to.CloseWrite() // fails if it is closed
			return
		}
	}
}

func (t *tap) close() {
	t.mu.Lock()
	t.closed = true
	t.listener.Close()
	for _, f := range t.flows {
		f.client.Close()
		f.server.Close()
	}
	t.mu.Unlock()
	t.pumps.Wait()
}

// take returns the exchanges that came to their end since it was last called.
func (t *tap) take() ([]exchange, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []exchange
	for _, f := range t.flows {
		for len(f.up) > 0 && len(f.down) > 0 {
			x, err := parseExchange(f.up, f.down)
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				break // it goes on
			}
			if err != nil {
				return nil, fmt.Errorf("read what passed: %w", err)
			}
			f.up, f.down = f.up[x.address+x.headers+x.body:], f.down[x.status+x.answer:]
			all = append(all, x)
		}
	}
	return all, nil
}

// parseExchange finds the parts of the first exchange.
func parseExchange(up, down []byte) (exchange, error) {
	var x exchange
	in := counted(up)
	req, err := http.ReadRequest(in.Reader)
	if err != nil {
		return x, err
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return x, err
	}
	head := headOf(up)
	x.body = in.read() - len(head)
	for i, line := range bytes.SplitAfter(head, []byte("\r\n")) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		if i == 0 || bytes.EqualFold(name, []byte("Host")) || bytes.EqualFold(name, []byte("Authorization")) {
			x.address += len(line)
		} else {
			x.headers += len(line)
		}
	}

	in = counted(down)
	resp, err := http.ReadResponse(in.Reader, req)
	if err != nil {
		return x, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return x, err
	}
	x.status = len(headOf(down))
	x.answer = in.read() - x.status
	return x, nil
}

// headOf is a message up to its empty line, which is there.
func headOf(message []byte) []byte {
	end := []byte("\r\n\r\n")
	return message[:bytes.Index(message, end)+len(end)]
}

// countedReader knows how much was read.
type countedReader struct {
	*bufio.Reader
	from *bytes.Reader
}

func counted(b []byte) countedReader {
	from := bytes.NewReader(b)
	return countedReader{bufio.NewReader(from), from}
}

func (r countedReader) read() int { return int(r.from.Size()) - r.from.Len() - r.Buffered() }

// line is what a client is connected to a server by: a link that counts, and a
// tap behind it, which knows of what.
type line struct {
	link *hranatest.Link
	tap  *tap
	all  traffic // taken so far
}

func newLine(server string) (*line, error) {
	t, err := newTap(server)
	if err != nil {
		return nil, err
	}
	link, err := hranatest.NewLink(t.url())
	if err != nil {
		t.close()
		return nil, err
	}
	return &line{link: link, tap: t}, nil
}

func (l *line) url() string { return l.link.URL() }

func (l *line) close() {
	l.link.Close()
	l.tap.close()
}

// take returns the exchanges that came to their end since it was last called.
func (l *line) take() ([]exchange, error) {
	list, err := l.tap.take()
	l.all.add(list...)
	return list, err
}

// sum returns all traffic so far. None must be under way: it is an error if the
// link counted other bytes.
func (l *line) sum() (traffic, error) {
	if _, err := l.take(); err != nil {
		return traffic{}, err
	}
	if c := l.link.Counts(); c.BytesUp != l.all.up || c.BytesDown != l.all.down {
		return l.all, fmt.Errorf("the link counted %d bytes up and %d down, the exchanges on it have %d and %d", c.BytesUp, c.BytesDown, l.all.up, l.all.down)
	}
	return l.all, nil
}

func (t traffic) minus(u traffic) traffic {
	return traffic{t.requests - u.requests, t.up - u.up, t.down - u.down, t.heads - u.heads}
}

func (t traffic) plus(u traffic) traffic {
	return traffic{t.requests + u.requests, t.up + u.up, t.down + u.down, t.heads + u.heads}
}
