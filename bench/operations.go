package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const operationsClaim = "What each operation of a Store costs, wherever the memory is: a put of an episode of 8 steps (6 KB), an append of a step, a completion, " +
	"a life (start, 5 appends, completion), a get, a list of the newest 50 of a domain, a search for three words, an import of 10 episodes, a delete. " +
	"On a local file, and on a libSQL server at round trips (RTT) of 0, 20 and 100 ms without a replica and of 20 ms with one; by 1, 8 and 32 callers of one Store, and by eight processes of one machine. " +
	"The cache in memory is off. A request is what one caller's call sends on the link. " +
	"Targets: without a replica a call takes one request, a completion two, a life eight (p50), and at 100 ms a call of one request takes at most 1.1 RTT and 5 ms; " +
	"with a replica reads take none (p50); no call fails, and exactly what was acknowledged is stored."

const (
	operationsPart = 3 // of -duration that a cell is measured for
	farthestRTT    = 100 * time.Millisecond
)

// callerCounts are how many callers of one Store are measured.
var callerCounts = []int{1, 8, 32}

// place is where a memory is.
type place struct {
	onServer, replica bool
	rtt               time.Duration
}

func (p place) String() string {
	switch {
	case !p.onServer:
		return "file"
	case p.replica:
		return fmt.Sprintf("server at %v, replica", p.rtt)
	}
	return fmt.Sprintf("server at %v", p.rtt)
}

var places = []place{
	{},
	{onServer: true},
	{onServer: true, rtt: 20 * time.Millisecond},
	{onServer: true, rtt: farthestRTT},
	{onServer: true, rtt: 20 * time.Millisecond, replica: true},
}

// filled is a place with a memory that holds episodes.
type filled struct {
	place
	client machine
	target string            // of the memory, without the link
	server *hranatest.Server // nil for a file
	known  known
	held   held
}

