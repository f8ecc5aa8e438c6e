package hranatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"
)

// Link is a TCP relay to a server that makes delays and faults below HTTP. It
// knows no protocol: to it a request is what a client sends until the server
// sends something, and an answer what the server sends until the client does.
// That is true of HTTP/1.1; each flight of a TLS handshake counts as one too.
//
// Its methods may be called concurrently, also while connections are in use. A
// client whose server cannot be reached is accepted and then reset.
type Link struct {
	scheme string
	to     string // host:port
	port   *port  // its own
	ctx    context.Context
	cancel context.CancelFunc // ends dials
	owned  sync.WaitGroup     // one that accepts, and one for each connection

	// mu guards the fields below and those of the connections. Nothing that waits
	// for the network is done with it held.
	mu         sync.Mutex
	listener   net.Listener           // nil while connections are refused
	conns      map[*linkConn]struct{} // with one side open at least
	closed     bool
	rtt        time.Duration
	loss       float64
	idle       time.Duration
	blackhole  bool
	cutRequest []int // bytes, one for each request to come
	cutAnswer  []int
	counts     LinkCounts
}

// LinkCounts is what happened on a link so far. Accepted is the sum of Open and
// the three ways to be closed; the side that closed first counts.
type LinkCounts struct {
	Accepted       int // connections
	Open           int // now
	MostOpen       int // at once so far
	ClosedByClient int
	ClosedByServer int   // or it could not be reached
	ClosedByLink   int   // by a fault or by Close
	Requests       int   // begun by clients, the connections' pings among them
	BytesUp        int64 // passed on to the server
	BytesDown      int64 // passed on to the client
}

const (
	linkBuffer = 64 << 10 // bytes, the largest chunk
	// While connections are refused another program may get the port, if not by chance.
	portTimeout = 10 * time.Second
	portRetry   = 10 * time.Millisecond
	// retransmission is the least time that Linux waits before it sends a lost packet again.
	retransmission = 200 * time.Millisecond
)

// NewLink starts a link on a free port to a server, a URL with a port or
// host:port. The caller ends it with Close.
func NewLink(to string) (*Link, error) {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" { // host:port looks like a malformed URL or one without a host
		u, err = url.Parse("http://" + to)
	}
	if err != nil || u.Port() == "" {
		return nil, errors.New("link: server is neither a URL with a port nor host:port")
	}
	own, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("link to %s: %w", u.Host, err)
	}
	l := &Link{scheme: u.Scheme, to: u.Host, port: own, conns: map[*linkConn]struct{}{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.listen(); err != nil {
		l.cancel()
		own.release()
		return nil, fmt.Errorf("link to %s: %w", l.to, err)
	}
	return l, nil
}

// URL returns the link's address with the scheme of the server's, http if it had
// none: TLS passes untouched.
func (l *Link) URL() string { return l.scheme + "://" + l.port.addr }

// Close closes all connections and waits until nothing of the link runs any
// more.
func (l *Link) Close() {
	l.mu.Lock()
	l.closed = true
	l.unlisten()
	for c := range l.conns {
		c.close(&l.counts.ClosedByLink, false)
	}
	l.mu.Unlock()
	l.cancel()
	l.owned.Wait()
	l.port.release()
}

// Counts returns what happened so far.
func (l *Link) Counts() LinkCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// SetRTT makes every chunk of bytes that comes in from now on arrive d/2 later,
// however many are on their way, and the first one of a client one d later still:
// the TCP handshake, which is over before a relay sees it. 0, the default, is no
// delay. Timers make it up to about 1 ms more in each direction.
func (l *Link) SetRTT(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rtt = d
}

// SetLoss makes a network that loses a part of the packets, 0.1 is every tenth: so many of
// the chunks that come in from now on, at random, arrive 200 ms later, with all that is
// behind them, as TCP would have it. 0, the default, loses none.
func (l *Link) SetLoss(part float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loss = part
}

// Blackhole switches a network on and off in which everything is lost in both
// directions, FIN and RST included. Connections are accepted, and those that
// were there while it was on stay silent for ever.
func (l *Link) Blackhole(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blackhole = on
	if on {
		for c := range l.conns {
			c.dead = true
		}
	}
}

// Refuse switches on and off that new connections are refused; those that exist
// go on. It panics if another program takes the port meanwhile and keeps it for
// 10 s.
func (l *Link) Refuse(on bool) {
	giveUp := time.Now().Add(portTimeout)
	for {
		l.mu.Lock()
		var err error
		if on {
			l.unlisten()
		} else {
			err = l.listen()
		}
		l.mu.Unlock()
		if err == nil {
			return
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(giveUp) {
			panic(err)
		}
		time.Sleep(portRetry)
	}
}

// ResetAll resets all clients' connections, those in a black hole too.
func (l *Link) ResetAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.close(&l.counts.ClosedByLink, true)
	}
}

