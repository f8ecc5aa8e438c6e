package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

const sizingClaim = "A pool of 2 to 10 connections by `pool.Decide`, against one of always 10 and one of always 2, under six loads whose calls come whether or not the earlier ones have ended. " +
	"Connection time is the sum over all connections and dials of how long they lasted; the p99 is that of the calls, waiting included. " +
	"Targets: a part of the connection time of 10 saved at a p99 near to that of 10, listed for each load."

const (
	sizingSeeds = 8
	liveSeed    = 0
	liveCells   = 6 // times -duration is how long the real pools are under load

	dialTime   = 60 * time.Millisecond
	callTime   = 22 * time.Millisecond // on average
	burstCalls = 40
	burstTime  = 2 * time.Millisecond
)

// The pools that are compared.
const (
	always2 = iota
	always10
	adaptive
)

var poolSizes = [...]struct{ min, max int }{always2: {2, 2}, always10: {10, 10}, adaptive: {2, 10}}

// trace is a load that changes over time. Moments in it are parts of its length,
// 0 to 1, so that it can be cut short; rates stay as they are.
type trace struct {
	name   string
	length time.Duration            // of the simulation
	rate   func(at float64) float64 // of the calls that come by themselves, a second
	peak   float64                  // the highest rate
	every  time.Duration            // burstCalls come within burstTime, whatever the length; 0 is never
	// slow is how many times as long a call takes when so many have a connection,
	// its own included; nil is once.
	slow func(at float64, inUse int) float64

	// targets of the simulation
	saved    float64 // part of the connection time of always10, at least
	against2 float64 // p99, times that of always2, at most; 0 is none
	// p99 targets, times that of always10, at most: of the simulation, and of the
	// real pools under the shorter trace.
	p99, liveP99 float64
}

var traces = []*trace{
	{
		name: "steady 20/s", length: 10 * time.Minute, peak: 20, rate: steady(20),
		saved: 0.70, p99: 1.15, liveP99: 1.5,
	},
	{
		name: "step 20, 350, 20/s", length: 10 * time.Minute, peak: 350,
		rate:  func(at float64) float64 { return inStep(at, 350, 20) },
		saved: 0.60, p99: 1.15,
		liveP99: 2, // when cut short, one call of a hundred comes before the pool has grown
	},
	{
		name: "10/s, bursts of 40", length: 10 * time.Minute, peak: 10, rate: steady(10), every: 20 * time.Second,
		saved: 0.45, p99: 1.8, against2: 0.4, liveP99: 2,
	},
	{
		name: "day, 10 to 330/s", length: 20 * time.Minute, peak: 330,
		rate:  func(at float64) float64 { return 170 - 160*math.Cos(2*math.Pi*at) },
		saved: 0.25, p99: 1.15, liveP99: 1.5,
	},
	{
		name: "60/s, server 6x slower", length: 10 * time.Minute, peak: 60, rate: steady(60),
		slow:  func(at float64, _ int) float64 { return inStep(at, 6, 1) },
		saved: 0.40, p99: 1.15, liveP99: 1.5,
	},
	{
		// However many have a connection, the server serves three at a time.
		name: "20 and 150/s, single writer", length: 10 * time.Minute, peak: 150,
		rate: func(at float64) float64 {
			if int(10*at)%2 == 1 {
				return 150
			}
			return 20
		},
		slow:  func(_ float64, inUse int) float64 { return 20. / 22 * max(1, float64(inUse)/3) },
		saved: 0.15, p99: 1.15, liveP99: 1.5,
	},
}

func steady(rate float64) func(float64) float64 { return func(float64) float64 { return rate } }

// inStep returns within in one tenth of a trace, and without in the rest.
func inStep(at, within, without float64) float64 {
	if at > 1./3 && at < 13./30 {
		return within
	}
	return without
}

// call is a call that needs a connection.
type call struct {
	at    time.Duration // when it comes
	needs time.Duration // a connection for that long, if nothing is slow
}

