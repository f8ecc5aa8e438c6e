package pool

import (
	"time"
)

// caused says what settle is called for, as far as it matters.
type caused struct {
	arrival  bool // a caller has just begun to wait
	overload bool // the server is overloaded
}

// run calls settle at the deadlines it asked for and when poked.
func (p *Pool[C]) run() {
	timer := time.NewTimer(never)
	defer timer.Stop()
	for {
		select {
		case <-p.wake:
		case <-timer.C:
		case <-p.drained:
			return
		case <-p.aborted:
			return
		}
		p.mu.Lock()
		now := p.clock()
		p.armed = 0 // settle need not poke its own goroutine
		p.settle(now, caused{})
		p.armed = p.next
		p.mu.Unlock()
		timer.Reset(p.armed - now)
	}
}

// poke makes run call settle. It waits for nothing.
func (p *Pool[C]) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// clock returns the time since the pool was made. It notices when the machine
// slept, which the monotonic clock does not count: whatever was alive before may
// have been given up by the server since.
func (p *Pool[C]) clock() time.Duration {
	t := time.Now()
	now := t.Sub(p.epoch)
	skew := t.Round(0).Sub(p.epoch.Round(0)) - now // Round strips the monotonic clock
	if skew-p.skew > p.opts.KeepAlive.Interval {
		p.freshAfter = now
	}
	p.skew = skew
	return now
}

// settle brings the pool to rest after something happened: it hands out what
// can be handed out, then starts what must be started. It may be called at any
// time, and asks run to call it again at the next deadline. Whatever it cannot
// do now because something is under way, the end of that calls it for.
func (p *Pool[C]) settle(now time.Duration, why caused) {
	p.load.upTo(now)
	p.sweep(now)
	if p.closed {
		p.next = never
		if p.load.inUse == 0 {
			p.drainOnce.Do(func() { close(p.drained) })
		}
		return
	}
	tick := p.tick(now)
	p.handOut(now)
	p.failWaiters(now)
	p.renew(now)
	p.validate(now)
	p.resize(now, why, tick)
	p.refill(now)
	p.trim()
	p.fallAsleep(now)
	p.ping(now)
	p.next = p.deadline(now)
	if p.next < p.armed {
		p.poke()
	}
}

// sweep takes out connections that died while idle and leases that were dropped.
func (p *Pool[C]) sweep(now time.Duration) {
	for i := len(p.conns) - 1; i >= 0; i-- {
		c := p.conns[i]
		switch {
		case c.state == stateLent && c.leaked.Load():
			p.load.inUse--
			p.count.Reclaimed++
			p.retire(c, ClosedReclaimed)
		case c.state == stateIdle && p.isDead(c):
			p.bury(c, now)
		}
	}
}

// bury retires c, which died while nobody held it.
func (p *Pool[C]) bury(c *conn[C], now time.Duration) {
	p.noteStale(c, StaleDied)
	p.retire(c, ClosedDied)
	if now-c.opened < youngDeath && c.proof == c.opened { // do not dial in a loop
		p.failedDials++
		p.lastDialError = errDiedYoung
		p.backOff(now)
	}
	p.replace(now)
}

// handOut lends fit connections to waiters in the order of their arrival.
func (p *Pool[C]) handOut(now time.Duration) {
	for p.waiters.len > 0 {
		w := p.waiters.firstAlive()
		if w == nil {
			return
		}
		c := p.takeFit(now)
		if c == nil {
			return
		}
		p.endWait(w, now, grant[C]{h: p.lend(c, now)})
	}
}

func (p *Pool[C]) endWait(w *waiter[C], now time.Duration, g grant[C]) {
	p.waiters.remove(w)
	p.count.WaitTimes.add(now - w.since)
	w.ready <- g
}

// failWaiters ends the wait of those for whom a dial has failed, if there is
// nothing left to wait for and the last dial failed. Those who came after the
// failure get a dial of their own.
func (p *Pool[C]) failWaiters(now time.Duration) {
	if p.load.open > 0 || p.dialing > 0 || p.lastDialError == nil {
		return
	}
	for p.waiters.first != nil && p.waiters.first.failedDials < p.failedDials {
		p.count.DialErrors++
		p.endWait(p.waiters.first, now, grant[C]{err: p.lastDialError})
	}
}

