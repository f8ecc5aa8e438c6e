package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/episodic-memory/episodic"
)

// operationsVariable makes this program do the operations in a process of its own, instead of measuring.
const operationsVariable = "EPISODIC_BENCH_OPERATIONS"

const (
	operationsProcesses = 8
	shortProcesses      = 2 // with -short
)

// processPlaces are where several processes use one memory.
var processPlaces = []place{{}, {onServer: true}, {onServer: true, rtt: 20 * time.Millisecond}}

// userTask is what a process is told first. It then does the operations in their order: it says
// that it is ready, is told for how long to call, and tells a userResult. At its end it tells what it
// has prepared, as held.
type userTask struct {
	Dir, URL string // of its machine
	Known    known
	Enough   int // episodes to prepare for an operation that uses them up
}

// userResult is what became of the calls of an operation.
type userResult struct {
	Rate      float64
	Latencies []time.Duration // of those that ended well
	Errors    []string
}

// operationsChild does what it is told on the standard input.
func operationsChild(ctx context.Context) (err error) {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var t userTask
	if err := in.Decode(&t); err != nil {
		return err
	}
	store, err := (&machine{dir: t.Dir, url: t.URL}).openUncached(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	u, err := newUser(ctx, store, newCorpus(), t.Known)
	if err != nil {
		return err
	}
	for i := range operations {
		o := &operations[i]
		if err := u.prepare(ctx, o, t.Enough); err != nil {
			return err
		}
		if err := out.Encode("ready"); err != nil {
			return err
		}
		var window time.Duration
		if err := in.Decode(&window); err != nil {
			return err
		}
		s := load(ctx, window, 1, func(ctx context.Context, caller int) error { return o.do(u, ctx, caller) })
		r := userResult{Rate: s.rate(), Latencies: s.latencies}
		for _, err := range s.errs {
			r.Errors = append(r.Errors, err.Error())
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return out.Encode(u.prepared)
}

// crew is what became of an operation that several processes did.
type crew struct {
	rate      float64
	latencies []time.Duration
	calls     []int // of each process
	failed    int
}

// crews lets so many processes do the operations in a place.
func (f *filled) crews(ctx context.Context, window time.Duration, processes int, failed failing) (all []*crew, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var users []*process
	defer func() {
		for _, p := range users {
			p.end()
		}
	}()
	for range processes {
		p, err := startProcess(ctx, self, operationsVariable, userTask{Dir: f.client.dir, URL: f.client.url, Known: f.known, Enough: 1 + enough(window, processes, f.rtt)/processes})
		if err != nil {
			return nil, err
		}
		users = append(users, p)
	}
	for i := range operations {
		for _, p := range users {
			var ready string
			if err := p.hear(&ready); err != nil {
				return nil, err
			}
		}
		for _, p := range users {
			if err := p.tell(window); err != nil {
				return nil, err
			}
		}
		c := &crew{}
		for _, p := range users {
			var r userResult
			if err := p.hear(&r); err != nil {
				return nil, err
			}
			c.rate += r.Rate
			c.latencies = append(c.latencies, r.Latencies...)
			c.calls = append(c.calls, len(r.Latencies))
			c.failed += len(r.Errors)
			failed.add(fmt.Sprintf("%v, %d processes, %s", f, processes, operations[i].name), r.Errors...)
		}
		f.held.add(operations[i].adds, len(c.latencies))
		all = append(all, c)
	}
	for _, p := range users {
		var prepared held
		if err := p.hear(&prepared); err != nil {
			return nil, err
		}
		f.held.add(prepared, 1)
	}
	return all, nil
}

// processOperations lets several processes of one machine do the operations, each with one caller.
func processOperations(ctx context.Context, b *bench, episodes []*episodic.Episode, failed failing) error {
	processes := operationsProcesses
	if b.short {
		processes = shortProcesses
	}
	head := []string{fmt.Sprintf("%d processes", processes)}
	table := [][]string{head}
	for i := range operations {
		table = append(table, []string{operations[i].name})
	}
	fewest := 0
	for _, p := range processPlaces {
		if b.short {
			p.rtt /= 10
		}
		all, err := b.processesIn(ctx, p, episodes, processes, failed)
		if err != nil {
			return fmt.Errorf("%v, %d processes: %w", p, processes, err)
		}
		table[0] = append(table[0], p.String()+" /s", "p99", "slowest to mean", "failed")
		for i, c := range all {
			table[i+1] = append(table[i+1], digits(c.rate), ms(percentile(c.latencies, 0.99)), fmt.Sprintf("%.2f", leastToMean(c.calls)), fmt.Sprint(c.failed))
			if n := len(c.latencies); fewest == 0 || n < fewest {
				fewest = n
			}
		}
	}
	b.table(table...)
	b.printf("Rates and p99 are those of all processes together, of at least %d calls each. The slowest is the process with the fewest calls.\n\n", fewest)
	return nil
}

func (b *bench) processesIn(ctx context.Context, p place, episodes []*episodic.Episode, processes int, failed failing) ([]*crew, error) {
	f, err := b.fill(ctx, p, episodes)
	if err != nil {
		return nil, err
	}
	defer f.close()
	all, err := f.crews(ctx, b.duration, processes, failed)
	if err != nil || slices.ContainsFunc(all, func(c *crew) bool { return c.failed > 0 }) {
		return all, err // what failed may be stored all the same
	}
	return all, f.check(ctx)
}
