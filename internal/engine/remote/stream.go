package remote

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana"
)

const (
	// streamIdle is how long an unused stream is kept. It lies far below the 10 s
	// after which a server ends it: an idle stream holds one of the few permits
	// (128) that a server has for all its clients.
	streamIdle = 500 * time.Millisecond
	// A stream is kept once streamStreak exchanges have each begun within
	// streamGap after another ended. A caller who asks now and then so never pays
	// a request for closing one.
	streamGap    = streamIdle / 2
	streamStreak = 3

	// When the answer is lost that would have told how to go on with a stream, the
	// server holds it until it expires. After maxLeaks within leakTime none is kept
	// until that time is over.
	maxLeaks = 16
	leakTime = 10 * time.Second

	closeTimeout = time.Second // of closing a stream; Engine.Close may take as long
)

// streams keeps the hot streams of a server: opening one makes the server open
// the database and read its schema, half of the work of a small read. They
// belong to no connection; the one that was used last is used next, so that
// those too many grow cold and are closed.
type streams struct {
	opened, reused, closed, lost atomic.Uint64

	wake chan struct{} // capacity 1: there is a stream to be closed, now or later

	// mu guards everything below.
	mu     sync.Mutex
	idle   []idleStream // the longest unused first
	doomed []string     // not to be used any more
	ended  time.Time    // when the last exchange ended
	streak int
	armed  bool // tendStreams will look again by itself
	off    bool // the server wants its streams to be continued elsewhere
	leaks  int
	leaked time.Time // when the first of leaks was, at most leakTime before the last
}

type idleStream struct {
	baton string
	since time.Time
}

// begin is called before an exchange. It returns the stream to use, empty for a
// new one, and whether it is worth keeping afterwards.
func (s *streams) begin(now time.Time) (baton string, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.ended) > streamGap {
		s.streak = 0
	}
	s.streak++
	if n := len(s.idle); n > 0 {
		baton = s.idle[n-1].baton
		s.idle = s.idle[:n-1]
	}
	return baton, s.streak > streamStreak && !s.off && (s.leaks < maxLeaks || now.Sub(s.leaked) > leakTime)
}

// leak notes that a stream may be open of which nobody knows how to go on.
func (s *streams) leak(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.leaked) > leakTime {
		s.leaks, s.leaked = 0, now
	}
	s.leaks++
}

// end is called with the stream that an answer left open, empty if none. One
// that is not clean may have an open transaction and is not used again.
func (s *streams) end(now time.Time, baton string, clean bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = now
	switch {
	case baton == "":
		return
	case clean && !s.off:
		s.idle = append(s.idle, idleStream{baton, now})
		if s.armed {
			return
		}
		s.armed = true
	default:
		s.doomed = append(s.doomed, baton)
	}
	signal(s.wake)
}

// forget drops all streams: the server does not know them any more.
func (s *streams) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost.Add(uint64(len(s.idle) + len(s.doomed) + 1)) // and the one that showed it
	s.idle, s.doomed = nil, nil
}

// refuse has all streams closed and keeps none from now on.
func (s *streams) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	for _, stream := range s.idle {
		s.doomed = append(s.doomed, stream.baton)
	}
	s.idle = nil
}

// cold removes the streams to be closed at that moment, all of them if the
// engine is closing, and returns when the next ones are due.
func (s *streams) cold(now time.Time, all bool) (batons []string, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batons, s.doomed = s.doomed, nil
	n := 0
	for n < len(s.idle) && (all || now.Sub(s.idle[n].since) >= streamIdle) {
		batons = append(batons, s.idle[n].baton)
		n++
	}
	s.idle = s.idle[n:]
	if s.armed = len(s.idle) > 0; s.armed {
		return batons, streamIdle - now.Sub(s.idle[0].since)
	}
	return batons, time.Hour
}

// tendStreams closes streams that have grown cold, until the engine is closed,
// and then the rest.
func (e *Engine) tendStreams() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-e.streams.wake:
		case <-timer.C:
		case <-e.life.Done():
			batons, _ := e.streams.cold(time.Now(), true)
			var closers sync.WaitGroup
			for _, baton := range batons {
				closers.Go(func() { e.closeStream(baton) })
			}
			closers.Wait()
			return
		}
		batons, next := e.streams.cold(time.Now(), false)
		for _, baton := range batons {
			e.closeStream(baton)
		}
		timer.Reset(next)
	}
}

// closeStream closes one stream. If it cannot, the server does after 10 s.
func (e *Engine) closeStream(baton string) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	l, err := e.pool.Acquire(ctx)
	if err == nil {
		_, err = e.deliver(ctx, l, hrana.Pipeline{Baton: baton, Requests: []hrana.Request{hrana.Close{}}}, &e.upkeepBytes)
	}
	if err != nil {
		e.streams.lost.Add(1)
		return
	}
	e.streams.closed.Add(1)
}
