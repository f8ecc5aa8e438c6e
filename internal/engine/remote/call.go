package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/pool"
)

const (
	// requestTimeout ends a request whose answer does not come. It lies well
	// above the 5 s after which a server takes the lock from a hanging writer.
	// What a large request takes at slowestLink, in bytes a second, is added.
	requestTimeout = 15 * time.Second
	slowestLink    = 100_000

	// A call is sent at most maxAttempts times, with a pause of about minPause, and
	// then twice that, in between.
	maxAttempts = 3
	minPause    = 50 * time.Millisecond

	// The breaker opens when breakerCalls calls in a row have failed, however many
	// succeeded before. After breakerPause one call pings the server; the
	// pause is short so that recovery is detected within a second.
	breakerCalls = 10
	breakerPause = 400 * time.Millisecond
	aliveTimeout = 2 * time.Second

	// maxTold bounds the time that a call without a deadline waits in all because answers
	// said so (Retry-After).
	maxTold = 30 * time.Second

	// suspectAfter is how long an answer must have been missing for a timeout to count
	// against the server. A shorter one only shows that its caller was in a hurry.
	suspectAfter = 2 * time.Second
)

func (e *Engine) newBreaker() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(breakerCalls).
		WithDelay(breakerPause).
		WithSuccessThreshold(1).
		OnOpen(func(c circuitbreaker.StateChangedEvent) {
			if c.OldState == circuitbreaker.ClosedState { // else a single try failed
				e.logBreakerOpen()
			}
		}).
		OnClose(func(circuitbreaker.StateChangedEvent) { e.log.Info("server is back, requests are sent again") }).
		Build()
}

// call is a request to the server, retried where that is safe.
type call struct {
	requests []hrana.Request
	size     int       // of the statements, in bytes
	deadline time.Time // when the last of the callers gives up; zero is never
	// waitUntil bounds the time that it waits because answers say so; zero is maxTold after
	// its begin.
	waitUntil time.Time
	// lease is used by the first attempt; failed is the error of acquiring it. If both
	// are nil the first attempt acquires a connection, as all later ones do.
	lease  *lease
	failed error
	// write: an executed request has changed the database. repeatable: it may be
	// executed again.
	write, repeatable bool
	pull              bool // see ForPull
	// lost is set when the answer to an attempt was lost: a failure of a later
	// attempt then says nothing about the first. resendable is set if the last
	// attempt cannot still be running, so that a repeatable write may be sent again.
	lost, resendable bool
	sent             bool // a request with it has left
	// callers are the contexts of a write's callers, nil for one that is not known.
	callers []context.Context
}

// mayBeLeft reports whether all callers of a write may give up.
func (c *call) mayBeLeft() bool {
	stays := func(caller context.Context) bool { return caller == nil || caller.Done() == nil }
	return len(c.callers) > 0 && !slices.ContainsFunc(c.callers, stays)
}

// left reports whether all callers of a write have given up.
func (c *call) left() bool {
	waits := func(caller context.Context) bool { return caller.Err() == nil }
	return c.mayBeLeft() && !slices.ContainsFunc(c.callers, waits)
}

// doEither does c with the requests that build returns: with the conditions of
// Hrana 3, or without them if the server does not support them.
func (e *Engine) doEither(ctx context.Context, c *call, build func(v3 bool) []hrana.Request) ([]hrana.Result, error) {
	c.requests = build(e.client.Protocol() != hrana.V2JSON)
	results, err := e.do(ctx, c)
	if errors.Is(err, hrana.ErrNeedsV3) { // nothing was sent: the protocol just came out
		c.requests = build(false)
		results, err = e.do(ctx, c)
	}
	return results, err
}

// transfer is the time that a slow link takes for the request.
func (c *call) transfer() time.Duration { return time.Duration(c.size) * time.Second / slowestLink }

