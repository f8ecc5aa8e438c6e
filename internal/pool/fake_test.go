package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errRefused  = errors.New("connection refused")
	errBroken   = errors.New("broken pipe")
	errNoAnswer = errors.New("no answer")
)

// peer is a fake server and network: it determines the results of dials and pings
// and counts them.
type peer struct {
	mu       sync.Mutex
	dialTime time.Duration
	pingTime time.Duration
	dialErr  error
	pingErr  error
	hang     bool // dials and pings are never answered

	unnoticed  bool // Dead does not report dead connections
	deadOnDial bool // connections are dead when they are dialled

	dials, failed, dialing, maxDialing int
	pings                              int
	open                               map[*link]bool
	closedTwice                        int
	maxPings, pinging                  int
	dialTimes                          []time.Duration // when dials began, since start
	start                              time.Time
	onDial                             func()
}

// link is a connection of the fake.
type link struct {
	id   int
	dead bool // guarded by peer.mu
}

func newPeer() *peer {
	return &peer{dialTime: 60 * time.Millisecond, pingTime: 20 * time.Millisecond, open: map[*link]bool{}, start: time.Now()}
}

func (s *peer) set(f func(*peer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *peer) get(f func(*peer) int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f(s)
}

// pause waits for d, or until ctx is done if hang is set.
func pause(ctx context.Context, d time.Duration, hang bool) error {
	var after <-chan time.Time
	if !hang {
		if d == 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *peer) dial(ctx context.Context) (*link, error) {
	s.mu.Lock()
	s.dials++
	id := s.dials
	s.dialing++
	s.maxDialing = max(s.maxDialing, s.dialing)
	s.dialTimes = append(s.dialTimes, time.Since(s.start))
	d, hang, err, hook := s.dialTime, s.hang, s.dialErr, s.onDial
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	if waitErr := pause(ctx, d, hang); waitErr != nil {
		err = waitErr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing--
	if err != nil {
		s.failed++
		return nil, err
	}
	l := &link{id: id, dead: s.deadOnDial}
	s.open[l] = true
	return l, nil
}

func (s *peer) ping(ctx context.Context, l *link) error {
	s.mu.Lock()
	s.pings++
	s.pinging++
	s.maxPings = max(s.maxPings, s.pinging)
	d, hang, err := s.pingTime, s.hang, s.pingErr
	s.mu.Unlock()
	if waitErr := pause(ctx, d, hang); waitErr != nil {
		err = waitErr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinging--
	if l.dead {
		return errNoAnswer
	}
	return err
}

func (s *peer) close(l *link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open[l] {
		s.closedTwice++
		return errors.New("closed twice")
	}
	delete(s.open, l)
	return nil
}

func (s *peer) isDead(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.dead && !s.unnoticed
}

func (s *peer) kill(l *link) { s.set(func(*peer) { l.dead = true }) }

func (s *peer) connector() Connector[*link] {
	return Connector[*link]{Dial: s.dial, Ping: s.ping, Close: s.close, Dead: s.isDead}
}

// bubble runs f in virtual time with a pool on a peer, and closes the pool.
func bubble(t *testing.T, opts Options, f func(t *testing.T, p *Pool[*link], s *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newPeer()
		p, err := newPool(s.connector(), opts, rand.New(rand.NewPCG(1, 2)).Float64)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { // after a Fatal
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = p.Close(ctx)
		}()
		f(t, p, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // longer than any test holds a lease
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		checkInvariants(t, p.Stats())
		if n := len(s.open); n != 0 {
			t.Errorf("%d connections left open", n)
		}
		st := p.Stats()
		if int(st.Dials) != s.dials || int(st.DialFailures) != s.failed || int(st.PingsSent) != s.pings {
			t.Errorf("counted %d dials, %d failed, %d pings; the peer saw %d, %d, %d", st.Dials, st.DialFailures, st.PingsSent, s.dials, s.failed, s.pings)
		}
		if s.closedTwice != 0 {
			t.Errorf("%d connections closed twice", s.closedTwice)
		}
	})
}

// checkInvariants checks the documented equations of Stats.
func checkInvariants(t *testing.T, s Stats) {
	t.Helper()
	var closed, failedWaits uint64
	for _, n := range s.ClosedBy {
		closed += n
	}
	failedWaits = s.Timeouts + s.Cancelled
	for _, eq := range []struct {
		text        string
		left, right uint64
	}{
		{"opened == closed + open", s.Opened, s.Closed + uint64(s.Open)},
		{"closed == sum of reasons", s.Closed, closed},
		{"dials == opened + failed + dialing", s.Dials, s.Opened + s.DialFailures + uint64(s.Dialing)},
		{"dial times == dials that ended", s.DialTimes.Count, s.Opened + s.DialFailures},
		{"open == idle + in use + pinging", uint64(s.Open), uint64(s.Idle + s.InUse + s.Pinging)},
		{"calls", s.Calls, s.Acquired + failedWaits + s.QueueFull + s.DialErrors + s.PoolClosed + uint64(s.Waiting)},
		{"acquired", s.Acquired, s.Returned + s.ReleasedUnused + s.Leaked + s.ForceClosed + uint64(s.InUse)},
		{"pings", s.PingsSent, s.PingTimes.Count + s.PingsFailed + s.PingsCancelled + uint64(s.Pinging)},
		{"wait times", s.WaitTimes.Count, s.Waits - uint64(s.Waiting)},
	} {
		if eq.left != eq.right {
			t.Errorf("invariant violated: %s: %d, %d", eq.text, eq.left, eq.right)
		}
	}
}

// acquired is the outcome of an Acquire.
type acquired struct {
	lease *Lease[*link]
	err   error
	took  time.Duration
}

// acquire calls Acquire in a goroutine.
func acquire(ctx context.Context, p *Pool[*link]) <-chan acquired {
	out := make(chan acquired, 1)
	begin := time.Now()
	go func() {
		l, err := p.Acquire(ctx)
		out <- acquired{l, err, time.Since(begin)}
	}()
	synctest.Wait() // so that calls arrive in order
	return out
}

// mustAcquire returns n leases.
func mustAcquire(t *testing.T, p *Pool[*link], n int) []*Lease[*link] {
	t.Helper()
	leases := make([]*Lease[*link], n)
	for i := range leases {
		l, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leases[i] = l
	}
	return leases
}

func releaseAll(leases []*Lease[*link]) {
	for _, l := range leases {
		l.Release(nil)
	}
	synctest.Wait()
}

// sleep advances virtual time by d and waits until everything due by then is done.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
