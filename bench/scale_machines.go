package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const (
	machinesHold   = 1000             // episodes on the server before
	machinesWindow = 10 * time.Second // at least: two of the looks that a replica in use takes
	machinesRest   = 30 * time.Second // in which a replica that nobody reads looks once
	machinesBusy   = 0.05             // of a core, at most, while machines rest
	machinesRead   = 200 * time.Millisecond
	machinesWrite  = 2 * time.Second
	machinesSee    = 7 * time.Second  // in which all must see what one has written
	machinesLast   = 20 * time.Second // after the last write
	machinesList   = 200
)

// scaleMachines measures Stores that have a replica each, on one server. They are in this process, so
// the server's share of the processors is what counts.
func scaleMachines(ctx context.Context, b *bench) error {
	data, err := b.repeats()
	if err != nil {
		return err
	}
	t := &growthTable{head: "machines with a replica each", what: "machines"}
	var slowest []time.Duration // of each size, a write until it is seen
	sizes := []int{16}
	switch {
	case b.short:
		sizes = []int{2}
	case b.full:
		sizes = []int{2, 4, 8, 16}
	}
	for _, n := range sizes {
		t.sizes = append(t.sizes, n)
		last, err := measureMachines(ctx, b, data, t, n)
		if err != nil {
			t.print(b)
			return fmt.Errorf("%d machines: %w", n, err)
		}
		slowest = append(slowest, last)
	}
	b.printf("%d episodes on the server. In use each machine lists the newest %d or searches every %v, and puts an episode every %v. An episode is seen when a list of another machine shows it.\n",
		min(machinesHold, b.n), machinesList, machinesRead, machinesWrite)
	t.print(b)
	at := fmt.Sprintf("%d machines", sizes[len(sizes)-1])
	busy := t.row("the server's processor at rest").values[len(sizes)-1]
	b.judge(busy <= machinesBusy, fmt.Sprintf("%s at rest: at most %.0f %% of a core of the server", at, 100*machinesBusy), "%.1f %%", 100*busy)
	for i, last := range slowest {
		b.judge(last <= machinesSee, fmt.Sprintf("%d machines: a write is seen by all others within %v", sizes[i], machinesSee), "%s", seconds(last))
	}
	return nil
}

// connected is a machine whose Store is open.
type connected struct {
	*machine
	store *episodic.Store
	seen  map[episodic.ID]time.Time // when a list showed it first
}

// machinePut is a put that was acknowledged.
type machinePut struct {
	id episodic.ID
	by *connected
	at time.Time // of the acknowledgement
}

// measureMachines adds a column, and returns how long the slowest write took until all others had seen it.
func measureMachines(ctx context.Context, b *bench, data *repeats, t *growthTable, n int) (last time.Duration, err error) {
	server, err := startServer(b.dir)
	if err != nil {
		return 0, err
	}
	defer server.Kill()
	hold := min(machinesHold, b.n)
	episodes, err := data.episodes(0, hold)
	if err != nil {
		return 0, err
	}
	if err := b.fillInParts(ctx, server.URL(), episodes); err != nil {
		return 0, err
	}
	var words tally
	for _, e := range episodes {
		if err := words.add(e); err != nil {
			return 0, err
		}
	}
	var all []*connected
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.store.Close())
			c.link.Close()
		}
	}()
	for range n {
		m, err := newMachine(b, server.URL(), 0)
		if err != nil {
			return 0, err
		}
		store, err := m.open(ctx, true, nil)
		if err != nil {
			m.link.Close()
			return 0, err
		}
		all = append(all, &connected{machine: m, store: store, seen: make(map[episodic.ID]time.Time)})
		if err := store.Sync(ctx, nil); err != nil {
			return 0, err
		}
	}

	window, idle := max(b.duration, machinesWindow), max(b.duration, machinesRest)
	if b.short {
		window, idle = time.Second, time.Second
	}
	if err := t.load(server, all, "at rest", func() error { return rest(ctx, idle) }); err != nil {
		return 0, err
	}
	crew := &machineCrew{all: all, words: words.wordsOf(frequencies[1])}
	if crew.pool, err = data.episodes(hold, n*int(window/machinesWrite+1)); err != nil {
		return 0, err
	}
	if err := t.load(server, all, "in use", func() error { return crew.work(ctx, window) }); err != nil {
		return 0, err
	}
	delays, _ := crew.delays()
	if len(delays) == 0 {
		return 0, errors.New("nothing was written")
	}
	p50 := percentile(delays, 0.5)
	last = percentile(delays, 1)
	t.add("a write is seen elsewhere, p50/max", scaleBends, p50.Seconds(), fmt.Sprintf("%s/%s", digits(p50.Seconds()), seconds(last)))
	t.time("put", crew.puts)
	t.time("list or search of the replica", crew.reads)
	return last, nil
}