// calls returns what comes when the trace is made so long, in its order.
func (t *trace) calls(seed uint64, length time.Duration) []call {
	r := rand.New(rand.NewPCG(seed, 0))
	var all []call
	add := func(at float64) {
		const sigma = 0.4 // of the lognormal distribution
		needs := float64(callTime) * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2)
		all = append(all, call{time.Duration(at * float64(length)), time.Duration(needs)})
	}
	for at := 0.0; ; {
		at += r.ExpFloat64() / t.peak / length.Seconds()
		if at >= 1 {
			break
		}
		if r.Float64()*t.peak < t.rate(at) {
			add(at)
		}
	}
	for at := t.every / 2; 0 < at && at < length; at += t.every {
		for range burstCalls {
			add((at.Seconds() + r.Float64()*burstTime.Seconds()) / length.Seconds())
		}
	}
	slices.SortFunc(all, func(a, b call) int { return cmp.Compare(a.at, b.at) })
	return all
}

// takes is how long a call takes that gets its connection at a moment.
func (t *trace) takes(c call, at, length time.Duration, inUse int) time.Duration {
	if t.slow == nil {
		return c.needs
	}
	return time.Duration(float64(c.needs) * t.slow(float64(at)/float64(length), inUse))
}

// outcome is what a pool made of a trace.
type outcome struct {
	connTime  time.Duration   // sum over all connections and dials of how long they lasted
	latencies []time.Duration // of the calls, in their order
}

func (o *outcome) p99() time.Duration { return percentile(slices.Clone(o.latencies), 0.99) }

func (o *outcome) slowerThan(other *outcome) float64 { return float64(o.p99()) / float64(other.p99()) }

// savedFrom is the part of the connection time of other that o did without.
func (o *outcome) savedFrom(other *outcome) float64 {
	return 1 - float64(o.connTime)/float64(other.connTime)
}

func sizing(ctx context.Context, b *bench) error {
	if err := sizingSimulated(ctx, b); err != nil {
		return err
	}
	return sizingLive(ctx, b)
}

func sizingSimulated(ctx context.Context, b *bench) error {
	seeds := sizingSeeds
	if b.short {
		seeds = 1
	}
	b.printf("\nSimulated in virtual time: the median over %d seeds, with the lowest and the highest. A call takes %v on average, a dial %v.\n", seeds, callTime, dialTime)
	table := [][]string{{"", "minutes", "calls", "connection time saved", "p99 against always 10", "p99 against always 2"}}
	var verdicts []func()
	for _, t := range traces {
		var saved, against10, against2 []float64
		calls := 0
		for seed := range seeds {
			if err := ctx.Err(); err != nil {
				return err
			}
			all := t.calls(uint64(seed), t.length)
			calls += len(all)
			var got [len(poolSizes)]*outcome
			for i, s := range poolSizes {
				got[i] = simulate(t, t.length, all, s.min, s.max)
			}
			saved = append(saved, got[adaptive].savedFrom(got[always10]))
			against10 = append(against10, got[adaptive].slowerThan(got[always10]))
			against2 = append(against2, got[adaptive].slowerThan(got[always2]))
		}
		less, of10, of2 := spread(saved), spread(against10), spread(against2)
		table = append(table, []string{
			t.name, fmt.Sprint(t.length.Minutes()), fmt.Sprint(calls / seeds), percent(less), of10.String(), of2.String(),
		})
		target := fmt.Sprintf("%s: at least %.0f %% saved, p99 at most %.2fx always 10", t.name, 100*t.saved, t.p99)
		met, found := less.median >= t.saved && of10.median <= t.p99, fmt.Sprintf("%s, %v", percent(less), of10)
		if t.against2 > 0 {
			target += fmt.Sprintf(" and %.2fx always 2", t.against2)
			found += fmt.Sprintf(" and %v", of2)
			met = met && of2.median <= t.against2
		}
		verdicts = append(verdicts, func() { b.judge(met, target, "%s", found) })
	}
	b.table(table...)
	for _, verdict := range verdicts {
		verdict()
	}
	return nil
}

// spread sorts values, of which there is one at least.
func spread(values []float64) ratio {
	slices.Sort(values)
	return ratio{values[(len(values)-1)/2], values[0], values[len(values)-1]}
}

func percent(r ratio) string {
	return fmt.Sprintf("%.0f %% (%.0f to %.0f)", 100*r.median, 100*r.low, 100*r.high)
}

// What package pool keeps to itself. TestModelIsThePool fails when it changes.
const (
	maxDials      = 4
	serviceWeight = 1. / 16 // of the latest lease in the average
	longAgo       = time.Duration(math.MaxInt64 / 4)
	scaleUpAt     = 0.8
	scaleDownAt   = 0.3
)

