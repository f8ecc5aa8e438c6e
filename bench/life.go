package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/episodic-memory/episodic"
)

const lifeClaim = "What an agent does all day, through the Store, on a local file and on a libSQL server of this machine filled with the same episodes. " +
	"Target: the p50 of a search of three words, however frequent, below 50 ms on the file."

// memory is a Store that is filled and then used.
type memory struct {
	name  string
	store *episodic.Store
}

func life(ctx context.Context, b *bench) (err error) {
	file, _, err := b.openFile(ctx, "life.db")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	onServer, err := episodic.Open(ctx, server.URL(), &episodic.Options{IndexSteps: true, Replica: episodic.Replica{Disabled: true}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, onServer.Close()) }()
	memories := []memory{{"file", file}, {"server", onServer}}

	words, ids, err := importAll(ctx, b, memories)
	if err != nil {
		return err
	}
	var verdicts []func()
	table := [][]string{{"", "file /s", "p50", "p99", "server /s", "p50", "p99"}}
	for _, u := range uses(b, words, ids) {
		var cells []*cell
		for _, m := range memories {
			cells = append(cells, loadCell(u.name+" on the "+m.name, u.callers, u.on(m.store)))
		}
		if err := b.interleave(ctx, cells...); err != nil {
			return err
		}
		row := []string{u.name}
		for _, c := range cells {
			row = append(row, digits(c.rate()), ms(c.percentile(0.5)), ms(c.percentile(0.99)))
		}
		table = append(table, row)
		if u.limit > 0 {
			p50 := cells[0].percentile(0.5)
			verdicts = append(verdicts, func() {
				b.judge(p50 < u.limit, fmt.Sprintf("%s on the file below %v", u.name, u.limit), "p50 %s", ms(p50))
			})
		}
	}
	b.table(table...)
	for _, verdict := range verdicts {
		verdict()
	}
	return nil
}

// importAll adds the corpus to the memories, batch by batch.
func importAll(ctx context.Context, b *bench, memories []memory) (words *tally, ids []episodic.ID, err error) {
	words = &tally{}
	took := make([]time.Duration, len(memories))
	err = b.batches(ctx, func(batch []*episodic.Episode) error {
		for _, e := range batch {
			ids = append(ids, e.ID)
			if err := words.add(e); err != nil {
				return err
			}
		}
		for i, m := range memories {
			begin := time.Now()
			added, err := m.store.AddEpisodes(ctx, batch...)
			if err == nil && added != len(batch) {
				err = fmt.Errorf("added %d of %d", added, len(batch))
			}
			if err != nil {
				return fmt.Errorf("import into the %s: %w", m.name, err)
			}
			took[i] += time.Since(begin)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	b.printf("\nImport of %d episodes of %.1f KB (as JSON), %d at once:", words.episodes, float64(words.bytes)/float64(words.episodes)/1024, batchSize)
	for i, m := range memories {
		b.printf(" %s %s/s", m.name, digits(float64(words.episodes)/took[i].Seconds()))
		if i == 0 {
			b.printf(",")
		}
	}
	b.printf(".\n")
	return words, ids, nil
}

// use is something that is done with a filled memory.
type use struct {
	name    string
	callers int
	limit   time.Duration // of the p50 on the file; 0 for none
	on      func(*episodic.Store) op
}

func uses(b *bench, words *tally, ids []episodic.ID) []use {
	list := []use{
		{name: "get by id", callers: 1, on: func(s *episodic.Store) op { return getter(s, ids) }},
		{name: "get by id, 8 callers", callers: 8, on: func(s *episodic.Store) op { return getter(s, ids) }},
		{name: "list newest 50 of a domain", callers: 1, on: lister},
	}
	for _, f := range frequencies {
		found := words.wordsOf(f)
		list = append(list, use{
			name: fmt.Sprintf("search %s words (each in %g%% of the episodes)", f.name, 100*f.part), callers: 1, limit: 50 * time.Millisecond,
			on: func(s *episodic.Store) op { return searcher(s, found) },
		})
	}
	// Last, because it makes the database larger.
	pool := b.corpus.episodes(b.n, putsPool)
	return append(list, use{name: "put", callers: 1, on: func(s *episodic.Store) op { return putter(s, pool) }})
}

func getter(s *episodic.Store, ids []episodic.ID) op {
	return func(ctx context.Context, _ int) error {
		e, err := s.Episode(ctx, ids[rand.IntN(len(ids))])
		if err == nil && len(e.Steps) != stepsEach {
			err = fmt.Errorf("episode %v has %d steps", e.ID, len(e.Steps))
		}
		return err
	}
}

func lister(s *episodic.Store) op {
	return func(ctx context.Context, _ int) error {
		page, err := s.ListEpisodes(ctx, &episodic.EpisodeFilter{Domain: domains[rand.IntN(len(domains))]}, nil)
		if err == nil && len(page.Items) == 0 {
			err = errors.New("the list is empty")
		}
		return err
	}
}

func searcher(s *episodic.Store, words []string) op {
	return func(ctx context.Context, _ int) error {
		q := query(words)
		found, err := s.Search(ctx, q, nil)
		if err == nil && len(found.Hits) == 0 {
			err = fmt.Errorf("nothing found for %q", q)
		}
		return err
	}
}
