// Package pool keeps the connections to one server open and healthy, and adjusts
// their number to the load.
//
// The pool owns the connections. A caller acquires a Lease on one, has exclusive
// use of it, and releases it:
//
//	        dial ───────────────────────┐
//	                                    ├──> waiting caller, else idle <──> pinging
//	release ─────────────────────────────┘          │
//	   ^                                            v
//	   └─────────────── acquired <───────────── Acquire
//
// Callers that find no idle connection wait in one FIFO queue and take whichever
// comes first, a released connection or a new one. The pool owns the dials: a
// caller that stops waiting does not cancel a dial that others may need. Idle
// connections are reused last in, first out, so that surplus ones stay idle and can
// be closed. Only connections without recent traffic are pinged.
//
// All state changes happen under one lock. Events, and one goroutine that sleeps
// until the next deadline, call reconcile; dials, pings and closes run on their own
// goroutines. Close waits for all of them. One pure function, Decide, determines
// the number of connections.
//
// The pool knows no protocol: a Connector dials, pings and closes.
package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// ErrClosed is returned by calls on a closed pool, and by calls that Close interrupts.
var ErrClosed = errors.New("pool is closed")

// ErrNoResponse is passed to Lease.Release when nothing was received on the
// connection before the caller's deadline.
var ErrNoResponse = errors.New("no response in time")

// SaturatedError is returned by Acquire if Options.MaxWaiters callers are already
// waiting. Nothing was sent.
type SaturatedError struct {
	Open, InUse, Dialing, Waiting int
	OldestWait                    time.Duration
	LastDialError                 error // error of the last dial, nil if it succeeded
}

func (e *SaturatedError) Error() string {
	s := fmt.Sprintf("connection pool is saturated: %d callers waiting, the oldest for %v; %d connections open, %d in use, %d dials in flight",
		e.Waiting, e.OldestWait, e.Open, e.InUse, e.Dialing)
	if e.LastDialError != nil {
		s += "; last " + e.LastDialError.Error() // dial: ...
	}
	return s
}

// Unwrap returns the error of the last dial.
func (e *SaturatedError) Unwrap() error { return e.LastDialError }

// Connector dials, pings and closes the connections of a pool. All four functions
// are required.
type Connector[C comparable] struct {
	// Dial opens a connection. It must return soon after ctx is done. The context
	// belongs to the pool: it ends after 30 s or when the pool is closed.
	Dial func(ctx context.Context) (C, error)
	// Ping checks that the server answers on an idle connection. It must return
	// soon after ctx is done.
	Ping func(ctx context.Context, c C) error
	// Close closes a connection. It may be in use if Pool.Close stops waiting for
	// its lease. Close must not wait for the network. Its error
	// is ignored, because nothing more can be done with c.
	Close func(c C) error
	// Dead reports whether c is known to be unusable. It is called before c is
	// acquired and when it is released, with the pool's lock held: it must be fast
	// and must not call the pool. It must report true before ConnDied is called.
	Dead func(c C) bool
}

