package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
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
	// succeeded before. After breakerPause one call asks whether the server is
	// back; it is short so that a server that is back is noticed within a second.
	breakerCalls  = 10
	breakerPause  = 400 * time.Millisecond
	reviveTimeout = 2 * time.Second

	// patience is how long an answer must have stayed away to say something about
	// the server, and not about a caller in a hurry.
	patience = 2 * time.Second
)

func newBreaker() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(breakerCalls).
		WithDelay(breakerPause).
		WithSuccessThreshold(1).
		Build()
}

// call is one exchange with the server, repeated where that is safe.
type call struct {
	requests []hrana.Request
	size     int       // of the statements, in bytes
	deadline time.Time // when the last of the callers gives up; zero is never
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
	sent           bool // a request with it has left
}

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
// pool or the breaker gave it; nil if a read met a locked database to the last,
// as its results tell.
func (e *Engine) do(ctx context.Context, c *call) ([]hrana.Result, error) {
	e.budget.earn(time.Now())
	for attempt := 1; ; attempt++ {
		results, err := e.attempt(ctx, c, attempt)
		again := err == nil && !c.write && busy(results) || err != nil && c.again(err)
		hopeless := e.open.Err() != nil && silent(err) // Close does not wait for a server that is gone
		if !again || attempt == maxAttempts || ctx.Err() != nil || hopeless || !e.budget.take(time.Now()) {
			return results, err
		}
		pause := minPause << (attempt - 1)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// again reports whether the call may be made once more after an attempt failed.
func (c *call) again(err error) bool {
	f := fateOf(err)
	c.harmless = f == lost
	switch {
	case f == untouched:
		return true
	case f == refused:
		return false
	case c.write:
		c.lost = true
		return c.repeatable && c.harmless
	}
	return true
}

// fate is what became of a request that failed.
type fate uint8

const (
	refused   fate = iota // nothing was changed, and it will not go better another time
	untouched             // the server has run nothing of it
	lost                  // it may have been carried out, and is over
	pending               // it may have been carried out, or be so later
)

func fateOf(err error) fate {
	if h := refusalIn(err); h != nil {
		switch {
		case h.Status == http.StatusTooManyRequests:
			return untouched
		case h.BatonUsed(), h.Status == http.StatusBadGateway, h.Status == http.StatusServiceUnavailable:
			return lost
		case h.Status == http.StatusRequestTimeout, h.Status == http.StatusGatewayTimeout:
			return pending
		}
		return refused
	}
	t, ok := errors.AsType[*hrana.TransportError](err)
	_, own := errors.AsType[*engine.Error](err) // of the token callback, or kept back
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

// refusalIn returns the server's answer to a pipeline if err is that: what
// failed unsent, or was kept back, may have one for its reason only.
func refusalIn(err error) *hrana.Error {
	t, ok := errors.AsType[*hrana.TransportError](err)
	if _, own := errors.AsType[*engine.Error](err); own || ok && !t.Sent {
		return nil
	}
	h, _ := errors.AsType[*hrana.Error](err)
	return h
}

// busy reports whether a read met a locked database.
func busy(results []hrana.Result) bool {
	locked := func(err *hrana.Error) bool { return err != nil && kindOf(err.Code, err.Message) == engine.KindBusy }
	for _, r := range results {
		if locked(r.Err) {
			return true
		}
		if r.Batch != nil && slices.ContainsFunc(r.Batch.Steps, func(s hrana.StepResult) bool { return locked(s.Err) }) {
			return true
		}
	}
	return false
}

// silent reports whether an attempt failed because nothing came from the server.
func silent(err error) bool {
	return err != nil && (fateOf(err) == pending || dialFailed(err))
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
		return nil, e.unasked()
	}
	timeout := requestTimeout + time.Duration(c.size)*time.Second/slowestLink
	if !c.deadline.IsZero() && attempt < maxAttempts {
		// Some is left for another connection, if it is enough to tell a silent
		// server from a slow one.
		if most := time.Until(c.deadline) * 2 / 3; most >= patience {
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
		if l, err = e.acquire(ctx); err != nil {
			return nil, err
		}
	}
	if e.breaker.IsHalfOpen() {
		var err error
		if l, err = e.revive(ctx, l); err != nil {
			return nil, err
		}
	}
	baton, keep := e.streams.begin(time.Now())
	answer, err := e.pipe(ctx, l, baton, keep, c)
	if h := refusalIn(err); h != nil && baton != "" && h.StreamGone() {
		// Nothing was run. The server has most likely been started anew and knows
		// none of the other streams either.
		e.streams.forget()
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
			e.streams.lost.Add(1)
		}
		if keep && fateOf(err) >= lost {
			e.streams.leak(time.Now())
		}
		return nil, err
	}
	if answer.BaseURL != "" {
		e.streams.refuse()
	}
	e.streams.end(time.Now(), answer.Baton, settled(c.requests, answer.Results))
	return answer.Results[:len(c.requests)], nil
}

// pipe sends a call on a stream.
func (e *Engine) pipe(ctx context.Context, l *lease, baton string, keep bool, c *call) (*hrana.Answer, error) {
	keep = keep && e.client.Protocol() != hrana.V2JSON // which cannot tell whether a stream is left clean
	p := hrana.Pipeline{Baton: baton, ReplicationIndex: e.index.Load(), Requests: c.requests}
	if !keep {
		p.Requests = append(slices.Clip(c.requests), hrana.Close{})
	}
	start := time.Now()
	kind := &e.readBytes
	if c.write {
		kind = &e.writeBytes
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
		e.streams.lost.Add(1)
	}
	e.trustIndex()
	e.advance(p.ReplicationIndex, answer.ReplicationIndex())
	return answer, nil
}

// doubtIndex forgets the replication index when at least two calls in a row have
// waited in vain, for patience all together: a replica of a restored database may
// never come to it.
func (e *Engine) doubtIndex(asked uint64, late bool, waited time.Duration) {
	if asked == 0 || !late {
		return
	}
	calls, total := e.indexWaits.Add(1), time.Duration(e.indexWaited.Add(int64(waited)))
	if calls >= 2 && total >= patience {
		e.trustIndex()
		e.index.CompareAndSwap(asked, 0)
	}
}

func (e *Engine) trustIndex() {
	e.indexWaits.Store(0)
	e.indexWaited.Store(0)
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

// deliver makes one exchange over l, counts its bytes as that kind, and gives l
// back.
func (e *Engine) deliver(ctx context.Context, l *lease, p hrana.Pipeline, kind *traffic) (*hrana.Answer, error) {
	conn := &oneConn{conn: l.Conn()}
	conn.bytes.Store(kind)
	answer, err := e.client.Do(ctx, conn, p)
	conn.bytes.Store(&e.upkeepBytes)
	refusal := refusalIn(err)
	transport, failed := errors.AsType[*hrana.TransportError](err)
	overload := refusal != nil && isOverload(refusal)
	switch {
	case refusal != nil && !overload || conn.closing:
		// A server that refuses a request may close the connection behind its
		// answer without a word, which the next request would find out too late.
		_ = conn.Close() // always nil
		l.Release(nil)
	case overload:
		l.Release(nil) // a new connection would be one more thing to do for it
	case failed && !transport.Sent && !conn.dead() && conn.InFlight() == 0:
		l.ReleaseUnused() // nothing was given to it, as without a token
	case failed && errors.Is(err, context.DeadlineExceeded):
		l.Release(pool.ErrNoResponse)
	case failed && ctx.Err() != nil:
		l.Release(context.Canceled) // the connection is lost, but not to blame
	default:
		l.Release(err)
	}
	if overload {
		e.pool.Overloaded()
	}
	return answer, err
}

func isOverload(h *hrana.Error) bool {
	return h.Status == http.StatusTooManyRequests || h.Code == "TRANSACTION_BUSY"
}

// revive asks for a sign of life before a call is the first after an outage, and
// closes the breaker when it comes: how long that call itself takes must not
// keep the others waiting.
func (e *Engine) revive(ctx context.Context, l *lease) (*lease, error) {
	ping, cancel := context.WithTimeout(ctx, reviveTimeout)
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
	_ = conn.Close() // always nil
	l.Release(nil)
	return e.acquire(ctx)
}

// record tells the breaker how an attempt ended. It counts what says that the
// server cannot be reached, and nothing else. gone says that the caller did not
// wait for the end, or that it was not waited for long.
func (e *Engine) record(err error, gone bool) {
	h, f := refusalIn(err), fateOf(err)
	switch {
	case err == nil, h != nil && h.Status != http.StatusBadGateway && h.Status != http.StatusServiceUnavailable && h.Status != http.StatusGatewayTimeout:
		e.breaker.RecordSuccess()
	case h == nil && (gone || f == refused || f == untouched && !dialFailed(err)):
		// It says nothing: the caller left, the failure is our own, or no connection
		// was free. But the one permit of a half-open breaker must come back.
		if e.breaker.IsHalfOpen() {
			e.breaker.RecordFailure()
		}
	default:
		e.lastFailure.Store(e.requestError(err))
		e.breaker.RecordFailure()
	}
}

// dialFailed reports whether there is no connection, or none that answers a ping.
func dialFailed(err error) bool {
	_, op := errors.AsType[*net.OpError](err)
	_, dns := errors.AsType[*net.DNSError](err)
	return op || dns || errors.Is(err, os.ErrDeadlineExceeded)
}

// unasked is the error of a call that the open breaker keeps back.
func (e *Engine) unasked() error {
	e.withheld.Add(1)
	err := fmt.Errorf("the last %d calls failed", breakerCalls)
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