// do makes a call, with retries. Its error is that of the last attempt as hrana, the
// pool or the breaker returned it. It is nil if the database stayed locked for a
// read: the results then hold the error.
func (e *Engine) do(ctx context.Context, c *call) ([]hrana.Result, error) {
	e.budget.earn(time.Now())
	begun := time.Now()
	for attempt, send := 1, 1; ; send++ {
		results, err := e.attempt(ctx, c, attempt)
		again := err == nil && !c.write && met(results, engine.KindBusy) || err != nil && c.again(err)
		drainFails := e.open.Err() != nil && silent(err) // Close does not wait for a server that is gone
		if !again || ctx.Err() != nil || c.left() || drainFails {
			return results, err
		}
		pause := minPause << (attempt - 1)
		pause = pause/2 + rand.N(pause)
		told := retryAfter(err)
		if told > 0 {
			// Neither an attempt nor a charge on the budget: whoever answers has asked for
			// it. Not all are to come back at the same moment.
			left := time.Until(cmp.Or(c.waitUntil, begun.Add(maxTold)))
			if told >= left {
				return results, err
			}
			pause = told + rand.N(min(told/10+1, left-told))
		} else if attempt == maxAttempts || !e.budget.take(time.Now()) {
			return results, err
		} else {
			attempt++
		}
		e.logRetry(ctx, c, send+1, err)
		if told > 0 && c.write { // on the lane's goroutine, which holds the turn
			e.turns.Release()
		}
		goOn := e.pause(ctx, c, pause, told > 0)
		if told > 0 && c.write {
			e.turns.Acquire()
		}
		if !goOn {
			return results, cmp.Or(ctx.Err(), err)
		}
	}
}

// retryAfter returns how long a refusal asks to wait, 0 if it does not.
func retryAfter(err error) time.Duration {
	if h := refusalIn(err); h != nil {
		return h.RetryAfter
	}
	return 0
}

// pause waits between two attempts and reports whether there should be another: not if
// ctx ends or all callers leave meanwhile, nor if Close begins during a long pause.
func (e *Engine) pause(ctx context.Context, c *call, d time.Duration, long bool) bool {
	var closing <-chan struct{}
	if long {
		closing = e.open.Done()
	}
	left := make(chan struct{})
	if c.mayBeLeft() {
		defer whenAllLeave(c.callers, func(error) { close(left) })()
	}
	select {
	case <-time.After(d):
		return true
	case <-left:
	case <-ctx.Done():
	case <-closing:
	}
	return false
}

// again reports whether the call may be made once more after an attempt failed.
func (c *call) again(err error) bool {
	d := dispositionOf(err)
	c.resendable = d == maybeExecuted
	switch {
	case d == notExecuted:
		return true
	case d == failed:
		return false
	case c.write:
		c.lost = true
		return c.repeatable && c.resendable
	}
	return true
}

// disposition says whether a failed request was executed, and so whether it may be
// sent again.
type disposition uint8

const (
	failed            disposition = iota // nothing was changed, and another attempt would fail too
	notExecuted                          // the server has executed nothing of it
	maybeExecuted                        // it may have been executed, but no longer is
	maybeStillRunning                    // it may have been executed, or may be later
)

func dispositionOf(err error) disposition {
	if h := refusalIn(err); h != nil {
		a := classOf(h)
		if a.final {
			return failed
		}
		return a.disposition
	}
	t, ok := errors.AsType[*hrana.TransportError](err)
	_, own := errors.AsType[*engine.Error](err) // of the token callback or the breaker
	switch {
	case !ok, own, isTLSError(err), errors.Is(err, hrana.ErrTooLarge), errors.Is(err, hrana.ErrNeedsV3), errors.Is(err, pool.ErrClosed):
		return failed
	case !t.Sent:
		return notExecuted
	case errors.Is(err, context.DeadlineExceeded):
		return maybeStillRunning
	}
	return maybeExecuted
}

// refusalIn returns the server's error answer to a pipeline if err is one. A request
// that was not sent may wrap such an answer only as its cause.
func refusalIn(err error) *hrana.Error {
	t, ok := errors.AsType[*hrana.TransportError](err)
	if _, own := errors.AsType[*engine.Error](err); own || ok && !t.Sent {
		return nil
	}
	h, _ := errors.AsType[*hrana.Error](err)
	return h
}

// met reports whether a statement failed with an error of the kind.
func met(results []hrana.Result, kind engine.Kind) bool {
	return anyError(results, func(err *hrana.Error) bool { return kindOf(err.Code, err.Message) == kind })
}