// Pool is a pool of connections of type C. Its methods are safe for concurrent
// use. A pool must be closed.
type Pool[C comparable] struct {
	// fixed at creation
	connector Connector[C]
	opts      Options
	epoch     time.Time
	ctx       context.Context // for dials and pings; cancelled by Close
	cancel    context.CancelFunc
	wake      chan struct{}  // capacity 1: makes run call reconcile
	owned     sync.WaitGroup // run, and all dials, pings and closes
	drained   chan struct{}  // closed when the pool is closed and no lease is held
	forced    chan struct{}  // closed when Close stops waiting for leases
	finished  chan struct{}  // closed when all goroutines of the pool have ended
	drainOnce sync.Once

	byConn sync.Map // C -> *conn[C] of open connections; lets ConnDied avoid the lock

	// mu guards everything below. It is never held during Dial, Ping or Close of the
	// connector, nor while waiting.
	mu      sync.Mutex
	rand    func() float64 // in [0, 1)
	conns   []*conn[C]     // open connections
	idle    []*conn[C]     // least recently used first
	waiters queue[C]
	load    load
	pinging int
	dialing int
	target  int    // released connections are closed while more than target are open
	gen     uint64 // number of network resets
	closed  bool
	started bool // Acquire or Warm was called
	asleep  bool // after IdleShutdown, until the next Acquire or Warm

	warmWaiters []chan error // callers of Warm; capacity 1 each

	serviceTime, dialTime, pingTime average

	// Points in time are durations since epoch on the monotonic clock.

	clockSkew          time.Duration // how far the wall clock is ahead of the monotonic clock
	staleBefore        time.Duration // connections last alive before this are validated before use
	lastLease          time.Duration // last Acquire or Release
	lastGrowth         time.Duration
	lastOverload       time.Duration
	lastOverloadShrink time.Duration // last overload passed to the sizing rule
	overload           bool          // an overload has not been passed to the sizing rule yet

	failedDials         uint64 // total
	consecutiveFailures int    // of dials
	lastDialError       error
	nextRefill          time.Duration // earliest next dial to reach MinConns
	nextDemandDial      time.Duration // earliest next dial for a waiting caller
	networkDown         bool          // since a network reset no dial, ping or lease has succeeded
	lastFailure         time.Duration // of a connection

	forceErr error // the context error that made Close stop waiting

	shrinkReason CloseReason   // why connections over target are closed
	refreshing   *conn[C]      // its replacement is being dialled
	ticking      bool          // nextTick is valid
	nextTick     time.Duration // when the current SizeTick ends
	recheckAt    time.Duration // when Decide must be called again
	nextDeadline time.Duration // when reconcile must be called again
	timerAt      time.Duration // when run's timer fires

	count      Stats                 // counters, and Peak; the other gauges are set by Stats
	events     [SizeEvents]SizeEvent // ring
	eventCount int
}

// Weight of the latest sample in each moving average. Dials and pings are rare, so
// theirs is larger.
const (
	serviceWeight = 1.0 / 16
	dialWeight    = 1.0 / 4
	pingWeight    = 1.0 / 4
)

// never, or -never, is later, or earlier, than any other point in time. Adding
// durations to it does not overflow.
const never = time.Duration(math.MaxInt64 / 4)

// New returns a pool that dials with connector, for the first time on the first
// Acquire or Warm. The error is an *OptionError, or says that connector lacks a
// function.
func New[C comparable](connector Connector[C], opts Options) (*Pool[C], error) {
	return newPool(connector, opts, rand.Float64)
}

