package serve

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// work bounds what is carried out at once, and what it takes of the memory of this machine.
type work struct {
	wait     time.Duration
	requests chan struct{} // has one for each that is being carried out
	large    chan struct{} // has one for each whose body may be large
	listens  chan struct{} // has one for each that only waits for its end
}

const (
	// smallBody is how many bytes of a body any request may have. Those that are, or may be,
	// larger go through the server largeBodies at a time, from their first byte to their
	// answer: while it is decoded, a body takes its length several times.
	smallBody   = 32 << 10
	largeBodies = 2
)

func newWork(l Limits) *work {
	return &work{
		wait: l.Wait, requests: make(chan struct{}, l.Requests), large: make(chan struct{}, largeBodies),
		listens: make(chan struct{}, max(l.Connections/2, 1)),
	}
}

// body waits until the body of a request may be read; release says that it is not needed
// any more.
func (w *work) body(r *http.Request) (release func(), _ *problem) {
	if r.ContentLength >= 0 && r.ContentLength <= smallBody {
		return func() {}, nil
	}
	return w.take(r.Context(), w.large)
}

// begin waits until a request may be carried out; done says that it was.
func (w *work) begin(ctx context.Context, listens bool) (done func(), _ *problem) {
	if listens {
		return w.take(ctx, w.listens)
	}
	return w.take(ctx, w.requests)
}

func (w *work) take(ctx context.Context, places chan struct{}) (leave func(), _ *problem) {
	ctx, cancel := context.WithTimeout(ctx, w.wait)
	defer cancel()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, &problem{status: http.StatusServiceUnavailable, reason: "busy", text: "the server is busy; try again in a few seconds"}
	}
}

// limited is a listener with a bound on the connections that are open. Those that come when
// they are as many wait in the system's queue.
type limited struct {
	net.Listener
	places chan struct{} // has one for each that is open
	closed chan struct{}
	close  sync.Once
}

func newLimited(l net.Listener, most int) *limited {
	return &limited{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: conn, of: l}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	of    *limited
	close sync.Once
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.close.Do(func() { <-c.of.places })
	return err
}
