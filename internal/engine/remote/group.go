package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// errApart says that nothing of a group of several units was written and that
// one of them may be the cause.
var errApart = errors.New("group must be committed unit by unit")

// commit settles a group for the write lane.
func (e *Engine) commit(group []*engine.Unit) {
	err := e.transact(group)
	for try, start := 1, time.Now(); engine.KindOf(err) == engine.KindBusy && try < busyTries && time.Since(start) < busyTime; try++ {
		time.Sleep(5*time.Millisecond + rand.N(45*time.Millisecond))
		e.retries.Add(1)
		err = e.transact(group)
	}
	if errors.Is(err, errApart) {
		e.commitApart(group)
		return
	}
	if err != nil {
		settle(group, err)
	}
}

// commitApart commits the units of a group one by one. When the server is gone
// it does not wait for it anew with each of them.
func (e *Engine) commitApart(group []*engine.Unit) {
	for i, u := range group {
		e.commit([]*engine.Unit{u})
		switch kind := engine.KindOf(u.Err); kind {
		case engine.KindUnknownOutcome, engine.KindUnavailable, engine.KindBusy:
			if kind == engine.KindUnknownOutcome {
				kind = engine.KindUnavailable // nothing of the rest was sent
			}
			settle(group[i+1:], &engine.Error{Kind: kind, Stmt: -1, Err: fmt.Errorf("not sent after another batch failed: %w", u.Err)})
			return
		}
	}
}

func settle(group []*engine.Unit, err error) {
	for _, u := range group {
		u.Results, u.Err = nil, err
	}
}

// transact runs a group as one transaction. A nil error means that every unit
// is settled; any other that none is, and that it holds for all of them.
func (e *Engine) transact(group []*engine.Unit) error {
	p := newPlan(group, e.client.Protocol() != hrana.V2JSON)
	results, err := e.exchange(context.Background(), hrana.Batch{Steps: p.steps}, hrana.Close{})
	if errors.Is(err, hrana.ErrNeedsV3) { // nothing was sent: the protocol just came out
		p = newPlan(group, false)
		results, err = e.exchange(context.Background(), hrana.Batch{Steps: p.steps}, hrana.Close{})
	}
	if err != nil {
		return e.writeError(err, group)
	}
	if refusal := results[0].Err; refusal != nil {
		return e.batchError(refusal, group)
	}
	return e.settlePlan(p, group, results[0].Batch.Steps)
}

// A plan is the transaction of a group as the steps of one batch.
//
// After a statement ended the transaction (ON CONFLICT ROLLBACK), or the server
// took the lock away, the steps that follow would be committed one by one. So
// every step inside must know that the transaction is still open. Hrana 3 can
// ask. In Hrana 2 a failed statement is followed only by a ROLLBACK TO the
// savepoint of its unit, which cannot succeed outside the transaction, and by
// nothing if that failed too.
type plan struct {
	steps    []hrana.Step
	first    []int // for each unit, the step of its first statement
	commit   int
	rollback int
	inside   []hrana.Cond // what every step inside the transaction demands
}

func newPlan(group []*engine.Unit, v3 bool) *plan {
	p := &plan{}
	begin := p.add("BEGIN IMMEDIATE")
	if v3 {
		p.inside = []hrana.Cond{hrana.Not(hrana.IsAutocommit())}
	}
	ready := hrana.Ok(begin) // the units so far are each stored whole or undone
	for _, u := range group {
		// A failing statement undoes itself, and a lone unit is undone by the
		// transaction.
		alone := len(group) == 1
		savepoint := !alone && (len(u.Stmts) > 1 || !v3)
		save, chain := 0, ready
		if savepoint {
			save = p.add("SAVEPOINT unit", chain)
			chain = hrana.Ok(save)
		}
		p.first = append(p.first, len(p.steps))
		for _, s := range u.Stmts {
			chain = hrana.Ok(p.addStmt(wire(s), chain))
		}
		if savepoint {
			undo := p.add("ROLLBACK TO unit", hrana.Ok(save), hrana.Not(chain))
			ready = hrana.Not(hrana.And(hrana.Not(chain), hrana.Not(hrana.Ok(undo))))
			p.add("RELEASE unit", ready)
		}
		if alone {
			ready = chain
		}
	}
	p.commit = p.add("COMMIT", ready)
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
	if begin := steps[0]; begin.Result == nil {
		return stepError(begin, -1)
	}
	if commit := steps[p.commit]; commit.Result == nil {
		return e.settleUncommitted(p, group, steps)
	}
	e.commits.Add(1)
	for i, u := range group {
		if u.Results, u.Err = p.outcome(i, len(u.Stmts), steps); u.Err == nil {
			e.batches.Add(1)
		}
	}
	return nil
}

// outcome returns the results of a unit in a transaction that was committed.
func (p *plan) outcome(unit, stmts int, steps []hrana.StepResult) ([]engine.Result, error) {
	first := p.first[unit]
	results := make([]engine.Result, stmts)
	for i, s := range steps[first : first+stmts] {
		if s.Result == nil {
			return nil, stepError(s, i)
		}
		results[i] = result(s.Result)
	}
	return results, nil
}

// settleUncommitted deals with a transaction that was begun and whose COMMIT
// was not carried out, or failed.
func (e *Engine) settleUncommitted(p *plan, group []*engine.Unit, steps []hrana.StepResult) error {
	commit := steps[p.commit]
	if commit.Err != nil && steps[p.rollback].Result == nil && !strings.HasPrefix(commit.Err.Code, "SQLITE_") {
		// Not an answer of the database itself: a replica may have lost its primary.
		err := serverError(commit.Err, -1)
		err.Kind = engine.KindUnknownOutcome
		return err
	}
	// From here on it is certain that nothing is stored.
	var first error
	for i, s := range steps {
		if s.Err == nil {
			continue
		}
		err := serverError(s.Err, -1)
		if err.Kind == engine.KindBusy {
			return err
		}
		if first == nil {
			if n := i - p.first[0]; n >= 0 && n < len(group[0].Stmts) {
				err.Stmt = n // of a lone unit; of several it is not used
			}
			first = err
		}
	}
	switch {
	case first == nil:
		return &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.New("server ended the transaction")}
	case len(group) > 1:
		return errApart
	}
	group[0].Results, group[0].Err = nil, first
	return nil
}

// stepError tells why a step has no result.
func stepError(s hrana.StepResult, stmt int) error {
	if s.Err != nil {
		return serverError(s.Err, stmt)
	}
	return &engine.Error{Stmt: stmt, Err: errors.New("server did not run the statement")}
}
