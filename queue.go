package episodic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/outbox"
)

// Offline says when a write to a server is acknowledged.
type Offline uint8

const (
	// Through acknowledges a write when the server has stored it; without a server it fails.
	// What others have left in the outbox of this server and scope is pushed first: see Queue.
	Through Offline = iota
	// Queue acknowledges a write when it is on this machine's disk, in an outbox, and in the
	// replica, where the readers of this machine find it. It is pushed to the server in the
	// background, in order and once, whatever becomes of this process, the connection or the
	// server meanwhile; Store.Flush waits for that. Until an item's writes are pushed, this
	// machine does not see what others change in it.
	//
	// A write is checked against the replica. One that the server refuses all the same,
	// because others have changed what it builds on, is kept, and later ones of its item are
	// held back: see Store.Outbox. The outbox is a file in Options.StateDir, and must not be
	// deleted. Of what is not a write of items, such as Compact, nothing is queued.
	Queue
)

// stateDir is StateDir or its default.
func (o *Options) stateDir() (string, error) {
	if o.StateDir != "" {
		return o.StateDir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "episodic"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", invalid("StateDir", "is empty, and the user has no folder for it: %v", err)
	}
	switch runtime.GOOS {
	case "darwin":
		return filepath.Join(home, "Library", "Application Support", "episodic"), nil
	case "windows":
		return filepath.Join(cmp.Or(os.Getenv("LocalAppData"), filepath.Join(home, "AppData", "Local")), "episodic"), nil
	}
	return filepath.Join(home, ".local", "state", "episodic"), nil
}

// writeQueue is where the writes of a Store wait for the server, or those that others have left.
type writeQueue struct {
	through bool // the Store's own writes are not queued
	box     *outbox.Outbox
	file    *embedded.Engine // of box
	here    *Store           // on the replica; nil: the Store has none, and does not queue
	server  *Store           // which carries out at once
	wrote   func()           // tells that the server has got something
	pull    func()           // fetches what was passed over
	every   time.Duration
	log     *slog.Logger

	turn chan struct{} // holds a token while this process pushes
	wake chan struct{} // capacity 1
	due  atomic.Bool   // something is to be pushed that does not wait for more
	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup

	counters struct{ queued, pushed, requests, refused, again, merged, conflicts atomic.Uint64 }

	mu   sync.Mutex
	down error // of the last round; nil if it succeeded
}

// queues reports whether the Store's writes are queued.
func (s *Store) queues() bool { return s.queue != nil && !s.queue.through }

// openQueue gives the Store a queue if the options ask for one, or if there is an outbox.
func (s *Store) openQueue(ctx context.Context, t target, o *Options) error {
	through := o.Replica.Offline == Through
	switch {
	case t.url == "":
		return nil
	case !through && o.Replica.Offline != Queue:
		return invalid("Replica.Offline", "is %d; it must be Through or Queue", o.Replica.Offline)
	case !through && s.replica == nil:
		return invalid("Replica.Offline", "is Queue, which needs a replica, and there is none")
	case o.Replica.PushEvery < 0:
		return invalid("Replica.PushEvery", "is negative (%v)", o.Replica.PushEvery)
	}
	dir, err := o.stateDir()
	if err != nil {
		if through { // nobody can have left anything there
			return nil
		}
		return err
	}
	key := o.scopedKey(t, s.scope)
	path := filepath.Join(dir, "outbox", key+".db")
	if through {
		if _, err := os.Stat(path); err != nil { // nor where this user may not look
			return nil
		}
	} else if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := embedded.Open(ctx, embedded.Config{Path: path, LockDir: o.LockDir})
	if err != nil {
		return fmt.Errorf("open the outbox %s: %w", path, err)
	}
	box, err := outbox.New(ctx, file, key, o.LockDir, path)
	if err != nil {
		return errors.Join(fmt.Errorf("open the outbox %s: %w", path, err), file.Close())
	}
	server := *s
	server.replica, server.borrowed = nil, true
	q := &writeQueue{
		through: through, box: box, file: file, server: &server, every: cmp.Or(o.Replica.PushEvery, defaultPushEvery), log: o.Logger,
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	if s.replica != nil {
		q.here = s.replica.inner
	}
	if q.log == nil {
		q.log = slog.New(slog.DiscardHandler)
	}
	q.wrote = func() {
		s.hub.Kick()
		if s.replica != nil {
			s.replica.pull.Answered()
		}
	}
	q.pull = func() {
		if s.replica != nil {
			s.replica.noteAnswer()
			s.replica.pull.Wrote(time.Now())
		}
	}
	q.ctx, q.stop = context.WithCancel(context.Background())
	q.done.Go(q.run)
	s.queue = q
	return nil
}

// lastPush is how long Close goes on pushing what waits.
const lastPush = 2 * time.Second

func (q *writeQueue) close() error {
	if q == nil {
		return nil
	}
	q.stop()
	q.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), lastPush)
	defer cancel()
	if err := q.round(ctx, true); err != nil {
		q.log.Warn("writes are still queued; they are pushed by the next Store", "error", failed(err, "push"))
	}
	q.box.Close()
	return q.file.Close()
}

