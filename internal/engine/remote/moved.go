package remote

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
)

// A server can move while connections to where it was work: its name has another
// address, or a gateway passes new connections on to another server. A connection to
// the old one would otherwise be used until MaxLifetime.

const (
	// While there are calls, the addresses of the server's name are looked up every
	// lookupInterval. Connections to an address that is missing twice are given up: some
	// names have many addresses, of which an answer holds a few.
	lookupInterval = 30 * time.Second
	lookupTimeout  = 10 * time.Second

	// Connections are given up because of what the server says at most once in
	// leaveInterval: it may say so for good, because it is full or in maintenance.
	leaveInterval = 5 * time.Second
)

// sentAway reports whether the server answered that it takes no writes, or nothing at
// all (sqld's block_writes, block_reads): it may not be the one to ask any more.
func sentAway(results []hrana.Result) bool {
	return anyError(results, func(err *hrana.Error) bool {
		return err.Code == "BLOCKED" || kindOf(err.Code, err.Message) == engine.KindReadOnly
	})
}

// leave gives up all connections, after the server has sent a call away.
func (e *Engine) leave(ctx context.Context) {
	now, last := time.Now(), e.leftAt.Load()
	if last != nil && now.Sub(*last) < leaveInterval || !e.leftAt.CompareAndSwap(last, &now) {
		return
	}
	n := e.pool.Retire(func(*conn) bool { return true })
	e.log.DebugContext(ctx, "server refuses, another one may be in its place: connections are opened anew", "connections", n)
}

// watchAddress looks for a move of the server's name until Close begins, unless a proxy
// looks it up or it has none.
func (e *Engine) watchAddress() {
	host, _, err := net.SplitHostPort(e.host)
	_, parseErr := netip.ParseAddr(host)
	if err != nil || parseErr == nil || isLocalhost(host) || e.proxy() != "" {
		return
	}
	ticker := time.NewTicker(lookupInterval)
	defer ticker.Stop()
	var named []netip.Addr // in the last answer
	for sent := uint64(0); ; {
		select {
		case <-ticker.C:
		case <-e.open.Done():
			return
		}
		if n := e.client.Requests() + e.client.Pings(); n != sent {
			sent = n
			named = e.compareAddress(host, named)
		}
	}
}

// compareAddress gives up the connections to addresses that host neither has now nor
// had before, the last time, if the server answers where it is now. It returns the
// addresses of host.
func (e *Engine) compareAddress(host string, before []netip.Addr) []netip.Addr {
	ctx, cancel := context.WithTimeout(e.open, lookupTimeout)
	defer cancel()
	now, err := e.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(now) == 0 {
		return before
	}
	for i, a := range now {
		now[i] = a.Unmap()
	}
	moved := func(c *conn) bool {
		return len(before) > 0 && !slices.Contains(now, c.addr) && !slices.Contains(before, c.addr)
	}
	if !e.pool.Any(moved) || !e.answersAnew(ctx) {
		return now
	}
	n := e.pool.Retire(moved)
	e.log.InfoContext(ctx, "server has moved to another address, connections to the old one are given up", "connections", n)
	return now
}

// answersAnew reports whether the server answers a ping on a new connection.
func (e *Engine) answersAnew(ctx context.Context) bool {
	c, err := e.dial(ctx)
	if err != nil {
		return false
	}
	defer c.Close()
	return e.client.Ping(ctx, c) == nil
}
