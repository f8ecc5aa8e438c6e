package cache

import (
	"context"
	"fmt"
	"time"
)

// flight is a load or a poll under way. The cache's lock guards it but for what
// never changes, and for entry and err, which may be read once done is closed.
type flight[K comparable, V any] struct {
	key    K // of a load
	begun  moment
	writes uint64 // Cache.writes when it began
	done   chan struct{}
	cancel context.CancelFunc

	waiters  int  // callers; a refresh has one for ever
	outdated bool // what it loads must not be kept

	entry *entry[V]
	err   error
}

// launch starts a flight that one waits for.
func (c *Cache[K, V]) launch(key K, run func(context.Context, *flight[K, V])) *flight[K, V] {
	ctx, cancel := context.WithCancel(c.ctx)
	f := &flight[K, V]{key: key, begun: c.begin(), writes: c.writes.Load(), done: make(chan struct{}), cancel: cancel, waiters: 1}
	c.owned.Go(func() { run(ctx, f) })
	return f
}

// wait returns when f is done, or with ctx's error. The last one who goes ends f.
func (c *Cache[K, V]) wait(ctx context.Context, f *flight[K, V]) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
	if f.waiters == 0 {
		c.detach(f)
		f.outdated = true // another load of the key may overtake it
		f.cancel()
	}
	return ctx.Err()
}

// detach keeps further callers from joining f.
func (c *Cache[K, V]) detach(f *flight[K, V]) {
	if c.poll == f {
		c.poll = nil
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
	f.cancel()
	close(f.done)
}

// load is Get for a key that had no valid entry. start is when the call began.
func (c *Cache[K, V]) load(ctx context.Context, key K, start time.Duration) (Result[V], error) {
	oldest := start - c.clock.interval
	for again := false; ; again = true {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return Result[V]{}, ErrClosed
		}
		f := c.flights[key]
		joined := f != nil
		if !joined {
			if found, ok := c.store.GetEntryQuietly(key); ok && c.clock.lookedSince(oldest) && c.valid(found.Value) {
				c.mu.Unlock()
				return c.hit(key, found.Value, start, nil), nil // it has just come
			}
			deadline, _ := ctx.Deadline()
			f = c.startLoad(key, deadline)
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
		if err := c.wait(ctx, f); err != nil {
			return Result[V]{}, err
		}
		// A load that others began may have begun too early for this caller. One that it
		// finds after that has begun since the call.
		late := joined && !again && f.err == nil && (f.begun.at < oldest || !c.valid(f.entry))
		if !late {
			if f.err != nil {
				return Result[V]{}, f.err
			}
			return f.entry.result(nil), nil
		}
	}
}

// refresh loads key in the background.
func (c *Cache[K, V]) refresh(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.flights[key] == nil {
		c.count.Refreshes++
		c.startLoad(key, time.Time{})
	}
}

// deadlineKey is the context key of when who began a load gives up.
type deadlineKey struct{}

// Deadline returns when the caller gives up who began the load with this context;
// the zero time if that is never. The load goes on if others wait for it, so it is
// no deadline of the context, but a source may divide its time by it.
func Deadline(ctx context.Context) time.Time {
	deadline, _ := ctx.Value(deadlineKey{}).(time.Time)
	return deadline
}

func (c *Cache[K, V]) startLoad(key K, deadline time.Time) *flight[K, V] {
	c.count.Loads++
	c.count.Loading++
	f := c.launch(key, func(ctx context.Context, f *flight[K, V]) {
		c.runLoad(context.WithValue(ctx, deadlineKey{}, deadline), f)
	})
	c.flights[key] = f
	return f
}

func (c *Cache[K, V]) runLoad(ctx context.Context, f *flight[K, V]) {
	l, err := c.source.Load(ctx, f.key, f.begun.since)
	if err == nil && (l.Group < Everything || l.Group >= c.opts.Groups) {
		err = fmt.Errorf("load into cache: there is no group %d, they are %d", l.Group, c.opts.Groups)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Loading--
	f.err = err
	switch {
	case err == nil:
		c.observe(f.begun, l.Look)
		f.entry = c.entryOf(f, l)
		if f.outdated || c.closed || !c.valid(f.entry) {
			c.count.Discarded++
		} else {
			c.keep(f.key, f.entry, l.Version)
		}
	case f.waiters == 0 || c.closed:
		c.count.Abandoned++
	default:
		c.count.LoadFailures++
	}
	c.land(f)
}