// load adds what the machines ask of the server while f runs. It may grow as their number does.
func (t *growthTable) load(server *hranatest.Server, all []*connected, when string, f func() error) error {
	count := func() (c hranatest.LinkCounts) {
		for _, m := range all {
			x := m.link.Counts()
			c.Requests += x.Requests
			c.BytesUp += x.BytesUp
			c.BytesDown += x.BytesDown
		}
		return c
	}
	cpu, err := processorTime(server.Pid())
	if err != nil {
		return err
	}
	before, begin := count(), time.Now()
	if err := f(); err != nil {
		return err
	}
	passed, took := since(count(), before), time.Since(begin).Seconds()
	now, err := processorTime(server.Pid())
	if err != nil {
		return err
	}
	rate := func(name string, value float64, cell string) { t.add(name+" "+when, 10*scaleBends, value, cell) }
	requests, busy, bytes := float64(passed.Requests)/took, (now-cpu).Seconds()/took, float64(passed.BytesUp+passed.BytesDown)/took
	rate("requests", requests, digits(requests)+" /s")
	rate("the server's processor", busy, fmt.Sprintf("%.1f %%", 100*busy))
	rate("bytes, both ways,", bytes, fmt.Sprintf("%s KB/s", digits(bytes/1000)))
	return nil
}

// processorTime is what a process has used of the processors, as /proc tells.
func processorTime(pid int) (time.Duration, error) {
	const tick = time.Second / 100 // of Linux's user space
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// What follows the program's name, which may hold anything, begins with the third field.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s has %d fields", path, len(fields))
	}
	var used time.Duration
	for _, field := range fields[11:13] { // in user mode and in the kernel
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		used += time.Duration(ticks) * tick
	}
	return used, nil
}

// machineCrew is machines at work.
type machineCrew struct {
	all   []*connected
	pool  []*episodic.Episode
	words []string

	mu    sync.Mutex // guards the fields below, and what machines have seen
	wrote []machinePut
	puts  []time.Duration
	reads []time.Duration
}

// work lets all machines read, and write for a window, until all have seen what was written.
func (w *machineCrew) work(ctx context.Context, window time.Duration) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var reading, writing sync.WaitGroup
	next, end := counter(), time.Now().Add(window)
	every := func(i int, pause time.Duration, goesOn func() bool, do func() error) {
		// They begin one after the other, as machines do that know nothing of each other.
		err := rest(ctx, pause*time.Duration(i)/time.Duration(len(w.all)))
		for err == nil && goesOn() {
			if err = do(); err == nil {
				err = rest(ctx, pause)
			}
		}
		if err != nil {
			stop(fmt.Errorf("machine %d: %w", i, err)) // the first cause counts
		}
	}
	for i, m := range w.all {
		writing.Go(func() {
			every(i, machinesWrite, func() bool { return time.Now().Before(end) }, func() error { return w.put(ctx, m, w.pool[next()%len(w.pool)]) })
		})
		turn := 0
		reading.Go(func() {
			every(i, machinesRead, func() bool { return true }, func() error {
				turn++
				return w.read(ctx, m, turn)
			})
		})
	}
	writing.Wait()
	for last := time.Now().Add(machinesLast); !w.allSeen() && time.Now().Before(last) && ctx.Err() == nil; {
		_ = rest(ctx, machinesRead) // whose error is that of ctx
	}
	stop(errWorkDone)
	reading.Wait()
	if err := context.Cause(ctx); err != errWorkDone {
		return err
	}
	if !w.allSeen() {
		return fmt.Errorf("not all writes were seen within %v", machinesLast)
	}
	return nil
}

var errWorkDone = errors.New("all is done")

func (w *machineCrew) put(ctx context.Context, m *connected, like *episodic.Episode) error {
	e := *like
	e.ID = episodic.ID{}
	begin := time.Now()
	if err := m.store.PutEpisode(ctx, &e); err != nil {
		return err
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote = append(w.wrote, machinePut{e.ID, m, now})
	w.puts = append(w.puts, now.Sub(begin))
	return nil
}

// read lists and searches by turns.
func (w *machineCrew) read(ctx context.Context, m *connected, turn int) error {
	begin := time.Now()
	if turn%2 == 0 {
		_, err := m.store.Search(ctx, query(w.words), nil)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.reads = append(w.reads, time.Since(begin))
		return err
	}
	page, err := m.store.ListEpisodes(ctx, nil, &episodic.Paging{Limit: machinesList})
	if err != nil {
		return err
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads = append(w.reads, now.Sub(begin))
	for _, e := range page.Items {
		if _, before := m.seen[e.ID]; !before {
			m.seen[e.ID] = now
		}
	}
	return nil
}

func (w *machineCrew) allSeen() bool {
	_, all := w.delays()
	return all
}

// delays are the times from a put's acknowledgement until a list of another machine showed it, and
// whether all others have shown all.
func (w *machineCrew) delays() (list []time.Duration, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.wrote {
		for _, m := range w.all {
			if m == p.by {
				continue
			}
			seen, has := m.seen[p.id]
			if !has {
				return list, false
			}
			list = append(list, max(0, seen.Sub(p.at)))
		}
	}
	return list, true
}
