package replica

import (
	"context"
	"time"
)

// refresh notes what other processes have pulled, if they have, or always.
func (r *Replica) refresh(ctx context.Context, always bool) error {
	changed, err := r.reread()
	if err != nil || !changed && !always {
		return err
	}
	return r.reposition(ctx)
}

// reread reads how new the replica is, and reports whether others have changed that.
func (r *Replica) reread() (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, behind, err := r.asOf.read()
	if err != nil {
		return false, err
	}
	newer := at.UnixMicro() != r.known.UnixMicro() // the same time of this process has a monotonic part
	if newer {
		r.known = at
	}
	changed = newer || behind != r.behind
	r.behind = behind
	return changed, nil
}

// reposition reads where the replica stands.
func (r *Replica) reposition(ctx context.Context) error {
	r.reading.Lock() // an earlier position must not replace a later one
	defer r.reading.Unlock()
	p, err := readPosition(ctx, r.cfg.Local)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.position = p
	return nil
}

// missing notes that pages are missing from now on.
func (r *Replica) missing() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.behind {
		return nil
	}
	if err := r.asOf.write(r.known, true); err != nil {
		return err
	}
	r.behind = true
	return nil
}

// complete notes that nothing was missing at a time.
func (r *Replica) complete(at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.asOf.write(at, false); err != nil {
		return err
	}
	r.known, r.behind = at, false
	return nil
}

func (r *Replica) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tried = time.Now(); err == nil {
		r.err, r.errSince, r.failures, r.hurried = nil, time.Time{}, 0, false
		return
	}
	if r.failures++; r.failures == 1 {
		r.errSince = r.tried
	}
	r.err = err
}
