package feed

import (
	"context"
	"sync"
	"time"
)

const (
	// kept is how many changes a Hub keeps for watchers that are behind. Whoever is
	// further behind reads from the database.
	kept = 4096
	// coalesce is the least time between two reads of a Hub, in which changes gather.
	coalesce = 10 * time.Millisecond
	pageSize = 1000
)

// Source says how a Hub reads.
type Source struct {
	// Since reads changes, as the function Since does.
	Since func(ctx context.Context, since int64, limit int) (Page, error)
	// Changed tells, for less than Since costs, whether anything may have changed since
	// it was called last. Nil: that is not known.
	Changed func(ctx context.Context) (bool, error)
	// Interval is the time between two looks for changes of other processes.
	Interval time.Duration
}

// Hub reads the feed once for all its watchers. It polls only while somebody
// watches. Its methods may be called concurrently.
type Hub struct {
	source Source
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup
	kick   chan struct{} // capacity 1: this process has changed something

	mu       sync.Mutex // guards the fields below; nothing is waited for with it held
	watchers int
	stop     context.CancelFunc // ends the polling
	moved    chan struct{}      // closed when one of the following has changed
	recent   []Change
	floor    int64 // recent has all changes after it
	last     int64 // up to which has been read
	err      error // why the polling has ended
}

// NewHub returns a hub that nobody watches yet.
func NewHub(source Source) *Hub {
	h := &Hub{source: source, kick: make(chan struct{}, 1)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Close ends all watching, whose callers get the given error, and waits for the
// Hub's goroutine.
func (h *Hub) Close(err error) {
	h.mu.Lock()
	h.fail(err)
	h.mu.Unlock()
	h.cancel()
	h.wait.Wait()
}

// Kick makes the Hub look at once: this process has changed something.
func (h *Hub) Kick() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// fail ends the polling for all who watch now. The lock is held.
func (h *Hub) fail(err error) {
	h.err = err
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}

// Watch calls yield with each change after since, in order, and waits for more,
// until yield returns false (then the error is nil), ctx ends or reading fails.
func (h *Hub) Watch(ctx context.Context, since int64, yield func(Change) bool) error {
	for {
		page, err := h.source.Since(ctx, since, pageSize)
		if err != nil {
			return err
		}
		for _, c := range page.Changes {
			if !yield(c) {
				return nil
			}
		}
		since = page.Last
		if !page.More {
			break
		}
	}
	if err := h.join(since); err != nil {
		return err
	}
	defer h.leave()
	for {
		news, last, moved, err := h.after(since)
		if moved == nil && err == nil { // too far behind for what is kept
			page, err := h.source.Since(ctx, since, pageSize)
			if err != nil {
				return err
			}
			news, last = page.Changes, page.Last
		}
		for _, c := range news {
			if !yield(c) {
				return nil
			}
		}
		if err != nil {
			return err
		}
		if last > since {
			since = last
			continue
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// join counts a watcher that has read up to since, the first of whom starts the
// polling from there.
func (h *Hub) join(since int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return h.err
	}
	if h.watchers++; h.watchers > 1 && h.err == nil {
		return nil
	}
	if h.stop != nil {
		h.stop()
	}
	var ctx context.Context
	ctx, h.stop = context.WithCancel(h.ctx)
	h.recent, h.floor, h.last, h.err = nil, since, since, nil
	h.moved = make(chan struct{})
	h.wait.Go(func() { h.poll(ctx) })
	return nil
}

func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers--; h.watchers == 0 {
		h.stop()
	}
}

// after returns the kept changes after since, up to which number that is all, and a
// channel that is closed when there are more; a nil channel if not all are kept.
func (h *Hub) after(since int64) (news []Change, last int64, moved <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return nil, 0, nil, h.err
	}
	if since < h.floor {
		return nil, 0, nil, nil
	}
	i := len(h.recent)
	for i > 0 && h.recent[i-1].Seq > since {
		i--
	}
	return append([]Change(nil), h.recent[i:]...), max(since, h.last), h.moved, nil
}

func (h *Hub) poll(ctx context.Context) {
	timer := time.NewTimer(h.source.Interval)
	defer timer.Stop()
	for more := true; ; {
		if more || h.changed(ctx) {
			page, err := h.source.Since(ctx, h.position(), pageSize)
			if !h.publish(ctx, page, err) {
				return
			}
			more = page.More
		}
		if more {
			continue
		}
		timer.Reset(coalesce)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		timer.Reset(h.source.Interval)
		select {
		case <-timer.C:
		case <-h.kick:
		case <-ctx.Done():
			return
		}
	}
}

// changed reports that something may have changed. An error is left to Since.
func (h *Hub) changed(ctx context.Context) bool {
	if h.source.Changed == nil {
		return true
	}
	changed, err := h.source.Changed(ctx)
	return changed || err != nil
}

func (h *Hub) position() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// publish hands a page to the watchers; false means that the polling is over.
func (h *Hub) publish(ctx context.Context, page Page, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		h.fail(err)
		return false
	case page.Last == h.last:
		return true
	}
	h.recent = append(h.recent, page.Changes...)
	if n := len(h.recent) - kept; n > 0 {
		h.floor = h.recent[n-1].Seq
		h.recent = append([]Change(nil), h.recent[n:]...)
	}
	h.last = page.Last
	close(h.moved)
	h.moved = make(chan struct{})
	return true
}
