package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/turn"
)

// The server loses its write lock, until it is restarted, when four or more connections
// wait for it while it checkpoints. So the processes of one machine have a lock file,
// and of more than three machines each has its slots of the server's time, in which the
// first step of a write checks itself: see the view turns in the schema. The check takes
// no lock, so that a write that comes at a wrong time is as harmless as a read.
const (
	scheduleSQL = "SELECT * FROM turns WHERE machine = ?"
	checkSQL    = "SELECT *, abs(open - 9223372036854775807 - 1) FROM turns WHERE machine = ?" // overflows unless open
	// Of a machine that the server may not know.
	newScheduleSQL = "SELECT * FROM newcomers"
	newCheckSQL    = "SELECT *, abs(open - 9223372036854775807 - 1) FROM newcomers"
	clockSQL       = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)"
	// Arguments: machine; how long it counts as active; how long its writes take; how long
	// the next one will, 0 if that is not announced.
	writerSQL = "INSERT INTO writers(machine, at, active, hold_us, until) SELECT ?, now, now + ?, ?, (now + ?4) * (?4 > 0) FROM (" + clockSQL + " AS now) WHERE true" +
		" ON CONFLICT DO UPDATE SET at = excluded.at, active = excluded.active, hold_us = excluded.hold_us, until = excluded.until"
	forgetSQL = "DELETE FROM writers WHERE at < unixepoch('subsec') * 1000 - 86400000" // who has not written for a day

	// rowAge is when the machine's row is written again. A machine counts as active for
	// activeSlots after that: its turn must come several times meanwhile.
	rowAge      = 500 * time.Millisecond
	activeSlots = 150
	// holdShare: the last write counts as one part of so many in the mean of how long they take.
	holdShare = 20
	farAway   = 10 * time.Millisecond // there and back
	maxHold   = 4                     // times the mean: more does not count
	// What is longer is announced by a machine that has to keep to its slots: others
	// would come, one in each slot, and wait for it.
	longStmts = 64
	longBytes = 64 << 10
	longTime  = 100 * time.Millisecond // and more for each statement
)

// turns says when this engine may write. Only its counters may be used by others than
// the lane's goroutine.
type turns struct {
	lock   *turn.Lock
	slots  turn.Slots
	log    *slog.Logger
	warned bool // that there is no lock

	machine   int64         // 0: not yet known
	begun     bool          // the first write was made
	newcomer  bool          // no process of this machine had written for an hour when this one did
	wrote     time.Time     // when the machine's row was last written
	announced bool          // it announces a long write
	holdUs    float64       // microseconds that a write takes at the server, on average
	way       time.Duration // to the server and back, lately

	paused atomic.Uint64 // nanoseconds
	missed atomic.Uint64
}

func newTurns(lockDir, database string, log *slog.Logger) *turns {
	return &turns{lock: turn.NewLock(lockDir, database), log: log}
}

// Stats may be called at any time.
func (t *turns) Stats() engine.TurnStats {
	s := t.lock.Stats()
	return engine.TurnStats{Taken: s.Taken, Waited: s.Waited + time.Duration(t.paused.Load()), Unlocked: s.Unlocked, Missed: t.missed.Load()}
}

// Acquire implements engine.Turn.
func (t *turns) Acquire() {
	if err := t.lock.Acquire(context.Background(), t.holders(time.Now())); err != nil && !t.warned {
		t.warned = true
		t.log.Warn("writes without the lock that the processes of this machine share", "cause", err)
	}
	wait := t.slots.Wait(time.Now())
	t.newcomer = t.newcomer || t.lock.Rested
	if !t.begun && t.lock.Rested {
		wait = turn.FirstWait()
	}
	t.begun = true
	t.pause(wait)
}

// holders is how many processes of this machine may write at once. Near a server one at a
// time is about as fast as several. Far from it each would wait for the way there and back
// of the one before; while no other machine writes there may be three, which do no harm.
func (t *turns) holders(now time.Time) int {
	if t.way > farAway && t.slots.Alone(now) {
		return turn.MaxHolders
	}
	return 1
}

