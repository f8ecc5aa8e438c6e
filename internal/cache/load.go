package cache

import (
	"context"
)

// flight is a load or a poll under way. The cache's lock guards it but for what
// never changes, and for entry and err, which may be read once done is closed.
type flight[K comparable, V any] struct {
	key    K // of a load
	begun  feedRead
	writes uint64 // Cache.writes when it began
	done   chan struct{}
	ctx    context.Context
	cancel context.CancelCauseFunc

	waiters  int   // callers
	outdated bool  // what it loads must not be kept
	changed  int64 // the last change of key that was observed since it began

	entry *entry[V]
	err   error
}

// flightContext ends with the cache's context, and has the values of a caller's.
type flightContext struct {
	context.Context
	values context.Context
}

func (c flightContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// prepare makes a flight that one caller waits for, the one of ctx. Somebody must run
// it, and then tell c.owned that it is done.
func (c *Cache[K, V]) prepare(ctx context.Context, key K) *flight[K, V] {
	own, cancel := context.WithCancelCause(flightContext{c.ctx, context.WithoutCancel(ctx)})
	c.owned.Add(1)
	return &flight[K, V]{key: key, begun: c.begin(), writes: c.writes.Load(), done: make(chan struct{}), ctx: own, cancel: cancel, waiters: 1}
}

// wait returns when f is done, or with ctx's error.
func (c *Cache[K, V]) wait(ctx context.Context, f *flight[K, V]) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		c.leave(f, ctx.Err())
		return ctx.Err()
	}
}

// leave is for a caller who gives up because of why. The last one cancels f.
func (c *Cache[K, V]) leave(f *flight[K, V], why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
	if f.waiters == 0 {
		c.detach(f)
		f.outdated = true // another load of the key may overtake it
		f.cancel(why)
	}
}

// detach keeps further callers from joining f.
func (c *Cache[K, V]) detach(f *flight[K, V]) {
	if c.polling == f {
		c.polling = nil
	} else if c.flights[f.key] == f {
		delete(c.flights, f.key)
	}
}

// land ends f.
func (c *Cache[K, V]) land(f *flight[K, V]) {
	if c.closed {
		f.err = ErrClosed
	}
	c.detach(f)
	f.cancel(nil)
	close(f.done)
}

// load is Get for a key that has no entry that may be served.
func (c *Cache[K, V]) load(ctx context.Context, r read[K, V]) (Result[V], error) {
	for again := false; ; again = true {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return Result[V]{}, ErrClosed
		}
		f := c.flights[r.key]
		joined := f != nil
		if !joined {
			if found, ok := c.store.GetEntryQuietly(r.key); ok && c.current(r, found.Value) {
				c.mu.Unlock()
				return c.hit(found.Value, c.clock.now(), c.feed.lastPolled(), nil), nil // another call has just loaded it
			}
			f = c.prepareLoad(ctx, r)
		} else {
			c.count.Shared++
			f.waiters++
		}
		if again {
			c.count.Late++
		} else {
			c.count.Misses++
		}
		c.mu.Unlock()
		if err := c.runOrWait(ctx, r, f, joined); err != nil {
			return Result[V]{}, err
		}
		// A load that others began may have begun too early for this caller. One that it
		// finds after that has begun since the call.
		late := joined && !again && f.err == nil && (f.begun.at < r.oldest() || !c.valid(f.entry))
		if !late {
			if f.err != nil {
				return Result[V]{}, f.err
			}
			return f.entry.result(false, nil, max(0, c.clock.now()-f.begun.at)), nil
		}
	}
}

// current reports that e can be served to r as it is.
func (c *Cache[K, V]) current(r read[K, V], e *entry[V]) bool {
	switch {
	case c.poll != nil:
		return c.feed.lastPolled() >= r.oldest() && c.valid(e)
	case r.fresh:
		return e.loaded >= r.begun && c.valid(e)
	}
	return c.valid(e)
}

func (c *Cache[K, V]) prepareLoad(ctx context.Context, r read[K, V]) *flight[K, V] {
	c.count.Loads++
	c.count.Loading++
	f := c.prepare(ctx, r.key)
	c.flights[r.key] = f
	return f
}

// runOrWait returns when f is done, or with ctx's error. Who has not joined f runs it.
func (c *Cache[K, V]) runOrWait(ctx context.Context, r read[K, V], f *flight[K, V], joined bool) error {
	switch {
	case joined:
	case c.opts.LoadInCaller:
		stop := context.AfterFunc(ctx, func() { c.leave(f, ctx.Err()) })
		c.runLoad(f, r.load)
		if !stop() {
			return ctx.Err()
		}
		return nil
	default:
		go c.runLoad(f, r.load)
	}
	return c.wait(ctx, f)
}

func (c *Cache[K, V]) runLoad(f *flight[K, V], load Load[K, V]) {
	defer c.owned.Done()
	l, err := load(f.ctx, f.begun.since)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Loading--
	f.err = err
	switch {
	case err == nil:
		c.apply(f.begun, l.Feed)
		f.entry = c.entryOf(f, l)
		if f.outdated || c.closed || !c.valid(f.entry) {
			c.count.Superseded++
		} else {
			c.keep(f.key, f.entry)
		}
	case f.waiters == 0 || c.closed:
		c.count.Cancelled++
	default:
		c.count.LoadFailures++
		c.forgetIfRefused(err)
	}
	c.land(f)
}
