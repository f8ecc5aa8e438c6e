package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Bounds of one group. It holds the database's only writer while it runs, and so
// keeps other programs waiting: storing as much takes about 50 ms, or some tenths
// of a second if all of it is text to be indexed. Larger groups are no faster.
const (
	maxGroupUnits = 256
	maxGroupStmts = 1024
	maxGroupBytes = 1 << 20
)

// Callers who were just answered often write again at once. For a moment the lane
// waits for them, so that all go together; otherwise the first to come back would go
// alone, and the others wait for another commit.
const (
	gatherShare = 10                   // the wait is at most this part of what a commit takes
	maxGather   = 4 * time.Millisecond // and at most this
	// Shorter commits are no faster for waiting: a local file, a server on this machine.
	minCommit = 5 * time.Millisecond

	// keepWait is how long a turn that may go on waits for another unit.
	keepWait = 200 * time.Microsecond
)

// Unit is one caller's batch on its way through a Lane. The commit function
// sets either Results or Err.
type Unit struct {
	Stmts      []Stmt
	Repeatable bool // see Engine.Repeatable
	Lost       bool // for the commit function: the answer to an earlier try was lost

	// Caller is the caller's context; it may be nil. The unit is to be committed also
	// if it has ended: a unit whose caller left in time is in no group.
	Caller context.Context

	Results []Result
	Err     error

	size  int           // of the arguments and texts, in bytes
	taken bool          // guarded by Lane.mu: a group holds it, the caller can no longer withdraw it
	done  chan struct{} // closed when Results or Err is set
}

// Lane does group commit. While a group of units is being committed, later units
// queue and form the next group; a unit that finds the lane idle is committed at
// once, unless several were answered just before or others have their turn. Units are taken
// in the order of their arrival.
type Lane struct {
	commit  func([]*Unit)
	turn    Turn
	wake    chan struct{} // capacity 1: the queue may have become non-empty, or the lane closed
	stopped chan struct{} // closed when run has returned

	// mu guards the fields below. It is never held while a group is committed.
	mu     sync.Mutex
	queue  []*Unit
	closed bool
}

// Turn is what a Lane takes before it commits a group, because others write to the same
// database. All methods are called on the lane's goroutine.
type Turn interface {
	// Acquire waits. Units that come meanwhile are in the group.
	Acquire()
	// Keep reports whether the turn may go on with another group after one.
	Keep() bool
	// Release is called after each Acquire.
	Release()
	// Close is called at the end.
	Close()
}

// NewLane starts a lane whose groups are committed by commit, one at a time on
// one goroutine. commit must settle every unit of its group.
func NewLane(commit func([]*Unit), turn Turn) *Lane {
	l := &Lane{commit: commit, turn: turn, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	go l.run()
	return l
}

// Do passes stmts through the lane as one unit and waits for its outcome, as
// Engine.Batch or Engine.Repeatable promises.
func (l *Lane) Do(ctx context.Context, stmts []Stmt, repeatable bool) ([]Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u := &Unit{Stmts: stmts, Repeatable: repeatable, Caller: ctx, size: Size(stmts), done: make(chan struct{})}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	l.queue = append(l.queue, u)
	l.mu.Unlock()
	l.signal()

	select {
	case <-u.done:
		return u.Results, u.Err
	case <-ctx.Done():
	}
	if l.withdraw(u) {
		return nil, ctx.Err()
	}
	select {
	case <-u.done: // both were ready, and the outcome is known
		return u.Results, u.Err
	default:
		return nil, &Error{Kind: KindUnknownOutcome, Stmt: -1, Err: fmt.Errorf("gave up waiting for a commit under way: %w", ctx.Err())}
	}
}

// Close refuses new units, waits until the accepted ones are settled and the
// lane's goroutine is gone.
func (l *Lane) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.stopped
}

