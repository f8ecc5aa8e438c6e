package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	// A look lists so many changes in each direction.
	lookRows = 1000
	// A page has about so many bytes before compression. An answer may have 10 MB.
	pageBytes = 12 << 20
	// The first page of a fill, so that something is here soon. The next ones double.
	firstFillBytes = 1 << 20
	// So many changes outside the replica's scope are left behind at once. Until then each look
	// reads over them.
	outside = 500
	// A server that says it has less than is here is believed after so long: it may be one
	// that follows another, and lags behind.
	againFor = 3 * time.Second
	// stepsAtOnce is after how many steps the lock is given to others.
	stepsAtOnce = 8
)

// step is what a step of a pull has achieved.
type step struct {
	asOf  time.Time // nothing was missing of what the server had then; zero: something is
	again bool      // there is more to be done
}

// pullOne looks at the server once, and stores at most one page.
func (r *Replica) pullOne(ctx context.Context) (step, error) {
	s, err := r.lookAndFetch(ctx)
	if errors.Is(err, errMoved) {
		return step{again: true}, nil
	}
	return s, err
}

func (r *Replica) lookAndFetch(ctx context.Context) (step, error) {
	p, err := readPosition(ctx, r.cfg.Local)
	if err != nil {
		return step{}, err
	}
	if p, err = r.bound(ctx, p); err != nil {
		return step{}, err
	}
	began := time.Now()
	l, err := r.look(ctx, p)
	if err != nil {
		return step{}, fmt.Errorf("look what has changed: %w", err)
	}
	if err := r.lagging(p, l.server); err != nil {
		return step{}, err
	}
	r.counters.pulls.Add(1)
	switch {
	case !l.continues(p) || l.other:
		return step{again: true}, r.begin(ctx, p, l)
	}
	if err := r.refetchPassedOver(ctx); err != nil {
		return step{}, err
	}
	switch {
	case len(l.ahead) > 0:
		own := &ownWrites{} // all is to be seen while the replica is made anew
		if !p.anew {
			if own, err = r.own(ctx); err != nil {
				return step{}, err
			}
		}
		if len(l.ahead) < r.lookRows && own.none(l.ahead) {
			return r.passBy(ctx, p, l, own, began)
		}
		return r.forward(ctx, p, l, own)
	case p.filling():
		s := step{asOf: began, again: true}
		switch {
		case p.anew:
			s.asOf = time.Time{}
		case p.downto <= p.upto: // not the first page: who reads meanwhile need not wait for this one
			if err := r.upToDate(began); err != nil {
				return step{}, err
			}
		}
		return s, r.fill(ctx, p, l)
	case len(l.gone) > 0:
		dropped, err := r.dropDictionaries(ctx, l.gone)
		if err != nil || dropped {
			return step{again: true}, err
		}
	case l.newest > p.upto+outside || l.schema != p.schema: // who opens the replica next believes what is stored
		to := p
		to.upto, to.schema = l.newest, l.schema
		return step{asOf: began}, r.store(ctx, []engine.Stmt{advance(p, to)})
	}
	return step{asOf: began}, nil
}

// forward stores a page of what has changed since p. The last page has no upper bound, and
// so is what the server had at one moment. With the look's bound an item that changed
// after the look would be missing, while a later change of the same writer is stored.
func (r *Replica) forward(ctx context.Context, p position, l look, own *ownWrites) (step, error) {
	before, err := r.pins(ctx)
	if err != nil {
		return step{}, err
	}
	have, err := r.have(ctx, l.ahead, own.rev)
	if err != nil {
		return step{}, err
	}
	n := cut(l.ahead, r.pageBytes)
	which, last := choice{after: p.upto, upto: all, since: p.since}, n == len(l.ahead) && n < r.lookRows
	if !last {
		which.upto = l.ahead[n-1].n
	}
	want := needs(l.ahead, l.fresh || r.unsure)
	var page *fetched
	var began time.Time
	for {
		if !last {
			if err := r.missing(); err != nil {
				return step{}, err
			}
		}
		began = time.Now()
		page, err = r.fetch(ctx, which, have, want)
		if engine.KindOf(err) != engine.KindTooLarge {
			break
		}
		if n == 1 && !last {
			page, err = r.fetchLarge(ctx, which)
			break
		}
		n, last = max(1, n/2), false
		which.upto = l.ahead[n-1].n
	}
	if err != nil {
		return step{}, fmt.Errorf("fetch changes: %w", err)
	}
	if !page.continues(p) {
		return step{again: true}, nil // the next look tells what has become of the database
	}
	page.before = before
	passed := own.drop(l.ahead, page)
	to := p
	to.upto, to.schema = which.upto, l.schema
	if last {
		to.upto = page.newest
	}
	s := step{again: !last || p.filling()}
	if last && !p.anew {
		s.asOf = began
	}
	if err := r.apply(ctx, page, p, to, slices.Concat(notePassed(passed), page.outside(p.since), own.forget())...); err != nil {
		return step{}, err
	}
	return r.unless(ctx, passed != nil || page.passed, s)
}