// fill makes a memory in a place.
func (b *bench) fill(ctx context.Context, p place, episodes []*episodic.Episode) (_ *filled, err error) {
	f := &filled{place: p}
	if f.known, err = newKnown(episodes); err != nil {
		return nil, err
	}
	if !p.onServer {
		if f.client.dir, err = os.MkdirTemp(b.dir, "machine-"); err != nil {
			return nil, err
		}
		f.target = filepath.Join(f.client.dir, "memory.db")
		f.client.url = f.target
	} else {
		if f.server, err = startServer(b.dir); err != nil {
			return nil, err
		}
		m, err := newMachine(b, f.server.URL(), p.rtt)
		if err != nil {
			f.server.Kill()
			return nil, err
		}
		f.client, f.target = *m, f.server.URL()
	}
	if err := b.fillInParts(ctx, f.target, episodes); err != nil {
		f.close()
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	f.held.add(held{Episodes: 1, Steps: stepsEach}, len(episodes))
	return f, nil
}

func (f *filled) close() {
	if f.server != nil {
		f.client.link.Close()
		f.server.Kill()
	}
}

// openUncached opens a Store that does not read from a cache in memory.
func (m *machine) openUncached(ctx context.Context, replica bool) (*episodic.Store, error) {
	opts := uncached()
	if replica {
		// Without any cache every read of a replica would be told to ask for changes.
		opts.Cache = episodic.Cache{MaxBytes: 64 << 10}
	}
	return m.open(ctx, replica, opts)
}

// check reads what the memory holds, past the link.
func (f *filled) check(ctx context.Context) (err error) {
	store, err := episodic.Open(ctx, f.target, uncached())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return checkHolds(ctx, store, f.held)
}

// priced is a cell of an operation, of which one caller's requests are counted.
type priced struct {
	*cell
	*operation
	callers int
	sent    []int // requests of each call
}

// priced makes the cell of an operation. One caller's requests are counted on the link, if there is one.
func (u *user) priced(o *operation, callers int, f *filled) *priced {
	p := &priced{cell: &cell{name: o.name + ", " + callersOf(callers)}, operation: o, callers: callers}
	do := func(ctx context.Context, caller int) error { return o.do(u, ctx, caller) }
	if link := f.client.link; link != nil && callers == 1 {
		uncounted := do
		do = func(ctx context.Context, caller int) error {
			before := link.Counts().Requests
			err := uncounted(ctx, caller)
			if err == nil {
				p.sent = append(p.sent, link.Counts().Requests-before)
			}
			return err
		}
	}
	p.measure = func(ctx context.Context, window time.Duration) (sample, error) {
		if err := u.prepare(ctx, o, enough(window, callers, f.rtt)); err != nil {
			return sample{}, err
		}
		return load(ctx, window, callers, do), ctx.Err()
	}
	return p
}

// measure measures all operations in a place.
func (f *filled) measure(ctx context.Context, b *bench) (all []*priced, err error) {
	store, err := f.client.openUncached(ctx, f.replica)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if f.replica {
		if err := store.Sync(ctx, nil); err != nil {
			return nil, err
		}
	}
	u, err := newUser(ctx, store, b.corpus, f.known)
	if err != nil {
		return nil, err
	}
	var alone, together []*cell
	for i := range operations {
		for _, callers := range callerCounts {
			p := u.priced(&operations[i], callers, f)
			all = append(all, p)
			if callers == 1 {
				alone = append(alone, p.cell)
			} else {
				together = append(together, p.cell)
			}
		}
	}
	// Many callers leave streams behind, whose closing would count as requests of one.
	for _, cells := range [][]*cell{alone, together} {
		if err := b.interleave(ctx, cells...); err != nil {
			return nil, err
		}
	}
	f.held.add(u.prepared, 1)
	for _, p := range all {
		f.held.add(p.adds, p.acknowledged())
	}
	return all, nil
}

// table prints what was measured in a place.
func (f *filled) table(b *bench, all []*priced) {
	head := []string{f.String()}
	for _, callers := range callerCounts {
		head = append(head, callersOf(callers)+" /s", "p50", "p99")
	}
	if f.onServer {
		head = append(head, "requests, p50", "mean")
	}
	table := [][]string{head}
	fewest := all[0]
	for row := range slices.Chunk(all, len(callerCounts)) {
		cells := []string{row[0].operation.name}
		for _, p := range row {
			cells = append(cells, digits(p.rate()), ms(p.percentile(0.5)), ms(p.percentile(0.99)))
			if p.acknowledged() < fewest.acknowledged() {
				fewest = p
			}
		}
		if requests := row[0].sent; f.onServer {
			sum := 0
			for _, n := range requests {
				sum += n
			}
			cells = append(cells, fmt.Sprint(row[0].trips()), fmt.Sprintf("%.2f", float64(sum)/float64(max(len(requests), 1))))
		}
		table = append(table, cells)
	}
	b.table(table...)
	b.printf("%d cells; the one with the fewest calls is %s, with %d.\n\n", len(all), fewest.cell.name, fewest.acknowledged())
}

// trips is how many requests a call takes, the p50; 0 if no call ended well.
func (p *priced) trips() int {
	if len(p.sent) == 0 {
		return 0
	}
	return middle(p.sent)
}

// failing counts the texts of calls that failed, without what differs between them.
type failing map[string]int

func (f failing) add(what string, errs ...string) {
	for _, text := range errs {
		f[what+": "+differing.ReplaceAllString(text, "…")]++
	}
}

func (f failing) print(b *bench) {
	for _, text := range slices.Sorted(maps.Keys(f)) {
		b.printf("- %d times %s\n", f[text], text)
	}
}

func (f failing) calls() (n int) {
	for _, times := range f {
		n += times
	}
	return n
}

func measureOperations(ctx context.Context, b *bench) error {
	brief := *b
	episodes := b.corpus.episodes(0, min(b.n, serverEpisodes))
	if brief.duration /= operationsPart; b.short {
		brief.duration /= operationsPart
		episodes = episodes[:100]
	}
	b.printf("\nEach cell is measured for %v, by turns: first those of one caller, then those of several. Where one has fewer than 100 calls its p99 is the slowest of them.\n", brief.duration)
	failed := failing{}
	for _, p := range places {
		if b.short {
			p.rtt /= 10
		}
		f, err := b.fill(ctx, p, episodes)
		if err != nil {
			return err
		}
		err = f.single(ctx, &brief, failed)
		f.close()
		if err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
	}
	if err := processOperations(ctx, &brief, episodes, failed); err != nil {
		return err
	}
	failed.print(b)
	b.judge(failed.calls() == 0, "no call fails", "%d did", failed.calls())
	if n := failed.calls(); n > 0 {
		return fmt.Errorf("%d calls failed", n)
	}
	return nil
}

// single measures what one process does in a place.
func (f *filled) single(ctx context.Context, b *bench, failed failing) error {
	all, err := f.measure(ctx, b)
	if err != nil {
		return err
	}
	f.table(b, all)
	for _, p := range all {
		for _, s := range p.rounds {
			for _, err := range s.errs {
				failed.add(fmt.Sprintf("%v, %s", f, p.cell.name), err.Error())
			}
		}
	}
	if f.onServer {
		f.judge(b, all)
	}
	if failed.calls() > 0 {
		return nil // what failed may be stored all the same
	}
	return f.check(ctx)
}

// judge judges what one caller's calls take on a server.
func (f *filled) judge(b *bench, all []*priced) {
	var over []string
	var slowest *priced // of those with one request
	for _, p := range all {
		switch {
		case p.callers > 1 || f.replica && !p.reads():
			continue
		case p.trips() > p.requests || f.replica && p.trips() > 0:
			over = append(over, fmt.Sprintf("%s takes %d", p.operation.name, p.trips()))
		}
		if p.trips() == 1 && (slowest == nil || p.percentile(0.5) > slowest.percentile(0.5)) {
			slowest = p
		}
	}
	target, found := fmt.Sprintf("a call takes one request, a completion two, a life of %d steps %d", lifeSteps, lifeRequests), "none takes more"
	if f.replica {
		target = "a read takes no request"
	}
	if len(over) > 0 {
		found = strings.Join(over, ", ")
	}
	b.judge(len(over) == 0, fmt.Sprintf("%v: %s", f, target), "%s", found)
	if most := f.rtt*11/10 + 5*time.Millisecond; f.rtt >= farthestRTT && slowest != nil {
		b.judge(slowest.percentile(0.5) <= most, fmt.Sprintf("%v: the p50 of a call of one request at most %v", f, most), "%s takes %s", slowest.operation.name, ms(slowest.percentile(0.5)))
	}
}