// errNothingToDo says that what is asked for is stored already.
var errNothingToDo = errors.New("nothing to do")

// add queues an operation of s, and carries it out in the replica.
func (q *writeQueue) add(ctx context.Context, s *Store, o operation) error {
	if err := q.here.noteRead(ctx, o); err != nil {
		return err
	}
	op, err := queued(o, time.Now())
	if err != nil {
		return err
	}
	receipt, err := s.receipt(ctx, o)
	if err != nil {
		return err
	}
	if err := q.box.Add(ctx, op); err != nil {
		return err
	}
	here := s.replica.narrowed(s.scope)
	err = here.carryOutHere(ctx, o, op, receipt)
	if err == nil {
		q.counters.queued.Add(1)
		q.kick(grows(o))
		return receipt.stored(ctx, here, op.Rev)
	}
	if engine.KindOf(err) == engine.KindUnknownOutcome {
		q.kick(false) // it stays queued
		return err
	}
	// It was never acknowledged.
	later := context.WithoutCancel(ctx)
	taken, takeErr := q.box.Take(later, op.Rev)
	if takeErr != nil {
		return &engine.Error{Kind: engine.KindUnknownOutcome, Stmt: -1, Err: fmt.Errorf("%w; and then: %w", err, takeErr)}
	}
	if _, takeErr = q.here.engine.Repeatable(later, unpin(op.Rev)); takeErr != nil {
		q.log.Warn("an item is not updated until its next write is pushed", "error", failed(takeErr, "unpin"))
	}
	if !taken || err == errNothingToDo {
		return nil // another process pushes it, after this one was stopped for long
	}
	return err
}

const (
	sqlPin   = `INSERT INTO pinned VALUES(?, ?)`
	sqlUnpin = `DELETE FROM pinned WHERE rev = ?`
)

func unpin(rev int64) engine.Stmt { return engine.Stmt{SQL: sqlUnpin, Args: []any{rev}} }

// carryOutHere carries out a queued operation in the replica that s is on, once, and pins
// its item in the same transaction.
func (s *Store) carryOutHere(ctx context.Context, o operation, op *outbox.Op, receipt *receipting) error {
	ran := false
	err := s.carryOutBy(ctx, o, func(w *encoded) error {
		ran = true
		stmts := append([]engine.Stmt{{SQL: sqlPin, Args: []any{op.Rev, op.Item[:]}}}, w.stmts...)
		if cond, args := holds(o); cond != "" { // what is refused here is not to be pushed
			st := unpin(op.Rev)
			stmts = append(stmts, engine.Stmt{SQL: st.SQL + " AND NOT " + cond, Args: append(st.Args, args...)})
		}
		results, err := s.engine.Batch(ctx, receipt.ask(stmts)...)
		results = receipt.answer(results)
		if e, is := errors.AsType[*engine.Error](err); is && e.Stmt == 0 && e.Kind == engine.KindUnique {
			return s.carriedOutBefore(ctx, o, w)
		}
		if err == nil {
			results = results[1 : 1+len(w.stmts)]
		}
		return w.told(ctx, results, err)
	})
	if err == nil && !ran {
		err = errNothingToDo
	}
	return err
}

// carriedOutBefore tells what came of an operation that another process has carried out here.
func (s *Store) carriedOutBefore(ctx context.Context, o operation, w *encoded) error {
	if _, appends := o.(*appendSteps); appends {
		return w.told(ctx, make([]engine.Result, len(w.stmts)), nil) // it looks for the key
	}
	return nil
}

// queueEpisodes is AddEpisodes for a Store that queues. The episodes have been prepared.
func (s *Store) queueEpisodes(ctx context.Context, episodes []*Episode) (added int, err error) {
	for i, e := range episodes {
		o := &putEpisode{Episode: e, Rev: newRevision(), Add: true}
		switch err := s.carryOut(ctx, o); {
		case err == nil:
			e.Revision = o.Rev
			added++
		case !errors.Is(err, errStoredAlready):
			return added, failed(err, "add episode %d of %d, those before it are queued", i+1, len(episodes))
		}
	}
	return added, nil
}

// goFirst has what is queued on this machine pushed before a write of some items that is not
// queued itself: it overtakes nothing. Errors: those of the push; ErrConflict if the server has
// refused an earlier write of one of the items.
func (q *writeQueue) goFirst(ctx context.Context, items ...ID) error {
	c, err := q.box.Counts(ctx, math.MaxInt64)
	if err == nil && c.Ahead > 0 {
		c, err = q.drain(ctx)
	}
	if err != nil {
		return fmt.Errorf("writes that were queued before go first: %w", err)
	}
	if c.Failed == 0 {
		return nil
	}
	for _, id := range items {
		if refused, err := q.box.Refused(ctx, id); err != nil {
			return err
		} else if refused {
			return fmt.Errorf("%w: the server has refused a write of %v that was queued before, which Store.Queued tells", ErrConflict, id)
		}
	}
	return nil
}

