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

// Everything is the group of values that any change may make wrong, such as the
// result of a search.
const Everything = -1

// Change is the last change that happened in a group of keys.
type Change struct {
	Group int   // 0 to Options.Groups-1; changes of others show in Everything alone
	Seq   int64 // the number that the clock gave it
}

// Look is what a look at the clock showed.
type Look struct {
	// Seq is the number of the last change of all, 0 if there was none. If it is
	// less than what the look was to begin at, another database has taken the
	// place of this one (it was restored), and everything is forgotten.
	Seq int64
	// Changes are the groups in which something has changed since the number that
	// the look was to begin at. If that is 0 they need not be told: what
	// was loaded before this look is then taken to have changed.
	Changes []Change
	// All says that there are more changes than were told: everything that was loaded
	// before this look is then taken to have changed.
	All bool
}

// moment is when a round trip that looks at the clock began.
type moment struct {
	since int64 // the look is for changes after this number
	at    time.Duration
	epoch uint64
}

// clock is what is known of the database's clock. It is read without a lock and
// changed under that of the cache.
type clock struct {
	used     bool          // false: there is none
	interval time.Duration // for which a look is good

	known  []atomic.Int64 // by group, the number of its last change
	seq    atomic.Int64   // the number of the last change of all
	epoch  atomic.Uint64  // how often all was forgotten
	looked atomic.Int64   // when the latest look began
}

// never is a moment that stays in the past of all others without overflowing
// when durations are taken from it.
const never = time.Duration(math.MinInt64 / 4)

func (k *clock) init(o Options, used bool) {
	k.used = used
	k.interval = max(0, o.PollInterval)
	k.known = make([]atomic.Int64, o.Groups)
	k.looked.Store(int64(never))
}

// lookedSince reports that a look began at t or later, or that none is needed.
func (k *clock) lookedSince(t time.Duration) bool {
	return time.Duration(k.looked.Load()) >= t || !k.used
}

// unchanged reports that no change of group after seq is known.
func (k *clock) unchanged(group int, epoch uint64, seq int64) bool {
	last := &k.seq
	if group != Everything {
		last = &k.known[group]
	}
	return seq >= last.Load() && epoch == k.epoch.Load()
}

// forget makes everything that was loaded before this moment wrong.
func (k *clock) forget() {
	k.epoch.Add(1)
	k.looked.Store(int64(never))
	k.seq.Store(0)
	for i := range k.known {
		k.known[i].Store(0)
	}
}

// observe notes what a look showed; looked comes last, because whoever reads it
// relies on the rest.
func (k *clock) observe(b moment, l Look) {
	if b.since == 0 || l.All { // nobody says what has changed
		for i := range k.known {
			raise(&k.known[i], l.Seq)
		}
	}
	for _, change := range l.Changes {
		if change.Group >= 0 && change.Group < len(k.known) {
			raise(&k.known[change.Group], change.Seq)
		}
	}
	raise(&k.seq, l.Seq)
	raise(&k.looked, int64(b.at))
}

func raise(a *atomic.Int64, to int64) {
	if a.Load() < to {
		a.Store(to)
	}
}

// begin must be called before a round trip that looks at the clock.
func (c *Cache[K, V]) begin() moment {
	at := c.watch.now()
	epoch := c.clock.epoch.Load() // before the number: a look that mixes two is ignored
	return moment{since: c.clock.seq.Load(), at: at, epoch: epoch}
}

// observe notes what a round trip saw of the clock. The lock is held.
func (c *Cache[K, V]) observe(b moment, l Look) {
	if !c.clock.used || b.epoch != c.clock.epoch.Load() || c.closed {
		return
	}
	if l.Seq < b.since {
		c.clock.forget()
		c.store.InvalidateAll()
	}
	c.clock.observe(b, l)
}

// look returns when the clock was looked at within PollInterval before start. If
// that fails, failed says why. err is that of ctx, or ErrClosed.
func (c *Cache[K, V]) look(ctx context.Context, start time.Duration) (failed, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return nil, ErrClosed
		case c.clock.lookedSince(start - c.clock.interval):
			return nil, nil
		case c.watch.now() < c.pollAt:
			return c.pollErr, nil
		case c.clock.interval == 0:
			return c.pollAlone(ctx)
		}
		f := c.poll
		if f != nil {
			f.waiters++
		} else {
			c.count.Polls++
			f = c.launch(*new(K), c.runPoll)
			c.poll = f
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

func (c *Cache[K, V]) runPoll(ctx context.Context, f *flight[K, V]) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.PollTimeout)
	l, err := c.source.Poll(ctx, f.begun.since)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) {
		// Not that of a caller, who would take it for the end of its own.
		err = fmt.Errorf("%s: %w", err, os.ErrDeadlineExceeded)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil || f.waiters > 0 && !c.closed { // else it was ended
		f.err = c.polled(f.begun, l, err)
	}
	c.land(f)
}

// pollAlone polls on the caller's goroutine. It gives up the lock meanwhile.
func (c *Cache[K, V]) pollAlone(ctx context.Context) (failed, err error) {
	c.count.Polls++
	c.owned.Add(1)
	begun := c.begin()
	c.mu.Unlock()
	l, err := c.source.Poll(ctx, begun.since)
	c.mu.Lock()
	c.owned.Done()
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return c.polled(begun, l, err), nil
}

// polled notes what became of a poll.
func (c *Cache[K, V]) polled(b moment, l Look, err error) error {
	if err == nil {
		c.observe(b, l)
		return nil
	}
	c.count.PollFailures++
	c.pollErr, c.pollAt = fmt.Errorf("look whether the cache is up to date: %w", err), c.watch.now()+pollPause
	return c.pollErr
}
