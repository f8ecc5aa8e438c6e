package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

// sleepStep is the shortest sleep of the machine that is noticed.
const sleepStep = time.Second

// clock tells the time since it was made. Unlike the monotonic clock it goes on
// while the machine sleeps, and unlike the wall clock it never goes back: an entry
// must not seem fresh because a laptop was closed.
type clock struct {
	started time.Time
	ahead   atomic.Int64 // wall clock ahead of the monotonic one, when last compared
	slept   atomic.Int64 // to be added to the monotonic clock
	mu      sync.Mutex   // for writing both
	ticker  *time.Ticker // of the store
}

func newClock() *clock { return &clock{started: time.Now()} }

func (c *clock) now() time.Duration { return time.Duration(c.NowNano()) }

// NowNano implements otter.Clock.
func (c *clock) NowNano() int64 {
	t := time.Now()
	mono := int64(t.Sub(c.started))
	ahead := int64(t.Round(0).Sub(c.started.Round(0))) - mono // Round strips the monotonic clock
	if d := ahead - c.ahead.Load(); d >= int64(sleepStep) || d <= -int64(sleepStep) {
		c.jump(ahead)
	}
	return mono + c.slept.Load()
}

// jump notes that the wall clock has moved against the monotonic one: forward
// because the machine slept, or because it was set.
func (c *clock) jump(ahead int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept.Add(max(0, ahead-c.ahead.Load()))
	c.ahead.Store(ahead)
}

// Tick implements otter.Clock.
func (c *clock) Tick(d time.Duration) <-chan time.Time {
	c.ticker = time.NewTicker(d)
	return c.ticker.C
}

// stop must be called when the store has stopped.
func (c *clock) stop() { c.ticker.Stop() }
