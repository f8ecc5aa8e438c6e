package pool

import (
	"context"
	"time"
)

// waiter is a caller of Acquire in the queue.
type waiter[C comparable] struct {
	ctx   context.Context
	since time.Duration
	ready chan waitResult[C] // capacity 1, so that sending never blocks

	// failedDials is Pool.failedDials when the wait began.
	failedDials uint64

	queued     bool // in the queue; otherwise ready holds the result
	prev, next *waiter[C]
}

// waitResult ends a wait: an acquired connection or an error.
type waitResult[C comparable] struct {
	h   *handle[C]
	err error
}

// queue is a FIFO queue of waiters.
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

// firstLive returns the first waiter whose context is not done, or nil. Waiters whose
// context is done remove themselves.
func (q *queue[C]) firstLive() *waiter[C] {
	w := q.first
	for w != nil && w.ctx.Err() != nil {
		w = w.next
	}
	return w
}

// oldest returns how long the first waiter has waited, 0 if there is none.
func (q *queue[C]) oldest(now time.Duration) time.Duration {
	if q.first == nil {
		return 0
	}
	return now - q.first.since
}
