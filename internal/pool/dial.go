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
	// dialTimeout is the longest that a dial may take.
	dialTimeout = 30 * time.Second

	// Dials under way at a time: before MinConns connections have ever been open, so
	// that a starting process is no burst for the server, and later. The very
	// first refill, and all after a network reset, go alone.
	maxColdDials = 2
	maxDials     = 4

	// Time between a failed dial and the next refill; it doubles with each failure
	// in a row. The longer ones hold after a network reset.
	refillDelay      = 100 * time.Millisecond
	refillDelayReset = time.Second
	refillDelayMax   = 10 * time.Second
	// A caller who waits is worth a dial sooner, so that a server that is back is
	// noticed within a second.
	demandDelayMax = 500 * time.Millisecond

	// youngDeath is the age under which the death of an unused connection counts as
	// a failed dial.
	youngDeath = time.Second

	// failureWindow is the time within which two connections fail if it is the
	// network that failed.
	failureWindow = time.Second
)

var errDiedYoung = errors.New("dial: the connection died before it was used")

func ceil(f float64) int { return int(math.Ceil(f)) }

// maxDials returns how many dials for callers may be under way.
func (p *Pool[C]) maxDials(now time.Duration) int {
	switch {
	case now < p.demandAt:
		return 0
	case p.down:
		return 1
	case p.count.Opened < uint64(p.opts.MinConns):
		return maxColdDials
	}
	return maxDials
}

// maxRefills returns how many dials may be under way for one to be started that
// no caller waits for.
func (p *Pool[C]) maxRefills(now time.Duration) int {
	switch {
	case now < p.refillAt || p.asleep || !p.started:
		return 0
	case p.count.Opened == 0:
		return 1
	}
	return p.maxDials(now)
}

// refill dials what is missing to MinConns.
func (p *Pool[C]) refill(now time.Duration) {
	size := p.load.open + p.dialing
	n := min(p.opts.MinConns-size, p.maxRefills(now)-p.dialing)
	if n <= 0 {
		return
	}
	for range n {
		p.dial(nil)
	}
	p.note(SizeRefilled, size, size+n, SizeState{Min: p.opts.MinConns, Max: p.opts.MaxConns, Open: p.load.open, Dialing: p.dialing})
}

// replace dials for a connection that has just been lost, if it was needed.
func (p *Pool[C]) replace(now time.Duration) {
	if p.load.open+p.dialing < p.need() && p.dialing < p.maxRefills(now) && !p.closed {
		p.dial(&replacement[C]{})
	}
}

// replacement is what a dial is to replace.
type replacement[C comparable] struct {
	old *conn[C] // nil: it is closed already
}

// dial starts a dial. of is nil if it replaces nothing.
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
			// Not that of a caller, who would take it for the end of its own.
			err = fmt.Errorf("%s after %v: %w", err, took, os.ErrDeadlineExceeded)
		}

		p.mu.Lock()
		defer p.mu.Unlock()
		now := p.clock()
		p.load.upTo(now)
		p.dialing--
		p.count.DialTimes.add(took)
		if err != nil {
			p.dialFailed(now, fmt.Errorf("dial: %w", err), of)
		} else {
			p.dialTime.add(took, dialWeight)
			p.dialed(now, c, of)
		}
		p.settle(now, caused{})
	})
}

func (p *Pool[C]) dialed(now time.Duration, c C, of *replacement[C]) {
	p.lastDialError, p.failedInARow, p.down = nil, 0, false
	p.refillAt, p.demandAt = 0, 0

	n := newConn(p, c)
	n.opened, n.proof, n.used, n.gen = now, now, now, p.gen
	n.silence = p.jittered(p.opts.KeepAlive.Interval)
	n.expires = now + p.jittered(p.opts.MaxLifetime)
	n.refreshAt = n.expires - min(refreshLead, p.opts.MaxLifetime/10)
	p.byConn.Store(c, n) // before place asks whether c is dead, or its death could be missed
	p.conns = append(p.conns, n)
	p.load.open++
	p.count.Opened++
	p.count.Peak = max(p.count.Peak, p.load.open)

	if of != nil {
		p.swapped(now, of)
	}
	p.place(n, now)
	if p.load.open >= p.opts.MinConns {
		p.warmed(nil)
	}
}

func (p *Pool[C]) dialFailed(now time.Duration, err error, of *replacement[C]) {
	p.count.DialFailures++
	p.failedDials++
	p.lastDialError = err
	p.backOff(now)
	if of != nil {
		p.count.RefreshFailures++
		if of.old != nil {
			p.keep(now, of.old)
		}
	}
	p.warmed(fmt.Errorf("warm connection pool: %w", err))
}

// backOff puts the next dial off.
func (p *Pool[C]) backOff(now time.Duration) {
	p.failedInARow++
	delay := refillDelay
	if p.down {
		delay = refillDelayReset
	}
	delay = min(refillDelayMax, delay<<min(p.failedInARow-1, 7))
	delay -= time.Duration(p.rand() * float64(delay) / 2)
	p.refillAt, p.demandAt = now+delay, now+min(delay, demandDelayMax)
}

// warmed ends the calls of Warm.
func (p *Pool[C]) warmed(err error) {
	for _, warm := range p.warmers {
		warm <- err
	}
	p.warmers = nil
}

// jittered returns d less up to 10 %.
func (p *Pool[C]) jittered(d time.Duration) time.Duration {
	return d - time.Duration(p.rand()*float64(d)/10)
}

// connFailed notes that a connection failed under a caller or a ping. The second
// within a second is taken for a failure of the network.
func (p *Pool[C]) connFailed(now time.Duration) {
	if p.down || p.closed {
		return
	}
	if now-p.lastFailure > failureWindow {
		p.lastFailure = now
		return
	}
	p.lastFailure = -never
	p.down = true
	p.reset()
}

// reset makes all idle connections stale: each is asked for a sign of life before
// it is lent again.
func (p *Pool[C]) reset() {
	p.gen++
	p.count.Resets++
}
