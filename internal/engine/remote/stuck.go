package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
)

// sqld can lose its write lock for good: it then answers reads and no write, until it is
// restarted. This file notices that, so that writes fail at once and say so.
const (
	// stuckAfter is how long a write must have been without an answer to be a reason to
	// ask whether the server still writes. A server takes its lock from a transaction
	// that hangs for 5 s.
	stuckAfter = 5 * time.Second
	// A server that leaves stuckProbes unanswered, each for stuckWait, and then answers a
	// read, is stuck.
	stuckProbes = 2
	stuckWait   = 3 * time.Second
	// While it is stuck one probe waits for its answer. When that is lost, as by a
	// restart, there is another after stuckPause. Meanwhile the other processes of this
	// machine are told every stuckPause.
	stuckPause = time.Second
)

// patience is stuckAfter and the other times of this file, which tests make shorter.
type patience struct{ after, wait, pause time.Duration }

var errStuck = errors.New("the server answers reads and no longer any write; restart it")

// writeProbe takes the write lock, and changes nothing.
var writeProbe = hrana.Pipeline{Requests: []hrana.Request{
	hrana.Batch{Steps: []hrana.Step{
		{Stmt: hrana.Stmt{SQL: "BEGIN IMMEDIATE"}},
		{Cond: hrana.Ok(0), Stmt: hrana.Stmt{SQL: "ROLLBACK"}},
	}},
	hrana.Close{},
}}

var readProbe = hrana.Pipeline{Requests: []hrana.Request{
	hrana.Batch{Steps: []hrana.Step{{Stmt: hrana.Stmt{SQL: "SELECT 1"}}}},
	hrana.Close{},
}}

// errIfStuck is the error of a write that need not be sent.
func (e *Engine) errIfStuck() error {
	if !e.stuck.Load() && !e.turns.lock.Flagged() {
		return nil
	}
	return &engine.Error{Kind: engine.KindStuck, Stmt: -1, Err: fmt.Errorf("not sent: %w", errStuck)}
}

// unlessStuck returns the context of a write. If the answer stays away and the server is
// stuck, it ends with errStuck. If all callers have given up, and another write goes
// through, it ends too: then the connection has died silently, and the writes behind must
// not wait for it. release must be called when the write has ended.
func (e *Engine) unlessStuck(parent context.Context, c *call) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	begin := time.Now()
	var looking sync.Mutex // a server that is slow with writes is not to get many probes
	look := func() (again bool) {
		looking.Lock()
		defer looking.Unlock()
		if ctx.Err() != nil {
			return false
		}
		e.pool.Doubt(time.Since(begin))
		found := e.lookAtWrites(ctx)
		switch {
		case found == writesStuck && ctx.Err() == nil:
			e.stuck.Store(true)
			e.stuckTimes.Add(1)
			e.log.Error("server is stuck, writes fail until it is restarted")
			e.owned.Go(e.awaitRestart) // the lane waits for release, and Close for the lane
			cancel(errStuck)
		case found == writesGoThrough && c.left():
			cancel(&lateError{e.host, time.Since(begin)})
		}
		return found == writesLater
	}
	ended := make(chan struct{})
	timer := time.AfterFunc(e.patience.after+c.transfer(), func() { look(); close(ended) })
	stopWaiting := func() {}
	if c.mayBeLeft() {
		stopWaiting = whenAllLeave(c.callers, func(error) {
			for wait, again := suspectAfter+c.transfer()-time.Since(begin), true; again; wait = e.patience.pause {
				select {
				case <-time.After(wait):
					again = look()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return ctx, func() {
		cancel(nil)
		stopWaiting()
		if !timer.Stop() {
			<-ended
		}
	}
}

// What lookAtWrites finds.
const (
	writesUnknown   = iota // the server is silent altogether; a probe may be waiting in it
	writesLater            // no connection, or somebody else is writing
	writesGoThrough        // the write lock could be taken
	writesStuck            // the server answers reads and no writes
)

// lookAtWrites finds out whether the server writes.
func (e *Engine) lookAtWrites(ctx context.Context) int {
	for range stuckProbes {
		answer, answered, silent := e.ask(ctx, writeProbe, e.patience.wait)
		switch {
		case answer != nil && answer.Results[0].Batch != nil && answer.Results[0].Batch.Steps[0].Result != nil:
			return writesGoThrough
		case answered || !silent:
			return writesLater
		}
		if _, answered, _ := e.ask(ctx, readProbe, stuckWait); !answered {
			return writesUnknown
		}
	}
	return writesStuck
}

// awaitRestart returns when the server writes again, or Close has begun.
func (e *Engine) awaitRestart() {
	lock := e.turns.lock
	again := make(chan bool, 1)
	probe := func() {
		_, answered, _ := e.ask(e.life, writeProbe, 0)
		again <- answered
	}
	e.owned.Go(probe)
	tick := time.NewTicker(e.patience.pause)
	defer tick.Stop()
	lost := false // the probe got no answer
	for lock.Flag(); ; {
		select {
		case answered := <-again:
			if answered {
				lock.Unflag()
				e.stuck.Store(false)
				e.log.Info("server writes again")
				return
			}
			lost = true
		case <-tick.C:
			lock.Flag()
			if lost {
				lost = false
				e.owned.Go(probe)
			}
		case <-e.life.Done():
			lock.Unflag()
			return
		}
	}
}

// ask sends a probe once and reports whether it was answered, also by a refusal, without
// an answer then; if not, whether the server was silent for all of timeout. 0 is no
// timeout.
func (e *Engine) ask(ctx context.Context, probe hrana.Pipeline, timeout time.Duration) (answer *hrana.Answer, answered, silent bool) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	l, err := e.acquire(ctx)
	if err != nil {
		return nil, false, false
	}
	if answer, err = e.deliver(ctx, l, probe, &e.upkeepBytes); err == nil || refusalIn(err) != nil {
		return answer, true, false
	}
	t, _ := errors.AsType[*hrana.TransportError](err)
	return nil, false, t != nil && t.Sent && errors.Is(err, context.DeadlineExceeded)
}
