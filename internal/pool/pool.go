// Package pool keeps connections to one server open, healthy and as many as the
// load needs.
//
// A connection belongs to the pool. A caller acquires a Lease on it, uses it
// alone and releases it:
//
//	        dial ──> away (first look) ─┐
//	                                    ├──> waiting caller, else idle <──> away (ping)
//	release ─────────────────────────────┘          │
//	   ^                                            v
//	   └───────────────── lent <─────────────── Acquire
//
// Callers who find nothing idle wait in one queue, first come first served, and
// take what comes first, a returned connection or a dialled one. Dials belong to
// the pool: a caller who gives up stops no dial that others may need. Idle
// connections are lent last in, first out, so that those too many grow cold and
// can be closed. Only silent connections are pinged, one at a time.
//
// All state changes happen under one lock. What is rare or takes a decision
// (settle) is asked for by events and by one goroutine that sleeps until the
// next deadline; dials, pings and closing run on goroutines of their own. Close
// waits for all of them. How many connections there are is decided by one pure
// function, Decide.
//
// The pool knows no protocol: it is given functions to dial, ping and close.
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

// ErrClosed says that the pool was closed before or during a call.
var ErrClosed = errors.New("pool is closed")

// ErrSilent is what a lease is released with when nothing came over the
// connection in the time that its user had.
var ErrSilent = errors.New("connection is silent")

// SaturatedError says that Acquire was refused because Options.MaxWaiters callers
// wait already. Nothing was sent.
type SaturatedError struct {
	Open, InUse, Dialing, Waiting int
	OldestWait                    time.Duration
	LastDialError                 error // of the last dial if it failed, else nil
}

func (e *SaturatedError) Error() string {
	s := fmt.Sprintf("connection pool is saturated: %d callers wait, the first for %v; %d connections, %d of them in use, %d dials under way",
		e.Waiting, e.OldestWait, e.Open, e.InUse, e.Dialing)
	if e.LastDialError != nil {
		s += "; last " + e.LastDialError.Error() // dial: ...
	}
	return s
}

// Unwrap returns the error of the last dial.
func (e *SaturatedError) Unwrap() error { return e.LastDialError }

// Connector is how a pool deals with connections. All four are required.
type Connector[C comparable] struct {
	// Dial opens a connection. It must return soon after ctx is done. The context
	// is the pool's: it ends after 30 s or when the pool is closed.
	Dial func(ctx context.Context) (C, error)
	// Ping asks an idle connection for a sign of life. It must return soon after
	// ctx is done.
	Ping func(ctx context.Context, c C) error
	// Close closes a connection, idle or, when a Close of the pool stops waiting,
	// lent. It must not wait for the network.
	Close func(c C) error
	// Dead reports that c can certainly not be used any more. It is asked before
	// c is lent and when it returns, with the pool's lock held: it must be quick
	// and must not call the pool. A connection that calls ConnDied must be dead
	// by then.
	Dead func(c C) bool
}

