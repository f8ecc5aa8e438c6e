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
	// streamGap after another ended. Occasional calls so never cost
	// a request for closing a stream.
	streamGap    = streamIdle / 2
	streamStreak = 3

	// A stream whose baton was in a lost answer is an orphan: the server holds it
	// until it expires. After maxOrphans within orphanTime no stream is kept until
	// that time is over.
	maxOrphans = 16
	orphanTime = 10 * time.Second

	// Behind a balancer that spreads requests over servers most streams are asked for at a
	// server that does not know them. After maxStrays of those within strayTime, and fewer
	// than strayReuses streams that were known in between, no stream is kept for strayRest.
	maxStrays   = 3
	strayTime   = 10 * time.Second
	strayReuses = 20
	strayRest   = time.Minute

	closeTimeout = time.Second // of closing a stream; Engine.Close may take as long
)

// streams keeps streams of the server for reuse: opening one makes the server open
// the database and read its schema, half of the work of a small read. They belong
// to no connection. The one used last is used next, so that surplus ones stay idle
// and are closed.
type streams struct {
	opened, reused, closed, lost atomic.Uint64

	wake chan struct{} // capacity 1: there is a stream to be closed, now or later

	// mu guards everything below.
	mu       sync.Mutex
	idle     []idleStream // the longest unused first
	toClose  []string     // not to be used any more
	ended    time.Time    // when the last exchange ended
	streak   int
	armed    bool      // closeIdleStreams has its timer set
	off      bool      // the server wants its streams to be continued elsewhere
	strays   int       // that followed one another; see maxStrays
	strayed  time.Time // when the last of them did
	reuses   uint64    // reused at that time
	resting  time.Time // when it was found that requests are spread
	orphans  int
	orphaned time.Time // when the first of orphans was, at most orphanTime before the last
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
	return baton, s.streak > streamStreak && !s.off && now.Sub(s.resting) > strayRest && (s.orphans < maxOrphans || now.Sub(s.orphaned) > orphanTime)
}

// noteOrphan records that the server may hold a stream whose baton was lost.
func (s *streams) noteOrphan(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.orphaned) > orphanTime {
		s.orphans, s.orphaned = 0, now
	}
	s.orphans++
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
		s.toClose = append(s.toClose, baton)
	}
	signal(s.wake)
}

// dropAll drops all streams, which the server no longer knows, and returns how many
// they were with the one that showed it, in an exchange that began then.
func (s *streams) dropAll(began, now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if began.After(s.strayed) { // else it is another sign of the same restart
		reuses := s.reused.Load()
		if now.Sub(s.strayed) > strayTime || reuses-s.reuses >= strayReuses {
			s.strays = 0
		}
		s.strays++
		s.strayed, s.reuses = now, reuses
		if s.strays == maxStrays {
			s.strays, s.resting = 0, now
		}
	}
	n := len(s.idle) + len(s.toClose) + 1
	s.lost.Add(uint64(n))
	s.idle, s.toClose = nil, nil
	return n
}

// disable has all streams closed and keeps none from now on.
func (s *streams) disable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	for _, stream := range s.idle {
		s.toClose = append(s.toClose, stream.baton)
	}
	s.idle = nil
}

// due removes and returns the streams to be closed now, all of them if the engine
// is closing, and says in how long the next ones are due.
func (s *streams) due(now time.Time, all bool) (batons []string, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batons, s.toClose = s.toClose, nil
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

// closeIdleStreams closes streams that were not used for streamIdle, and the rest
// when the engine is closed.
func (e *Engine) closeIdleStreams() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-e.streams.wake:
		case <-timer.C:
		case <-e.life.Done():
			batons, _ := e.streams.due(time.Now(), true)
			var closers sync.WaitGroup
			for _, baton := range batons {
				closers.Go(func() { e.closeStream(baton) })
			}
			closers.Wait()
			return
		}
		batons, next := e.streams.due(time.Now(), false)
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
		e.streamLost(ctx, e.loggable(err))
		return
	}
	e.streams.closed.Add(1)
}