// model is a warm pool in virtual time whose connections neither fail nor grow
// old nor are pinged. It asks pool.Decide when a pool does, about the same state.
type model struct {
	trace    *trace
	length   time.Duration
	calls    []call
	min, max int

	now    time.Duration
	events []event // to come, the next one last

	open, inUse, dialing int
	target               int   // connections over it are closed as they return
	waiting              []int // calls
	ended                int   // calls

	service    time.Duration // average
	lastGrowth time.Duration
	recheckAt  time.Duration

	busyTime time.Duration // sum over all connections of the time they were lent
	tickBusy time.Duration // busyTime at the last tick
	busy     []float64     // of all ticks

	outcome
}

type event struct {
	at time.Duration
	do func()
}

// simulate makes the calls of a trace through a model.
func simulate(t *trace, length time.Duration, calls []call, minSize, maxSize int) *outcome {
	m := &model{
		trace: t, length: length, calls: calls, min: minSize, max: maxSize,
		open: minSize, target: minSize, lastGrowth: -longAgo,
		outcome: outcome{latencies: make([]time.Duration, len(calls))},
	}
	m.plan(length, func() {}) // the trace does not end with its last call
	if len(calls) > 0 {
		m.plan(calls[0].at, func() { m.arrive(0) })
		m.plan(calls[0].at+pool.SizeTick, m.tick)
	}
	for m.ended < len(calls) || m.now < length {
		last := len(m.events) - 1
		e := m.events[last]
		m.events = m.events[:last]
		m.connTime += (e.at - m.now) * time.Duration(m.open+m.dialing)
		m.busyTime += (e.at - m.now) * time.Duration(m.inUse)
		m.now = e.at
		e.do()
	}
	return &m.outcome
}

// plan lets do happen at a moment, after what is planned for it already.
func (m *model) plan(at time.Duration, do func()) {
	i, _ := slices.BinarySearchFunc(m.events, at, func(e event, at time.Duration) int {
		if e.at > at {
			return -1
		}
		return 1
	})
	m.events = slices.Insert(m.events, i, event{at, do})
}

func (m *model) arrive(i int) {
	if i+1 < len(m.calls) {
		m.plan(m.calls[i+1].at, func() { m.arrive(i + 1) })
	}
	if len(m.waiting) == 0 && m.inUse < m.open {
		m.lend(i)
		return
	}
	m.waiting = append(m.waiting, i)
	m.settle(false)
}

func (m *model) lend(i int) {
	m.inUse++
	c := m.calls[i]
	takes := m.trace.takes(c, m.now, m.length, m.inUse)
	m.plan(m.now+takes, func() {
		m.ended++
		m.latencies[i] = m.now - c.at
		m.giveBack(takes)
	})
}

func (m *model) giveBack(took time.Duration) {
	m.inUse--
	if m.service == 0 {
		m.service = took
	} else {
		m.service += time.Duration(float64(took-m.service) * serviceWeight)
	}
	switch {
	case m.open > m.target:
		m.open--
	case len(m.waiting) == 0:
		return
	}
	m.settle(false)
}

func (m *model) dialed() {
	m.dialing--
	m.open++
	m.settle(false)
}

func (m *model) tick() {
	m.plan(m.now+pool.SizeTick, m.tick)
	m.busy = append(m.busy, float64(m.busyTime-m.tickBusy)/float64(pool.SizeTick))
	m.tickBusy = m.busyTime
	m.settle(true)
}

func (m *model) settle(tick bool) {
	for len(m.waiting) > 0 && m.inUse < m.open {
		m.lend(m.waiting[0])
		m.waiting = m.waiting[1:]
	}
	size := m.open + m.dialing
	if tick {
		m.target = min(m.target, max(m.min, size))
	}
	d := pool.Decide(m.state(tick))
	if d.Dial > 0 {
		m.lastGrowth = m.now
		m.dialing += d.Dial
		m.target = max(m.target, size+d.Dial)
		for range d.Dial {
			m.plan(m.now+dialTime, m.dialed)
		}
	}
	if d.Close > 0 {
		m.target = size - d.Close
	}
	m.open -= max(0, min(m.open-m.target, m.open-m.inUse))

	m.recheckAt = m.now + d.Recheck
	if at := m.recheckAt; d.Recheck > 0 {
		m.plan(at, func() {
			if at == m.recheckAt && len(m.waiting) > 0 { // no later decision took its place
				m.settle(false)
			}
		})
	}
}

