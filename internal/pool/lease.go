package pool

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Lease is exclusive use of one connection until Release. Its methods are safe for
// concurrent use.
type Lease[C comparable] struct {
	conn   C
	handle atomic.Pointer[handle[C]] // nil after Release
}

// Conn returns the connection. It must not be used after Release, nor after the
// lease has become unreachable: the pool then closes it.
func (l *Lease[C]) Conn() C { return l.conn }

// Release returns the connection to the pool. If err is not nil, the connection is
// closed instead. Unless err wraps context.Canceled or is ErrNoResponse itself, it
// counts as a connection failure: two within a second are a network reset. If err
// wraps ErrNoResponse, connections that were last alive before this lease began are
// validated before their next use. Only the first call of Release or ReleaseUnused
// has an effect.
func (l *Lease[C]) Release(err error) {
	if h := l.handle.Swap(nil); h != nil {
		h.pool.release(h, err)
	}
}

// ReleaseUnused returns a connection that was not used, so that its health and its
// last use are unchanged. Only the first call of ReleaseUnused or Release has an
// effect.
func (l *Lease[C]) ReleaseUnused() {
	if h := l.handle.Swap(nil); h != nil {
		h.pool.releaseUnused(h)
	}
}

// Discard returns a connection that was used without a failure and is not to be used
// again, because the peer closes it, or may. It is closed. Only the first call of
// Discard, Release or ReleaseUnused has an effect.
func (l *Lease[C]) Discard() {
	if h := l.handle.Swap(nil); h != nil {
		h.pool.discard(h)
	}
}

func newLease[C comparable](h *handle[C]) *Lease[C] {
	l := &Lease[C]{conn: h.conn.c}
	l.handle.Store(h)
	return l
}

// handle detects leaked leases. While a connection is acquired, only its Lease
// refers to the handle, so that a cleanup runs if the Lease becomes unreachable.
// Released leases cost nothing.
type handle[C comparable] struct {
	pool *Pool[C]
	conn *conn[C]
}

// connState is the state of a connection.
type connState uint8

const (
	stateInTransition connState = iota // between two other states, only while the pool's lock is held
	stateIdle                          // in Pool.idle
	statePinging                       // a goroutine of the pool is pinging it
	stateAcquired                      // held by a lease, or by a waitResult that becomes one
	stateClosed                        // removed from the pool
)

// conn is the pool's record of a connection. The pool's lock guards all fields but
// c and the atomic ones.
type conn[C comparable] struct {
	c      C
	died   atomic.Bool // ConnDied was called
	leaked atomic.Bool // its lease became unreachable without Release

	state      connState
	handle     *handle[C]    // nil while acquired
	opened     time.Duration // when it was dialled
	expires    time.Duration // when it becomes unusable
	refreshAt  time.Duration // from when on its replacement may be dialled, before expires
	replaced   bool          // its replacement is open: close it when released
	retired    bool          // Retire was called: close it when released
	lastAlive  time.Duration // last dial, successful use or successful ping
	lastUsed   time.Duration // last dial or successful use
	pingAfter  time.Duration // time since lastAlive after which it is pinged
	gen        uint64        // Pool.gen at lastAlive
	stale      bool          // already counted in Stats.Stale
	since      time.Duration // when state last changed
	cancelPing func()        // set while pinging
	wasIdle    bool          // idle since its last use or dial
}

func newConn[C comparable](p *Pool[C], c C) *conn[C] {
	n := &conn[C]{c: c}
	n.handle = &handle[C]{pool: p, conn: n}
	runtime.AddCleanup(n.handle, p.handleCollected, n)
	return n
}

// handleCollected runs on a goroutine of the runtime when the handle of c is
// unreachable. It leaves the work to run, so as not to block that goroutine.
func (p *Pool[C]) handleCollected(c *conn[C]) {
	p.mu.Lock()
	leaked := c.state == stateAcquired // otherwise c was closed by the pool
	p.mu.Unlock()
	if leaked {
		c.leaked.Store(true)
		p.signal()
	}
}
