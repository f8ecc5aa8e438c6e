package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
)

const (
	// A busy transaction is begun again at most busyTries times, and not later
	// than busyTime after the first try. Before it says busy the server itself
	// waits, 100 ms to 5 s.
	busyTries = 8
	busyTime  = 10 * time.Second
)

// askIndex makes the server report the replication index after a group: over
// protobuf its answer to a batch has none, that to a single statement does. It is a
// PRAGMA because a replica sends that to its primary, but answers a SELECT from its
// own, older, state.
var askIndex = hrana.Execute{Stmt: hrana.Stmt{SQL: "PRAGMA user_version"}}

// tellIndex makes a replica say how new its answer is, for the same reason.
var tellIndex = hrana.Execute{Stmt: hrana.Stmt{SQL: "SELECT 1"}}

// splitError says that nothing of a group of several units was written, because
// of one of them.
type splitError struct {
	unit  int  // the one to blame; -1 if it is unknown
	large bool // they are too large together: halves may do
}

func (*splitError) Error() string { return "group must be committed without one of its units" }

// commit settles a group for the write lane.
func (e *Engine) commit(group []*engine.Unit) {
	if e.drainFailed {
		fail(group, &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("not sent: %s did not answer before, and the store is closing", e.host)})
		return
	}
	if err := e.errIfStuck(); err != nil {
		fail(group, err)
		return
	}
	resendable, gone, err := e.transact(group)
	for try, start := 1, time.Now(); engine.KindOf(err) == engine.KindBusy && try < busyTries && time.Since(start) < busyTime; try++ {
		time.Sleep(5*time.Millisecond + rand.N(45*time.Millisecond))
		e.retries.Add(1)
		resendable, gone, err = e.transact(group)
	}
	if split, ok := errors.AsType[*splitError](err); ok {
		switch {
		case split.large:
			e.commitParts(group, (len(group)+1)/2)
		case split.unit < 0:
			e.commitParts(group, 1)
		default:
			for _, part := range engine.Bisect(group, split.unit) {
				e.commit(part)
			}
		}
		return
	}
	if err == nil {
		return
	}
	e.drainFailed = gone && e.open.Err() != nil
	if repeatable, others := byRepeatable(group); resendable && !e.drainFailed && len(repeatable) > 0 && len(others) > 0 && e.budget.take(time.Now()) {
		// The whole group cannot be sent again.
		fail(others, err)
		e.commit(repeatable)
		return
	}
	fail(group, err)
}

// fail settles a group with the error of its last attempt. A unit that an earlier
// attempt may have stored has an unknown outcome, unless the last one found its row
// already stored, perhaps by the earlier one.
func fail(group []*engine.Unit, err error) {
	for _, u := range group {
		u.Results, u.Err = nil, err
		if kind := engine.KindOf(err); u.Lost && kind != engine.KindUnknownOutcome && kind != engine.KindUnique {
			u.Err = &engine.Error{Kind: engine.KindUnknownOutcome, Stmt: -1, Err: fmt.Errorf("the answer was lost, and then: %w", err)}
		}
	}
}

func byRepeatable(group []*engine.Unit) (repeatable, others []*engine.Unit) {
	for _, u := range group {
		if u.Repeatable {
			repeatable = append(repeatable, u)
		} else {
			others = append(others, u)
		}
	}
	return repeatable, others
}

// commitParts commits the units of a group in parts of at most size units. When the
// server stops answering, the rest fail without being sent.
func (e *Engine) commitParts(group []*engine.Unit, size int) {
	for part := range slices.Chunk(group, size) {
		e.commit(part)
		group = group[len(part):]
		err := part[len(part)-1].Err
		switch kind := engine.KindOf(err); kind {
		case engine.KindUnknownOutcome, engine.KindUnavailable, engine.KindBusy:
			if kind == engine.KindUnknownOutcome {
				kind = engine.KindUnavailable // nothing of the rest was sent
			}
			fail(group, &engine.Error{Kind: kind, Stmt: -1, Err: fmt.Errorf("not sent after another batch failed: %w", err)})
			return
		}
	}
}

// valuesOf returns the context of a group's requests: it has the values of the caller
// whose unit goes alone.
func valuesOf(group []*engine.Unit) context.Context {
	if len(group) == 1 && group[0].Caller != nil {
		return context.WithoutCancel(group[0].Caller)
	}
	return context.Background()
}

// lastDeadline is when the last of the callers gives up, the zero time for never.
func lastDeadline(callers []context.Context) (last time.Time) {
	for _, c := range callers {
		if c == nil {
			return time.Time{}
		}
		d, ok := c.Deadline()
		if !ok {
			return time.Time{}
		}
		if d.After(last) {
			last = d
		}
	}
	return last
}

// transact runs a group as one transaction. If the error is nil every unit is
// settled; otherwise none is, and the error is that of all of them. resendable: the
// answer was lost, and repeatable units may be sent again. gone: nothing came from
// the server.
func (e *Engine) transact(group []*engine.Unit) (resendable, gone bool, err error) {
	_, others := byRepeatable(group)
	c := &call{write: true, repeatable: len(others) == 0}
	for _, u := range group {
		c.size += engine.Size(u.Stmts)
		c.sent = c.sent || u.Lost
		c.callers = append(c.callers, u.Caller)
	}
	c.waitUntil = lastDeadline(c.callers)
	p, results, err := e.inTurn(c, group)
	for _, u := range group {
		u.Lost = u.Lost || c.lost
	}
	switch {
	case err != nil && e.stuck.Load():
		return false, false, &engine.Error{Kind: engine.KindUnknownOutcome, Stmt: -1, Err: errStuck}
	case err != nil:
		return c.resendable, silent(err), e.writeError(err, group)
	case p == nil:
		return false, false, e.settleAlone(group[0], results[0])
	case results[0].Err != nil:
		return false, false, e.batchError(results[0].Err, group)
	}
	return false, false, e.settlePlan(p, group, results[0].Batch.Steps)
}

