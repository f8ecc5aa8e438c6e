package pool

import (
	"context"
	"time"
)

// waiter is a caller in the queue.
type waiter[C comparable] struct {
	ctx   context.Context
	since time.Duration
	ready chan grant[C] // capacity 1, so that whoever settles the waiter never waits for it

	// failedDials is what Pool.failedDials was when the caller came.
	failedDials uint64

	queued     bool // the queue holds it; false: something is in ready
	prev, next *waiter[C]
}

// grant is the end of a wait: a lent connection or an error.
type grant[C comparable] struct {
	h   *handle[C]
	err error
}

// queue holds the waiters in the order of their arrival.
type queue[C comparable] struct {
	first, last *waiter[C]
	len         int
}

func (q *queue[C]) push(w *waiter[C]) {
	w.queued, w.prev = true, q.last
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.len++
}

func (q *queue[C]) remove(w *waiter[C]) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.queued, w.prev, w.next = false, nil, nil
	q.len--
}

// firstAlive returns the first waiter whose context is not over. The others take
// themselves out.
func (q *queue[C]) firstAlive() *waiter[C] {
	w := q.first
	for w != nil && w.ctx.Err() != nil {
		w = w.next
	}
	return w
}

// oldest returns how long the first waiter has waited.
func (q *queue[C]) oldest(now time.Duration) time.Duration {
	if q.first == nil {
		return 0
	}
	return now - q.first.since
}