// CloseIdle closes all connections on which nothing is unanswered, as a server
// does: orderly and without a word. A pause within an answer looks like its end.
// It leaves those in a black hole alone.
func (l *Link) CloseIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if !c.dead && c.turn != up && c.held == 0 {
			c.close(&l.counts.ClosedByLink, false)
		}
	}
}

// IdleClose closes every connection in an orderly way once no byte has come from
// either side for d, whether or not something is unanswered. 0, the default, is
// never. It leaves those in a black hole alone.
func (l *Link) IdleClose(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = d
	for c := range l.conns {
		_ = c.client.SetReadDeadline(time.Now()) // its pump sets the right one; closed is as good
	}
}

// CutRequest orders that of the next request to begin, on any connection, only k
// bytes reach the server; the client is then reset. Further calls are for the
// requests after that. A request with fewer than k bytes passes, and k is spent.
func (l *Link) CutRequest(k int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutRequest = append(l.cutRequest, k)
}

// CutAnswer is CutRequest for answers: the client gets k bytes and is reset, with
// 0 at the first byte of the answer. More than 64 KiB may not all reach it.
func (l *Link) CutAnswer(k int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutAnswer = append(l.cutAnswer, k)
}

// listen accepts connections if none are accepted yet. l.mu is held, or nobody
// else knows l.
func (l *Link) listen() error {
	if l.closed || l.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", l.port.addr)
	if err != nil {
		return err
	}
	l.listener = listener
	l.owned.Go(func() { l.accept(listener) })
	return nil
}

// unlisten is the opposite of listen. l.mu is held.
func (l *Link) unlisten() {
	if l.listener != nil {
		l.listener.Close()
		l.listener = nil
	}
}

func (l *Link) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			panic(err) // no more file descriptors: a fault nobody ordered
		}
		l.mu.Lock()
		if l.closed {
			client.Close()
		} else {
			c := &linkConn{link: l, client: client.(*net.TCPConn), gone: make(chan struct{}), dead: l.blackhole, last: time.Now()}
			l.conns[c] = struct{}{}
			l.counts.Accepted++
			l.counts.Open++
			l.counts.MostOpen = max(l.counts.MostOpen, l.counts.Open)
			l.owned.Go(c.serve)
		}
		l.mu.Unlock()
	}
}

// way is a direction.
type way int

const (
	up   way = iota + 1 // from the client to the server
	down                // from the server to the client
)

// chunk is something on its way.
type chunk struct {
	due  time.Time
	data []byte
	end  error // nothing more will come, io.EOF if in an orderly way; data is nil
}

// linkConn is a client's connection and the one to the server that goes with it.
type linkConn struct {
	link   *Link
	client *net.TCPConn
	gone   chan struct{} // closed when both sides are

	// guarded by link.mu
	server  *net.TCPConn // nil until dialled
	dead    bool         // in a black hole
	counted bool         // as closed
	shut    bool         // both sides are closed
	greeted bool         // something came from the client
	turn    way          // of the last chunk passed, at first none
	left    int          // bytes of this turn to pass before the cut; negative is all
	held    int          // chunks that came in and are not passed yet
	last    time.Time    // when something came in, at first the client
}

// serve ends when both directions have.
func (c *linkConn) serve() {
	var pumps sync.WaitGroup
	server := c.dial()
	if server != nil {
		pumps.Go(func() { c.pump(down, server, c.client) })
	}
	c.pump(up, c.client, server)
	pumps.Wait()

	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.shutBoth(false)
	delete(c.link.conns, c)
}

// dial connects to the server. It returns nil if the connection is in a black
// hole or closed by then.
func (c *linkConn) dial() *net.TCPConn {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.dead {
		return nil
	}
	l.mu.Unlock()
	server, err := new(net.Dialer).DialContext(l.ctx, "tcp", l.to)
	l.mu.Lock()
	switch {
	case err == nil && c.shut:
		server.Close()
	case err == nil:
		c.server = server.(*net.TCPConn)
	case !c.dead:
		c.close(&l.counts.ClosedByServer, true)
	}
	return c.server
}