// settleAlone settles a unit of one statement.
func (e *Engine) settleAlone(u *engine.Unit, r hrana.Result) error {
	if r.Err == nil {
		u.Results, u.Err = []engine.Result{result(r.Stmt)}, nil
		e.commits.Add(1)
		e.batches.Add(1)
		return nil
	}
	err := serverError(r.Err, 0)
	switch {
	case err.Kind == engine.KindBusy:
		return err
	case !strings.HasPrefix(err.Code, "SQLITE_") && !parseCodes[err.Code] && (err.Kind == engine.KindOther || err.Kind == engine.KindTooLarge):
		// Not an error of the database: the statement was executed but its rows were not
		// sent, or a replica may have lost its primary.
		err.Kind = engine.KindUnknownOutcome
		return err
	}
	fail([]*engine.Unit{u}, err)
	return nil
}

// A plan is the transaction of a group as the steps of one batch: BEGIN, the
// statements of all units, COMMIT and ROLLBACK. A failing statement ends all of
// it. Savepoints would save the rest of the group, but are three more steps for every
// unit, and nearly all groups have no failure.
//
// After a statement ended the transaction (ON CONFLICT ROLLBACK), or the server
// took the lock away, the steps that follow would be committed one by one. So
// every step inside runs only if the one before it did, and, where Hrana 3 can
// ask, if the transaction is still open.
type plan struct {
	steps    []hrana.Step
	begin    int
	first    []int // for each unit, the step of its first statement
	commit   int
	rollback int
	inside   []hrana.Cond // what every step inside the transaction demands
}

func newPlan(group []*engine.Unit, v3 bool, check *turnCheck) *plan {
	p := &plan{}
	p.begin = p.add("BEGIN IMMEDIATE", check.before(p)...)
	last := p.begin
	if v3 {
		p.inside = []hrana.Cond{hrana.Not(hrana.IsAutocommit())}
	}
	last = check.begin(p, last)
	for _, u := range group {
		p.first = append(p.first, len(p.steps))
		for _, s := range u.Stmts {
			last = p.addStmt(wire(s), hrana.Ok(last))
		}
	}
	p.commit = p.add("COMMIT", hrana.Ok(last))
	check.after(p)
	p.rollback = p.add("ROLLBACK", hrana.Not(hrana.Ok(p.commit)))
	return p
}

func (p *plan) add(sql string, conds ...hrana.Cond) int {
	return p.addStmt(hrana.Stmt{SQL: sql}, conds...)
}

// addStmt adds a step and returns its index.
func (p *plan) addStmt(s hrana.Stmt, conds ...hrana.Cond) int {
	step := hrana.Step{Stmt: s}
	if conds = append(conds, p.inside...); len(conds) > 0 {
		step.Cond = hrana.And(conds...)
	}
	p.steps = append(p.steps, step)
	return len(p.steps) - 1
}

// settlePlan settles each unit of group by what the steps of its plan did.
func (e *Engine) settlePlan(p *plan, group []*engine.Unit, steps []hrana.StepResult) error {
	if begin := steps[p.begin]; begin.Result == nil {
		return stepError(begin, -1)
	}
	if commit := steps[p.commit]; commit.Result == nil {
		return e.settleUncommitted(p, group, steps)
	}
	for i, u := range group {
		u.Results, u.Err = make([]engine.Result, len(u.Stmts)), nil
		for n, s := range steps[p.first[i] : p.first[i]+len(u.Stmts)] {
			if s.Result == nil {
				return &engine.Error{Kind: engine.KindUnknownOutcome, Stmt: -1, Err: errors.New("server committed a transaction it did not carry out")}
			}
			u.Results[n] = result(s.Result)
		}
	}
	e.commits.Add(1)
	e.batches.Add(uint64(len(group)))
	return nil
}

// settleUncommitted deals with a transaction that was begun and whose COMMIT
// was not carried out, or failed.
func (e *Engine) settleUncommitted(p *plan, group []*engine.Unit, steps []hrana.StepResult) error {
	commit := steps[p.commit]
	if commit.Err != nil && steps[p.rollback].Result == nil && !strings.HasPrefix(commit.Err.Code, "SQLITE_") {
		// Not an error of the database: a replica may have lost its primary.
		err := serverError(commit.Err, -1)
		err.Kind = engine.KindUnknownOutcome
		return err
	}
	// From here on it is certain that nothing is stored.
	failed := slices.IndexFunc(steps, func(s hrana.StepResult) bool { return s.Err != nil })
	if failed < 0 {
		return &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.New("server ended the transaction")}
	}
	err := serverError(steps[failed].Err, -1)
	if err.Kind == engine.KindBusy {
		return err
	}
	unit, stmt := p.owner(failed, group)
	if len(group) > 1 {
		return &splitError{unit: unit}
	}
	err.Stmt = stmt
	fail(group, err)
	return nil
}

// owner returns the unit and the statement that a step stands for, -1 if it is
// none of a unit.
func (p *plan) owner(step int, group []*engine.Unit) (unit, stmt int) {
	for i, first := range p.first {
		if n := step - first; n >= 0 && n < len(group[i].Stmts) {
			return i, n
		}
	}
	return -1, -1
}

// stepError tells why a step has no result.
func stepError(s hrana.StepResult, stmt int) error {
	if s.Err != nil {
		return serverError(s.Err, stmt)
	}
	return &engine.Error{Stmt: stmt, Err: errors.New("server did not run the statement")}
}
