package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

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

	// A call is sent at most maxAttempts times, with a pause of minPause to
	// maxPause, doubling and jittered, in between.
	maxAttempts = 3
	minPause    = 50 * time.Millisecond
	maxPause    = time.Second

	// The breaker opens when half of at least breakerCalls calls in breakerWindow
	// failed. After breakerPause one call asks whether the server is back; it is
	// short so that a server that is back is noticed within a second.
	breakerShare  = 0.5
	breakerCalls  = 10
	breakerWindow = 10 * time.Second
	breakerPause  = 400 * time.Millisecond
	reviveTimeout = 2 * time.Second

	// patience is how long an answer must have stayed away to say something about
	// the server, and not about a caller in a hurry.
	patience = 2 * time.Second
)

// call is one exchange with the server, repeated where that is safe.
type call struct {
	requests []hrana.Request
	size     int // of the statements, in bytes
	// lease is for the first attempt, which failed is the failure of. If both are
	// nil it acquires its own, as all further ones do.
	lease  *lease
	failed error
	// write says that a request which may have been carried out has changed the
	// database; repeatable that it may be carried out again.
	write, repeatable bool
	// lost is set when the answer of an attempt was lost: a failure of a later
	// attempt then says nothing about the first. harmless says that the last one
	// was lost in a way after which a repeatable write may be sent again.
	lost, harmless bool
}

// retrier is made once for each engine.
func newRetrier() failsafe.Executor[[]hrana.Result] {
	return failsafe.With(retrypolicy.NewBuilder[[]hrana.Result]().
		HandleErrorTypes(&againError{}).
		WithMaxAttempts(maxAttempts).
		WithBackoff(minPause, maxPause).
		WithJitterFactor(0.5).
		ReturnLastFailure().
		Build())
}

func newBreaker() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(breakerShare, breakerCalls, breakerWindow).
		WithDelay(breakerPause).
		WithSuccessThreshold(1).
		Build()
}

// againError marks the failure of an attempt after which another may be made.
type againError struct{ err error }

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// doEither carries out c with the requests that build makes: with the conditions
// of Hrana 3, or without if the server does not know them.
func (e *Engine) doEither(ctx context.Context, c *call, build func(v3 bool) []hrana.Request) ([]hrana.Result, error) {
	c.requests = build(e.client.Protocol() != hrana.V2JSON)
	results, err := e.do(ctx, c)
	if errors.Is(err, hrana.ErrNeedsV3) { // nothing was sent: the protocol just came out
		c.requests = build(false)
		results, err = e.do(ctx, c)
	}
	return results, err
}

// do carries out a call. Its error is that of the last attempt as hrana, the
// pool or the breaker gave it.
func (e *Engine) do(ctx context.Context, c *call) ([]hrana.Result, error) {
	e.budget.earn(time.Now())
	var last error
	results, err := e.retrier.WithContext(ctx).GetWithExecution(func(x failsafe.Execution[[]hrana.Result]) ([]hrana.Result, error) {
		if x.IsRetry() {
			if !e.budget.take(time.Now()) {
				return nil, last
			}
			e.retries.Add(1)
		}
		results, err := e.attempt(ctx, c, x.Attempts())
		if err == nil && !c.write {
			err = busy(results)
		}
		last = err
		if err != nil && ctx.Err() == nil && e.again(c, err) {
			return nil, &againError{err}
		}
		return results, err
	})
	if again, ok := errors.AsType[*againError](err); ok {
		err = again.err
	}
	return results, err
}

// again reports whether a call may be made once more after an attempt failed.
func (e *Engine) again(c *call, err error) bool {
	c.harmless = false
	switch fate := fateOf(err); {
	case fate == untouched || fate == locked:
		return true
	case fate == refused:
		return false
	case !c.write:
		return true
	default:
		c.lost, c.harmless = true, fate == lost
		return c.repeatable && c.harmless
	}
}

// fate is what became of a request that failed.
type fate uint8

const (
	refused   fate = iota // it will not go better another time
	untouched             // the server has run nothing of it
	locked                // it met a locked database
	lost                  // it may have been carried out, and is over
	pending               // it may have been carried out, or be so later
)

