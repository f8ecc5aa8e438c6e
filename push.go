package episodic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/outbox"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/replica"
)

const (
	defaultPushEvery = 30 * time.Second
	// A transaction carries out so many operations at most, of so many bytes.
	pushOps   = 256
	pushBytes = 1 << 20
	// Steps wait for more only below so many bytes.
	fewBytes = 256 << 10
	// pushPause is between two rounds, so that what is written meanwhile travels together.
	pushPause = 50 * time.Millisecond
	// idlePush is how often it is looked for what processes that have ended have left.
	idlePush = 30 * time.Second
	// ownerTime is how long an operation may take from the outbox into the replica, or back.
	// After that its process has ended, or was stopped, and others see to it.
	ownerTime = 2 * time.Second
	// Pauses after rounds that failed, which double.
	minPushBackoff, maxPushBackoff = time.Second, 30 * time.Second
)

const (
	sqlPush       = `INSERT INTO push VALUES(?,?,?,?)`
	sqlPushed     = `SELECT n, rev FROM pushed WHERE outbox = ?`
	sqlRequired   = `INSERT INTO required SELECT `
	sqlPins       = `SELECT rev FROM pinned`
	sqlPinsOf     = `SELECT rev FROM pinned WHERE item = ?`
	sqlPassedOver = `SELECT 1 FROM passed_over LIMIT 1`
)

// kick wakes run, which pushes what waits, unless that may wait for more and all who have
// kicked it said that theirs may.
func (q *writeQueue) kick(mayWait bool) {
	if !mayWait {
		q.due.Store(true)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine that pushes.
func (q *writeQueue) run() {
	timer := time.NewTimer(0) // what is left by others
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-q.ctx.Done():
			return
		case <-q.wake:
			if failures > 0 {
				continue // the timer tells when to try again
			}
			if wait := q.few(q.ctx); wait > 0 && !q.due.Load() {
				timer.Reset(wait)
				q.pause()
				continue
			}
		case <-timer.C:
		}
		q.due.Store(false)
		err := q.round(q.ctx, false)
		switch {
		case q.ctx.Err() != nil:
			return
		case err != nil:
			q.log.Debug("queued writes not pushed; it is tried again later", "error", failed(err, "push"))
			timer.Reset(min(minPushBackoff<<min(failures, 10), maxPushBackoff))
			failures++
			continue
		}
		failures = 0
		wait := idlePush
		if c, err := q.box.Counts(q.ctx, 0); err == nil && c.Ops > c.Failed {
			wait = q.every
		}
		timer.Reset(wait)
		q.pause()
	}
}

// pause waits for what is written meanwhile.
func (q *writeQueue) pause() {
	select {
	case <-time.After(pushPause):
	case <-q.ctx.Done():
	}
}

// few is for how long what waits may wait for more, if it is no more than that; 0: it may not.
// It is asked behind every step that a process of the machine adds, and so asks for no more than
// the number and size of what waits.
func (q *writeQueue) few(ctx context.Context) time.Duration {
	c, err := q.box.Counts(ctx, 0)
	if err != nil || c.Ops == 0 || c.Ops >= pushOps || c.Bytes >= fewBytes {
		return 0
	}
	return q.every - time.Since(c.Oldest).Abs()
}

// flush pushes until nothing waits that was queued when it was called.
func (q *writeQueue) flush(ctx context.Context) error {
	if err := q.box.Again(ctx); err != nil {
		return err
	}
	c, err := q.drain(ctx)
	if err == nil && c.Failed > 0 {
		err = fmt.Errorf("%w: the server has refused %d of the queued writes, which Store.Queued tells", ErrConflict, c.Failed)
	}
	return err
}

