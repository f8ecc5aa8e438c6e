package replica

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/turn"
)

const (
	defaultInterval = 30 * time.Second
	// After a write others follow for writeDelay, and a read that comes later finds the
	// pull done.
	writeDelay = 20 * time.Millisecond
	// Pulls in the background that fail are tried again after minBackoff, then after
	// twice as long each time, up to maxBackoff.
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
	// A Kick has a pull that failed tried again so soon, whatever the pause has become.
	kickBackoff = 3 * time.Second
)

// Config says what is replicated, and where to.
type Config struct {
	Server engine.Engine // not closed by Close
	Local  engine.Engine // over a file that was migrated and prepared; not closed by Close
	// Path is that of the file. Beside it are Path+".asof", and the lock files.
	Path string
	// Scope narrows what is replicated: a condition, with plain parameters, that a column
	// holds a scope within it; "" if all are. Nil: all are.
	Scope func(column string) (cond string, args []any)
	// MaxAge and MaxBytes bound what is held: episodes that began longer ago are not, nor, about,
	// the oldest that make the file larger. 0: no bound.
	MaxAge   time.Duration
	MaxBytes int64
	// Interval is the time between two pulls that nobody asks for. Default 30 s.
	Interval time.Duration
	// Words returns the statements that index the items of a page. They are carried out in
	// the transaction that stores the page, behind its rows. Nil: the items are left waiting
	// to be indexed.
	Words func(context.Context, *Page) ([]engine.Stmt, error)
	// Stored is called after each page that was stored. It must not wait. Nil: nothing is.
	Stored func()
	// Reach tells soon whether the server can be reached. It is asked before the first pull,
	// and before one after a failure. Nil: the pull finds out.
	Reach func(context.Context) error
	// Logger gets what no call reports: that the replica is made anew (Warn), and failures
	// of pulls in the background (Debug). Nil logs nothing.
	Logger *slog.Logger
}

// Replica pulls what a server has into a local file. Its methods may be called
// concurrently.
type Replica struct {
	cfg    Config
	log    *slog.Logger
	asOf   asOfFile
	turn   chan struct{} // holds a token while this process pulls
	lock   *turn.Lock    // of all processes; used by who holds the token
	rounds rounds
	wake   chan struct{} // capacity 1: a pull is wanted
	ctx    context.Context
	stop   context.CancelFunc
	done   sync.WaitGroup
	close  func()

	lookRows  int
	pageBytes int64
	againFor  time.Duration

	// Used by who holds the token:
	fillBytes int64     // of the next page of a fill
	lagsSince time.Time // see lagging
	unsure    bool      // the next fetch asks for dictionaries; see apply

	counters struct{ pulls, pages, items, payload atomic.Uint64 }

	reading sync.Mutex // held while the position is read and noted

	mu       sync.Mutex // guards the fields below; nothing but the asof file is used with it held
	position position
	known    time.Time // AsOf, of the file or of a pull of this process
	behind   bool
	wrote    *time.Timer // wakes run for the last write
	wanted   time.Time   // a pull is to begin then or later, whether anybody waits or not
	err      error       // of the last pull
	errSince time.Time
	failures int  // in a row
	hurried  bool // Answered has ended a pause after one of them
	tried    time.Time
	took     time.Duration
}

// New returns a Replica that pulls in the background. It reads where the replica stands,
// and asks nothing of the server.
func New(cfg Config) (*Replica, error) {
	r, err := newReplica(cfg)
	if err == nil {
		r.done.Go(r.run)
	}
	return r, err
}