// Pool is a pool of connections of type C. Its methods may be called
// concurrently. It must be closed.
type Pool[C comparable] struct {
	// fixed at creation
	connector Connector[C]
	opts      Options
	epoch     time.Time
	ctx       context.Context // of dials and pings; ends with Close
	cancel    context.CancelFunc
	wake      chan struct{}  // capacity 1: run must look for something to do
	owned     sync.WaitGroup // run, and every dial, ping and close
	drained   chan struct{}  // closed when the pool is closed and no lease is out
	aborted   chan struct{}  // closed when Close does not wait for leases any longer
	finished  chan struct{}  // closed when nothing of the pool runs any more
	drainOnce sync.Once

	byConn sync.Map // C -> *conn[C], the open ones, for ConnDied, which takes no lock

	// mu guards everything below. Dial, Ping and Close of the connector are never
	// called with it held, nor is anything waited for.
	mu      sync.Mutex
	rand    func() float64 // 0 to 1
	conns   []*conn[C]     // the open ones
	idle    []*conn[C]     // the longest unused first
	waiters queue[C]
	load    load
	away    int
	dialing int
	target  int // connections over it are closed as they return
	gen     uint64
	closed  bool
	started bool // there was an Acquire or a Warm
	asleep  bool
	warmers []chan error // capacity 1 each

	service, dialTime, pingTime average

	skew       time.Duration // wall clock ahead of the monotonic clock, since epoch
	freshAfter time.Duration // proofs of life before that moment are worth nothing
	lastLease  time.Duration
	lastGrowth time.Duration
	lastOver   time.Duration // the last overload that lowered target
	lastSignal time.Duration // the last overload

	failedDials   uint64 // so far
	failedInARow  int
	lastDialError error         // of the last dial
	refillAt      time.Duration // no refill before that moment, and
	demandAt      time.Duration // no dial for a caller
	down          bool          // the network was reset and nothing has succeeded since
	lastFailure   time.Duration // of a connection

	abortErr error // why Close did not wait any longer

	surplusReason CloseReason   // of connections over target
	refreshing    *conn[C]      // its replacement is being dialled
	ticking       bool          // nextTick counts
	nextTick      time.Duration // when SizeTick is over
	recheckAt     time.Duration // when Decide wants to be asked again
	next, armed   time.Duration // when settle wants to be called again, when run will wake up

	count      Stats                 // of its gauges only Peak
	events     [SizeEvents]SizeEvent // ring
	eventCount int
}

// Weights of the latest sample in the averages. Dials and pings are rare.
const (
	serviceWeight = 1.0 / 16
	dialWeight    = 1.0 / 4
	pingWeight    = 1.0 / 4
)

// never is a moment that stays in the past or future of all others without
// overflowing when durations are added to it.
const never = time.Duration(math.MaxInt64 / 4)

// New returns a pool that opens its connections with connector. It dials nothing
// before the first Acquire or Warm. The error is an *OptionError.
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
		wake: make(chan struct{}, 1), drained: make(chan struct{}), aborted: make(chan struct{}), finished: make(chan struct{}),
		target: opts.MinConns, lastGrowth: -never, lastOver: -never, lastSignal: -never, lastFailure: -never, freshAfter: -never,
		armed: never,
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.owned.Go(p.run)
	return p, nil
}

