package remote

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
)

// Bounds of the reads of one batch. If the answer exceeds the server's 10 MB the
// batch is sent again in halves.
const (
	maxReads     = 128
	maxReadBytes = 4 << 20 // of their texts and arguments
)

// read is one Query call.
type read struct {
	ctx     context.Context
	stmts   []engine.Stmt
	results []engine.Result
	err     error
	done    chan struct{} // closed when results or err is set; nil if nobody else waits for it
}

type pullKey struct{}

// ForPull returns a context for queries that fetch what a local replica lacks: their bytes
// are counted apart, and so they share no request with others.
func ForPull(ctx context.Context) context.Context {
	return context.WithValue(ctx, pullKey{}, true)
}

func (r *read) forPull() bool { return r.ctx.Value(pullKey{}) != nil }

func (r *read) settle(results []engine.Result, err error) {
	r.results, r.err = results, err
	if r.done != nil {
		close(r.done)
	}
}

// readQueue forms batches of reads. One goroutine acquires connections for it; each
// takes all reads that are queued by then.
type readQueue struct {
	wake chan struct{} // capacity 1: the queue may have become non-empty

	mu       sync.Mutex
	queue    []*read
	inFlight int // batches and reads that were sent and have no answer yet
}

// acquireAlone returns a lease for a read if no other is queued or in flight and a
// connection is idle, nil otherwise: the read is then to be queued, so that a burst
// of reads shares a batch. done must be called after the exchange over the lease.
func (e *Engine) acquireAlone() *lease {
	q := &e.reads
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inFlight > 0 || len(q.queue) > 0 {
		return nil
	}
	l := e.pool.TryAcquire()
	if l != nil {
		q.inFlight++
	}
	return l
}

// done is called when a batch, or a read sent alone, has been answered.
func (q *readQueue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight--
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (q *readQueue) push(r *read) {
	q.mu.Lock()
	q.queue = append(q.queue, r)
	q.mu.Unlock()
	signal(q.wake)
}

// withdraw removes r if it is still waiting.
func (q *readQueue) withdraw(r *read) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.queue {
		if other == r {
			q.queue = append(q.queue[:i], q.queue[i+1:]...)
			return
		}
	}
}

func (q *readQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) == 0
}

// take removes the next reads in the order of their arrival. If there are any,
// done must be called after their exchange.
func (q *readQueue) take() []*read {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for ; n < len(q.queue) && n < maxReads; n++ {
		if bytes += engine.Size(q.queue[n].stmts); n > 0 && (bytes > maxReadBytes || q.queue[n].forPull() != q.queue[0].forPull()) {
			break
		}
	}
	batch := append([]*read(nil), q.queue[:n]...)
	rest := copy(q.queue, q.queue[n:])
	clear(q.queue[rest:]) // keep nothing alive
	q.queue = q.queue[:rest]
	if len(batch) > 0 {
		q.inFlight++
	}
	return batch
}

// serveReads acquires connections for queued reads until Close begins.
func (e *Engine) serveReads() {
	for {
		select {
		case <-e.reads.wake:
		case <-e.open.Done():
			return
		}
		for !e.reads.empty() {
			runtime.Gosched() // lets the other callers of a burst queue their reads
			ctx, cancel := context.WithTimeout(e.open, requestTimeout)
			l, err := e.acquire(ctx)
			cancel()
			batch := e.reads.take()
			if len(batch) > 0 {
				e.owned.Go(func() {
					e.answerTogether(batch, l, err)
					e.reads.done()
				})
			} else if l != nil { // they have all given up
				l.ReleaseUnused()
			}
		}
	}
}

// answerAlone settles a read that is sent alone, unless its caller gives up or Close
// begins.
func (e *Engine) answerAlone(r *read, l *lease) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(e.open, cancel)()
	e.answer(ctx, []*read{r}, l, nil)
}

// answerTogether settles the reads of a batch, unless all their callers give up or
// Close begins.
func (e *Engine) answerTogether(batch []*read, l *lease, failed error) {
	values := context.Background()
	if len(batch) == 1 {
		values = context.WithoutCancel(batch[0].ctx)
	}
	ctx, cancel := context.WithCancelCause(values)
	defer cancel(nil)
	defer context.AfterFunc(e.open, func() { cancel(context.Cause(e.open)) })()
	callers := make([]context.Context, len(batch))
	for i, r := range batch {
		callers[i] = r.ctx
	}
	defer whenAllLeave(callers, cancel)() // with its error: the breaker counts a deadline
	e.answer(ctx, batch, l, failed)
}

