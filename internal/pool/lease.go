package pool

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Lease is the right to use one connection until Release. Its methods may be
// called concurrently.
type Lease[C comparable] struct {
	conn   C
	handle atomic.Pointer[handle[C]] // nil after Release
}

// Conn returns the connection. It must not be used after Release, nor after the
// last reference to the lease is gone: the pool then closes it.
func (l *Lease[C]) Conn() C { return l.conn }

// Release gives the connection back. An err that is not nil marks it as broken:
// it is closed and never lent again. Unless err is context.Canceled or ErrSilent
// itself, the server or the network is blamed: two such within a second are taken
// for a network reset. If err wraps ErrSilent, no connection is lent any more,
// before it has answered a ping, that has not been heard of since this lease
// began. Only the first call of Release or GiveBack does anything.
func (l *Lease[C]) Release(err error) {
	if h := l.handle.Swap(nil); h != nil {
		h.pool.release(h, err)
	}
}

// GiveBack gives the connection back unused: nothing was learned of its health.
// Only the first call of GiveBack or Release does anything.
func (l *Lease[C]) GiveBack() {
	if h := l.handle.Swap(nil); h != nil {
		h.pool.giveBack(h)
	}
}

func newLease[C comparable](h *handle[C]) *Lease[C] {
	l := &Lease[C]{conn: h.conn.c}
	l.handle.Store(h)
	return l
}

// handle is the one key to a connection. While the connection is lent only its
// Lease refers to the handle, so the garbage collector finds a dropped lease,
// at no cost for those that are released.
type handle[C comparable] struct {
	pool *Pool[C]
	conn *conn[C]
}

// connState says who holds a connection.
type connState uint8

const (
	stateMoving connState = iota // whoever holds the pool's lock, between two of the others
	stateIdle                    // in Pool.idle
	stateAway                    // a goroutine of the pool pings it
	stateLent                    // a lease, or a grant on its way to one
	stateClosed                  // nobody; the pool does not count it any more
)

// conn is what the pool knows about a connection. The pool's lock guards it,
// but for the fields that never change and the atomic ones.
type conn[C comparable] struct {
	c      C
	died   atomic.Bool // it said so
	leaked atomic.Bool // its lease was dropped

	state     connState
	handle    *handle[C]    // nil while it is lent
	opened    time.Duration // when it was dialled
	expires   time.Duration // it is not lent from then on
	refreshAt time.Duration // a replacement is dialled from then on, before it expires
	replaced  bool          // the replacement is here: it is closed on return
	proof     time.Duration // the last time it proved to be alive
	used      time.Duration // the last time it was of use to a caller, or was dialled
	silence   time.Duration // how long it may be silent before it is pinged
	gen       uint64        // Pool.gen when it last proved to be alive
	stale     bool          // already counted in Stats.Stale
	since     time.Duration // when its state began
	cut       func()        // away: ends the ping
	rested    bool          // since its last lease or dial it was idle
}

func newConn[C comparable](p *Pool[C], c C) *conn[C] {
	n := &conn[C]{c: c}
	n.handle = &handle[C]{pool: p, conn: n}
	runtime.AddCleanup(n.handle, p.handleGone, n)
	return n
}

// handleGone runs on a goroutine of the runtime when the last reference to the
// handle of c is gone. It leaves word only, so as not to keep that goroutine.
func (p *Pool[C]) handleGone(c *conn[C]) {
	p.mu.Lock()
	lost := c.state == stateLent // and not closed in the ordinary way
	p.mu.Unlock()
	if lost {
		c.leaked.Store(true)
		p.poke()
	}
}
