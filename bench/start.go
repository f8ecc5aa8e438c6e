package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic"
)

const startClaim = "From the start of the process to the first answer: `episodic search` of a rare, a middling and a common word in a filled local file, " +
	"against `episodic version`, which only starts and ends. Warm. Target: p50 of the search below 50 ms."

const (
	startRuns      = 30
	startRunsShort = 3
)

func start(ctx context.Context, b *bench) error {
	program := filepath.Join(b.dir, "episodic")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/episodic")
	build.Dir = ".." // of the folder of this module
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	path, words, err := filledFile(ctx, b)
	if err != nil {
		return err
	}
	var found [][]string
	for _, f := range frequencies {
		found = append(found, words.wordsOf(f))
	}

	runs := startRuns
	if b.short {
		runs = startRunsShort
	}
	measure := func(args func(i int) []string) func(context.Context, time.Duration) (sample, error) {
		i := 0
		return func(ctx context.Context, _ time.Duration) (sample, error) {
			if i == 0 {
				if err := answer(ctx, program, args(0)); err != nil { // warms up
					return sample{}, err
				}
			}
			s := repeat(ctx, (runs+b.rounds-1)/b.rounds, func(ctx context.Context, _ int) error {
				i++
				return answer(ctx, program, args(i))
			})
			return s, errors.Join(s.errs...)
		}
	}
	search := &cell{name: "episodic search", measure: measure(func(i int) []string {
		args := []string{"search", "--db", path}
		for _, list := range found {
			args = append(args, list[i%len(list)])
		}
		return args
	})}
	version := &cell{name: "episodic version", measure: measure(func(int) []string { return []string{"version"} })}
	if err := b.interleave(ctx, version, search); err != nil {
		return err
	}

	table := [][]string{{"", "runs", "p50", "p95"}}
	for _, c := range []*cell{version, search} {
		table = append(table, []string{c.name, fmt.Sprint(c.acknowledged()), ms(c.percentile(0.5)), ms(c.percentile(0.95))})
	}
	b.table(table...)
	p50 := search.percentile(0.5)
	b.judge(p50 < 50*time.Millisecond, "search below 50 ms", "p50 %s", ms(p50))
	return nil
}

// answer runs the command, which must print something.
func answer(ctx context.Context, program string, args []string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err == nil && len(out) == 0 {
		err = errors.New("it printed nothing")
	}
	if err != nil {
		return fmt.Errorf("episodic %v: %w: %s", args, err, out)
	}
	return nil
}

func filledFile(ctx context.Context, b *bench) (path string, words *tally, err error) {
	store, path, err := b.openFile(ctx, "start.db")
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	words = &tally{}
	return path, words, b.batches(ctx, func(batch []*episodic.Episode) error {
		for _, e := range batch {
			if err := words.add(e); err != nil {
				return err
			}
		}
		_, err := store.AddEpisodes(ctx, batch...)
		return err
	})
}
