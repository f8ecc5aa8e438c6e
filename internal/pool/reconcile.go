package pool

import "time"

// run calls reconcile at its deadlines and after signal.
func (p *Pool[C]) run() {
	timer := time.NewTimer(never)
	defer timer.Stop()
	for {
		select {
		case <-p.wake:
		case <-timer.C:
		case <-p.drained:
			return
		case <-p.forced:
			return
		}
		p.mu.Lock()
		now := p.clock()
		p.timerAt = 0 // reconcile need not signal its own goroutine
		p.reconcile(now)
		p.timerAt = p.nextDeadline
		p.mu.Unlock()
		timer.Reset(p.timerAt - now)
	}
}

// signal makes run call reconcile. It never blocks.
func (p *Pool[C]) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// clock returns the time since the pool was created. If the machine was suspended,
// which the monotonic clock does not count, all connections become stale: the server
// may have closed them meanwhile.
func (p *Pool[C]) clock() time.Duration {
	t := time.Now()
	now := t.Sub(p.epoch)
	skew := t.Round(0).Sub(p.epoch.Round(0)) - now // Round strips the monotonic clock
	if skew-p.clockSkew > p.opts.KeepAlive.Interval {
		p.staleBefore = now
	}
	p.clockSkew = skew
	return now
}

// reconcile drives the pool to its desired state: it serves waiters, then starts the
// dials, pings and closes that are due. It may be called at any time. It is called
// after every event, including the end of whatever it starts, and by run at the next
// deadline.
func (p *Pool[C]) reconcile(now time.Duration) {
	p.load.advance(now)
	p.removeDead(now)
	if p.closed {
		p.nextDeadline = never
		if p.load.inUse == 0 {
			p.drainOnce.Do(func() { close(p.drained) })
		}
		return
	}
	tick := p.tick(now)
	p.serveWaiters(now)
	p.failWaiters(now)
	p.replaceExpiring(now)
	p.validateStale(now)
	p.resize(now, tick)
	p.refill(now)
	p.trim()
	p.shutDownIdle(now)
	p.ping(now)
	p.nextDeadline = p.deadline(now)
	if p.nextDeadline < p.timerAt {
		p.signal()
	}
}

// removeDead closes connections that died while idle and those of leaked leases.
func (p *Pool[C]) removeDead(now time.Duration) {
	for i := len(p.conns) - 1; i >= 0; i-- {
		c := p.conns[i]
		switch {
		case c.state == stateAcquired && c.leaked.Load():
			p.load.inUse--
			p.count.Leaked++
			p.destroy(c, ClosedLeaked)
		case c.state == stateIdle && p.isDead(c):
			p.destroyDead(c, now)
		}
	}
}

// destroyDead closes c, which died while it was not in use.
func (p *Pool[C]) destroyDead(c *conn[C], now time.Duration) {
	p.markStale(c, StaleDied)
	p.destroy(c, ClosedDied)
	if now-c.opened < earlyDeath && c.lastAlive == c.opened { // else a server that accepts and closes would be dialled in a loop
		p.failedDials++
		p.lastDialError = errDiedUnused
		p.backOff(now)
	}
	p.replace(now)
}

// serveWaiters gives usable connections to waiters in FIFO order.
func (p *Pool[C]) serveWaiters(now time.Duration) {
	for p.waiters.len > 0 {
		w := p.waiters.firstLive()
		if w == nil {
			return
		}
		c := p.takeUsable(now)
		if c == nil {
			return
		}
		p.finishWait(w, now, waitResult[C]{h: p.markAcquired(c, now)})
	}
}

func (p *Pool[C]) finishWait(w *waiter[C], now time.Duration, g waitResult[C]) {
	p.waiters.remove(w)
	p.count.WaitTimes.add(now - w.since)
	w.ready <- g
}

// failWaiters fails the waiters that saw a dial fail, if the last dial failed and no
// connection is open or being dialled. Later waiters get a dial of their own.
func (p *Pool[C]) failWaiters(now time.Duration) {
	if p.load.open > 0 || p.dialing > 0 || p.lastDialError == nil {
		return
	}
	for p.waiters.first != nil && p.waiters.first.failedDials < p.failedDials {
		p.count.DialErrors++
		p.finishWait(p.waiters.first, now, waitResult[C]{err: p.lastDialError})
	}
}

// putBack moves c from in transition to idle, or closes it.
func (p *Pool[C]) putBack(c *conn[C], now time.Duration) {
	switch {
	case p.closed:
		p.destroy(c, ClosedPoolClosed)
	case p.isDead(c):
		p.destroyDead(c, now)
	case c.retired:
		p.destroy(c, ClosedRetired)
		p.replace(now)
	case c.replaced || now >= c.expires:
		p.markStale(c, StaleMaxLifetime)
		p.destroy(c, ClosedMaxLifetime)
		p.replace(now)
	case p.overTarget():
		p.destroy(c, p.shrinkReason)
	default:
		p.pushIdle(c, now)
	}
}