func (l *Lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Lane) run() {
	defer close(l.stopped)
	defer l.turn.Close()
	var expected int    // how many callers the next group may have
	var until time.Time // for how long they are waited for
	held := false       // the turn goes on
	for {
		l.gather(expected, until)
		if n, open := l.waiting(); n == 0 {
			if !open {
				return
			}
			continue // the only unit was withdrawn
		}
		if !held {
			l.turn.Acquire()
		}
		group := l.take()
		begun := time.Now()
		if len(group) > 0 {
			l.commit(group)
		}
		ended := time.Now()
		if held = len(group) > 0 && l.turn.Keep(); !held {
			l.turn.Release()
		}
		until = ended
		if took := ended.Sub(begun); took >= minCommit {
			until = ended.Add(min(took/gatherShare, maxGather))
		}
		queued, _ := l.waiting()
		expected = queued + len(group)
		for _, u := range group {
			close(u.done)
		}
		clear(group) // an idle lane keeps no batch alive
		if held && !l.more() {
			held = false
			l.turn.Release()
		}
	}
}

// waiting returns how many units are queued, and whether more may come.
func (l *Lane) waiting() (n int, open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue), !l.closed
}

// more waits for a unit for keepWait, and reports whether there is one.
func (l *Lane) more() bool {
	timeout := time.After(keepWait)
	for {
		if n, open := l.waiting(); n > 0 || !open {
			return n > 0
		}
		select {
		case <-l.wake:
		case <-timeout:
			return false
		}
	}
}

// gather waits for a first unit, then for as many as expected, for these no longer
// than until. A closed lane waits for nothing.
func (l *Lane) gather(expected int, until time.Time) {
	var timeout <-chan time.Time
	for {
		n, open := l.waiting()
		if !open || n > 0 && n >= expected {
			return
		}
		if n > 0 && timeout == nil {
			wait := time.Until(until)
			if wait <= 0 {
				return
			}
			timeout = time.After(wait)
		}
		select {
		case <-l.wake:
		case <-timeout:
			return
		}
	}
}

// take removes the next group from the queue. A unit over a bound forms a group of its own.
func (l *Lane) take() []*Unit {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, stmts, bytes := 0, 0, 0
	for ; n < len(l.queue) && n < maxGroupUnits; n++ {
		u := l.queue[n]
		stmts += len(u.Stmts)
		bytes += u.size
		if n > 0 && (stmts > maxGroupStmts || bytes > maxGroupBytes) {
			break
		}
		u.taken = true
	}
	group := l.queue[:n:n]
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return group
}

// withdraw removes u from the queue; false means that a group already holds it.
func (l *Lane) withdraw(u *Unit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u.taken {
		return false
	}
	for i, q := range l.queue {
		if q == u {
			// A new slice: groups that take returned share the old one's array.
			l.queue = append(append([]*Unit(nil), l.queue[:i]...), l.queue[i+1:]...)
			break
		}
	}
	return true
}

// Fail settles every unit of a group with the same error.
func Fail(group []*Unit, err error) {
	for _, u := range group {
		u.Results, u.Err = nil, err
	}
}

// Bisect splits a group that failed because of the unit bad: two halves of the
// others, then bad alone. It comes last because the row it conflicts with may
// belong to a unit of its own group, whose outcome must be known first. The others
// are halved because several of them may fail too: committing all of them again
// after each failure would take quadratic time.
func Bisect(group []*Unit, bad int) [][]*Unit {
	others := slices.Delete(slices.Clone(group), bad, bad+1)
	half := len(others) / 2
	parts := [][]*Unit{others[:half], others[half:], {group[bad]}}
	return slices.DeleteFunc(parts, func(p []*Unit) bool { return len(p) == 0 })
}

// Size estimates the bytes of stmts on the wire.
func Size(stmts []Stmt) int {
	n := 0
	for _, s := range stmts {
		n += len(s.SQL)
		for _, a := range s.Args {
			n += ValueSize(a)
		}
	}
	return n
}

// ValueSize is about how many bytes a value takes.
func ValueSize(v Value) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	default:
		return 8
	}
}