// pins reports whether writes of an item are queued here; of any, if it is zero.
func (r *localReplica) pins(ctx context.Context, id ID) (bool, error) {
	st := engine.Stmt{SQL: `SELECT 1 FROM pinned LIMIT 1`}
	if !id.IsZero() {
		st = engine.Stmt{SQL: `SELECT 1 FROM pinned WHERE item = ? LIMIT 1`, Args: []any{id.bytes()}}
	}
	res, err := r.inner.engine.Query(ctx, st)
	return err == nil && len(res[0].Rows) > 0, err
}

// Flush waits until the server has stored what was queued on this machine when it was
// called, whoever queued it. Writes that the server has refused before are tried again.
// Errors: Retryable errors if the server cannot be reached, and nothing is lost then;
// ErrConflict if the server refuses a write, which Queued tells. A Store that does not queue
// pushes what others have left.
func (s *Store) Flush(ctx context.Context) (err error) {
	ctx, end := s.trace(ctx, "Flush")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "flush")
	}
	if s.queue == nil {
		return nil
	}
	return failed(s.queue.flush(ctx), "flush")
}

// Outbox is what is queued on this machine for a server, whatever a Store's scope.
type Outbox struct {
	Waiting int64     `json:"waiting"` // writes, those that were refused included
	Bytes   int64     `json:"bytes"`   // they take
	Oldest  time.Time `json:"oldest,omitzero"`
	Refused int64     `json:"refused"` // of Waiting: see QueuedWrite.Refused
}

// Outbox returns how much is queued on this machine for the server and the scope that the Store
// was opened with. Errors: ErrClosed.
func (s *Store) Outbox(ctx context.Context) (_ Outbox, err error) {
	ctx, end := s.trace(ctx, "Outbox")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil || s.queue == nil {
		return Outbox{}, failed(err, "outbox")
	}
	c, err := s.queue.box.Counts(ctx, 0)
	return Outbox{Waiting: c.Ops, Bytes: c.Bytes, Oldest: c.Oldest, Refused: c.Failed}, failed(err, "outbox")
}

// QueuedWrite is a write that waits for the server.
type QueuedWrite struct {
	Number int64     `json:"number"` // its place in the order in which writes are pushed
	Write  string    `json:"write"`  // what it does: put episode, append steps
	Item   ID        `json:"item"`   // that it changes
	Time   time.Time `json:"time"`   // when it was queued
	Bytes  int64     `json:"bytes"`
	// Refused says why the server has refused it; empty if it has not. Later writes of the
	// item are held back then; Flush tries them again.
	Refused string `json:"refused,omitempty"`
}

// Queued returns the writes that are queued on this machine, in order, whatever the Store's
// scope. It ends with the first error.
func (s *Store) Queued(ctx context.Context) iter.Seq2[QueuedWrite, error] {
	return func(yield func(QueuedWrite, error) bool) {
		for after, more := int64(0), true; more; {
			ops, err := s.queuedOps(ctx, after)
			if err != nil {
				yield(QueuedWrite{}, failed(err, "list queued writes"))
				return
			}
			more = len(ops) == maxIterated
			for i := range ops {
				if after = ops[i].N; !yield(queuedWrite(&ops[i]), nil) {
					return
				}
			}
		}
	}
}

// queuedOps returns a page of what is queued behind a number.
func (s *Store) queuedOps(ctx context.Context, after int64) (_ []outbox.Op, err error) {
	ctx, end := s.trace(ctx, "Queued")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil || s.queue == nil {
		return nil, err
	}
	return s.queue.box.After(ctx, after, maxIterated)
}

func queuedWrite(op *outbox.Op) QueuedWrite {
	w := QueuedWrite{Number: op.N, Write: "unknown", Time: op.At, Bytes: int64(len(op.Body)), Refused: op.Failed}
	copy(w.Item[:], op.Item[:])
	if op.Kind >= 1 && op.Kind <= int64(len(queuedKinds)) {
		w.Write = queuedKinds[op.Kind-1].name
	}
	return w
}

// QueueStats is what a Store has done with writes that it queues.
type QueueStats struct {
	Queued   uint64 `json:"queued"`   // writes of this Store that were acknowledged
	Pushed   uint64 `json:"pushed"`   // writes that this Store has pushed, whoever queued them
	Requests uint64 `json:"requests"` // transactions that carried them
	Refused  uint64 `json:"refused"`  // times that the server has refused a write for good
	Unsure   uint64 `json:"unsure"`   // times that the server was asked what it has, since an answer was lost or another process pushed
	// Merged are writes of Pushed that came to what others had changed, and were merged with it.
	// Conflicts are those by which something lost, or was late: Store.Conflicts lists them.
	Merged    uint64 `json:"merged"`
	Conflicts uint64 `json:"conflicts"`
	Down      string `json:"down,omitempty"` // why the last push failed; empty if it did not
}

func (q *writeQueue) stats() *QueueStats {
	c := &q.counters
	st := &QueueStats{Queued: c.queued.Load(), Pushed: c.pushed.Load(), Requests: c.requests.Load(), Refused: c.refused.Load(), Unsure: c.again.Load(),
		Merged: c.merged.Load(), Conflicts: c.conflicts.Load()}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down != nil {
		st.Down = strings.TrimSpace(q.down.Error())
	}
	return st
}