// pump passes on what comes in one direction, each chunk when it is due.
func (c *linkConn) pump(w way, from, to *net.TCPConn) {
	var held []chunk
	buf := make([]byte, linkBuffer)
	for ended := false; ; {
		for len(held) > 0 && !held[0].due.After(time.Now()) {
			if !c.pass(w, to, held[0]) {
				return
			}
			held = held[1:]
		}
		var due time.Time
		if len(held) > 0 {
			due = held[0].due
		}
		if ended {
			select {
			case <-time.After(time.Until(due)):
				continue
			case <-c.gone:
				return
			}
		}
		c.arm(w, from, due)
		n, err := from.Read(buf)
		if n > 0 {
			held = append(held, c.take(w, buf[:n], nil))
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			held = append(held, c.take(w, nil, err))
			ended = true
		}
	}
}

// arm makes a read end when a held chunk is due (zero is none), or the
// connection has been idle for too long. One that has been is closed.
func (c *linkConn) arm(w way, from *net.TCPConn, due time.Time) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if w == up && l.idle > 0 && !c.dead {
		end := c.last.Add(l.idle)
		if !end.After(time.Now()) {
			c.close(&l.counts.ClosedByLink, false)
		}
		if due.IsZero() || end.Before(due) {
			due = end
		}
	}
	_ = from.SetReadDeadline(due) // fails if it is closed, as does the read
}

// take notes what came in and decides when it is due.
func (c *linkConn) take(w way, data []byte, end error) chunk {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	c.held++
	c.last = time.Now()
	due := c.last.Add(l.rtt / 2)
	if w == up && !c.greeted {
		c.greeted = true
		due = due.Add(l.rtt)
	}
	if rand.Float64() < l.loss {
		due = due.Add(retransmission)
	}
	return chunk{due, bytes.Clone(data), end}
}

// pass passes on a chunk that is due, and reports whether more may follow.
func (c *linkConn) pass(w way, to *net.TCPConn, x chunk) bool {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	// All is noted before the write: who gets the bytes may look at it at once.
	c.held--
	switch {
	case c.shut:
		return false
	case x.end != nil:
		c.end(w, to, x.end)
		return false
	case c.dead:
		return true
	}
	shots, passed, reader := &l.cutRequest, &l.counts.BytesUp, &l.counts.ClosedByServer
	if w == down {
		shots, passed, reader = &l.cutAnswer, &l.counts.BytesDown, &l.counts.ClosedByClient
	}
	if c.turn != w {
		c.turn, c.left = w, -1
		if w == up {
			l.counts.Requests++
		}
		if len(*shots) > 0 {
			c.left = (*shots)[0]
			*shots = (*shots)[1:]
		}
	}
	data, cut := x.data, false
	if c.left >= 0 {
		data = data[:min(len(data), c.left)]
		c.left -= len(data)
		cut = c.left == 0
	}
	*passed += int64(len(data))
	l.mu.Unlock()
	n, err := to.Write(data)
	l.mu.Lock()
	*passed -= int64(len(data) - n)
	switch {
	case cut:
		c.close(&l.counts.ClosedByLink, true)
	case err != nil:
		c.count(reader) // the other direction finds out how it ended
	}
	return !cut && err == nil
}

// end passes on that the sender of a direction has ended. link.mu is held.
func (c *linkConn) end(w way, to *net.TCPConn, err error) {
	sender := &c.link.counts.ClosedByClient
	if w == down {
		sender = &c.link.counts.ClosedByServer
	}
	switch {
	case c.dead && w == down: // the client must not know
	case c.dead || !errors.Is(err, io.EOF):
		c.close(sender, w == down)
	default:
		c.count(sender)
		_ = to.CloseWrite() // fails if the other side is gone too
	}
}

// close closes both sides, the client's with RST or FIN. link.mu is held.
func (c *linkConn) close(by *int, reset bool) {
	c.count(by)
	c.shutBoth(reset)
}

func (c *linkConn) count(by *int) {
	if !c.counted {
		c.counted = true
		c.link.counts.Open--
		*by++
	}
}

func (c *linkConn) shutBoth(reset bool) {
	if c.shut {
		return
	}
	c.shut = true
	close(c.gone)
	if reset {
		_ = c.client.SetLinger(0) // Close then sends RST instead of FIN
	}
	c.client.Close()
	if c.server != nil {
		c.server.Close()
	}
}