// anyError reports whether a statement failed with such an error.
func anyError(results []hrana.Result, such func(*hrana.Error) bool) bool {
	is := func(err *hrana.Error) bool { return err != nil && such(err) }
	for _, r := range results {
		if is(r.Err) {
			return true
		}
		if r.Batch != nil && slices.ContainsFunc(r.Batch.Steps, func(s hrana.StepResult) bool { return is(s.Err) }) {
			return true
		}
	}
	return false
}

// silent reports whether an attempt failed because nothing came from the server.
func silent(err error) bool {
	return err != nil && (dispositionOf(err) == maybeStillRunning || dialFailed(err))
}

// lateError says that an attempt got no answer in the time it had.
type lateError struct {
	host string
	in   time.Duration
}

func (e *lateError) Error() string {
	return fmt.Sprintf("no answer from %s in %v", e.host, e.in.Round(time.Millisecond))
}

// Is makes it the end of a deadline, though not of the caller's.
func (e *lateError) Is(target error) bool { return target == context.DeadlineExceeded }

// attempt makes a call once.
func (e *Engine) attempt(ctx context.Context, c *call, attempt int) ([]hrana.Result, error) {
	l, err := c.lease, c.failed
	c.lease, c.failed = nil, nil
	if !e.breaker.TryAcquirePermit() {
		if l != nil {
			l.ReleaseUnused()
		}
		return nil, e.errBreakerOpen()
	}
	timeout := requestTimeout + c.transfer()
	if !c.deadline.IsZero() && attempt < maxAttempts {
		// Leave time for another connection, unless what remains is too short to tell
		// a silent server from a slow one.
		if most := time.Until(c.deadline) * 2 / 3; most >= suspectAfter {
			timeout = min(timeout, most)
		}
	}
	trying, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var results []hrana.Result
	if err == nil {
		results, err = e.exchange(trying, l, c)
	}
	if t, ok := errors.AsType[*hrana.TransportError](err); ok && t.Sent && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = &hrana.TransportError{Sent: true, Err: &lateError{e.host, timeout}}
	}
	e.record(err, ctx.Err() != nil || timeout < requestTimeout && errors.Is(err, context.DeadlineExceeded))
	return results, err
}

// exchange sends a call over l, or over the next connection if l is nil.
func (e *Engine) exchange(ctx context.Context, l *lease, c *call) ([]hrana.Result, error) {
	if l == nil {
		var err error
		if l, err = e.acquireFor(ctx, c); err != nil {
			return nil, err
		}
	}
	if e.breaker.IsHalfOpen() {
		var err error
		if l, err = e.checkAlive(ctx, l); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	baton, keep := e.streams.begin(began)
	answer, err := e.pipe(ctx, l, baton, keep, c)
	unusable := false
	switch h := refusalIn(err); {
	case baton == "":
	case h != nil && h.StreamGone():
		// Nothing was executed. The server has most likely restarted and knows none of
		// the other streams either, or requests are spread over several servers.
		keep = false
		dropped := e.streams.dropAll(began, time.Now())
		e.log.DebugContext(ctx, "server has forgotten the streams", "streams", dropped)
		unusable = true
	case err == nil && met(answer.Results, engine.KindNoTable):
		// On a kept stream sqld may find no table, once, after the schema was changed on
		// another one. A transaction with a statement that failed has stored nothing.
		e.streams.end(time.Now(), answer.Baton, false)
		unusable = true
	}
	if unusable {
		baton = ""
		if l, err = e.acquire(ctx); err != nil {
			return nil, err
		}
		answer, err = e.pipe(ctx, l, baton, keep, c)
	}
	if err != nil {
		if t, ok := errors.AsType[*hrana.TransportError](err); ok && !t.Sent {
			e.streams.end(time.Now(), baton, true) // the server has not seen it
		} else if baton != "" {
			e.streamLost(ctx, e.loggable(err))
		}
		if keep && dispositionOf(err) >= maybeExecuted {
			e.streams.noteOrphan(time.Now())
		}
		return nil, err
	}
	if answer.BaseURL != "" {
		e.streams.disable()
	}
	e.streams.end(time.Now(), answer.Baton, settled(c.requests, answer.Results))
	return answer.Results[:len(c.requests)], nil
}

// pipe sends a call on a stream.
func (e *Engine) pipe(ctx context.Context, l *lease, baton string, keep bool, c *call) (*hrana.Answer, error) {
	keep = keep && e.client.Protocol() != hrana.V2JSON // which cannot tell whether a stream is left clean
	p := hrana.Pipeline{Baton: baton, ReplicationIndex: e.index.Load(), Requests: slices.Clip(c.requests)}
	if e.replica && e.client.Protocol() == hrana.V3Protobuf {
		p.Requests = append(p.Requests, tellIndex)
	}
	if !keep {
		p.Requests = append(p.Requests, hrana.Close{})
	}
	start := time.Now()
	kind := &e.readBytes
	switch {
	case c.write:
		kind = &e.writeBytes
	case c.pull:
		kind = &e.pullBytes
	}
	answer, err := e.deliver(ctx, l, p, kind)
	if t, failed := errors.AsType[*hrana.TransportError](err); !failed || t.Sent {
		if c.sent {
			e.retries.Add(1)
		}
		c.sent = true
	}
	if err != nil {
		e.doubtIndex(p.ReplicationIndex, errors.Is(err, context.DeadlineExceeded), time.Since(start))
		return nil, err
	}
	if baton == "" {
		e.streams.opened.Add(1)
	} else {
		e.streams.reused.Add(1)
	}
	switch {
	case !keep:
		e.streams.closed.Add(1)
	case answer.Baton == "": // the server has ended it
		e.streamLost(ctx, "ended by the server")
	}
	if sentAway(answer.Results) {
		e.leave(ctx)
	}
	e.trustIndex()
	told := answer.ReplicationIndex()
	if e.replica && told < p.ReplicationIndex {
		// It should have waited until it is as new, and does not always when its primary was killed.
		return nil, &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("the replica at %s is behind what was read or written before", e.host)}
	}
	e.advance(p.ReplicationIndex, told)
	return answer, nil
}