// newReplica returns a Replica that does not run.
func newReplica(cfg Config) (*Replica, error) {
	cfg.Interval = cmp.Or(cfg.Interval, defaultInterval)
	r := &Replica{
		cfg: cfg, log: cfg.Logger, asOf: asOfFile(cfg.Path + ".asof"), wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		lookRows: lookRows, pageBytes: pageBytes, fillBytes: firstFillBytes, againFor: againFor,
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	if err := errors.Join(r.setBounds(r.ctx), r.refresh(r.ctx, true)); err != nil {
		r.stop()
		return nil, err
	}
	// Not the name by which writes to the file take turns: who pulls also writes to it.
	r.lock = turn.NewLock(filepath.Dir(cfg.Path), cfg.Path+" pull")
	r.wrote = time.AfterFunc(time.Hour, r.poke)
	r.wrote.Stop()
	r.close = sync.OnceFunc(r.shutDown)
	return r, nil
}

// Close ends the pull under way, and all waiting for one, and waits until it has ended.
// Closing twice is harmless.
func (r *Replica) Close() error {
	r.close()
	return nil
}

func (r *Replica) shutDown() {
	r.stop()
	r.wrote.Stop()
	r.done.Wait()
	r.rounds.fail(engine.ErrClosed)
	r.turn <- struct{}{} // of Fetch and Verify
	r.lock.Close()
}

// Await waits until the replica has all that the server had at floor, by a pull that began
// then or later, which all who wait share. It does not wait if pages are missing: then
// Status.Behind or Status.Anew tells so, and AsOf is zero, while the pull goes on.
//
// Errors: those of the pull; that of ctx; engine.ErrClosed.
func (r *Replica) Await(ctx context.Context, floor time.Time) (Status, error) {
	w := r.rounds.join(floor)
	defer r.rounds.leave(w)
	if err := r.refresh(ctx, false); err != nil {
		return r.status(), err
	}
	s := r.status()
	if !s.AsOf.IsZero() && !s.AsOf.Before(floor) {
		return s, nil
	}
	r.poke()
	if s.Behind || s.Anew {
		return s, nil
	}
	select {
	case err := <-w.done:
		return r.Status(), err
	case <-ctx.Done():
		return r.Status(), ctx.Err()
	case <-r.ctx.Done():
		return r.Status(), engine.ErrClosed
	}
}

// Kick asks for a pull in the background. After failures it does nothing for a while, up to
// three seconds.
func (r *Replica) Kick() {
	r.mu.Lock()
	now := min(backoff(r.failures), kickBackoff) <= time.Since(r.tried)
	if now {
		r.wanted = time.Now()
	}
	r.mu.Unlock()
	if now {
		r.poke()
	}
}

// backoff is how long after the last of so many failures in a row another pull may follow.
func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(minBackoff<<min(failures-1, 10), maxBackoff)
}

// Wrote says that this process has written to the server, up to a time: a pull that
// begins later follows soon.
func (r *Replica) Wrote(at time.Time) {
	r.mu.Lock()
	if at.After(r.wanted) {
		r.wanted = at
	}
	r.mu.Unlock()
	r.wrote.Reset(writeDelay)
}

// Answered says that the server has answered something else than a pull. If the last pull has
// failed, the pause until the next one ends at once, and after the first time that this was in
// vain within a second.
func (r *Replica) Answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return
	}
	wait := writeDelay
	if r.hurried {
		wait = max(wait, minBackoff-time.Since(r.tried))
	}
	r.hurried = true
	r.wrote.Reset(wait)
}

func (r *Replica) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Status returns how new the replica is. It asks neither the server nor, unless another
// process has pulled, the file.
func (r *Replica) Status() Status {
	if err := r.refresh(r.ctx, false); err != nil && r.ctx.Err() == nil {
		r.log.Debug("it is not known what other processes have pulled", "error", err) // the next pull fails by it
	}
	return r.status()
}

func (r *Replica) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.position
	s := Status{
		AsOf: r.known, LastAsOf: r.known, Behind: r.behind, Anew: p.anew,
		Complete: len(p.life) > 0 && !p.filling(), Remaining: p.remaining,
		Down: r.err, DownSince: r.errSince, Took: r.took, Schema: p.schema, Upto: p.upto,
		Pulls: r.counters.pulls.Load(), Pages: r.counters.pages.Load(), Items: r.counters.items.Load(), Payload: r.counters.payload.Load(),
	}
	if p.since > 0 {
		s.Since = time.UnixMicro(p.since)
	}
	if s.Behind || s.Anew || len(p.life) == 0 {
		s.AsOf = time.Time{}
	}
	return s
}