func (m *model) state(tick bool) pool.SizeState {
	s := pool.SizeState{
		Min: m.min, Max: m.max, ScaleUpAt: scaleUpAt, ScaleDownAt: scaleDownAt,
		Open: m.open, Dialing: m.dialing, Waiting: len(m.waiting), MaxDials: maxDials,
		ServiceTime: m.service, DialTime: dialTime,
		SinceGrowth: m.now - m.lastGrowth, SinceOverload: longAgo, Tick: tick,
	}
	if len(m.waiting) > 0 {
		s.OldestWait = m.now - m.calls[m.waiting[0]].at
	}
	if window := m.busy[max(0, len(m.busy)-pool.SizeWindow):]; len(window) > 0 {
		s.Busy, s.BusyMax, s.Window = window[len(window)-1], slices.Max(window), len(window)
	}
	return s
}

// trial is a real pool under a trace.
type trial struct {
	trace    *trace
	min, max int
	seen     hranatest.LinkCounts // by the server side
	got      *outcome
	failed   []error    // of calls
	stats    pool.Stats // after Close
}

func sizingLive(ctx context.Context, b *bench) (err error) {
	length := liveCells * b.duration
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()

	trials := make([][len(poolSizes)]*trial, len(traces))
	calls := make([][]call, len(traces))
	errs := make(chan error)
	for i, t := range traces {
		calls[i] = t.calls(liveSeed, length)
		for j, s := range poolSizes {
			trials[i][j] = &trial{trace: t, min: s.min, max: s.max}
			go func() { errs <- trials[i][j].run(ctx, server.URL(), length, calls[i]) }()
		}
	}
	for range len(traces) * len(poolSizes) {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}

	b.printf("\nReal pools, all at the same time, with HTTP connections to one server. A call is a `SELECT` that then keeps its connection for as long as in the simulation; a dial is made to last %v. "+
		"The loads are compressed to %v, but for the rates and the time between bursts; the simulator was given the same calls. "+
		"The rule does not know: it looks back over %d s all the same, and so shrinks late in such a load or not at all. It saves less than above, and the calls that come while it grows are a larger part of all. "+
		"Where the p99 of always 10 is far from the simulated one the machine had other work, and the load says little.\n",
		dialTime, length, pool.SizeWindow)
	table := [][]string{{
		"", "calls", "always 2 p99", "always 10 p99", "simulated", "2 to 10 p99", "against always 10", "simulated",
		"most open", "closed as too many", "connection time saved", "simulated",
	}}
	var verdicts []func()
	var all []*trial
	for i, t := range traces {
		all = append(all, trials[i][:]...)
		two, ten, ours := trials[i][always2], trials[i][always10], trials[i][adaptive]
		slower, saved := ours.got.slowerThan(ten.got), ours.got.savedFrom(ten.got)
		sim10, sim := simulate(t, length, calls[i], ten.min, ten.max), simulate(t, length, calls[i], ours.min, ours.max)
		table = append(table, []string{
			t.name, fmt.Sprint(len(calls[i])), ms(two.got.p99()), ms(ten.got.p99()), ms(sim10.p99()), ms(ours.got.p99()),
			fmt.Sprintf("%.2fx", slower), fmt.Sprintf("%.2fx", sim.slowerThan(sim10)),
			fmt.Sprint(ours.stats.Peak), fmt.Sprint(ours.stats.ClosedBy[pool.ClosedShrunk]),
			fmt.Sprintf("%.1f %%", 100*saved), fmt.Sprintf("%.1f %%", 100*sim.savedFrom(sim10)),
		})
		verdicts = append(verdicts, func() {
			b.judge(saved > 0 && slower <= t.liveP99, fmt.Sprintf("%s: less connection time than always 10, p99 at most %.2fx", t.name, t.liveP99), "%.1f %% saved, %.2fx", 100*saved, slower)
		})
	}
	b.table(table...)
	for _, verdict := range verdicts {
		verdict()
	}
	b.judgeTrials(all)
	return nil
}

