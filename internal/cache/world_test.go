package cache

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errDown    = errors.New("server is down")
	errRefused = errors.New("server refuses")
)

// everything is a key whose value depends on all others.
const everything = "everything"

// world is a database with a change feed, on virtual time, that remembers all its
// versions. The value of a key is the number of its last change, that of
// everything the number of the last change of all. A key that was never written
// is missing.
type world struct {
	mu     sync.Mutex
	way    func() time.Duration // that a request takes to the server or back
	cost   int
	err    error // what requests end with
	hang   bool  // requests are not answered, which is noticed after 15 s
	seq    int64
	last   map[string]int64 // by key, its last change
	values map[string]int64

	history map[string][]version // by key, what it was and is

	all bool // the feed does not list changes

	loads, polls int
	ended        int // requests ended by their context
}

// version is a value and when it was written.
type version struct {
	value int64
	at    time.Time
}

func newWorld(way time.Duration) *world {
	return &world{way: func() time.Duration { return way }, cost: 100, last: map[string]int64{}, values: map[string]int64{}, history: map[string][]version{}}
}

// write changes keys at once, and says nothing to any cache.
func (w *world) write(keys ...string) { w.set(func() { w.change(keys...) }) }

// change is to be called on the server.
func (w *world) change(keys ...string) {
	for _, key := range keys {
		w.seq++
		w.last[key] = w.seq
		for _, k := range []string{key, everything} {
			w.values[k] = w.seq
			w.history[k] = append(w.history[k], version{w.seq, time.Now()})
		}
	}
}

// rightUntil returns when the value of key was no longer value; false: it is.
func (w *world) rightUntil(key string, value int64) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.history[key] {
		if v.value > value {
			return v.at, true
		}
	}
	return time.Time{}, false
}

// restore takes the database back to a moment after which nothing is known.
func (w *world) restore(seq int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq = seq
	maps.DeleteFunc(w.values, func(_ string, s int64) bool { return s > seq })
	maps.DeleteFunc(w.last, func(_ string, s int64) bool { return s > seq })
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// request takes its time to the server and back, and does f there.
func (w *world) request(ctx context.Context, f func()) error {
	if err := w.travel(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	err := w.err
	if err == nil {
		f()
	}
	w.mu.Unlock()
	if late := w.travel(ctx); late != nil {
		return late
	}
	return err
}

func (w *world) travel(ctx context.Context) error {
	w.mu.Lock()
	takes, hang := w.way(), w.hang
	if hang {
		takes = 15 * time.Second
	}
	w.mu.Unlock()
	way := time.NewTimer(takes)
	defer way.Stop()
	select {
	case <-way.C:
		if hang {
			return errDown
		}
		return nil
	case <-ctx.Done():
		w.set(func() { w.ended++ })
		return ctx.Err()
	}
}

// feed is to be called on the server.
func (w *world) feed(since int64) Feed[string] {
	f := Feed[string]{Seq: w.seq, All: w.all && since > 0}
	for key, seq := range w.last {
		if seq > since && since > 0 && !w.all {
			f.Changes = append(f.Changes, Change[string]{Key: key, Seq: seq})
		}
	}
	return f
}

func (w *world) load(ctx context.Context, key string, since int64) (l Loaded[string, int64], err error) {
	w.set(func() { w.loads++ })
	err = w.request(ctx, func() {
		value, ok := w.values[key]
		l = Loaded[string, int64]{Value: value, Missing: !ok, Size: w.cost, AnyChange: key == everything, Feed: w.feed(since)}
	})
	return l, err
}

func (w *world) poll(ctx context.Context, since int64) (f Feed[string], err error) {
	w.set(func() { w.polls++ })
	err = w.request(ctx, func() { f = w.feed(since) })
	return f, err
}

// testCache is a cache whose values all come from one function.
type testCache struct {
	*Cache[string, int64]
	source func(ctx context.Context, key string, since int64) (Loaded[string, int64], error)
}

func (c *testCache) from(key string) Load[string, int64] {
	return func(ctx context.Context, since int64) (Loaded[string, int64], error) {
		return c.source(ctx, key, since)
	}
}

func (c *testCache) Get(ctx context.Context, key string) (Result[int64], error) {
	return c.Cache.Get(ctx, key, c.from(key))
}

// loaded returns a world in which keys were written one after the other, and a
// cache that has loaded them since.
func loaded(t *testing.T, way time.Duration, opts Options, keys ...string) (*world, *testCache) {
	t.Helper()
	w := newWorld(way)
	w.write(keys...)
	c := open(t, w.load, w.poll, opts)
	for i, key := range keys {
		get(t, c, key, int64(1+i))
	}
	return w, c
}

// begin begins a request that reads the feed.
func begin(c *testCache) feedRead {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begin()
}

// apply applies what such a request has read.
func apply(c *testCache, b feedRead, f Feed[string]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(b, f)
}

// open returns a cache without jitter, which is checked and closed at the end.
func open(t *testing.T, source func(context.Context, string, int64) (Loaded[string, int64], error), poll Poll[string], opts Options) *testCache {
	t.Helper()
	opts.Unreachable = func(err error) bool { return errors.Is(err, errDown) }
	opts.Refused = func(err error) bool { return errors.Is(err, errRefused) }
	cache, err := New[string, int64](poll, opts)
	if err != nil {
		t.Fatal(err)
	}
	c := &testCache{cache, source}
	c.rand = func() float64 { return 0.5 }
	t.Cleanup(func() {
		c.Close()
		checkLaws(t, c)
		if s := c.Stats(); s.Entries != 0 || s.Bytes != 0 || s.Loading != 0 {
			t.Errorf("after Close: %+v", s)
		}
	})
	return c
}

// checkLaws checks what Stats promises when nothing is under way.
func checkLaws(t *testing.T, c *testCache) {
	t.Helper()
	s := c.Stats()
	removed := s.Evicted + s.Expired + s.InvalidatedLocal + s.InvalidatedRemote + s.Replaced + s.Cleared
	if s.Loads != s.Stored+s.Superseded+s.LoadFailures+s.Cancelled+uint64(s.Loading) ||
		s.Misses+s.Late != s.Loads+s.Shared || s.Stored != uint64(s.Entries)+removed {
		t.Errorf("counters do not add up: %+v", s)
	}
}

// bubble runs f on virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// get expects the value of key; 0 is missing.
func get(t *testing.T, c *testCache, key string, want int64) Result[int64] {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	if err != nil || r.Value != want || r.Found != (want != 0) {
		t.Fatalf("%s: %+v, %v; expected %d", key, r, err, want)
	}
	return r
}

// expect compares a counter.
func expect[N comparable](t *testing.T, what string, got, want N) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, not %v", what, got, want)
	}
}
