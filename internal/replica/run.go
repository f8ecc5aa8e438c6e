package replica

import (
	"context"
	"errors"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// run is the goroutine that pulls.
func (r *Replica) run() {
	timer := time.NewTimer(0) // the first pull
	defer timer.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		again, err := r.round()
		switch {
		case r.ctx.Err() != nil:
			return
		case err != nil:
			r.log.Debug("replica not pulled; it is tried again later", "error", err)
			r.mu.Lock()
			wait := backoff(r.failures)
			r.mu.Unlock()
			timer.Reset(wait)
		case again || !r.rounds.floor().IsZero():
			timer.Reset(0)
		default:
			timer.Reset(r.cfg.Interval)
		}
	}
}

// round pulls, under the lock, unless another process has done so meanwhile.
func (r *Replica) round() (again bool, err error) {
	defer func() { r.tell(err) }()
	_, release, err := r.acquire(r.ctx)
	if err != nil {
		return false, err
	}
	defer release()
	if err := r.refresh(r.ctx, false); err != nil {
		return false, err
	}
	if s := r.status(); s.Complete && !s.AsOf.Before(r.floor()) {
		r.rounds.reached(s.AsOf)
		return false, nil
	}
	if s := r.status(); r.cfg.Reach != nil && (s.Pulls == 0 || s.Down != nil) {
		if err := r.cfg.Reach(r.ctx); err != nil {
			return false, err
		}
	}
	for range stepsAtOnce {
		began := time.Now()
		s, err := r.pullOne(r.ctx)
		if err != nil {
			return false, err
		}
		if err := r.stepped(s, time.Since(began)); err != nil || !s.again {
			return false, err
		}
	}
	return true, nil
}

// acquire waits until nobody else pulls, on this machine. If the lock cannot be had, pulls
// may be under way at once, of which one stores nothing. The context that it returns ends
// with Close too; release gives the lock back.
func (r *Replica) acquire(ctx context.Context) (_ context.Context, release func(), err error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-r.ctx.Done():
		return nil, nil, engine.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	if err := r.lock.Acquire(ctx, 1); err != nil && ctx.Err() != nil {
		stop()
		cancel()
		<-r.turn
		return nil, nil, ctx.Err()
	}
	return ctx, func() {
		stop()
		cancel()
		r.lock.Release()
		<-r.turn
	}, nil
}

// doubtful reports whether the server may have been restored since the last pull: this
// process has not asked yet, or has failed since.
func (r *Replica) doubtful() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures > 0 || r.counters.pulls.Load() == 0
}

// floor is when a pull must have begun to be new enough for all that is wanted of it.
func (r *Replica) floor() time.Time {
	floor := time.Now().Add(-r.cfg.Interval / 2)
	if t := r.rounds.floor(); t.After(floor) {
		floor = t
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted.After(floor) {
		floor = r.wanted
	}
	if r.err != nil && r.tried.After(floor) {
		floor = r.tried
	}
	return floor
}

// stepped notes what a step has achieved, and tells those who wait.
func (r *Replica) stepped(s step, took time.Duration) error {
	if err := r.reposition(r.ctx); err != nil {
		return err
	}
	if err := r.noteAnswer(); err != nil {
		return err
	}
	r.note(nil)
	r.mu.Lock()
	r.took = took
	missing := r.behind || r.position.anew
	r.mu.Unlock()
	if s.asOf.IsZero() {
		if missing {
			r.rounds.fail(nil)
		}
		return nil
	}
	return r.upToDate(s.asOf)
}

// upToDate notes that nothing was missing at a time, and tells those who wait.
func (r *Replica) upToDate(at time.Time) error {
	if err := r.complete(at); err != nil {
		return err
	}
	r.rounds.reached(at)
	return nil
}

// tell notes how a round has ended, and tells those who wait if it has failed.
func (r *Replica) tell(err error) {
	if err != nil && r.ctx.Err() != nil {
		err = engine.ErrClosed
	}
	if noteErr := NoteRefusal(r.ctx, r.cfg.Local, err); noteErr != nil && r.ctx.Err() == nil {
		err = errors.Join(err, noteErr)
	}
	r.note(err)
	if err != nil {
		r.rounds.fail(err)
	}
}
