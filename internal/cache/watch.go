package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

// sleepStep is the least sleep of the machine that is noticed.
const sleepStep = time.Second

// watch tells the time since it was made. Unlike the monotonic clock it goes on
// while the machine sleeps, and unlike the wall clock never back: an entry must
// not seem fresh because a laptop was closed.
type watch struct {
	epoch  time.Time
	ahead  atomic.Int64 // wall clock ahead of the monotonic one, when last noted
	slept  atomic.Int64 // to be added to the monotonic clock
	mu     sync.Mutex   // for writing both
	ticker *time.Ticker // of the store
}

func newWatch() *watch { return &watch{epoch: time.Now()} }

func (w *watch) now() time.Duration { return time.Duration(w.NowNano()) }

// NowNano implements otter.Clock.
func (w *watch) NowNano() int64 {
	t := time.Now()
	mono := int64(t.Sub(w.epoch))
	ahead := int64(t.Round(0).Sub(w.epoch.Round(0))) - mono // Round strips the monotonic clock
	if d := ahead - w.ahead.Load(); d >= int64(sleepStep) || d <= -int64(sleepStep) {
		w.jump(ahead)
	}
	return mono + w.slept.Load()
}

// jump notes that the wall clock has moved against the monotonic one: forward
// because the machine slept, or it was set.
func (w *watch) jump(ahead int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slept.Add(max(0, ahead-w.ahead.Load()))
	w.ahead.Store(ahead)
}

// Tick implements otter.Clock.
func (w *watch) Tick(d time.Duration) <-chan time.Time {
	w.ticker = time.NewTicker(d)
	return w.ticker.C
}

// stop must be called when the store has stopped.
func (w *watch) stop() { w.ticker.Stop() }