// Keep implements engine.Turn: the lock is held for one request.
func (t *turns) Keep() bool { return false }

func (t *turns) pause(wait time.Duration) {
	if wait > 0 {
		time.Sleep(wait)
		t.paused.Add(uint64(wait))
	}
}

// Release implements engine.Turn.
func (t *turns) Release() { t.lock.Release() }

// Close implements engine.Turn.
func (t *turns) Close() { t.lock.Close() }

// turnCheck is the steps of a write that make sure that it is the machine's turn. A nil
// one has none.
type turnCheck struct {
	t        *turns
	sent     time.Time
	row      bool          // the write updates the machine's row
	announce time.Duration // that the next write will take; the row says so

	check, schedule, begun, ended int // indices of the steps
}

// check returns what the next write is checked by, nil if by nothing.
func (t *turns) check(announce time.Duration) *turnCheck {
	now := time.Now()
	if !t.slots.Checked(now) {
		return nil
	}
	if t.machine == 0 {
		var err error
		if t.machine, err = t.lock.Machine(); err != nil {
			t.log.Warn("each process counts as a machine", "cause", err)
		}
	}
	return &turnCheck{t: t, sent: now, row: t.announced || announce > 0 || now.Sub(t.wrote) >= rowAge, announce: announce}
}

// inTurn sends a group when it is this machine's turn. The plan is nil if the group went
// as the only statement that it has.
func (e *Engine) inTurn(c *call, group []*engine.Unit) (*plan, []hrana.Result, error) {
	stmts := 0
	for _, u := range group {
		stmts += len(u.Stmts)
	}
	if e.turns.slots.Restricted() && (stmts > longStmts || c.size > longBytes) {
		// Half a millisecond for each statement is ample. The write itself ends what it announced.
		takes := longTime + time.Duration(stmts)*time.Millisecond/2
		if _, _, err := e.whenOpen(&call{write: true, repeatable: true}, nil, takes); err != nil {
			return nil, nil, err
		}
	}
	return e.whenOpen(c, group, 0)
}

// whenOpen sends a group, again after each time that it was not the machine's turn. It
// announces a write that takes so long, 0 if none.
func (e *Engine) whenOpen(c *call, group []*engine.Unit, announce time.Duration) (p *plan, results []hrana.Result, err error) {
	ctx, release := e.unlessStuck(valuesOf(group), c)
	defer release()
	for {
		var check *turnCheck
		if e.migrated.Load() {
			check = e.turns.check(announce)
		}
		alone := check == nil && len(group) == 1 && len(group[0].Stmts) == 1 // a transaction by itself
		results, err = e.doEither(ctx, c, func(v3 bool) []hrana.Request {
			if p = nil; alone {
				return []hrana.Request{hrana.Execute{Stmt: wire(group[0].Stmts[0])}}
			}
			p = newPlan(group, v3, check)
			requests := []hrana.Request{hrana.Batch{Steps: p.steps}}
			if e.client.Protocol() == hrana.V3Protobuf {
				requests = append(requests, askIndex)
			}
			return requests
		})
		if alone || err != nil || results[0].Err != nil {
			return p, results, err
		}
		if open, err := check.learn(p, results[0].Batch.Steps); open || err != nil {
			return p, results, err
		}
		c.sent = false // what comes now is no repetition
		e.turns.pause(e.turns.slots.Wait(time.Now()))
	}
}

// before adds what comes before BEGIN, and returns the condition for that.
func (c *turnCheck) before(p *plan) []hrana.Cond {
	if c == nil {
		return nil
	}
	check, schedule := hrana.Stmt{SQL: newCheckSQL}, hrana.Stmt{SQL: newScheduleSQL}
	if c.t.slots.Known() || !c.t.newcomer {
		args := []engine.Value{c.t.machine}
		check, schedule = hrana.Stmt{SQL: checkSQL, Args: args}, hrana.Stmt{SQL: scheduleSQL, Args: args}
	}
	c.check = p.addStmt(check)
	c.schedule = p.addStmt(schedule, hrana.Not(hrana.Ok(c.check)))
	return []hrana.Cond{hrana.Ok(c.check)}
}

