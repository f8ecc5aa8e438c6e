package pool

import (
	"context"
	"errors"
	"time"
)

const (
	// refreshLead is how long before it expires the replacement of a connection is
	// dialled, so that nobody has to wait for it.
	refreshLead = 10 * time.Second

	// Bounds of the time that a stale connection has for its sign of life while
	// somebody waits; between them it is four times the average.
	validateMin = 500 * time.Millisecond
	validateMax = 2 * time.Second
)

// ping sends the most overdue idle connection out, so that one at a time, or a
// quarter of the idle ones, cannot be lent for that reason.
func (p *Pool[C]) ping(now time.Duration) {
	if p.opts.KeepAlive.Disabled || p.asleep {
		return
	}
	limit := max(1, (len(p.idle)+p.away)/4)
	if p.down {
		limit = 1
	}
	for p.away < limit {
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
	if c.gen != p.gen || c.proof < p.freshAfter {
		return -never
	}
	return c.proof + c.silence
}

// validate asks stale connections for a sign of life, one for each caller that
// waits. They wait for a dial at the same time, by the sizing rule.
func (p *Pool[C]) validate(now time.Duration) {
	limit := p.waiters.len
	if p.down {
		limit = min(limit, 1)
	}
	timeout := min(p.opts.KeepAlive.PingTimeout, max(validateMin, min(validateMax, 4*time.Duration(p.pingTime))))
	for i := len(p.idle) - 1; i >= 0 && p.away < limit; i-- {
		if c := p.idle[i]; now < c.expires && !p.fit(c, now) {
			p.sendPing(c, now, timeout)
		}
	}
	p.cut(now)
}

// cut gives up pings that keep a caller waiting for longer than a dial takes
// while there is no room for a dial.
func (p *Pool[C]) cut(now time.Duration) {
	if p.waiters.len == 0 || p.away == 0 || p.load.open+p.dialing < p.opts.MaxConns || now < p.cutAt() {
		return
	}
	if c := p.longestAway(); c != nil {
		p.retire(c, ClosedSlowPing)
	}
}

// cutAt returns when cut has something to do if nothing else happens.
func (p *Pool[C]) cutAt() time.Duration {
	c := p.longestAway()
	if c == nil || p.waiters.first == nil || p.dialTime == 0 {
		return never
	}
	return max(c.since, p.waiters.first.since) + time.Duration(p.dialTime) + 1
}

func (p *Pool[C]) longestAway() *conn[C] {
	var longest *conn[C]
	for _, c := range p.conns {
		if c.state == stateAway && (longest == nil || c.since < longest.since) {
			longest = c
		}
	}
	return longest
}

// sendPing takes c, which is idle, out for a ping.
func (p *Pool[C]) sendPing(c *conn[C], now, timeout time.Duration) {
	for i, other := range p.idle {
		if other == c {
			p.takeIdle(i)
			break
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, timeout)
	c.state, c.since, c.rested, c.cut = stateAway, now, true, cancel
	p.away++
	p.count.PingsSent++
	p.owned.Go(func() {
		begin := time.Now()
		err := p.connector.Ping(ctx, c.c)
		cancel()
		took := time.Since(begin)

		p.mu.Lock()
		defer p.mu.Unlock()
		now := p.clock()
		if c.state != stateAway { // it was given up
			return
		}
		p.load.upTo(now)
		p.away--
		c.state, c.cut = stateMoving, nil
		p.pinged(c, now, took, err)
		p.settle(now, caused{})
	})
}

func (p *Pool[C]) pinged(c *conn[C], now, took time.Duration, err error) {
	if err != nil {
		p.count.PingsFailed++
		if errors.Is(err, context.DeadlineExceeded) {
			p.count.PingTimeouts++
		}
		p.noteStale(c, StalePing)
		p.retire(c, ClosedPing)
		p.connFailed(now)
		p.replace(now)
		return
	}
	p.count.PingTimes.add(took)
	p.pingTime.add(took, pingWeight)
	p.down = false
	c.proof, c.gen, c.stale = now, p.gen, false
	c.silence = p.jittered(p.opts.KeepAlive.Interval)
	p.place(c, now)
}

// renew replaces connections before they reach MaxLifetime: first the new one is
// dialled, then the old one closed. Only at MaxConns the old one goes first.
func (p *Pool[C]) renew(now time.Duration) {
	for i := len(p.conns) - 1; i >= 0; i-- {
		c := p.conns[i]
		if now < c.refreshAt || c.replaced || c == p.refreshing {
			continue
		}
		idle, size := c.state == stateIdle, p.load.open+p.dialing
		switch {
		case idle && (now >= c.expires || size > p.need()):
			p.noteStale(c, StaleAge)
			p.retire(c, ClosedAge)
			p.replace(now)
		case p.refreshing == nil && size < p.opts.MaxConns && size <= p.need() && p.dialing < p.maxRefills(now):
			p.refreshing = c
			p.dial(&replacement[C]{old: c})
		}
	}
}

// swapped ends the refresh of a connection whose replacement is here.
func (p *Pool[C]) swapped(now time.Duration, of *replacement[C]) {
	p.count.Refreshes++
	c := of.old
	if c == nil {
		return
	}
	p.refreshing = nil
	switch c.state {
	case stateIdle:
		p.noteStale(c, StaleAge)
		p.retire(c, ClosedAge)
	case stateLent, stateAway:
		c.replaced = true // it is closed on return; until then both count
	}
}

// keep lets c live on because its replacement could not be dialled. As long as it
// answers pings it is better than nothing.
func (p *Pool[C]) keep(now time.Duration, c *conn[C]) {
	p.refreshing = nil
	c.refreshAt = now + p.opts.KeepAlive.Interval
	c.expires = max(c.expires, c.refreshAt+min(refreshLead, p.opts.MaxLifetime/10))
}

// fallAsleep closes all connections but one when nobody needed any for
// IdleShutdown.
func (p *Pool[C]) fallAsleep(now time.Duration) {
	if p.asleep || !p.started || p.load.inUse > 0 || p.waiters.len > 0 ||
		now-p.lastLease < p.opts.KeepAlive.IdleShutdown {
		return
	}
	p.asleep = true
	size := p.load.open + p.dialing
	p.target, p.surplusReason = 1, ClosedAsleep
	p.trim()
	if size > p.target {
		p.note(SizeAsleep, size, p.target, SizeState{Min: p.opts.MinConns, Max: p.opts.MaxConns, Open: p.load.open, Dialing: p.dialing})
	}
}
