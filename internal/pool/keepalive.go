package pool

import (
	"context"
	"errors"
	"time"
)

const (
	// refreshLead is how long before a connection expires its replacement is dialled,
	// so that no caller waits for the dial.
	refreshLead = 10 * time.Second

	// Bounds of the timeout for validating a stale connection while a caller waits.
	// Between them it is four times the average duration of a ping.
	validateMin = 500 * time.Millisecond
	validateMax = 2 * time.Second
)

// ping pings the most overdue idle connections: one at a time, or at most a quarter
// of those that are idle, because a connection is unavailable during its ping.
func (p *Pool[C]) ping(now time.Duration) {
	if p.opts.KeepAlive.Disabled || p.asleep {
		return
	}
	limit := max(1, (len(p.idle)+p.pinging)/4)
	if p.networkDown {
		limit = 1
	}
	for p.pinging < limit {
		var first *conn[C]
		for _, c := range p.idle {
			if p.pingAt(c) <= now && (first == nil || p.pingAt(c) < p.pingAt(first)) {
				first = c
			}
		}
		if first == nil {
			return
		}
		p.sendPing(first, now, p.opts.KeepAlive.PingTimeout)
	}
}

// pingAt returns when c is due for a ping.
func (p *Pool[C]) pingAt(c *conn[C]) time.Duration {
	if c.gen != p.gen || c.lastAlive < p.staleBefore {
		return -never
	}
	return c.lastAlive + c.pingAfter
}

// validateStale pings one stale connection for each waiting caller. The sizing rule
// may start dials for them at the same time.
func (p *Pool[C]) validateStale(now time.Duration) {
	limit := p.waiters.len
	if p.networkDown {
		limit = min(limit, 1)
	}
	timeout := min(p.opts.KeepAlive.PingTimeout, max(validateMin, min(validateMax, 4*time.Duration(p.pingTime))))
	for i := len(p.idle) - 1; i >= 0 && p.pinging < limit; i-- {
		if c := p.idle[i]; now < c.expires && !p.usable(c, now) {
			p.sendPing(c, now, timeout)
		}
	}
	p.cancelSlowPing(now)
}

// cancelSlowPing closes the connection with the longest running ping if, at MaxConns,
// a caller has waited for it longer than a dial takes.
func (p *Pool[C]) cancelSlowPing(now time.Duration) {
	if p.waiters.len == 0 || p.pinging == 0 || p.load.open+p.dialing < p.opts.MaxConns || now < p.slowPingAt() {
		return
	}
	if c := p.longestPinging(); c != nil {
		p.destroy(c, ClosedSlowPing)
	}
}

// slowPingAt returns when cancelSlowPing must be called.
func (p *Pool[C]) slowPingAt() time.Duration {
	c := p.longestPinging()
	if c == nil || p.waiters.first == nil || p.dialTime == 0 {
		return never
	}
	return max(c.since, p.waiters.first.since) + time.Duration(p.dialTime) + 1
}

func (p *Pool[C]) longestPinging() *conn[C] {
	var longest *conn[C]
	for _, c := range p.conns {
		if c.state == statePinging && (longest == nil || c.since < longest.since) {
			longest = c
		}
	}
	return longest
}

// sendPing moves c from idle to pinging and pings it in the background.
func (p *Pool[C]) sendPing(c *conn[C], now, timeout time.Duration) {
	for i, other := range p.idle {
		if other == c {
			p.removeIdle(i)
			break
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, timeout)
	c.state, c.since, c.wasIdle, c.cancelPing = statePinging, now, true, cancel
	p.pinging++
	p.count.PingsSent++
	p.owned.Go(func() {
		begin := time.Now()
		err := p.connector.Ping(ctx, c.c)
		cancel()
		took := time.Since(begin)

		p.mu.Lock()
		defer p.mu.Unlock()
		now := p.clock()
		if c.state != statePinging { // cancelled by destroy
			return
		}
		p.load.advance(now)
		p.pinging--
		c.state, c.cancelPing = stateInTransition, nil
		p.pinged(c, now, took, err)
		p.reconcile(now)
	})
}

func (p *Pool[C]) pinged(c *conn[C], now, took time.Duration, err error) {
	if err != nil {
		p.count.PingsFailed++
		if errors.Is(err, context.DeadlineExceeded) {
			p.count.PingTimeouts++
		}
		p.markStale(c, StalePingFailed)
		p.destroy(c, ClosedPingFailed)
		p.connFailed(now)
		p.replace(now)
		return
	}
	p.count.PingTimes.add(took)
	p.pingTime.add(took, pingWeight)
	p.networkDown = false
	c.lastAlive, c.gen, c.stale = now, p.gen, false
	c.pingAfter = p.jittered(p.opts.KeepAlive.Interval)
	p.putBack(c, now)
}

// replaceExpiring replaces connections before they reach MaxLifetime. It dials the
// new connection before it closes the old one, except at MaxConns.
func (p *Pool[C]) replaceExpiring(now time.Duration) {
	for i := len(p.conns) - 1; i >= 0; i-- {
		c := p.conns[i]
		if now < c.refreshAt || c.replaced || c.retired || c == p.refreshing {
			continue
		}
		idle, size := c.state == stateIdle, p.load.open+p.dialing
		switch {
		case idle && (now >= c.expires || size > p.requiredSize()):
			p.markStale(c, StaleMaxLifetime)
			p.destroy(c, ClosedMaxLifetime)
			p.replace(now)
		case p.refreshing == nil && size < p.opts.MaxConns && size <= p.requiredSize() && p.dialing < p.maxRefills(now):
			p.refreshing = c
			p.dial(&replacement[C]{old: c})
		}
	}
}

// finishRefresh closes a connection whose replacement is open, at once or when it is
// released.
func (p *Pool[C]) finishRefresh(now time.Duration, of *replacement[C]) {
	p.count.Refreshes++
	c := of.old
	if c == nil {
		return
	}
	p.refreshing = nil
	switch c.state {
	case stateIdle:
		p.markStale(c, StaleMaxLifetime)
		p.destroy(c, ClosedMaxLifetime)
	case stateAcquired, statePinging:
		c.replaced = true // closed when released; until then both count
	}
}

// extendLifetime postpones the expiry of c because its replacement could not be
// dialled.
func (p *Pool[C]) extendLifetime(now time.Duration, c *conn[C]) {
	p.refreshing = nil
	c.refreshAt = now + p.opts.KeepAlive.Interval
	c.expires = max(c.expires, c.refreshAt+min(refreshLead, p.opts.MaxLifetime/10))
}

// shutDownIdle closes all connections but one after IdleShutdown without a lease.
func (p *Pool[C]) shutDownIdle(now time.Duration) {
	if p.asleep || !p.started || p.load.inUse > 0 || p.waiters.len > 0 ||
		now-p.lastLease < p.opts.KeepAlive.IdleShutdown {
		return
	}
	p.asleep = true
	size := p.load.open + p.dialing
	p.target, p.shrinkReason = 1, ClosedIdleShutdown
	p.trim()
	if size > p.target {
		p.recordEvent(SizeIdleShutdown, size, p.target, SizeState{Min: p.opts.MinConns, Max: p.opts.MaxConns, Open: p.load.open, Dialing: p.dialing})
	}
}