// begin adds what comes after the step last, BEGIN.
func (c *turnCheck) begin(p *plan, last int) int {
	if c == nil || !c.row {
		return last
	}
	c.begun = p.add(clockSQL, hrana.Ok(last))
	last = c.begun
	if c.t.wrote.IsZero() {
		last = p.add(forgetSQL, hrana.Ok(last))
	}
	args := []engine.Value{c.t.machine, activeSlots * c.t.slots.Slot(), int64(c.t.holdUs), c.announce.Milliseconds()}
	return p.addStmt(hrana.Stmt{SQL: writerSQL, Args: args}, hrana.Ok(last))
}

// after adds what comes after COMMIT.
func (c *turnCheck) after(p *plan) {
	if c != nil {
		c.ended = len(p.steps)
		p.steps = append(p.steps, hrana.Step{Cond: hrana.Ok(p.commit), Stmt: hrana.Stmt{SQL: clockSQL}}) // outside of the transaction
	}
}

// learn takes from the answer to a write when the next one may come. It reports false if
// it was not the machine's turn, so that nothing was done.
func (c *turnCheck) learn(p *plan, steps []hrana.StepResult) (bool, error) {
	if c == nil {
		return true, nil
	}
	t, answer := c.t, steps[c.check]
	open := answer.Result != nil
	if !open {
		answer = steps[c.schedule]
	}
	if answer.Result == nil {
		return false, stepError(answer, -1)
	}
	if len(answer.Result.Rows) == 0 { // its row is gone
		t.slots.Forget()
		return open, nil
	}
	row, err := integers(answer.Result, 8)
	if err != nil {
		return false, err
	}
	schedule := turn.Schedule{Known: row[0] > 0, Machines: row[1], Active: row[2], Now: row[3], Slot: row[4], Period: row[5], Place: row[6], Until: row[7]}
	t.slots.Learn(schedule, c.sent, time.Now())
	if !open {
		t.missed.Add(1)
		return false, nil
	}
	if steps[p.commit].Result == nil {
		return true, nil
	}
	ended, err := integers(steps[c.ended].Result, 1)
	if err != nil {
		return false, err
	}
	t.log.Debug("turn used", "machine", t.machine, "from", schedule.Now, "to", ended[0])
	if !c.row {
		return true, nil
	}
	t.wrote, t.announced = c.sent, c.announce > 0
	t.slots.Enter()
	begun, err := integers(steps[c.begun].Result, 1)
	if err != nil {
		return false, err
	}
	// Of the clock's milliseconds. Waiting for the server's lock does not count.
	t.measure(float64(ended[0]-begun[0])*1000+500, time.Since(c.sent)-time.Duration(ended[0]-schedule.Now+1)*time.Millisecond)
	return true, nil
}

// measure notes how long a write took at the server, in microseconds, and the way there
// and back.
func (t *turns) measure(us float64, way time.Duration) {
	if t.holdUs == 0 { // the first one: a connection may have been dialled for it
		t.holdUs = us
		return
	}
	// A checkpoint or a stall of the disk says little of how long the next write takes.
	t.holdUs += (min(us, maxHold*t.holdUs) - t.holdUs) / holdShare
	// How far the server is shows when neither side is busy: the shortest way counts.
	if way = max(0, way); way < t.way || t.way == 0 {
		t.way = way
	}
	t.way += (way - t.way) / holdShare
}

// integers returns the first columns of the only row of r.
func integers(r *hrana.StmtResult, n int) ([]int64, error) {
	out := make([]int64, n)
	if r != nil && len(r.Rows) == 1 && len(r.Rows[0]) >= n {
		for i := range out {
			v, ok := r.Rows[0][i].(int64)
			if !ok {
				return nil, &engine.Error{Stmt: -1, Err: fmt.Errorf("server answered %T for a whole number", r.Rows[0][i])}
			}
			out[i] = v
		}
		return out, nil
	}
	return nil, &engine.Error{Stmt: -1, Err: errors.New("server answered no single row")}
}
