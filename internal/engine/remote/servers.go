package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// A database may have several servers: the primary, to which all writes go, and replicas,
// which answer reads too. Each has an engine of its own, with its connections, streams
// and breaker; the engines of replicas write nothing.
const (
	// A read that has no answer from one server within firstTry is asked for at another.
	firstTry = 2 * time.Second
	// Servers that answer within nearTimes the time of the nearest and nearMore count as
	// equally near, and share the reads.
	nearTimes = 2
	nearMore  = 5 * time.Millisecond
	// The first answers of a server take longer: connections are dialled for them.
	firstReads = 3
	// When all have failed they are asked again, with pauses of againAfter, for againFor: when
	// a primary was killed its replicas may be behind for about a second.
	againAfter = 100 * time.Millisecond
	againFor   = 3 * time.Second
	// One that failed is tried again after downFor, one that is farther after farTimes the
	// time of its answer.
	downFor  = time.Second
	farTimes = 20
	// A primary that counts its changes anew, as after it was killed, has replicas that take
	// its copy from the start. Until then they answer from the old one.
	resyncTime = 10 * time.Second
	// tookShare: a slower answer counts as one part of so many in the time of answers.
	tookShare = 8
)

// server is one that answers reads.
type server struct {
	engine   *Engine
	inFlight atomic.Int64
	took     atomic.Int64 // nanoseconds until an answer, lately; 0 is unknown
	asked    atomic.Int64 // when it was last asked, in nanoseconds since servers.start
	failed   atomic.Int64 // when it last failed, likewise; 0: it answered since

	reads, failures atomic.Uint64
}

// servers are those of one database, the primary first.
type servers struct {
	all   []*server
	next  atomic.Uint32 // who begins among equals
	start time.Time
	anew  atomic.Int64 // when the primary was found to count anew, in nanoseconds since start; 0: never
}

// EndpointStats counts what one server of several did. The root package's EndpointStats has
// the same fields, and says what they mean.
type EndpointStats struct {
	Address  string
	Reads    uint64
	Failures uint64
	Down     bool
}

func (s *servers) stats() []EndpointStats {
	if len(s.all) == 1 {
		return nil
	}
	var all []EndpointStats
	for _, r := range s.all {
		all = append(all, EndpointStats{r.engine.host, r.reads.Load(), r.failures.Load(), r.failed.Load() != 0})
	}
	return all
}

// Query implements engine.Engine.
func (e *Engine) Query(ctx context.Context, stmts ...engine.Stmt) (_ []engine.Result, err error) {
	defer func() { e.failures.Count(ctx, err) }()
	if len(e.servers.all) == 1 || !e.migrated.Load() {
		return e.query(ctx, stmts) // a replica may not have heard of the newest schema
	}
	left := slices.Clone(e.servers.all)
	for begun := time.Now(); ; {
		r := e.servers.pick(left)
		results, elsewhere, err := e.servers.ask(ctx, r, stmts, len(left) > 1)
		if !elsewhere {
			return results, err
		}
		if left = slices.DeleteFunc(left, func(other *server) bool { return other == r }); len(left) > 0 {
			continue
		}
		if time.Since(begun) >= againFor {
			return nil, err
		}
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.open.Done():
			return nil, engine.ErrClosed
		}
		left = slices.Clone(e.servers.all)
	}
}

// pick returns the server to be asked, of those that are left.
func (s *servers) pick(left []*server) *server {
	now := int64(time.Since(s.start))
	nearest := int64(-1)
	for _, r := range left {
		if took := r.took.Load(); r.failed.Load() == 0 && took > 0 && (nearest < 0 || took < nearest) {
			nearest = took
		}
	}
	if anew := s.anew.Load(); anew != 0 && now-anew < int64(resyncTime) && left[0] == s.all[0] {
		left = left[:1] // the primary; if that fails, an old answer is better than none
	}
	var best *server
	begin := int(s.next.Add(1))
	for i := range left {
		r := left[(begin+i)%len(left)]
		if failed := r.failed.Load(); failed != 0 {
			// One read at a time finds out whether it is back.
			if now-failed < int64(downFor) || !r.failed.CompareAndSwap(failed, now) {
				continue
			}
			return r
		}
		if took := r.took.Load(); r.reads.Load() >= firstReads && nearest >= 0 && took > nearTimes*nearest+int64(nearMore) && now-r.asked.Load() < farTimes*took {
			continue
		}
		if best == nil || r.inFlight.Load() < best.inFlight.Load() {
			best = r
		}
	}
	if best == nil {
		best = left[0] // all are down
	}
	best.asked.Store(now)
	return best
}

// ask has a server answer. elsewhere: it cannot, and another server may be asked. others:
// there are some, so that this one is given little time.
func (s *servers) ask(ctx context.Context, r *server, stmts []engine.Stmt, others bool) (results []engine.Result, elsewhere bool, err error) {
	within := ctx
	if others {
		most := firstTry + time.Duration(engine.Size(stmts))*time.Second/slowestLink
		if deadline := engine.SoftDeadline(ctx); !deadline.IsZero() {
			most = min(most, time.Until(deadline)/2)
		}
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	r.inFlight.Add(1)
	begun := time.Now()
	results, err = r.engine.query(within, stmts)
	took := time.Since(begun)
	r.inFlight.Add(-1)
	switch {
	case err == nil:
		r.reads.Add(1)
		r.failed.Store(0)
		r.note(took)
		return results, false, nil
	case ctx.Err() != nil || errors.Is(err, engine.ErrClosed):
		return nil, false, err
	case within.Err() != nil:
		err = &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("no answer from %s in %v", r.engine.host, took.Round(time.Millisecond))}
	case !r.cannot(err):
		return nil, false, err
	}
	r.failures.Add(1)
	r.failed.Store(1 + int64(time.Since(s.start)))
	return nil, true, err
}

// note learns from the time of an answer. A faster one counts at once: how far a server is
// shows when it has little to do.
func (r *server) note(took time.Duration) {
	old := r.took.Load()
	if old == 0 || int64(took) < old {
		old = int64(took)
	}
	r.took.Store(old + (int64(took)-old)/tookShare) // one of two that come together may get lost
}

// cannot reports whether another server may do better than one that answered err. A
// replica may lack what the primary has.
func (r *server) cannot(err error) bool {
	switch engine.KindOf(err) {
	case engine.KindUnavailable:
		return true
	case engine.KindNotFound, engine.KindAuth, engine.KindNoTable, engine.KindOther:
		return r.engine.replica
	}
	return false
}