// place takes c back, which nobody holds.
func (p *Pool[C]) place(c *conn[C], now time.Duration) {
	switch {
	case p.closed:
		p.retire(c, ClosedPool)
	case p.isDead(c):
		p.bury(c, now)
	case c.replaced || now >= c.expires:
		p.noteStale(c, StaleAge)
		p.retire(c, ClosedAge)
		p.replace(now)
	case p.surplus():
		p.retire(c, p.surplusReason)
	default:
		p.push(c, now)
	}
}

// retire lets go of c for good, and gives its ping up if it is out for one. The
// caller has taken a lent c off load.inUse.
func (p *Pool[C]) retire(c *conn[C], why CloseReason) {
	switch c.state {
	case stateIdle:
		for i, other := range p.idle {
			if other == c {
				p.takeIdle(i)
				break
			}
		}
	case stateAway:
		p.away--
		p.count.PingsCut++
		c.cut()
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
	p.owned.Go(func() {
		if err := p.connector.Close(c.c); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.count.CloseFailures++
		}
	})
}

// trim closes the longest idle connections over target.
func (p *Pool[C]) trim() {
	for p.surplus() && len(p.idle) > 0 {
		p.retire(p.idle[0], p.surplusReason)
	}
}

// tick ends a tick of the sizing rule if it is time, and reports whether it did.
// Nothing ticks while nothing is lent and nothing was lately.
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

// resize asks the sizing rule and does what it says.
func (p *Pool[C]) resize(now time.Duration, why caused, tick bool) {
	size := p.load.open + p.dialing
	if tick && !p.asleep {
		p.target = min(p.target, max(p.opts.MinConns, size))
	}
	s := SizeState{
		Min: p.opts.MinConns, Max: p.opts.MaxConns, ScaleUpAt: p.opts.ScaleUpAt, ScaleDownAt: p.opts.ScaleDownAt,
		Open: p.load.open, Dialing: p.dialing, Away: p.away, Waiting: p.waiters.len,
		MaxDials: p.maxDials(now), OldestWait: p.waiters.oldest(now),
		Service: time.Duration(p.service), DialTime: time.Duration(p.dialTime),
		SinceGrowth: now - p.lastGrowth, SinceOverload: now - p.lastSignal,
		Overload: why.overload, Tick: tick,
	}
	s.Busy, s.BusyMax, s.Window = p.load.last()
	d := Decide(s)
	p.recheckAt = now + d.Recheck
	if why.arrival && d.Elided {
		p.count.Elided++
	}
	switch d.Reason {
	case SizeDemand, SizeAhead:
		if d.Reason == SizeDemand {
			p.count.UpsDemand += uint64(d.Dial)
		} else {
			p.count.UpsAhead += uint64(d.Dial)
		}
		p.lastGrowth = now
		for range d.Dial {
			p.dial(nil)
		}
	case SizeShrunk, SizeOverload:
		if d.Close == 0 {
			return
		}
		p.surplusReason = ClosedOverload
		if d.Reason == SizeShrunk {
			p.surplusReason = ClosedShrunk
			p.count.Downs += uint64(d.Close)
		}
		p.target = size - d.Close
		if d.Reason == SizeOverload {
			p.target = p.load.open - d.Close // what is being dialled is too much as well
		}
	default:
		return
	}
	p.note(d.Reason, size, size+d.Dial-d.Close, s)
}

// note remembers a change of the size.
func (p *Pool[C]) note(why SizeReason, from, to int, s SizeState) {
	p.events[p.eventCount%SizeEvents] = SizeEvent{At: time.Now(), Reason: why, From: from, To: to, State: s}
	p.eventCount++
}

// need returns the size under which a lost connection is replaced: what the
// busiest of the last seconds used, with some room.
func (p *Pool[C]) need() int {
	_, busyMax, _ := p.load.last()
	return min(p.opts.MaxConns, max(p.opts.MinConns, ceil(busyMax/shrinkLoad)))
}

// deadline returns when settle must be called again though nothing happens.
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
		at(p.demandAt)
		at(p.cutAt())
	}
	if p.asleep || !p.started {
		return next
	}
	at(p.refillAt)
	at(p.lastLease + p.opts.KeepAlive.IdleShutdown)
	if !p.opts.KeepAlive.Disabled && p.load.open > 0 {
		// No connection that becomes idle from now on is due before.
		at(now + p.opts.KeepAlive.Interval - p.opts.KeepAlive.Interval/10)
	}
	for _, c := range p.conns {
		at(c.refreshAt)
		at(c.expires)
		if c.state == stateIdle && !p.opts.KeepAlive.Disabled {
			at(c.proof + c.silence)
		}
	}
	return next
}