// drain pushes until of what was queued when it was called only that is left which the server
// has refused, and what waits for that. It returns what is queued then.
func (q *writeQueue) drain(ctx context.Context) (outbox.Counts, error) {
	p, err := q.box.Position(ctx)
	if err != nil {
		return outbox.Counts{}, err
	}
	for {
		if err := q.round(ctx, true); err != nil {
			return outbox.Counts{}, err
		}
		c, err := q.box.Counts(ctx, p.Last)
		if err != nil || c.Ahead == 0 {
			return c, err
		}
		select { // another process is between its outbox and its replica
		case <-time.After(pushPause):
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
}

// round pushes what is to be pushed now, or all that waits if it is urgent.
func (q *writeQueue) round(ctx context.Context, urgent bool) (err error) {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := q.box.Lock(ctx); err != nil {
		return err
	}
	defer q.box.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.down = err
	}()
	refused := make(map[int64]bool) // by number
	pushed := false
	for {
		// Before the operations: if another process pushes meanwhile, because it takes this one for
		// stopped, the server is not where it was.
		p, err := q.box.Position(ctx)
		if err != nil {
			return err
		}
		ops, err := q.ready(ctx)
		if err != nil {
			return err
		}
		if len(ops) == 0 || !urgent && len(refused) == 0 && q.waits(ops) {
			break
		}
		if err := q.push(ctx, p, ops, refused); err != nil {
			return err
		}
		pushed = true
	}
	if pushed {
		q.wrote()
	}
	return q.unpin(ctx)
}

// waits reports whether operations may wait for more that travel with them: all are those of
// running episodes.
func (q *writeQueue) waits(ops []outbox.Op) bool {
	size := 0
	for i := range ops {
		size += len(ops[i].Body)
		if !running(&ops[i]) {
			return false
		}
	}
	return size < fewBytes && len(ops) < pushOps && time.Since(ops[0].At).Abs() < q.every
}

// running reports whether an operation begins an episode, or adds steps to one.
func running(op *outbox.Op) bool {
	o, err := operationFrom(op)
	return err == nil && grows(o)
}

func grows(o operation) bool {
	switch o := o.(type) {
	case *appendSteps:
		return true
	case *putEpisode:
		return o.New && o.Episode.Running()
	}
	return false
}

// ready returns the first operations that can be pushed. What a process that has ended has
// left is carried out in the replica first.
func (q *writeQueue) ready(ctx context.Context) ([]outbox.Op, error) {
	ops, err := q.box.Waiting(ctx, pushOps)
	if err != nil || len(ops) == 0 {
		return nil, err
	}
	pinned, err := q.pinned(ctx)
	if err != nil {
		return nil, err
	}
	size := 0
	var left []int64 // revisions of operations whose processes may have ended
	for i := range ops {
		op := &ops[i]
		size += len(op.Body)
		if op.Kind < 1 || op.Kind > int64(len(queuedKinds)) {
			_, unknown := operationFrom(op)
			if err := q.refuse(ctx, op, unknown); err != nil {
				return nil, err
			}
		} else if (i == 0 || size <= pushBytes) && (pinned[op.Rev] || time.Since(op.At).Abs() >= ownerTime) {
			if !pinned[op.Rev] {
				left = append(left, op.Rev)
			}
			continue
		}
		ops = ops[:i]
		break
	}
	if left == nil {
		return ops, nil
	}
	return q.adopt(ctx, ops, left)
}

// adopt carries out in the replica what processes that may have ended have left, and returns
// the operations before the first that was taken back by its own.
func (q *writeQueue) adopt(ctx context.Context, ops []outbox.Op, left []int64) ([]outbox.Op, error) {
	adopted, err := q.box.Adopt(ctx, left)
	if err != nil {
		return nil, err
	}
	for i := range ops {
		op := &ops[i]
		switch {
		case !slices.Contains(left, op.Rev):
			continue
		case !adopted[op.Rev]:
			return ops[:i], nil
		case q.here == nil: // a Store with a replica carries it out there, or fetches it
			continue
		}
		// What is refused here, perhaps because the replica was made anew and lacks the item,
		// is for the server to judge.
		if o, err := operationFrom(op); err == nil {
			if err := q.here.carryOutHere(ctx, o, op, nil); err != nil && ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	return ops, nil
}

// pinned are the revisions of the operations that are carried out in the replica.
func (q *writeQueue) pinned(ctx context.Context) (map[int64]bool, error) {
	if q.here == nil {
		return nil, nil
	}
	r, err := q.here.engine.Query(ctx, engine.Stmt{SQL: sqlPins})
	if err != nil {
		return nil, fmt.Errorf("read which items are pinned: %w", err)
	}
	pinned := make(map[int64]bool, len(r[0].Rows))
	for _, row := range r[0].Rows {
		rev, _ := row[0].(int64)
		pinned[rev] = true
	}
	return pinned, nil
}

// unpin lets the replica have again what the server sends of items whose operations are no
// longer queued.
func (q *writeQueue) unpin(ctx context.Context) error {
	pinned, err := q.pinned(ctx) // read before the outbox, which an operation enters first
	if err != nil || len(pinned) == 0 {
		return err
	}
	revs := make([]int64, 0, len(pinned))
	for rev := range pinned {
		revs = append(revs, rev)
	}
	has, err := q.box.Has(ctx, revs)
	if err != nil {
		return err
	}
	var stmts []engine.Stmt
	for _, rev := range revs {
		if !has[rev] {
			stmts = append(stmts, replica.Unpin(rev)...)
		}
	}
	if stmts == nil {
		return nil
	}
	if err := q.pullPassedOver(ctx); err != nil { // reads wait for what will be fetched
		return err
	}
	if _, err := q.here.engine.Repeatable(ctx, stmts...); err != nil {
		return err
	}
	return q.pullPassedOver(ctx)
}

// pullPassedOver has what was passed over fetched, if anything was.
func (q *writeQueue) pullPassedOver(ctx context.Context) error {
	r, err := q.here.engine.Query(ctx, engine.Stmt{SQL: sqlPassedOver})
	if err == nil && len(r[0].Rows) > 0 {
		q.pull()
	}
	return err
}

// push has the server carry out the first of some operations, which were read after p, in one
// transaction.
func (q *writeQueue) push(ctx context.Context, p outbox.Position, ops []outbox.Op, refused map[int64]bool) error {
	for i := range ops {
		if refused[ops[i].N] { // alone, so that it keeps no other from the server
			ops = ops[:max(1, i)]
			break
		}
	}
	ended, err := q.ended(ctx, ops, refused)
	if err != nil {
		return err
	}
	b, err := newBatch(ops, ended)
	if err != nil { // of the first one
		return q.refuse(ctx, &ops[0], err)
	}
	var culprit *outbox.Op
	for again := true; ; again = false {
		culprit, err = q.send(ctx, p, b)
		if !again || !payload.IsDictionaryGone(err) {
			break
		}
		q.server.payloads.Reset()
	}
	switch {
	case err == nil:
		last := b.ops[len(b.ops)-1]
		q.counters.requests.Add(1)
		q.counters.pushed.Add(uint64(len(b.ops)))
		if b.tags {
			q.server.indexer.kick() // the episode is left to be indexed
		}
		return q.box.Stands(ctx, p, last.N, last.Rev)
	case culprit != nil && len(b.ops) > 1:
		refused[culprit.N] = true
		return nil
	case culprit != nil:
		return q.settle(ctx, p, culprit, b.groups[0].op, err)
	case engine.KindOf(err) == engine.KindUnknownOutcome, engine.KindOf(err) == engine.KindConstraint:
		return q.ask(ctx, p)
	}
	return err
}

// ended reads in the replica what completions make of their episodes, of those after which
// nothing of the item is queued. That is what they make of it on the server too, unless others
// have changed it: then the revision is another one, the server refuses the completion, and
// it is tried again with what is there.
func (q *writeQueue) ended(ctx context.Context, ops []outbox.Op, refused map[int64]bool) (map[int64]*Episode, error) {
	if q.here == nil {
		return nil, nil
	}
	ended, revs := make(map[int64]*Episode), make(map[[16]byte][]int64)
	for i := range ops {
		op := &ops[i]
		revs[op.Item] = append(revs[op.Item], op.Rev)
		if _, completes := queuedKinds[op.Kind-1].make().(*completeEpisode); !completes || refused[op.N] {
			continue
		}
		r, err := q.here.engine.Query(ctx, engine.Stmt{SQL: sqlGetHead, Args: []any{op.Item[:]}}, engine.Stmt{SQL: sqlPinsOf, Args: []any{op.Item[:]}})
		if err != nil {
			return nil, fmt.Errorf("read what is to be pushed: %w", err)
		}
		later := slices.ContainsFunc(r[1].Rows, func(row []any) bool {
			rev, _ := row[0].(int64)
			return !slices.Contains(revs[op.Item], rev)
		})
		if later || len(r[0].Rows) == 0 {
			continue
		}
		if e, _, err := q.here.episodeFrom(ctx, r[0].Rows[0]); err == nil && !e.Running() {
			e.StepCount = 0 // they stay as they are
			ended[op.N] = e
		}
	}
	return ended, nil
}

// refuse holds an operation back, and what follows of its item.
func (q *writeQueue) refuse(ctx context.Context, op *outbox.Op, reason error) error {
	q.counters.refused.Add(1)
	q.log.Warn("a queued write was refused; it is kept", "number", op.N)
	return q.box.Fail(ctx, op.N, reason.Error())
}

// ask notes how far the server has got.
func (q *writeQueue) ask(ctx context.Context, p outbox.Position) error {
	q.counters.again.Add(1)
	r, err := q.server.engine.Query(ctx, engine.Stmt{SQL: sqlPushed, Args: []any{p.Name}})
	if err != nil {
		return err
	}
	var n, rev int64
	if rows := r[0].Rows; len(rows) > 0 {
		in := engine.Row{Values: rows[0]}
		if n, rev = in.Int(0), in.Int(1); in.Err != nil {
			return in.Err
		}
	}
	return q.box.Stands(ctx, p, n, rev)
}

// send sends a batch. culprit is the first operation of those that the server refuses, or
// that cannot be encoded.
func (q *writeQueue) send(ctx context.Context, p outbox.Position, b *batch) (culprit *outbox.Op, err error) {
	last := &b.ops[len(b.ops)-1]
	stmts := []engine.Stmt{{SQL: sqlPush, Args: []any{p.Name, p.N, last.N, last.Rev}}}
	ends := make([]int, len(b.groups)) // of their statements
	for i, g := range b.groups {
		w, err := g.op.encode(ctx, q.server)
		if err != nil {
			if final(err) {
				return g.first, err
			}
			return nil, err
		}
		if cond, args := expects(g.op); cond != "" {
			stmts = append(stmts, engine.Stmt{SQL: sqlRequired + cond, Args: args})
		}
		stmts = append(stmts, w.stmts...)
		if cond, args := holds(g.op); cond != "" && len(w.stmts) > 0 {
			stmts = append(stmts, engine.Stmt{SQL: sqlRequired + cond, Args: args})
		}
		ends[i] = len(stmts)
	}
	_, err = q.server.engine.Repeatable(ctx, stmts...)
	if err == nil || payload.IsDictionaryGone(err) {
		return nil, err
	}
	e, is := errors.AsType[*engine.Error](err)
	switch {
	case !is || !final(err):
		return nil, err
	case e.Stmt < 0: // the whole is too large
		return b.groups[0].first, err
	}
	for i, g := range b.groups {
		if e.Stmt >= 1 && e.Stmt < ends[i] {
			return g.first, err
		}
	}
	return nil, err
}

// final reports whether an error says something of an operation, and would come again.
func final(err error) bool {
	switch engine.KindOf(err) {
	case engine.KindUnique, engine.KindConstraint, engine.KindTooLarge:
		return true
	}
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) || errors.Is(err, ErrCorrupt)
}
