package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// op is the operation measured. It takes the number of its caller.
type op func(ctx context.Context, caller int) error

// sample is what one stretch of measuring gave.
type sample struct {
	window time.Duration
	// done counts the operations that ended well. One that went on past the
	// window counts by its part within.
	done      float64
	latencies []time.Duration // of all that ended well
	errs      []error
}

// errUsedUp is returned by an op that has nothing left to work on.
var errUsedUp = errors.New("all that was prepared is used up")

// load lets so many callers call f, each one call after the other, until the
// window is over or f returns errUsedUp, and waits for the calls under way. The
// sample's window is shorter if all was used up before.
func load(ctx context.Context, window time.Duration, callers int, f op) sample {
	var wg sync.WaitGroup
	parts := make([]sample, callers)
	start := time.Now()
	end := start.Add(window)
	for caller := range callers {
		part := &parts[caller]
		wg.Go(func() {
			part.window = window
			for begin := time.Now(); begin.Before(end) && ctx.Err() == nil; {
				err := f(ctx, caller)
				now := time.Now()
				if errors.Is(err, errUsedUp) {
					part.window = min(window, now.Sub(start))
					return
				}
				part.add(now.Sub(begin), end.Sub(begin), err)
				begin = now
			}
		})
	}
	wg.Wait()
	var s sample
	for _, p := range parts {
		s.window = max(s.window, p.window)
		s.done += p.done
		s.latencies = append(s.latencies, p.latencies...)
		s.errs = append(s.errs, p.errs...)
	}
	return s
}

// repeat calls f a number of times, one after the other.
func repeat(ctx context.Context, times int, f op) sample {
	s := sample{}
	for range times {
		begin := time.Now()
		err := f(ctx, 0)
		took := time.Since(begin)
		s.window += took
		s.add(took, took, err)
	}
	return s
}

func (s *sample) add(took, within time.Duration, err error) {
	if err != nil {
		s.errs = append(s.errs, err)
		return
	}
	s.latencies = append(s.latencies, took)
	s.done += min(1, float64(within)/float64(max(took, 1)))
}

// counter counts up from 0 for concurrent callers.
func counter() func() int {
	var n atomic.Int64
	return func() int { return int(n.Add(1) - 1) }
}

// cell is one thing that is measured, in several rounds.
type cell struct {
	name    string
	measure func(ctx context.Context, window time.Duration) (sample, error)
	rounds  []sample
}

// loadCell is a cell in which no operation may fail.
func loadCell(name string, callers int, f op) *cell {
	return &cell{name: name, measure: func(ctx context.Context, window time.Duration) (sample, error) {
		s := load(ctx, window, callers, f)
		if len(s.errs) > 0 {
			return s, fmt.Errorf("%d of %d calls failed, the first: %w", len(s.errs), len(s.errs)+len(s.latencies), s.errs[0])
		}
		return s, nil
	}}
}

// interleave measures the cells by turns, so that what else the machine does
// meets all of them. The order changes with the rounds.
func (b *bench) interleave(ctx context.Context, cells ...*cell) error {
	for round := range b.rounds {
		for i := range cells {
			c := cells[(round+i)%len(cells)]
			if err := ctx.Err(); err != nil {
				return err
			}
			s, err := c.measure(ctx, b.duration/time.Duration(b.rounds))
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.rounds = append(c.rounds, s)
		}
	}
	return nil
}

func (s sample) rate() float64 { return s.done / s.window.Seconds() }

// rate is how many operations ended well in a second.
func (c *cell) rate() float64 {
	var all sample
	for _, s := range c.rounds {
		all.done += s.done
		all.window += s.window
	}
	return all.rate()
}

// percentile is the latency that the part q of all operations did not exceed; 0
// if none ended well.
func (c *cell) percentile(q float64) time.Duration { return percentile(c.latencies(), q) }

// latencies are those of all operations that ended well.
func (c *cell) latencies() (all []time.Duration) {
	for _, s := range c.rounds {
		all = append(all, s.latencies...)
	}
	return all
}

func percentile(latencies []time.Duration, q float64) time.Duration {
	if len(latencies) == 0 {
		return 0
	}
	slices.Sort(latencies)
	return latencies[int(math.Ceil(q*float64(len(latencies))))-1]
}

// acknowledged counts the operations that ended well, whenever they did.
func (c *cell) acknowledged() (n int) {
	for _, s := range c.rounds {
		n += len(s.latencies)
	}
	return n
}

// failures counts the operations that failed, and those that did because the
// database was locked.
func (c *cell) failures() (all, locked int) {
	for _, s := range c.rounds {
		all += len(s.errs)
		for _, err := range s.errs {
			if strings.Contains(err.Error(), "database is locked") {
				locked++
			}
		}
	}
	return all, locked
}

// ratio is how often the rate of one cell holds that of another.
type ratio struct{ median, low, high float64 }

// compare makes the ratio of a to b, round by round.
func compare(a, b *cell) ratio {
	var all []float64
	for i := range a.rounds {
		all = append(all, a.rounds[i].rate()/b.rounds[i].rate())
	}
	return ratioOf(all)
}

// ratioOf is the ratio of several rounds, of which there is one at least.
func ratioOf(rounds []float64) ratio {
	slices.Sort(rounds)
	return ratio{rounds[(len(rounds)-1)/2], rounds[0], rounds[len(rounds)-1]}
}

func (r ratio) String() string {
	if r == (ratio{1, 1, 1}) {
		return "1"
	}
	return fmt.Sprintf("%.2fx (%.2f to %.2f)", r.median, r.low, r.high)
}