// doubtIndex forgets the replication index when at least two calls in a row have
// timed out and suspectAfter has passed in all: a replica of a restored database may
// never reach it.
func (e *Engine) doubtIndex(asked uint64, late bool, waited time.Duration) {
	if asked == 0 || !late || e.replica { // a replica that is behind is no news of the primary
		return
	}
	calls, total := e.indexWaits.Add(1), time.Duration(e.indexWaited.Add(int64(waited)))
	if calls >= 2 && total >= suspectAfter {
		e.trustIndex()
		e.index.CompareAndSwap(asked, 0)
	}
}

func (e *Engine) trustIndex() {
	e.indexWaits.Store(0)
	e.indexWaited.Store(0)
}

// advance records the newest replication index seen. Later reads ask for at least
// that state, whichever replica answers them.
func (e *Engine) advance(asked, told uint64) {
	for {
		known := e.index.Load()
		switch {
		case told == 0:
			return
		case told < asked: // it cannot be behind what it was asked for: the database was restored
			e.servers.anew.Store(1 + int64(time.Since(e.servers.start)))
			e.index.CompareAndSwap(asked, told)
			return
		case told <= known || e.index.CompareAndSwap(known, told):
			return
		}
	}
}

// settled reports whether no transaction is open behind an answer. An Execute
// begins none, nor does a batch that cannot be parsed; the last step of any other
// is the ROLLBACK of what is still open.
func settled(requests []hrana.Request, results []hrana.Result) bool {
	for i, request := range requests {
		r := results[i]
		if _, ok := request.(hrana.Batch); !ok || r.Err != nil && parseCodes[r.Err.Code] {
			continue
		}
		if r.Err != nil || r.Batch.Steps[len(r.Batch.Steps)-1].Err != nil {
			return false
		}
	}
	return true
}

func (e *Engine) acquire(ctx context.Context) (*lease, error) {
	l, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, &hrana.TransportError{Err: err}
	}
	return l, nil
}