func fateOf(err error) fate {
	if h, ok := errors.AsType[*hrana.Error](err); ok {
		switch h.Status {
		case http.StatusOK:
			return locked
		case http.StatusTooManyRequests:
			return untouched
		case http.StatusBadGateway, http.StatusServiceUnavailable:
			return lost
		case http.StatusGatewayTimeout:
			return pending
		}
		return refused
	}
	t, ok := errors.AsType[*hrana.TransportError](err)
	_, own := errors.AsType[*engine.Error](err) // of the token callback
	switch {
	case !ok, own, isTLSError(err), errors.Is(err, hrana.ErrTooLarge), errors.Is(err, hrana.ErrNeedsV3), errors.Is(err, pool.ErrClosed):
		return refused
	case !t.Sent:
		return untouched
	case errors.Is(err, context.DeadlineExceeded):
		return pending
	}
	return lost
}

// busy returns the failure of a read that met a locked database, if it did.
func busy(results []hrana.Result) error {
	for _, r := range results {
		if r.Err != nil && kindOf(r.Err.Code, r.Err.Message) == engine.KindBusy {
			return r.Err
		}
		if r.Batch == nil {
			continue
		}
		for _, s := range r.Batch.Steps {
			if s.Err != nil && kindOf(s.Err.Code, s.Err.Message) == engine.KindBusy {
				return s.Err
			}
		}
	}
	return nil
}

// attempt makes a call once.
func (e *Engine) attempt(ctx context.Context, c *call, attempt int) ([]hrana.Result, error) {
	l, err := c.lease, c.failed
	c.lease, c.failed = nil, nil
	if !e.breaker.TryAcquirePermit() {
		if l != nil {
			l.GiveBack()
		}
		return nil, e.unasked()
	}
	timeout := requestTimeout + time.Duration(c.size)*time.Second/slowestLink
	if deadline, ok := ctx.Deadline(); ok && !c.write && attempt < maxAttempts {
		timeout = min(timeout, time.Until(deadline)*2/3) // some is left for another connection
	}
	trying, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var results []hrana.Result
	if err == nil {
		results, err = e.exchange(trying, l, c.requests)
	}
	hurried := ctx.Err() != nil || timeout < patience && errors.Is(err, context.DeadlineExceeded)
	e.record(err, hurried)
	return results, err
}

// exchange sends the requests over l, or over the next connection if l is nil.
func (e *Engine) exchange(ctx context.Context, l *lease, requests []hrana.Request) ([]hrana.Result, error) {
	if l == nil {
		var err error
		if l, err = e.acquire(ctx); err != nil {
			return nil, err
		}
	}
	if e.breaker.IsHalfOpen() {
		if err := e.revive(ctx, l); err != nil {
			return nil, err
		}
	}
	baton, keep := e.streams.begin(time.Now())
	answer, err := e.pipe(ctx, l, baton, keep, requests)
	if gone, _ := errors.AsType[*hrana.Error](err); gone != nil && baton != "" && gone.StreamGone() {
		// Nothing was run. The server has most likely been started anew and knows
		// none of the other streams either.
		e.streams.forget()
		baton = ""
		if l, err = e.acquire(ctx); err != nil {
			return nil, err
		}
		answer, err = e.pipe(ctx, l, baton, keep, requests)
	}
	if err != nil {
		if baton != "" {
			e.streams.lost.Add(1)
		}
		return nil, err
	}
	if answer.BaseURL != "" {
		e.streams.refuse()
	}
	e.streams.end(time.Now(), answer.Baton, settled(answer.Results))
	return answer.Results[:len(requests)], nil
}

// pipe sends one pipeline on a stream.
func (e *Engine) pipe(ctx context.Context, l *lease, baton string, keep bool, requests []hrana.Request) (*hrana.Answer, error) {
	keep = keep && e.client.Protocol() != hrana.V2JSON // which cannot tell whether a stream is left clean
	p := hrana.Pipeline{Baton: baton, ReplicationIndex: e.index.Load(), Requests: requests}
	if !keep {
		p.Requests = append(requests[:len(requests):len(requests)], hrana.Close{})
	}
	start := time.Now()
	answer, err := e.deliver(ctx, l, p)
	if err != nil {
		if ctx.Err() != nil && time.Since(start) > patience {
			// A server that was restored may never come to that index.
			e.index.CompareAndSwap(p.ReplicationIndex, 0)
		}
		return nil, err
	}
	switch {
	case baton != "":
		e.streams.reused.Add(1)
	default:
		e.streams.opened.Add(1)
	}
	if !keep {
		e.streams.closed.Add(1)
	}
	e.advance(p.ReplicationIndex, answer.ReplicationIndex())
	return answer, nil
}

