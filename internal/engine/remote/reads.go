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

// Bounds of the reads that travel together. The answer to a batch must stay
// under the server's 10 MB; one that does not is asked for again in halves.
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

func (r *read) settle(results []engine.Result, err error) {
	r.results, r.err = results, err
	if r.done != nil {
		close(r.done)
	}
}

// readQueue holds the reads that travel together. One goroutine acquires
// connections for it; each connection takes all that are queued by then.
type readQueue struct {
	wake chan struct{} // capacity 1: the queue may have become non-empty

	mu       sync.Mutex
	queue    []*read
	inFlight int // exchanges under way
}

// acquireAlone returns a lease for a read while no other is queued or under way,
// and nil otherwise, or if no connection is idle. done must be called after its
// exchange. All other reads are queued: those of a burst then share an exchange.
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

// done is called when an exchange has ended.
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
		if bytes += engine.Size(q.queue[n].stmts); n > 0 && bytes > maxReadBytes {
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
			runtime.Gosched() // the rest of a burst comes
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

// answerAlone settles a read that travels by itself, until its caller gives up or
// Close begins.
func (e *Engine) answerAlone(r *read, l *lease) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(e.open, cancel)()
	e.answer(ctx, []*read{r}, l, nil)
}

// answerTogether settles reads that travel together, until the last of their
// callers has given up or Close begins.
func (e *Engine) answerTogether(batch []*read, l *lease, failed error) {
	ctx, cancel := context.WithCancelCause(e.open)
	defer cancel(nil)
	var waiting atomic.Int64
	waiting.Store(int64(len(batch)))
	for _, r := range batch {
		stop := context.AfterFunc(r.ctx, func() {
			if waiting.Add(-1) == 0 {
				cancel(r.ctx.Err()) // the end of a deadline says something about the server
			}
		})
		defer stop()
	}
	e.answer(ctx, batch, l, failed)
}

// answer settles reads with one request, over l or as what acquiring it gave.
// All see the same snapshot.
func (e *Engine) answer(ctx context.Context, batch []*read, l *lease, failed error) {
	c := &call{lease: l, failed: failed}
	patient := false // one of the callers has no deadline
	for _, r := range batch {
		c.size += engine.Size(r.stmts)
		d := engine.ExpectedBy(r.ctx)
		if patient = patient || d.IsZero(); d.After(c.deadline) {
			c.deadline = d
		}
	}
	if patient {
		c.deadline = time.Time{}
	}
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
	switch {
	case err != nil:
		err = e.requestError(err)
	case len(batch) > 1: // too much for one answer, or one of them cannot be parsed
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

// readBatch is the transaction that carries reads. Those of one caller end with
// its first failure, which is none of the others' business. It is rolled back
// whatever happens: it has nothing to commit, and what a PRAGMA may write is not
// stored beside the write lane.
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

// settleReads gives each read what its steps of a readBatch did.
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