// destroy closes c and cancels its ping. If c is acquired, the caller must have
// decremented load.inUse.
func (p *Pool[C]) destroy(c *conn[C], why CloseReason) {
	switch c.state {
	case stateIdle:
		for i, other := range p.idle {
			if other == c {
				p.removeIdle(i)
				break
			}
		}
	case statePinging:
		p.pinging--
		p.count.PingsCancelled++
		c.cancelPing()
	}
	for i, other := range p.conns {
		if other == c {
			last := len(p.conns) - 1
			p.conns[i], p.conns[last] = p.conns[last], nil
			p.conns = p.conns[:last]
			break
		}
	}
	c.state = stateClosed
	c.handle = nil
	p.load.open--
	p.count.Closed++
	p.count.ClosedBy[why]++
	p.byConn.Delete(c.c)
	p.owned.Go(func() { p.connector.Close(c.c) })
}

// trim closes the least recently used idle connections over target.
func (p *Pool[C]) trim() {
	for p.overTarget() && len(p.idle) > 0 {
		p.destroy(p.idle[0], p.shrinkReason)
	}
}

// tick ends a tick of the sizing rule if it is due and reports whether it did. There
// are no ticks while no connection is in use or was in use in the last 30 seconds.
func (p *Pool[C]) tick(now time.Duration) bool {
	_, busyMax, _ := p.load.last()
	quiet := busyMax == 0 && p.load.inUse == 0 && p.load.busyTime == p.load.tickBusy &&
		p.waiters.len == 0 && p.load.open+p.dialing <= p.opts.MinConns
	switch {
	case quiet:
		p.ticking = false
		return false
	case !p.ticking:
		p.ticking = true
		p.load.restart(now)
		p.nextTick = now + SizeTick
		return false
	case now < p.nextTick:
		return false
	}
	p.load.tick(now)
	p.nextTick = now + SizeTick
	return true
}

// resize applies the sizing rule.
func (p *Pool[C]) resize(now time.Duration, tick bool) {
	size := p.load.open + p.dialing
	if tick && !p.asleep {
		p.target = min(p.target, max(p.opts.MinConns, size))
	}
	s := SizeState{
		Min: p.opts.MinConns, Max: p.opts.MaxConns, ScaleUpAt: p.opts.ScaleUpAt, ScaleDownAt: p.opts.ScaleDownAt,
		Open: p.load.open, Dialing: p.dialing, Pinging: p.pinging, Waiting: p.waiters.len,
		MaxDials: p.maxDials(now), OldestWait: p.waiters.oldest(now),
		ServiceTime: time.Duration(p.serviceTime), DialTime: time.Duration(p.dialTime),
		SinceGrowth: now - p.lastGrowth, SinceOverload: now - p.lastOverload,
		Overload: p.overload, Tick: tick,
	}
	s.Busy, s.BusyMax, s.Window = p.load.last()
	p.overload = false
	d := Decide(s)
	p.recheckAt = now + d.Recheck
	switch d.Reason {
	case SizeDemand, SizeUtilisation:
		if d.Reason == SizeDemand {
			p.count.GrownOnDemand += uint64(d.Dial)
		} else {
			p.count.GrownOnUtilisation += uint64(d.Dial)
		}
		p.lastGrowth = now
		for range d.Dial {
			p.dial(nil)
		}
	case SizeLowUtilisation, SizeOverload:
		if d.Close == 0 {
			return
		}
		p.shrinkReason = ClosedOverload
		if d.Reason == SizeLowUtilisation {
			p.shrinkReason = ClosedShrunk
			p.count.Shrunk += uint64(d.Close)
		}
		p.target = size - d.Close
		if d.Reason == SizeOverload {
			p.target = p.load.open - d.Close // connections being dialled will be closed as well
		}
	default:
		return
	}
	p.recordEvent(d.Reason, size, size+d.Dial-d.Close, s)
}

// recordEvent records a change of the size.
func (p *Pool[C]) recordEvent(why SizeReason, from, to int, s SizeState) {
	p.events[p.eventCount%SizeEvents] = SizeEvent{At: time.Now(), Reason: why, From: from, To: to, State: s}
	p.eventCount++
}

// requiredSize returns the size below which a lost connection is replaced: the load of
// the busiest of the last 30 seconds plus headroom.
func (p *Pool[C]) requiredSize() int {
	_, busyMax, _ := p.load.last()
	return min(p.opts.MaxConns, max(p.opts.MinConns, ceil(busyMax/shrinkUtilisation)))
}

// deadline returns when reconcile must be called again if no event happens.
func (p *Pool[C]) deadline(now time.Duration) time.Duration {
	next := never
	at := func(t time.Duration) {
		if t > now {
			next = min(next, t)
		}
	}
	if p.ticking {
		at(p.nextTick)
	}
	if p.waiters.len > 0 {
		at(p.recheckAt)
		at(p.nextDemandDial)
		at(p.slowPingAt())
	}
	if p.asleep || !p.started {
		return next
	}
	at(p.nextRefill)
	at(p.lastLease + p.opts.KeepAlive.IdleShutdown)
	if !p.opts.KeepAlive.Disabled && p.load.open > 0 {
		// A connection that becomes idle from now on is not due for a ping earlier.
		at(now + p.opts.KeepAlive.Interval - p.opts.KeepAlive.Interval/10)
	}
	for _, c := range p.conns {
		at(c.refreshAt)
		at(c.expires)
		if c.state == stateIdle && !p.opts.KeepAlive.Disabled {
			at(c.lastAlive + c.pingAfter)
		}
	}
	return next
}