// whenAllLeave calls f on a goroutine of its own when the last of the callers has given
// up, with the error of that one's context. stop returns when f is neither running nor
// will be called.
func whenAllLeave(callers []context.Context, f func(error)) (stop func()) {
	var waiting atomic.Int64
	var running sync.WaitGroup
	waiting.Store(int64(len(callers)))
	running.Add(len(callers))
	stops := make([]func() bool, len(callers))
	for i, ctx := range callers {
		stops[i] = context.AfterFunc(ctx, func() {
			defer running.Done()
			if waiting.Add(-1) == 0 {
				f(ctx.Err())
			}
		})
	}
	return func() {
		for _, stop := range stops {
			if stop() {
				running.Done()
			}
		}
		running.Wait()
	}
}

// answer settles reads with one request over l, or with failed, the error of
// acquiring it. With neither it acquires a connection. All reads see one snapshot.
func (e *Engine) answer(ctx context.Context, batch []*read, l *lease, failed error) {
	c := &call{lease: l, failed: failed, pull: batch[0].forPull()}
	patient := false // one of the callers has no deadline
	for _, r := range batch {
		c.size += engine.Size(r.stmts)
		d := engine.SoftDeadline(r.ctx)
		if patient = patient || d.IsZero(); d.After(c.deadline) {
			c.deadline = d
		}
	}
	if patient {
		c.deadline = time.Time{}
	}
	c.waitUntil = c.deadline
	single := len(batch) == 1 && len(batch[0].stmts) == 1 && verb(batch[0].stmts[0].SQL) == "SELECT"
	results, err := e.doEither(ctx, c, func(v3 bool) []hrana.Request {
		if single {
			return []hrana.Request{hrana.Execute{Stmt: wire(batch[0].stmts[0])}}
		}
		return []hrana.Request{readBatch(batch, v3)}
	})
	if err == nil && results[0].Err == nil {
		if single {
			e.queries.Add(1)
			batch[0].settle([]engine.Result{result(results[0].Stmt)}, nil)
		} else {
			e.settleReads(ctx, batch, results[0].Batch.Steps)
		}
		return
	}
	h := refusalIn(err)
	switch {
	case err != nil && (len(batch) == 1 || h == nil || !classOf(h).apart):
		err = e.requestError(err)
	case len(batch) > 1: // too much for one request or answer, or one of them cannot be parsed
		half := len(batch) / 2
		e.answer(ctx, batch[:half], nil, nil)
		e.answer(ctx, batch[half:], nil, nil)
		return
	case parseCodes[results[0].Err.Code] || single:
		err = serverError(results[0].Err, e.blame(ctx, batch[0].stmts))
	default:
		err = serverError(results[0].Err, -1)
	}
	for _, r := range batch {
		r.settle(nil, err)
	}
}

// readBatch is the transaction of a batch of reads. A failing statement skips the
// rest of its own caller's and no others. The transaction is always rolled back: it
// has nothing to commit, and a PRAGMA that writes must not bypass the write lane.
func readBatch(batch []*read, v3 bool) hrana.Batch {
	var inside []hrana.Cond // without it later statements would each have a snapshot of their own
	if v3 {
		inside = []hrana.Cond{hrana.Not(hrana.IsAutocommit())}
	}
	within := func(step int) hrana.Cond { return hrana.And(append(inside, hrana.Ok(step))...) }
	steps := []hrana.Step{{Stmt: hrana.Stmt{SQL: "BEGIN"}}}
	for _, r := range batch {
		before := 0
		for _, s := range r.stmts {
			steps = append(steps, hrana.Step{Cond: within(before), Stmt: wire(s)})
			before = len(steps) - 1
		}
	}
	return hrana.Batch{Steps: append(steps, hrana.Step{Cond: within(0), Stmt: hrana.Stmt{SQL: "ROLLBACK"}})}
}

// settleReads gives each read the results of its steps of a readBatch.
func (e *Engine) settleReads(ctx context.Context, batch []*read, steps []hrana.StepResult) {
	if begin := steps[0]; begin.Result == nil {
		for _, r := range batch {
			r.settle(nil, stepError(begin, -1))
		}
		return
	}
	steps = steps[1:]
	var rest []*read // the failure of another ended the transaction
	for _, r := range batch {
		own := steps[:len(r.stmts)]
		steps = steps[len(r.stmts):]
		if own[0] == (hrana.StepResult{}) && len(batch) > 1 {
			rest = append(rest, r)
			continue
		}
		results := make([]engine.Result, len(own))
		var err error
		for i, s := range own {
			if s.Result == nil {
				results, err = nil, stepError(s, i)
				break
			}
			results[i] = result(s.Result)
		}
		if err == nil {
			e.queries.Add(1)
		}
		r.settle(results, err)
	}
	if len(rest) > 0 {
		e.answer(ctx, rest, nil, nil)
	}
}
