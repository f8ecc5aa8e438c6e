package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"
)

// Feed is what one read of the database's change feed returned.
type Feed[K comparable] struct {
	// Seq is the number of the last change of all, 0 if there was none. If it is
	// less than the number that the read was to begin after, the database was
	// replaced by another one (such as a backup), and everything is forgotten.
	Seq int64
	// Changes has the last change of each key that has changed after the number that
	// the read was to begin after. Keys that the cache does not know may be left out.
	Changes []Change[K]
	// All says that there were too many changes to list them: everything that was
	// loaded before Seq is taken to have changed. If the read was to begin after 0
	// that is so in any case.
	All bool
}

// Change is the last change of a key.
type Change[K comparable] struct {
	Key K
	Seq int64
}

// feedState is what is known of the feed. It is read without a lock and changed
// under that of the cache.
type feedState struct {
	seq    atomic.Int64  // the last change known: all up to it have been applied
	floor  atomic.Int64  // entries of an earlier change are invalid
	epoch  atomic.Uint64 // counts replacements of the database
	polled atomic.Int64  // when the latest applied read of the feed began
}

// feedRead is the begin of a request that reads the feed.
type feedRead struct {
	since int64 // it asks for changes after this number
	at    time.Duration
	epoch uint64
}

// never is a time before all others that does not overflow when durations are
// subtracted from it.
const never = time.Duration(math.MinInt64 / 4)

// lastPolled returns when the latest read of the feed began that is applied.
func (s *feedState) lastPolled() time.Duration { return time.Duration(s.polled.Load()) }

// raise is called with the cache's lock held.
func raise(a *atomic.Int64, to int64) {
	if a.Load() < to {
		a.Store(to)
	}
}

// begin must be called before a request that reads the feed, with the lock held.
func (c *Cache[K, V]) begin() feedRead {
	return feedRead{since: c.feed.seq.Load(), at: c.clock.now(), epoch: c.feed.epoch.Load()}
}

// apply applies what a request has read of the feed. The lock is held. polled comes
// last: who reads that relies on the rest.
func (c *Cache[K, V]) apply(b feedRead, f Feed[K]) {
	if c.poll == nil || b.epoch != c.feed.epoch.Load() || c.closed {
		return
	}
	if f.Seq < b.since {
		c.forget()
	}
	if b.since == 0 || f.All {
		raise(&c.feed.floor, f.Seq)
	}
	for _, change := range f.Changes {
		// A load under way may come back with a value from before the change.
		if l := c.flights[change.Key]; l != nil {
			l.changed = max(l.changed, change.Seq)
		}
		found, ok := c.store.GetEntryQuietly(change.Key)
		switch {
		case !ok:
			c.store.Invalidate(change.Key) // it may have expired, and still be in the hands of a call
		case change.Seq > found.Value.seq && c.remove(change.Key, found.Value):
			c.count.InvalidatedRemote++
		}
	}
	raise(&c.feed.seq, f.Seq)
	raise(&c.feed.polled, int64(b.at))
}

// forget invalidates everything: another database has taken the place of this one, or
// it may not be read any more. The lock is held.
func (c *Cache[K, V]) forget() {
	c.feed.epoch.Add(1)
	c.feed.polled.Store(int64(never))
	c.feed.seq.Store(0)
	c.feed.floor.Store(0)
	c.store.InvalidateAll()
}

// pollSince returns when a read of the feed that began at oldest or later has been
// applied. If that fails, failed says why. err is that of ctx, or ErrClosed.
func (c *Cache[K, V]) pollSince(ctx context.Context, oldest time.Duration) (failed, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return nil, ErrClosed
		case c.feed.lastPolled() >= oldest:
			return nil, nil
		case c.clock.now() < c.nextPoll:
			return c.pollErr, nil
		case c.opts.PollEveryHit:
			return c.pollAlone(ctx)
		}
		f := c.polling
		if f != nil {
			f.waiters++
		} else {
			c.count.Polls++
			f = c.prepare(ctx, *new(K))
			c.polling = f
			go c.runPoll(f)
		}
		c.mu.Unlock()
		err = c.wait(ctx, f)
		c.mu.Lock()
		if err != nil {
			return nil, err
		}
		if f.err != nil && !c.closed {
			return f.err, nil
		}
		// A poll that others began may have begun too early for this caller.
	}
}

func (c *Cache[K, V]) runPoll(f *flight[K, V]) {
	defer c.owned.Done()
	ctx, cancel := context.WithTimeout(f.ctx, c.opts.PollTimeout)
	read, err := c.poll(ctx, f.begun.since)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) {
		// Not that of a caller, who would take it for the end of its own.
		err = fmt.Errorf("%s: %w", err, os.ErrDeadlineExceeded)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil || f.waiters > 0 && !c.closed { // else it was cancelled
		f.err = c.endPoll(f.begun, read, err)
	}
	c.land(f)
}

// pollAlone polls on the caller's goroutine. It gives up the lock meanwhile.
func (c *Cache[K, V]) pollAlone(ctx context.Context) (failed, err error) {
	c.count.Polls++
	c.owned.Add(1)
	begun := c.begin()
	c.mu.Unlock()
	read, err := c.poll(ctx, begun.since)
	c.mu.Lock()
	c.owned.Done()
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return c.endPoll(begun, read, err), nil
}

// endPoll notes the result of a poll.
func (c *Cache[K, V]) endPoll(b feedRead, f Feed[K], err error) error {
	if err == nil {
		c.apply(b, f)
		return nil
	}
	c.count.PollFailures++
	c.forgetIfRefused(err)
	c.pollErr, c.nextPoll = fmt.Errorf("poll the change feed: %w", err), c.clock.now()+pollPause
	return c.pollErr
}

// forgetIfRefused is called with the error of a poll or a load, and the lock held.
func (c *Cache[K, V]) forgetIfRefused(err error) {
	if c.opts.Refused != nil && c.opts.Refused(err) && !c.closed {
		c.forget()
	}
}

// unreachable reports whether a poll failed because the server cannot be reached.
func (c *Cache[K, V]) unreachable(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || c.opts.Unreachable != nil && c.opts.Unreachable(err)
}