// Acquire returns a lease on a connection: an idle one, or the next one that is
// returned or dialled when all callers who came before have got theirs. The
// lease must be released.
//
// The error is a *SaturatedError, ErrClosed, wraps ctx's error, or wraps the
// error of a dial that failed while the caller waited, if no other connection
// was left to wait for. In none of these cases was anything sent.
func (p *Pool[C]) Acquire(ctx context.Context) (*Lease[C], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	now := p.clock()
	p.count.Calls++
	if p.closed {
		p.count.Refused++
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if p.waiters.len == 0 && !p.asleep {
		if c := p.takeFit(now); c != nil {
			h := p.lend(c, now)
			p.mu.Unlock()
			return newLease(h), nil
		}
	}
	if p.waiters.len >= p.opts.MaxWaiters {
		p.count.Rejected++
		err := &SaturatedError{
			Open: p.load.open, InUse: p.load.inUse, Dialing: p.dialing, Waiting: p.waiters.len,
			OldestWait: p.waiters.oldest(now), LastDialError: p.lastDialError,
		}
		p.mu.Unlock()
		return nil, err
	}
	w := &waiter[C]{ctx: ctx, since: now, ready: make(chan grant[C], 1), failedDials: p.failedDials}
	p.waiters.push(w)
	p.count.Waits++
	p.start(now)
	p.settle(now, caused{arrival: true})
	p.mu.Unlock()

	select {
	case g := <-w.ready:
		return p.accept(ctx, g)
	case <-ctx.Done():
	}
	p.mu.Lock()
	if !w.queued {
		p.mu.Unlock()
		return p.accept(ctx, <-w.ready)
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

// TryAcquire returns a lease on an idle connection, or nil if there is none to
// lend at once or callers wait.
func (p *Pool[C]) TryAcquire() *Lease[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.asleep || p.waiters.len > 0 {
		return nil
	}
	now := p.clock()
	c := p.takeFit(now)
	if c == nil {
		return nil
	}
	p.count.Calls++
	return newLease(p.lend(c, now))
}

// accept takes what ended the wait of a caller. A caller whose context ended at
// the same moment gives the connection to the next one.
func (p *Pool[C]) accept(ctx context.Context, g grant[C]) (*Lease[C], error) {
	if g.err != nil {
		return nil, g.err
	}
	if err := ctx.Err(); err != nil {
		p.giveBack(g.h)
		return nil, fmt.Errorf("wait for a connection: %w", err)
	}
	return newLease(g.h), nil
}

func (p *Pool[C]) giveBack(h *handle[C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := h.conn
	if c.state != stateLent {
		return
	}
	now := p.clock()
	p.load.upTo(now)
	p.load.inUse--
	p.count.Abandoned++
	c.state, c.handle = stateMoving, h
	p.place(c, now)
	p.settle(now, caused{})
}

func (p *Pool[C]) release(h *handle[C], err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := h.conn
	if c.state != stateLent { // Close did not wait for it
		return
	}
	now := p.clock()
	p.load.upTo(now)
	p.load.inUse--
	p.count.Returned++
	c.state, c.handle = stateMoving, h
	if err != nil {
		if errors.Is(err, ErrSilent) {
			p.freshAfter = max(p.freshAfter, c.since)
		}
		p.retire(c, ClosedBroken)
		if !errors.Is(err, context.Canceled) && err != ErrSilent { // else its caller is to blame
			if c.rested {
				p.count.FirstUseFailures++
			}
			p.connFailed(now)
		}
		p.settle(now, caused{})
		return
	}
	p.service.add(now-c.since, serviceWeight)
	p.lastLease = now
	c.proof, c.used, c.gen, c.rested = now, now, p.gen, false
	wasDown := p.down
	p.down = false
	if p.waiters.len == 0 && p.fit(c, now) && !p.surplus() && !p.closed && !wasDown {
		p.push(c, now) // nothing to decide
		return
	}
	p.place(c, now)
	p.settle(now, caused{})
}

// lend gives c, which nobody holds, to a caller.
func (p *Pool[C]) lend(c *conn[C], now time.Duration) *handle[C] {
	p.load.upTo(now)
	p.load.inUse++
	p.count.Acquired++
	p.lastLease = now
	c.rested = c.rested || now > c.since
	c.state, c.since = stateLent, now
	h := c.handle
	c.handle = nil
	if !p.ticking {
		p.poke()
	}
	return h
}

// push puts c among the idle connections, in the order of their last use: a ping
// is none.
func (p *Pool[C]) push(c *conn[C], now time.Duration) {
	c.state, c.since = stateIdle, now
	p.idle = append(p.idle, c)
	for i := len(p.idle) - 1; i > 0 && p.idle[i-1].used > c.used; i-- {
		p.idle[i-1], p.idle[i] = p.idle[i], p.idle[i-1]
	}
}

// takeFit takes the idle connection that was used last and may be lent, or nil.
func (p *Pool[C]) takeFit(now time.Duration) *conn[C] {
	for i := len(p.idle) - 1; i >= 0; i-- {
		if c := p.idle[i]; p.fit(c, now) {
			p.takeIdle(i)
			return c
		}
	}
	return nil
}

// takeIdle removes p.idle[i].
func (p *Pool[C]) takeIdle(i int) {
	copy(p.idle[i:], p.idle[i+1:])
	p.idle[len(p.idle)-1] = nil
	p.idle = p.idle[:len(p.idle)-1]
}

// fit reports whether c may be lent as it is, and counts it once if not.
func (p *Pool[C]) fit(c *conn[C], now time.Duration) bool {
	if p.isDead(c) {
		p.noteStale(c, StaleDied)
	} else if c.replaced || now >= c.expires {
		p.noteStale(c, StaleAge)
	} else if c.gen != p.gen {
		p.noteStale(c, StaleGeneration)
	} else if now-c.proof > p.opts.KeepAlive.StaleAfter || c.proof < p.freshAfter {
		p.noteStale(c, StaleIdle)
	} else {
		return true
	}
	return false
}

func (p *Pool[C]) isDead(c *conn[C]) bool { return c.died.Load() || p.connector.Dead(c.c) }

func (p *Pool[C]) noteStale(c *conn[C], r StaleReason) {
	if !c.stale {
		c.stale = true
		p.count.Stale[r]++
		p.poke()
	}
}

func (p *Pool[C]) surplus() bool { return p.load.open > p.target }

// ConnDied says that c is of no use any more. It may be called from any
// goroutine at any time, also for a connection that the pool does not know, and
// waits for nothing: it takes no lock.
func (p *Pool[C]) ConnDied(c C) {
	if known, ok := p.byConn.Load(c); ok {
		known.(*conn[C]).died.Store(true)
		p.poke()
	}
}

// Overloaded says that the server refused something because it has too much to
// do. The pool gives up 30 % of its connections, at most once a second and not
// below MinConns, and does not grow for 5 s.
func (p *Pool[C]) Overloaded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.count.Overloads++
	now := p.clock()
	p.lastSignal = now
	// Callers who were refused together report one overload together.
	lower := now-p.lastOver >= SizeTick
	if lower {
		p.lastOver = now
	}
	p.settle(now, caused{overload: lower})
}

// Warm dials until MinConns connections are open, the first one alone, and returns
// when they are. The error is ErrClosed, wraps ctx's error, or wraps that of a
// dial that failed; the pool goes on dialling all the same.
func (p *Pool[C]) Warm(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	now := p.clock()
	p.start(now)
	if p.load.open >= p.opts.MinConns {
		p.mu.Unlock()
		return nil
	}
	warm := make(chan error, 1)
	p.warmers = append(p.warmers, warm)
	p.settle(now, caused{})
	p.mu.Unlock()
	select {
	case err := <-warm:
		return err
	case <-ctx.Done(): // warm is forgotten with the next dial
		return fmt.Errorf("warm connection pool: %w", ctx.Err())
	}
}

// start notes that the pool is needed.
func (p *Pool[C]) start(now time.Duration) {
	p.started, p.asleep = true, false
	p.lastLease = now
	p.target = max(p.target, p.opts.MinConns)
}

// Close refuses new callers, ends the waiting ones with ErrClosed, and waits for
// the leases until ctx is done; then it closes their connections under them and
// returns an error that wraps ctx's. When it returns nothing of the pool runs
// any more. Further calls wait for the same, and return nil.
func (p *Pool[C]) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.await(ctx)
		<-p.finished
		return nil
	}
	p.closed = true
	now := p.clock()
	for p.waiters.first != nil {
		p.count.Refused++
		p.endWait(p.waiters.first, now, grant[C]{err: ErrClosed})
	}
	for _, warm := range p.warmers {
		warm <- ErrClosed
	}
	p.warmers = nil
	p.load.upTo(now)
	for _, c := range slices.Clone(p.conns) {
		if c.state != stateLent {
			p.retire(c, ClosedPool)
		}
	}
	p.settle(now, caused{})
	p.mu.Unlock()
	p.cancel()

	p.await(ctx)
	p.mu.Lock()
	p.load.upTo(p.clock())
	aborted := 0
	for len(p.conns) > 0 {
		c := p.conns[0]
		p.load.inUse--
		p.count.Aborted++
		p.retire(c, ClosedAborted)
		aborted++
	}
	p.mu.Unlock()
	p.owned.Wait()
	close(p.finished)
	if aborted > 0 {
		return fmt.Errorf("close connection pool with %d leases out: %w", aborted, p.abortErr)
	}
	return nil
}

// await waits until no lease is out, or until this or another Close gives up
// waiting.
func (p *Pool[C]) await(ctx context.Context) {
	select {
	case <-p.drained:
		return
	case <-p.aborted:
		return
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.abortErr == nil {
		p.abortErr = ctx.Err()
		close(p.aborted)
	}
}
