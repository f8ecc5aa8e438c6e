package replica

import (
	"sync"
	"time"
)

// rounds lets callers wait for a pull that began late enough. It starts none itself.
type rounds struct {
	mu      sync.Mutex
	waiting map[*waiter]struct{}
}

// waiter waits for a pull that began at floor or later.
type waiter struct {
	floor time.Time
	done  chan error // capacity 1
}

func (q *rounds) join(floor time.Time) *waiter {
	w := &waiter{floor, make(chan error, 1)}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = make(map[*waiter]struct{})
	}
	q.waiting[w] = struct{}{}
	return w
}

func (q *rounds) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, w)
}

// floor is the latest one that is waited for; zero if nobody waits.
func (q *rounds) floor() (t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for w := range q.waiting {
		if w.floor.After(t) {
			t = w.floor
		}
	}
	return t
}

// reached ends the waiting for floors up to a time.
func (q *rounds) reached(at time.Time) {
	q.end(nil, func(w *waiter) bool { return !w.floor.After(at) })
}

// fail ends all waiting. The error is nil for a pull that needs more pages.
func (q *rounds) fail(err error) { q.end(err, func(*waiter) bool { return true }) }

func (q *rounds) end(err error, which func(*waiter) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for w := range q.waiting {
		if which(w) {
			w.done <- err
			delete(q.waiting, w)
		}
	}
}