func newPool[C comparable](connector Connector[C], opts Options, random func() float64) (*Pool[C], error) {
	if connector.Dial == nil || connector.Ping == nil || connector.Close == nil || connector.Dead == nil {
		return nil, errors.New("pool connector lacks a function")
	}
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	p := &Pool[C]{
		connector: connector, opts: opts, rand: random, epoch: time.Now(),
		wake: make(chan struct{}, 1), drained: make(chan struct{}), forced: make(chan struct{}), finished: make(chan struct{}),
		target: opts.MinConns, lastGrowth: -never, lastOverload: -never, lastOverloadShrink: -never, lastFailure: -never, staleBefore: -never,
		timerAt: never,
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.owned.Go(p.run)
	return p, nil
}

// Acquire returns a lease on a connection: an idle one, or the next one released or
// dialled once all earlier callers have been served. The lease must be released.
//
// The error is a *SaturatedError, ErrClosed, wraps ctx's error, or wraps the error
// of a dial that failed while the caller waited and no other connection was open or
// being dialled. Nothing was sent in any of these cases.
func (p *Pool[C]) Acquire(ctx context.Context) (*Lease[C], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	now := p.clock()
	p.count.Calls++
	if p.closed {
		p.count.PoolClosed++
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if p.waiters.len == 0 && !p.asleep {
		if c := p.takeUsable(now); c != nil {
			h := p.markAcquired(c, now)
			p.mu.Unlock()
			return newLease(h), nil
		}
	}
	if p.waiters.len >= p.opts.MaxWaiters {
		p.count.QueueFull++
		err := &SaturatedError{
			Open: p.load.open, InUse: p.load.inUse, Dialing: p.dialing, Waiting: p.waiters.len,
			OldestWait: p.waiters.oldest(now), LastDialError: p.lastDialError,
		}
		p.mu.Unlock()
		return nil, err
	}
	w := &waiter[C]{ctx: ctx, since: now, ready: make(chan waitResult[C], 1), failedDials: p.failedDials}
	p.waiters.push(w)
	p.count.Waits++
	p.start(now)
	p.reconcile(now)
	p.mu.Unlock()

	select {
	case g := <-w.ready:
		return p.takeResult(ctx, g)
	case <-ctx.Done():
	}
	p.mu.Lock()
	if !w.queued {
		p.mu.Unlock()
		return p.takeResult(ctx, <-w.ready)
	}
	now = p.clock()
	p.waiters.remove(w)
	p.count.countFailedWait(ctx.Err(), now-w.since)
	dialErr := p.lastDialError
	p.mu.Unlock()
	if dialErr != nil {
		return nil, fmt.Errorf("wait for a connection: %w (%w)", ctx.Err(), dialErr)
	}
	return nil, fmt.Errorf("wait for a connection: %w", ctx.Err())
}

// TryAcquire returns a lease on an idle connection, or nil if none is usable now or
// callers are waiting.
func (p *Pool[C]) TryAcquire() *Lease[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.asleep || p.waiters.len > 0 {
		return nil
	}
	now := p.clock()
	c := p.takeUsable(now)
	if c == nil {
		return nil
	}
	p.count.Calls++
	return newLease(p.markAcquired(c, now))
}

// takeResult ends a caller's wait with its result. If ctx has just ended, the
// connection goes to the next waiter.
func (p *Pool[C]) takeResult(ctx context.Context, g waitResult[C]) (*Lease[C], error) {
	if g.err != nil {
		return nil, g.err
	}
	if err := ctx.Err(); err != nil {
		p.releaseUnused(g.h)
		return nil, fmt.Errorf("wait for a connection: %w", err)
	}
	return newLease(g.h), nil
}

// takeBack takes the connection of a lease, and counts that. It reports false if the
// connection was force-closed.
func (p *Pool[C]) takeBack(h *handle[C], count *uint64) (c *conn[C], now time.Duration, ok bool) {
	if c = h.conn; c.state != stateAcquired {
		return nil, 0, false
	}
	now = p.clock()
	p.load.advance(now)
	p.load.inUse--
	*count++
	c.state, c.handle = stateInTransition, h
	return c, now, true
}

func (p *Pool[C]) releaseUnused(h *handle[C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, now, ok := p.takeBack(h, &p.count.ReleasedUnused)
	if !ok {
		return
	}
	p.putBack(c, now)
	p.reconcile(now)
}

func (p *Pool[C]) release(h *handle[C], err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, now, ok := p.takeBack(h, &p.count.Returned)
	if !ok {
		return
	}
	if err != nil {
		if errors.Is(err, ErrNoResponse) {
			p.staleBefore = max(p.staleBefore, c.since)
		}
		why := ClosedBroken
		if errors.Is(err, context.Canceled) {
			why = ClosedAbandoned
		}
		p.destroy(c, why)
		if !errors.Is(err, context.Canceled) && err != ErrNoResponse { // those are the caller's doing
			if c.wasIdle {
				p.count.FirstUseFailures++
			}
			p.connFailed(now)
		}
		p.reconcile(now)
		return
	}
	wasDown := p.networkDown
	p.used(c, now)
	if p.waiters.len == 0 && p.usable(c, now) && !p.overTarget() && !p.closed && !wasDown {
		p.pushIdle(c, now) // the common case needs no reconcile
		return
	}
	p.putBack(c, now)
	p.reconcile(now)
}

// used records a use of c that ended well.
func (p *Pool[C]) used(c *conn[C], now time.Duration) {
	p.serviceTime.add(now-c.since, serviceWeight)
	p.lastLease = now
	c.lastAlive, c.lastUsed, c.gen, c.wasIdle = now, now, p.gen, false
	p.networkDown = false
}

func (p *Pool[C]) discard(h *handle[C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, now, ok := p.takeBack(h, &p.count.Returned)
	if !ok {
		return
	}
	p.used(c, now)
	p.destroy(c, ClosedDiscarded)
	p.replace(now)
	p.reconcile(now)
}

// markAcquired moves c from in transition to acquired.
func (p *Pool[C]) markAcquired(c *conn[C], now time.Duration) *handle[C] {
	p.load.advance(now)
	p.load.inUse++
	p.count.Acquired++
	p.lastLease = now
	c.wasIdle = c.wasIdle || now > c.since
	c.state, c.since = stateAcquired, now
	h := c.handle
	c.handle = nil
	if !p.ticking {
		p.signal()
	}
	return h
}

// pushIdle adds c to the idle connections, ordered by lastUsed. A ping is not a use.
func (p *Pool[C]) pushIdle(c *conn[C], now time.Duration) {
	c.state, c.since = stateIdle, now
	p.idle = append(p.idle, c)
	for i := len(p.idle) - 1; i > 0 && p.idle[i-1].lastUsed > c.lastUsed; i-- {
		p.idle[i-1], p.idle[i] = p.idle[i], p.idle[i-1]
	}
}

// takeUsable removes and returns the most recently used usable idle connection, or
// nil.
func (p *Pool[C]) takeUsable(now time.Duration) *conn[C] {
	for i := len(p.idle) - 1; i >= 0; i-- {
		if c := p.idle[i]; p.usable(c, now) {
			p.removeIdle(i)
			return c
		}
	}
	return nil
}

// takeIdle removes p.idle[i].
func (p *Pool[C]) removeIdle(i int) {
	copy(p.idle[i:], p.idle[i+1:])
	p.idle[len(p.idle)-1] = nil
	p.idle = p.idle[:len(p.idle)-1]
}

// usable reports whether c may be acquired without validation. If not, c is counted
// as stale, once.
func (p *Pool[C]) usable(c *conn[C], now time.Duration) bool {
	if p.isDead(c) {
		p.markStale(c, StaleDied)
	} else if c.retired {
		p.markStale(c, StaleRetired)
	} else if c.replaced || now >= c.expires {
		p.markStale(c, StaleMaxLifetime)
	} else if c.gen != p.gen {
		p.markStale(c, StaleNetworkReset)
	} else if now-c.lastAlive > p.opts.KeepAlive.StaleAfter || c.lastAlive < p.staleBefore {
		p.markStale(c, StaleIdle)
	} else {
		return true
	}
	return false
}

func (p *Pool[C]) isDead(c *conn[C]) bool { return c.died.Load() || p.connector.Dead(c.c) }

func (p *Pool[C]) markStale(c *conn[C], r StaleReason) {
	if !c.stale {
		c.stale = true
		p.count.Stale[r]++
		p.signal()
	}
}

func (p *Pool[C]) overTarget() bool { return p.load.open > p.target }

// ConnDied tells the pool that c is unusable. It takes no lock and may be called
// from any goroutine at any time, also for a connection unknown to the pool.
func (p *Pool[C]) ConnDied(c C) {
	if known, ok := p.byConn.Load(c); ok {
		known.(*conn[C]).died.Store(true)
		p.signal()
	}
}

// Doubt makes the pool validate, before their next use, the connections that were not
// alive within the last d, because another one has been silent for so long.
func (p *Pool[C]) Doubt(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	p.staleBefore = max(p.staleBefore, now-d)
	p.reconcile(now)
}

// Retire ends the use of the connections that which selects: those that work and lead to
// the wrong place. They are closed at once, or when they are released, and others are
// dialled as they are needed. It returns how many there were. which is called with the
// pool's lock held.
func (p *Pool[C]) Retire(which func(c C) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0
	}
	n, now := 0, p.clock()
	p.load.advance(now)
	for i := len(p.conns) - 1; i >= 0; i-- {
		c := p.conns[i]
		if c.retired || !which(c.c) {
			continue
		}
		n++
		c.retired = true
		p.markStale(c, StaleRetired)
		if c.state == stateIdle {
			p.destroy(c, ClosedRetired)
			p.replace(now)
		}
	}
	p.reconcile(now)
	return n
}

// Any reports whether which selects one of the open connections. which is called with
// the pool's lock held.
func (p *Pool[C]) Any(which func(c C) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.conns, func(c *conn[C]) bool { return !c.retired && which(c.c) })
}

// Overloaded tells the pool that the server refused a request because of overload
// (HTTP 429). The pool shrinks by 30 %, at most once a second and not below
// MinConns, and does not grow for 5 s.
func (p *Pool[C]) Overloaded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.count.Overloads++
	now := p.clock()
	p.lastOverload = now
	if now-p.lastOverloadShrink >= SizeTick { // several reports within a second are one overload
		p.lastOverloadShrink, p.overload = now, true
	}
	p.reconcile(now)
}

// Warm returns when MinConns connections are open. The first one is dialled alone.
// The error is ErrClosed, wraps ctx's error, or wraps the error of a failed dial;
// the pool continues to dial in the background.
func (p *Pool[C]) Warm(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	now := p.clock()
	p.start(now)
	p.removeDead(now) // dead connections do not count as open
	if p.load.open >= p.opts.MinConns {
		p.mu.Unlock()
		return nil
	}
	warm := make(chan error, 1)
	p.warmWaiters = append(p.warmWaiters, warm)
	p.reconcile(now)
	p.mu.Unlock()
	select {
	case err := <-warm:
		return err
	case <-ctx.Done(): // notifyWarm drops warm after the next dial
		return fmt.Errorf("warm connection pool: %w", ctx.Err())
	}
}

// start begins filling the pool, or wakes it from idle shutdown.
func (p *Pool[C]) start(now time.Duration) {
	p.started, p.asleep = true, false
	p.lastLease = now
	p.target = max(p.target, p.opts.MinConns)
}

// Close ends all current and future Acquires with ErrClosed and waits until all
// leases are released. If ctx ends first, it closes the connections still in use and
// returns an error that wraps ctx's. When Close returns, all goroutines of the pool
// have ended. Later calls wait for the same and return nil.
func (p *Pool[C]) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.awaitDrained(ctx)
		<-p.finished
		return nil
	}
	p.closed = true
	now := p.clock()
	for p.waiters.first != nil {
		p.count.PoolClosed++
		p.finishWait(p.waiters.first, now, waitResult[C]{err: ErrClosed})
	}
	for _, warm := range p.warmWaiters {
		warm <- ErrClosed
	}
	p.warmWaiters = nil
	p.load.advance(now)
	for _, c := range slices.Clone(p.conns) {
		if c.state != stateAcquired {
			p.destroy(c, ClosedPoolClosed)
		}
	}
	p.reconcile(now)
	p.mu.Unlock()
	p.cancel()

	p.awaitDrained(ctx)
	p.mu.Lock()
	p.load.advance(p.clock())
	forced := 0
	for len(p.conns) > 0 {
		c := p.conns[0]
		p.load.inUse--
		p.count.ForceClosed++
		p.destroy(c, ClosedForced)
		forced++
	}
	p.mu.Unlock()
	p.owned.Wait()
	close(p.finished)
	if forced > 0 {
		return fmt.Errorf("close connection pool with %d connections in use: %w", forced, p.forceErr)
	}
	return nil
}

// awaitDrained waits until no lease is held, or until the context of this or another
// call of Close ends.
func (p *Pool[C]) awaitDrained(ctx context.Context) {
	select {
	case <-p.drained:
		return
	case <-p.forced:
		return
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forceErr == nil {
		p.forceErr = ctx.Err()
		close(p.forced)
	}
}
