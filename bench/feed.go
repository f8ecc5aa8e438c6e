package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
)

const feedClaim = "What the change feed costs and gives. First, writes to a local file with and without its triggers. Target: at most 1.3 times the time for a put and an append. " +
	"Then a writer on a local file with 100 watchers in its Store and with none. Target: at most 5 % slower. " +
	"At last five changes for each filled episode are read by somebody who was away, on a local file and on a libSQL server. Targets for 100,000 changes: 2 s and 5 s."

func changeFeed(ctx context.Context, b *bench) error {
	pool := b.corpus.episodes(0, max(min(b.n, cacheEpisodes), batchSize))
	if err := feedCost(ctx, b, pool); err != nil {
		return err
	}
	if err := watching(ctx, b, pool); err != nil {
		return err
	}
	return catchUp(ctx, b)
}

const (
	sqlFeedEnd  = `SELECT ifnull(max(n), 0) FROM feed`
	sqlTriggers = `SELECT coalesce(group_concat('DROP TRIGGER ' || name, ';'), '') FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%INSERT INTO changed %'`
	feedWrites  = 20 // writes
)

func feedCost(ctx context.Context, b *bench, pool []*episodic.Episode) (err error) {
	names := []string{"PutEpisode", "AppendSteps", fmt.Sprintf("AddEpisodes(%d)", batchSize)}
	var cells [2][]*cell // without and with the triggers
	var numbers [2][]float64
	for i := range cells {
		store, path, err := b.openFile(ctx, fmt.Sprintf("feed-%d.db", i))
		if err != nil {
			return err
		}
		defer store.Close()
		db, err := sql.Open("sqlite", path)
		if err != nil {
			return err
		}
		defer db.Close()
		if i == 0 {
			var drop string
			if err := db.QueryRowContext(ctx, sqlTriggers).Scan(&drop); err != nil {
				return err
			}
			if _, err := db.ExecContext(ctx, drop); err != nil {
				return err
			}
		}
		appends, err := appender(ctx, store, pool)
		if err != nil {
			return err
		}
		for k, write := range []op{putter(store, pool), appends, adder(store, pool)} {
			var before, after int64
			if err := db.QueryRowContext(ctx, sqlFeedEnd).Scan(&before); err != nil {
				return err
			}
			if s := repeat(ctx, feedWrites, write); len(s.errs) > 0 {
				return s.errs[0]
			}
			if err := db.QueryRowContext(ctx, sqlFeedEnd).Scan(&after); err != nil {
				return err
			}
			numbers[i] = append(numbers[i], float64(after-before)/feedWrites)
			cells[i] = append(cells[i], loadCell(names[k], 1, write))
		}
	}
	if slices.Max(numbers[0]) != 0 {
		return errors.New("the feed moves without its triggers")
	}
	var all []*cell
	for k := range names {
		all = append(all, cells[0][k], cells[1][k])
	}
	if err := b.interleave(ctx, all...); err != nil {
		return err
	}

	table := [][]string{{"local file", "without triggers /s", "p50", "with them /s", "p50", "time", "feed numbers of a write"}}
	var took []ratio
	for k, name := range names {
		without, with := cells[0][k], cells[1][k]
		took = append(took, compare(without, with))
		table = append(table, []string{name, digits(without.rate()), ms(without.percentile(0.5)), digits(with.rate()), ms(with.percentile(0.5)), took[k].String(), digits(numbers[1][k])})
	}
	b.table(table...)
	for k, name := range names[:2] {
		b.judge(took[k].median <= 1.3, name+" at most 1.3x the time without triggers", "%v", took[k])
	}
	return nil
}

const watchers = 100

func watching(ctx context.Context, b *bench, pool []*episodic.Episode) (err error) {
	var cells []*cell
	for _, n := range []int{0, watchers} {
		store, _, err := b.openFile(ctx, fmt.Sprintf("watched-%d.db", n))
		if err != nil {
			return err
		}
		defer store.Close()
		watched, stop := context.WithCancel(ctx)
		var all sync.WaitGroup
		failed := make(chan error, watchers)
		for range n {
			all.Go(func() {
				for _, err := range store.Watch(watched, 0) {
					if err != nil && watched.Err() == nil {
						failed <- err
					}
				}
			})
		}
		defer func() {
			stop()
			all.Wait()
			select {
			case why := <-failed:
				err = errors.Join(err, why)
			default:
			}
		}()
		cells = append(cells, loadCell(fmt.Sprintf("PutEpisode with %d watchers", n), 1, putter(store, pool)))
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}
	took := compare(cells[0], cells[1])
	b.table([]string{"local file", "/s", "p50", "time"},
		[]string{cells[0].name, digits(cells[0].rate()), ms(cells[0].percentile(0.5)), ""},
		[]string{cells[1].name, digits(cells[1].rate()), ms(cells[1].percentile(0.5)), took.String()})
	b.judge(took.median <= 1.05, fmt.Sprintf("a put with %d watchers at most 1.05x the time", watchers), "%v", took)
	return nil
}

func catchUp(ctx context.Context, b *bench) error {
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	changes := 5 * b.n
	table := [][]string{{"changes", "local file", "libSQL server"}, {digits(float64(changes))}}
	for i, target := range []string{filepath.Join(b.dir, "away.db"), server.URL()} {
		store, err := episodic.Open(ctx, target, noCache)
		if err != nil {
			return err
		}
		defer store.Close()
		for n := 0; n < changes; n += batchSize {
			some := make([]*episodic.Episode, min(batchSize, changes-n))
			for k := range some {
				some[k] = &episodic.Episode{Description: fmt.Sprint("task ", n+k)}
			}
			if _, err := store.AddEpisodes(ctx, some...); err != nil {
				return err
			}
		}
		begin, told := time.Now(), 0
		for _, err := range store.Changes(ctx, 0) {
			if err != nil {
				return err
			}
			told++
		}
		took := time.Since(begin)
		if told != changes {
			return fmt.Errorf("the feed tells of %d changes, want %d", told, changes)
		}
		table[1] = append(table[1], ms(took))
		most := []time.Duration{20 * time.Microsecond, 50 * time.Microsecond}[i] * time.Duration(changes)
		b.judge(took <= most, fmt.Sprintf("%s: at most %v for %d changes", table[0][i+1], most, changes), "%s", ms(took))
	}
	b.table(table...)
	return nil
}

// appender appends a step to one running episode after the other.
func appender(ctx context.Context, s *episodic.Store, pool []*episodic.Episode) (op, error) {
	var ids []episodic.ID
	for _, e := range pool[:min(putsPool, len(pool))] {
		running := begun(e)
		if err := s.StartEpisode(ctx, &running); err != nil {
			return nil, err
		}
		ids = append(ids, running.ID)
	}
	next := counter()
	return func(ctx context.Context, _ int) error {
		i := next()
		step := pool[i%len(pool)].Steps[i%stepsEach]
		step.Number = 0
		_, err := s.AppendSteps(ctx, ids[i%len(ids)], step)
		return err
	}, nil
}

// adder adds the pool as new episodes, batch by batch.
func adder(s *episodic.Store, pool []*episodic.Episode) op {
	batches := slices.Collect(slices.Chunk(pool[:len(pool)/batchSize*batchSize], batchSize)) // whole ones
	next := counter()
	return func(ctx context.Context, _ int) error {
		_, err := s.AddEpisodes(ctx, asNew(batches[next()%len(batches)])...)
		return err
	}
}
