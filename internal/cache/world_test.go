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

var errDown = errors.New("server is down")

// everything is a key whose value depends on all others.
const everything = "everything"

// world is a database with a clock, on virtual time, that remembers all its
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
	last   map[int]int64 // by group, its last change
	values map[string]int64

	history map[string][]version // by key, what it was and is

	loads, polls int
	ended        int // requests ended by their context
}

// version is a value and when it was written.
type version struct {
	value int64
	at    time.Time
}

func newWorld(way time.Duration) *world {
	return &world{way: func() time.Duration { return way }, cost: 100, last: map[int]int64{}, values: map[string]int64{}, history: map[string][]version{}}
}

// groupOf puts a and b into one group, c and d into the next, and so on.
func groupOf(key string) int {
	if key == everything {
		return Everything
	}
	return int(key[0]-'a') / 2
}

// write changes keys at once, and says nothing to any cache.
func (w *world) write(keys ...string) { w.set(func() { w.change(keys...) }) }

// change is to be called on the server.
func (w *world) change(keys ...string) {
	for _, key := range keys {
		w.seq++
		w.last[groupOf(key)] = w.seq
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
	maps.DeleteFunc(w.last, func(_ int, s int64) bool { return s > seq })
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

// look is to be called on the server.
func (w *world) look(since int64) Look {
	l := Look{Seq: w.seq}
	for group, seq := range w.last {
		if seq > since && since > 0 { // the first look need not tell
			l.Changes = append(l.Changes, Change{Group: group, Seq: seq})
		}
	}
	return l
}

func (w *world) load(ctx context.Context, key string, since int64) (l Loaded[int64], err error) {
	w.set(func() { w.loads++ })
	err = w.request(ctx, func() {
		value, ok := w.values[key]
		l = Loaded[int64]{Value: value, Missing: !ok, Cost: w.cost, Group: groupOf(key), Version: uint64(value), Look: w.look(since)}
	})
	return l, err
}

func (w *world) poll(ctx context.Context, since int64) (l Look, err error) {
	w.set(func() { w.polls++ })
	err = w.request(ctx, func() { l = w.look(since) })
	return l, err
}

func (w *world) source() Source[string, int64] {
	return Source[string, int64]{Load: w.load, Poll: w.poll}
}

// loaded returns a world in which keys were written one after the other, and a
// cache that has loaded them since.
func loaded(t *testing.T, way time.Duration, opts Options, keys ...string) (*world, *Cache[string, int64]) {
	t.Helper()
	w := newWorld(way)
	w.write(keys...)
	c := open(t, w.source(), opts)
	for i, key := range keys {
		get(t, c, key, int64(1+i))
	}
	return w, c
}

// observe says what a round trip saw of the clock.
func observe(c *Cache[string, int64], b moment, l Look) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observe(b, l)
}

// open returns a cache without jitter, which is checked and closed at the end.
func open(t *testing.T, source Source[string, int64], opts Options) *Cache[string, int64] {
	t.Helper()
	c, err := New(source, opts)
	if err != nil {
		t.Fatal(err)
	}
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
func checkLaws(t *testing.T, c *Cache[string, int64]) {
	t.Helper()
	s := c.Stats()
	gone := s.Evicted + s.Expired + s.InvalidatedOwn + s.InvalidatedForeign + s.Replaced + s.Cleared
	if s.Loads != s.Stored+s.Discarded+s.LoadFailures+s.Abandoned+uint64(s.Loading) ||
		s.Misses+s.Late != s.Loads-s.Refreshes+s.Shared ||
		s.Stored != uint64(s.Entries)+s.TTLs.Count || s.TTLs.Count != gone {
		t.Errorf("counters do not add up: %+v", s)
	}
}

// bubble runs f on virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// get expects the value of key; 0 is missing.
func get(t *testing.T, c *Cache[string, int64], key string, want int64) Result[int64] {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	if err != nil || r.Value != want || r.Found != (want != 0) {
		t.Fatalf("%s: %+v, %v; expected %d", key, r, err, want)
	}
	return r
}

// expect compares a counter.
func expect[N int | int64 | uint64](t *testing.T, what string, got, want N) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %d, not %d", what, got, want)
	}
}
