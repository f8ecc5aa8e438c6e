package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/bench/agent"
)

// costTurns is in how many turns each of b.rounds is cut: the shorter they are, the more both
// commits see of the same machine.
const costTurns = 4

// storer is a process that stores the runs, of this commit or of another.
type storer struct {
	*writing
	puts, appends *storerWay
}

// storerWay is one way in which it does so.
type storerWay struct {
	*cell
	cpu time.Duration // of all rounds
}

// recallCost times puts and appends of the runs, beside those of -baseline.
func recallCost(ctx context.Context, b *bench, d *recallData) (err error) {
	episodes := filepath.Join(b.dir, "recall-episodes.json")
	if err := writeEpisodes(episodes, d.runs); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	programs := []struct{ name, path string }{{"this commit", self}, {"baseline", b.baseline}}
	if b.baseline == "" {
		programs = programs[:1]
		b.printf("There is no -baseline, so nothing is judged.\n")
	}
	runs := &bench{report: b.report, rounds: min(costTurns*b.rounds, len(d.runs))}
	var storers []*storer
	var puts, appends []*cell
	defer func() {
		for _, s := range storers {
			err = errors.Join(err, s.end())
		}
	}()
	for i, p := range programs {
		task := agent.Task{Target: filepath.Join(b.dir, fmt.Sprintf("recall-cost-%d.db", i)), LockDir: filepath.Join(b.dir, fmt.Sprintf("recall-locks-%d", i)), Episodes: episodes}
		s, err := newStorer(ctx, p.name, p.path, task, runs.rounds, len(d.runs))
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		storers, puts, appends = append(storers, s), append(puts, s.puts.cell), append(appends, s.appends.cell)
	}
	for _, cells := range [][]*cell{puts, appends} {
		if err := runs.interleave(ctx, cells...); err != nil {
			return err
		}
	}
	table := [][]string{{"", "calls", "mean", "p50", "p99", "CPU a call"}}
	for _, s := range storers {
		for _, c := range []*storerWay{s.puts, s.appends} {
			n := c.acknowledged()
			table = append(table, []string{c.name, fmt.Sprint(n), digits(1000/c.rate()) + " ms", ms(c.percentile(0.5)), ms(c.percentile(0.99)), us(c.cpu / time.Duration(max(n, 1)))})
		}
	}
	b.table(table...)
	if b.baseline == "" || d.swe == nil {
		return nil
	}
	ours, its := storers[0], storers[1]
	put, appended := compare(its.puts.cell, ours.puts.cell), compare(its.appends.cell, ours.appends.cell)
	b.judge(put.median <= 1.4, "a put takes at most 1.4 times as long as that of the baseline", "%v", put)
	b.judge(appended.median <= 1.3, "an append takes at most 1.3 times as long as that of the baseline", "%v", appended)
	return nil
}

// newStorer starts a program that stores so many episodes in so many rounds.
func newStorer(ctx context.Context, name, program string, task agent.Task, rounds, episodes int) (*storer, error) {
	if err := os.Mkdir(task.LockDir, 0o700); err != nil {
		return nil, err
	}
	w, err := startWriter(ctx, program, task)
	if err != nil {
		return nil, err
	}
	if _, err := w.ready(); err != nil {
		return nil, err
	}
	s := &storer{writing: w, puts: &storerWay{}, appends: &storerWay{}}
	measure := func(way *storerWay, byStep bool) func(context.Context, time.Duration) (sample, error) {
		return func(context.Context, time.Duration) (sample, error) {
			round := len(way.rounds)
			result, cpu, err := s.order(agent.Order{From: round * episodes / rounds, To: (round + 1) * episodes / rounds, Append: byStep})
			way.cpu += cpu
			return result, err
		}
	}
	s.puts.cell = &cell{name: name + ": PutEpisode", measure: measure(s.puts, false)}
	s.appends.cell = &cell{name: name + ": AppendSteps of one step", measure: measure(s.appends, true)}
	return s, nil
}

// order lets the process store some episodes; the window is the time within calls.
func (s *storer) order(o agent.Order) (result sample, cpu time.Duration, err error) {
	if err := s.tell(o); err != nil {
		return result, 0, err
	}
	for {
		e, err := s.ready() // or why it ended instead
		switch {
		case err != nil:
			return result, 0, err
		case e.Kind == agent.Stored:
			result.window += e.Took
			result.add(e.Took, e.Took, nil)
		case e.Kind == agent.Obeyed:
			return result, e.CPU, nil
		default:
			return result, 0, fmt.Errorf("a writer told %q instead of what it has stored", e.Kind)
		}
	}
}

// end closes the Store of the process.
func (s *storer) end() error {
	if err := s.input.Close(); err != nil {
		return err
	}
	e, err := s.ready()
	if err == nil && e.Kind != agent.Done {
		err = fmt.Errorf("a writer told %q at its end", e.Kind)
	}
	if err != nil {
		return err
	}
	return s.cmd.Wait()
}

func writeEpisodes(path string, episodes []*episodic.Episode) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	encoder := json.NewEncoder(f)
	for _, e := range episodes {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return nil
}