// judgeTrials holds what the pools counted against what was seen from outside.
func (b *bench) judgeTrials(trials []*trial) {
	var calls, failed, most, over, balanced, seen int
	var dials uint64
	first := ""
	for _, t := range trials {
		calls += len(t.got.latencies)
		failed += len(t.failed)
		if len(t.failed) > 0 && first == "" {
			first = fmt.Sprintf(", the first: %v", t.failed[0])
		}
		if t.stats.Opened == t.stats.Closed && t.stats.Open == 0 {
			balanced++
		}
		dials += t.stats.Dials
		seen += t.seen.Accepted
		most = max(most, t.seen.MostOpen)
		if t.seen.MostOpen > t.max {
			over++
		}
	}
	b.judge(failed == 0, "no call fails", "%d of %d%s", failed, calls, first)
	b.judge(balanced == len(trials), "every pool has closed in the end as many connections as it opened", "%d of %d", balanced, len(trials))
	b.judge(uint64(seen) == dials, "the server side sees as many connections as the pools dialled", "%d dials, %d seen", dials, seen)
	b.judge(over == 0, "the server side never sees more connections and dials than a pool may have", "%d of %d pools had more; at most %d at once", over, len(trials), most)
}

// run makes the calls of a trace through a new pool.
func (t *trial) run(ctx context.Context, server string, length time.Duration, calls []call) (err error) {
	link, err := hranatest.NewLink(server)
	if err != nil {
		return err
	}
	defer func() {
		t.seen = link.Counts()
		link.Close()
	}()
	client, err := hrana.NewClient(link.URL(), nil)
	if err != nil {
		return err
	}
	p, err := pool.New(connector(link.URL()), pool.Options{MinConns: t.min, MaxConns: t.max, MaxWaiters: len(calls)})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, p.Close(ctx))
		t.stats = p.Stats()
	}()
	if err := p.Warm(ctx); err != nil {
		return err
	}
	t.got, t.failed, err = follow(ctx, t.trace, length, calls, p, func(ctx context.Context, c *http.ClientConn) error {
		answer, err := client.Do(ctx, c, hrana.Pipeline{Requests: []hrana.Request{
			hrana.Execute{Stmt: hrana.Stmt{SQL: "SELECT 1"}}, hrana.Close{},
		}})
		if err != nil {
			return err
		}
		if err := answer.Results[0].Err; err != nil {
			return err
		}
		return nil
	})
	return err
}

func connector(url string) pool.Connector[*http.ClientConn] {
	transport, addr := &http.Transport{}, strings.TrimPrefix(url, "http://")
	return pool.Connector[*http.ClientConn]{
		Dial: func(ctx context.Context) (*http.ClientConn, error) {
			begin := time.Now()
			c, err := transport.NewClientConn(ctx, "http", addr)
			if err != nil {
				return nil, err
			}
			// The link has it by now, and so counts dials under way too.
			if err := sleep(ctx, dialTime-time.Since(begin)); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return c, nil
		},
		Ping: func(ctx context.Context, c *http.ClientConn) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v3", nil)
			if err != nil {
				return err
			}
			resp, err := c.RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("ping: %s", resp.Status)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		},
		Close: (*http.ClientConn).Close,
		Dead:  func(c *http.ClientConn) bool { return c.Err() != nil },
	}
}

// follow makes the calls of a trace through p when they are due, whether or not
// the earlier ones have ended. A call makes an exchange and keeps its connection
// for the rest of its time. The error is that of ctx.
func follow[C comparable](ctx context.Context, t *trace, length time.Duration, calls []call, p *pool.Pool[C], exchange func(context.Context, C) error) (*outcome, []error, error) {
	before, begin := p.Stats(), time.Now()
	latencies, errs := make([]time.Duration, len(calls)), make([]error, len(calls))
	var inUse atomic.Int64
	use := func(c call) error {
		lease, err := p.Acquire(ctx)
		if err != nil {
			return err
		}
		lent := time.Now()
		takes := t.takes(c, lent.Sub(begin), length, int(inUse.Add(1)))
		if err = exchange(ctx, lease.Conn()); err == nil {
			err = sleep(ctx, takes-time.Since(lent))
		}
		inUse.Add(-1)
		lease.Release(err)
		return err
	}
	var wg sync.WaitGroup
	for i, c := range calls {
		if sleep(ctx, c.at-time.Since(begin)) != nil {
			break
		}
		wg.Go(func() {
			errs[i] = use(c)
			latencies[i] = time.Since(begin) - c.at
		})
	}
	wg.Wait()
	if err := sleep(ctx, length-time.Since(begin)); err != nil {
		return nil, nil, err
	}
	after := p.Stats()
	return &outcome{
		connTime:  after.ConnTime - before.ConnTime + after.DialTimes.Sum - before.DialTimes.Sum,
		latencies: latencies,
	}, slices.DeleteFunc(errs, func(err error) bool { return err == nil }), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
