package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

const (
	// dialTimeout bounds one dial.
	dialTimeout = 30 * time.Second

	// Limits of concurrent dials: until MinConns connections have been opened, so that
	// a starting process does not send a burst to the server, and later. The first
	// refill, and all dials after a network reset, are made one at a time.
	maxColdDials = 2
	maxDials     = 4

	// Delay between a failed dial and the next refill. It doubles with each
	// consecutive failure, and begins at refillDelayReset after a network reset.
	refillDelay      = 100 * time.Millisecond
	refillDelayReset = time.Second
	refillDelayMax   = 10 * time.Second
	// The dial backoff while callers are waiting is capped at this, so that recovery
	// is detected within a second.
	demandDelayMax = 500 * time.Millisecond

	// The death of an unused connection younger than earlyDeath counts as a failed
	// dial.
	earlyDeath = time.Second

	// Two connection failures within failureWindow are a network reset.
	failureWindow = time.Second
)

var errDiedUnused = errors.New("dial: the connection died before it was used")

func ceil(f float64) int { return int(math.Ceil(f)) }

// maxDials returns the limit of concurrent dials for waiting callers.
func (p *Pool[C]) maxDials(now time.Duration) int {
	switch {
	case now < p.nextDemandDial:
		return 0
	case p.networkDown:
		return 1
	case p.count.Opened < uint64(p.opts.MinConns):
		return maxColdDials
	}
	return maxDials
}

// maxRefills returns the limit of concurrent dials for starting one that no caller
// waits for.
func (p *Pool[C]) maxRefills(now time.Duration) int {
	switch {
	case now < p.nextRefill || p.asleep || !p.started:
		return 0
	case p.count.Opened == 0:
		return 1
	}
	return p.maxDials(now)
}

// refill dials until MinConns connections are open or being dialled.
func (p *Pool[C]) refill(now time.Duration) {
	size := p.load.open + p.dialing
	n := min(p.opts.MinConns-size, p.maxRefills(now)-p.dialing)
	if n <= 0 {
		return
	}
	for range n {
		p.dial(nil)
	}
	p.recordEvent(SizeBelowMin, size, size+n, SizeState{Min: p.opts.MinConns, Max: p.opts.MaxConns, Open: p.load.open, Dialing: p.dialing})
}

// replace dials a replacement for a connection that was just closed, if it is needed.
func (p *Pool[C]) replace(now time.Duration) {
	if p.load.open+p.dialing < p.requiredSize() && p.dialing < p.maxRefills(now) && !p.closed {
		p.dial(&replacement[C]{})
	}
}

// replacement says what a dial replaces.
type replacement[C comparable] struct {
	old *conn[C] // nil if it is closed already
}

// dial starts a dial in the background. of is nil if it replaces nothing.
func (p *Pool[C]) dial(of *replacement[C]) {
	p.dialing++
	p.count.Dials++
	p.target = max(p.target, p.load.open+p.dialing)
	p.owned.Go(func() {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
		c, err := p.connector.Dial(ctx)
		cancel()
		took := time.Since(begin)
		if errors.Is(err, context.DeadlineExceeded) {
			// Hidden, because a caller would take it for its own deadline.
			err = fmt.Errorf("%s after %v: %w", err, took, os.ErrDeadlineExceeded)
		}

		p.mu.Lock()
		defer p.mu.Unlock()
		now := p.clock()
		p.load.advance(now)
		p.dialing--
		p.count.DialTimes.add(took)
		if err != nil {
			p.dialFailed(now, fmt.Errorf("dial: %w", err), of)
		} else {
			p.dialTime.add(took, dialWeight)
			p.dialed(now, c, of)
		}
		p.reconcile(now)
	})
}

func (p *Pool[C]) dialed(now time.Duration, c C, of *replacement[C]) {
	p.lastDialError, p.consecutiveFailures, p.networkDown = nil, 0, false
	p.nextRefill, p.nextDemandDial = 0, 0

	n := newConn(p, c)
	n.opened, n.lastAlive, n.lastUsed, n.gen = now, now, now, p.gen
	n.pingAfter = p.jittered(p.opts.KeepAlive.Interval)
	n.expires = now + p.jittered(p.opts.MaxLifetime)
	n.refreshAt = n.expires - min(refreshLead, p.opts.MaxLifetime/10)
	p.byConn.Store(c, n) // before putBack calls Dead, so that no ConnDied is missed
	p.conns = append(p.conns, n)
	p.load.open++
	p.count.Opened++
	p.count.Peak = max(p.count.Peak, p.load.open)

	if of != nil {
		p.finishRefresh(now, of)
	}
	p.putBack(n, now)
	if p.load.open >= p.opts.MinConns {
		p.notifyWarm(nil)
	}
}

func (p *Pool[C]) dialFailed(now time.Duration, err error, of *replacement[C]) {
	p.count.DialFailures++
	p.failedDials++
	p.lastDialError = err
	p.backOff(now)
	if of != nil && of.old != nil {
		p.extendLifetime(now, of.old)
	}
	p.notifyWarm(fmt.Errorf("warm connection pool: %w", err))
}

// backOff delays the next dial after a failed one.
func (p *Pool[C]) backOff(now time.Duration) {
	p.consecutiveFailures++
	delay := refillDelay
	if p.networkDown {
		delay = refillDelayReset
	}
	delay = min(refillDelayMax, delay<<min(p.consecutiveFailures-1, 7))
	delay -= time.Duration(p.rand() * float64(delay) / 2)
	p.nextRefill, p.nextDemandDial = now+delay, now+min(delay, demandDelayMax)
}

// notifyWarm ends all waiting calls of Warm.
func (p *Pool[C]) notifyWarm(err error) {
	for _, warm := range p.warmWaiters {
		warm <- err
	}
	p.warmWaiters = nil
}

// jittered returns d minus up to 10 %.
func (p *Pool[C]) jittered(d time.Duration) time.Duration {
	return d - time.Duration(p.rand()*float64(d)/10)
}

// connFailed records that a connection failed during use or a ping. Two failures
// within failureWindow are a network reset.
func (p *Pool[C]) connFailed(now time.Duration) {
	if p.networkDown || p.closed {
		return
	}
	if now-p.lastFailure > failureWindow {
		p.lastFailure = now
		return
	}
	p.lastFailure = -never
	p.networkDown = true
	p.reset()
}

// reset makes all idle connections stale, so that each is validated before its next
// use.
func (p *Pool[C]) reset() {
	p.gen++
	p.count.Resets++
}