// advance remembers the newest state of the database that was seen, which later
// reads must not fall behind, whichever replica answers them.
func (e *Engine) advance(asked, told uint64) {
	for {
		known := e.index.Load()
		switch {
		case told == 0:
			return
		case told < asked: // it cannot be behind what it was asked for: the database was restored
			e.index.CompareAndSwap(asked, told)
			return
		case told <= known || e.index.CompareAndSwap(known, told):
			return
		}
	}
}

// settled reports whether no transaction is open behind an answer. The last step
// of every batch is the ROLLBACK of what is still open.
func settled(results []hrana.Result) bool {
	for _, r := range results {
		if r.Err != nil {
			return false
		}
		if r.Batch != nil && r.Batch.Steps[len(r.Batch.Steps)-1].Err != nil {
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

// deliver makes one exchange over l and gives it back.
func (e *Engine) deliver(ctx context.Context, l *lease, p hrana.Pipeline) (*hrana.Answer, error) {
	conn := &oneConn{ClientConn: l.Conn()}
	start := time.Now()
	answer, err := e.client.Do(ctx, conn, p)
	refusal, refused := errors.AsType[*hrana.Error](err)
	transport, failed := errors.AsType[*hrana.TransportError](err)
	switch {
	case refused || conn.closing:
		// A server that refuses a request may close the connection behind its
		// answer without a word, which the next request would find out too late.
		_ = conn.Close() // always nil
		l.Release(nil)
	case failed && !transport.Sent && !dead(l.Conn()) && l.Conn().InFlight() == 0:
		l.GiveBack() // nothing was given to it, as without a token
	case failed && ctx.Err() != nil && time.Since(start) < patience:
		l.Release(context.Canceled) // the connection is lost, but not to blame
	default:
		l.Release(err)
	}
	if refused && isOverload(refusal) {
		e.pool.Overloaded()
	}
	return answer, err
}

func isOverload(h *hrana.Error) bool {
	return h.Status == http.StatusTooManyRequests || h.Code == "TRANSACTION_BUSY"
}

// revive asks for a sign of life before a call is the first after an outage.
func (e *Engine) revive(ctx context.Context, l *lease) error {
	ctx, cancel := context.WithTimeout(ctx, reviveTimeout)
	defer cancel()
	err := e.client.Ping(ctx, l.Conn())
	if err != nil {
		l.Release(err)
		return &hrana.TransportError{Err: err} // nothing of the call was sent
	}
	return nil
}

// record tells the breaker how an attempt ended. It counts what says that the
// server cannot be reached, and nothing else. hurried says that the caller did
// not wait long enough to tell.
func (e *Engine) record(err error, hurried bool) {
	h, refused := errors.AsType[*hrana.Error](err)
	_, saturated := errors.AsType[*pool.SaturatedError](err)
	_, own := errors.AsType[*engine.Error](err)
	switch {
	case err == nil:
		e.breaker.RecordSuccess()
	case refused && h.Status != http.StatusBadGateway && h.Status != http.StatusServiceUnavailable && h.Status != http.StatusGatewayTimeout:
		e.breaker.RecordSuccess()
	case hurried || saturated || own || errors.Is(err, pool.ErrClosed) || errors.Is(err, hrana.ErrTooLarge) || errors.Is(err, hrana.ErrNeedsV3):
		// It says nothing; but the one permit of a half-open breaker must come back.
		if e.breaker.IsHalfOpen() {
			e.breaker.RecordFailure()
		}
	default:
		e.lastFailure.Store(e.requestError(err))
		e.breaker.RecordFailure()
	}
}

// unasked is the error of a call that the open breaker keeps back.
func (e *Engine) unasked() error {
	e.withheld.Add(1)
	err := errors.New("half of the last calls failed")
	if last := e.lastFailure.Load(); last != nil {
		err = last.Err
	}
	return &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("not sent, the server has been failing: %w", err)}
}

// A budget bounds what repeating adds to the load of a server in trouble: one
// request in ten, and one a second on top.
type budget struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time // until when the tokens of time are counted
	denied atomic.Uint64
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
		b.denied.Add(1)
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
