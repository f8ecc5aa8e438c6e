package serve

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// work bounds what is carried out at once, and what it takes of the memory of this machine.
type work struct {
	wait     time.Duration
	requests chan struct{} // has one for each that is being carried out
	large    chan struct{} // has one while a large body is
	listens  chan struct{} // has one for each that only waits for its end
	bodies   *semaphore.Weighted
	spare    chan *bytes.Buffer // has the largest buffer while nobody reads a body into it
}

const (
	// smallBody is how many bytes of a body any request may have; allBodies bounds the sum of
	// larger ones, from their first byte to their answer.
	smallBody = 4 << 10
	allBodies = maxBody
	// largeBody is the length beyond which one is carried out at a time: what is decoded takes
	// its length several times.
	largeBody = 64 << 10
)

func newWork(l Limits) *work {
	return &work{
		wait: l.Wait, requests: make(chan struct{}, l.Requests), large: make(chan struct{}, 1),
		listens: make(chan struct{}, max(l.Connections/2, 1)), bodies: semaphore.NewWeighted(allBodies),
		spare: make(chan *bytes.Buffer, 1),
	}
}

// body waits until the body of a request may be read; release says that it is not needed
// any more.
func (w *work) body(r *http.Request) (release func(), _ *problem) {
	length := r.ContentLength
	if length < 0 { // it is not known
		length = maxBody
	}
	if length <= smallBody {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), w.wait)
	defer cancel()
	if w.bodies.Acquire(ctx, length) != nil {
		return nil, busy
	}
	return func() { w.bodies.Release(length) }, nil
}

// buffer returns a buffer for a body. Large ones would be garbage faster than it is collected, so
// that one is kept.
func (w *work) buffer() *bytes.Buffer {
	select {
	case b := <-w.spare:
		b.Reset()
		return b
	default:
		return new(bytes.Buffer)
	}
}

func (w *work) giveBack(b *bytes.Buffer) {
	select {
	case w.spare <- b:
	case other := <-w.spare:
		if other.Cap() > b.Cap() {
			b = other
		}
		select {
		case w.spare <- b:
		default: // somebody was faster
		}
	}
}

// begin waits until a request may be carried out whose body is so long; done says that it was.
func (w *work) begin(ctx context.Context, length int, listens bool) (done func(), _ *problem) {
	if listens {
		return w.take(ctx, w.listens)
	}
	if length <= largeBody {
		return w.take(ctx, w.requests)
	}
	leaveLarge, p := w.take(ctx, w.large)
	if p != nil {
		return nil, p
	}
	leave, p := w.take(ctx, w.requests)
	if p != nil {
		leaveLarge()
		return nil, p
	}
	return func() { leave(); leaveLarge() }, nil
}

var busy = &problem{status: http.StatusServiceUnavailable, reason: "busy", text: "the server is busy; try again in a few seconds"}

func (w *work) take(ctx context.Context, places chan struct{}) (leave func(), _ *problem) {
	ctx, cancel := context.WithTimeout(ctx, w.wait)
	defer cancel()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, busy
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
