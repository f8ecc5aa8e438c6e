package remote

import (
	"context"
	"slices"
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

// A read that finds others under way waits a little for company: a burst of reads
// then takes one round trip on two connections.
//
// For a server far away, one that has just left is enough to wait, for farGather:
// a small part of a round trip, in which the rest of a burst comes. A server
// nearby, to which a connection takes less than nearDial, spends more time on a
// request than on what it asks for: the wait then begins with nearReads under way
// and ends early when one of them does, or after nearGather. Those under way for
// longer than nearSlow do not count: they are slow for another reason.
const (
	farGather  = 250 * time.Microsecond
	nearGather = time.Millisecond
	nearDial   = 2 * time.Millisecond
	nearReads  = 2
	nearSlow   = 5 * time.Millisecond
)

// company returns how many exchanges that began within some time must be under
// way for a read to wait for company, and how long it waits.
func (e *Engine) company() (count int, within, wait time.Duration) {
	if time.Duration(e.fastestDial.Load()) < nearDial {
		return nearReads, nearSlow, nearGather
	}
	return 1, farGather, farGather
}

// read is one Query call.
type read struct {
	ctx     context.Context
	stmts   []engine.Stmt
	results []engine.Result
	err     error
	left    time.Time     // when its exchange began
	done    chan struct{} // closed when results or err is set; nil if nobody else waits for it
}

func (r *read) settle(results []engine.Result, err error) {
	r.results, r.err = results, err
	if r.done != nil {
		close(r.done)
	}
}

// readers is the queue of the reads that found no idle connection. One goroutine
// acquires connections for it; each takes all that waits.
type readers struct {
	wake  chan struct{} // capacity 1: the queue may have become non-empty
	ended chan struct{} // capacity 1: an exchange has ended

	mu    sync.Mutex
	queue []*read
	under []time.Time // when the exchanges under way began
}

// leave returns a lease to a read that may leave at once, nil if it must wait.
// done must be called after the exchange.
func (e *Engine) leave(r *read) *lease {
	q := &e.readers
	q.mu.Lock()
	defer q.mu.Unlock()
	r.left = time.Now()
	if count, within, _ := e.company(); len(q.queue) > 0 || q.young(r.left, within) >= count {
		return nil
	}
	l := e.pool.TryAcquire()
	if l != nil {
		q.under = append(q.under, r.left)
	}
	return l
}

// young counts the exchanges under way that began within some time.
func (q *readers) young(now time.Time, within time.Duration) (n int) {
	for _, began := range q.under {
		if now.Sub(began) < within {
			n++
		}
	}
	return n
}

// done is called when the exchange that began then has ended.
func (q *readers) done(began time.Time) {
	q.mu.Lock()
	i := slices.Index(q.under, began)
	q.under = slices.Delete(q.under, i, i+1)
	q.mu.Unlock()
	signal(q.ended)
}

// gather lets reads wait for company.
func (e *Engine) gather(timer *time.Timer) {
	q := &e.readers
	count, within, wait := e.company()
	crowded := func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.young(time.Now(), within) >= count && len(q.queue) < maxReads
	}
	timer.Reset(wait)
	for crowded() {
		select {
		case <-q.ended:
		case <-timer.C:
			return
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (q *readers) push(r *read) {
	q.mu.Lock()
	q.queue = append(q.queue, r)
	q.mu.Unlock()
	signal(q.wake)
}

// withdraw removes r if it is still waiting.
func (q *readers) withdraw(r *read) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.queue {
		if other == r {
			q.queue = append(q.queue[:i], q.queue[i+1:]...)
			return
		}
	}
}

func (q *readers) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) == 0
}

// take removes the next reads in the order of their arrival. If there are any,
// done must be called after their exchange.
func (q *readers) take() []*read {
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
		batch[0].left = time.Now()
		q.under = append(q.under, batch[0].left)
	}
	return batch
}

// serveReads acquires connections for waiting reads until the engine is closed,
// which it is not before the last read has its answer.
func (e *Engine) serveReads() {
	timer := time.NewTimer(nearGather)
	defer timer.Stop()
	for {
		select {
		case <-e.readers.wake:
		case <-e.life.Done():
			return
		}
		for !e.readers.empty() {
			e.gather(timer)
			ctx, cancel := context.WithTimeout(e.life, requestTimeout)
			l, err := e.acquire(ctx)
			cancel()
			batch := e.readers.take()
			if len(batch) > 0 {
				e.owned.Go(func() {
					e.answerTogether(batch, l, err)
					e.readers.done(batch[0].left)
				})
			} else if l != nil { // they have all given up
				l.ReleaseUnused()
			}
		}
	}
}

// answerTogether settles reads that travel together, until the last of their
// callers has given up.
func (e *Engine) answerTogether(batch []*read, l *lease, failed error) {
	ctx, cancel := context.WithCancelCause(context.Background())
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
	default:
		err = serverError(results[0].Err, e.blame(ctx, batch[0].stmts))
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