// acquireFor is acquire for a call. It ends when all callers of a write have given up:
// those behind them must not wait for its connection.
func (e *Engine) acquireFor(ctx context.Context, c *call) (*lease, error) {
	if !c.mayBeLeft() {
		return e.acquire(ctx)
	}
	if l := e.pool.TryAcquire(); l != nil {
		return l, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer whenAllLeave(c.callers, cancel)()
	l, err := e.acquire(ctx)
	if err != nil && c.left() && !dialFailed(err) {
		err = &hrana.TransportError{Err: context.Cause(ctx)}
	}
	return l, err
}

// deliver makes one exchange over l, counts its bytes as that kind, and gives l
// back.
func (e *Engine) deliver(ctx context.Context, l *lease, p hrana.Pipeline, kind *traffic) (*hrana.Answer, error) {
	conn := &oneConn{conn: l.Conn()}
	conn.bytes.Store(kind)
	answer, err := e.client.Do(ctx, conn, p)
	conn.bytes.Store(&e.upkeepBytes)
	refusal := refusalIn(err)
	transport, failed := errors.AsType[*hrana.TransportError](err)
	overload := refusal != nil && classOf(refusal).overload
	switch {
	case refusal != nil && !overload || conn.closing:
		// A server may close the connection after an error answer without announcing
		// it, which the next request would notice too late.
		l.Discard()
	case overload:
		l.Release(nil) // a new connection would be one more thing to do for it
	case failed && !transport.Sent && !conn.dead() && conn.InFlight() == 0:
		l.ReleaseUnused() // nothing was given to it, as without a token
	case failed && errors.Is(err, context.DeadlineExceeded):
		l.Release(pool.ErrNoResponse)
	case failed && ctx.Err() != nil:
		l.Release(context.Canceled) // the connection is lost through no fault of its own
	default:
		l.Release(err)
	}
	if overload {
		e.pool.Overloaded()
	}
	return answer, err
}

// checkAlive pings the server before the first call after an outage, and closes the
// breaker when the ping is answered: the other calls must not wait until that first
// call has ended.
func (e *Engine) checkAlive(ctx context.Context, l *lease) (*lease, error) {
	ping, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	conn := &oneConn{conn: l.Conn()}
	if err := e.client.Ping(ping, conn); err != nil {
		l.Release(err)
		// Nothing of the call itself was sent.
		return nil, &hrana.TransportError{Err: fmt.Errorf("ask whether the server is back: %w", err)}
	}
	e.breaker.RecordSuccess()
	if !conn.closing {
		return l, nil
	}
	l.Discard()
	return e.acquire(ctx)
}

// record tells the breaker how an attempt ended. It counts only failures that show
// that the server cannot be reached. gone: the caller did not wait for the end, or the
// timeout was short.
func (e *Engine) record(err error, gone bool) {
	h, d := refusalIn(err), dispositionOf(err)
	switch {
	case err == nil, h != nil && !classOf(h).down:
		e.breaker.RecordSuccess()
	case h == nil && (gone || d == failed || d == notExecuted && !dialFailed(err)):
		// It says nothing about the server: the caller left, the failure is our own, or
		// no connection was free. The permit of a half-open breaker must be returned.
		if e.breaker.IsHalfOpen() {
			e.breaker.RecordFailure()
		}
	default:
		e.lastFailure.Store(&failure{e.requestError(err), e.loggable(err)})
		e.breaker.RecordFailure()
	}
}

// dialFailed reports whether there is no connection, or none that answers a ping.
func dialFailed(err error) bool {
	_, op := errors.AsType[*net.OpError](err)
	_, dns := errors.AsType[*net.DNSError](err)
	return op || dns || errors.Is(err, os.ErrDeadlineExceeded)
}

// errBreakerOpen is the error of a call that the open breaker rejects.
func (e *Engine) errBreakerOpen() error {
	e.breakerRejected.Add(1)
	err := fmt.Errorf("the last %d calls failed", breakerCalls)
	if last := e.lastFailure.Load(); last != nil {
		err = last.err.Err
	}
	return &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("not sent, the server has been failing: %w", err)}
}

// budget is a token bucket that bounds the retries: one for ten requests, and one a
// second on top.
type budget struct {
	mu        sync.Mutex
	tokens    float64
	at        time.Time     // of the last refill
	exhausted atomic.Uint64 // retries not made for lack of a token
}

const (
	budgetMax     = 10.0
	budgetPerCall = 0.1
	budgetPerTime = 1.0 // a second
)

func (b *budget) earn(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now, budgetPerCall)
}

func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now, 0)
	if b.tokens < 1 {
		b.exhausted.Add(1)
		return false
	}
	b.tokens--
	return true
}

func (b *budget) refill(now time.Time, more float64) {
	if b.at.IsZero() {
		b.tokens, b.at = budgetMax, now
	}
	b.tokens = min(budgetMax, b.tokens+more+max(0, now.Sub(b.at).Seconds())*budgetPerTime)
	b.at = now
}
