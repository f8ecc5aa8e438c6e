package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// stepsOfN is how many steps are searched for each episode that -n says.
const stepsOfN = 5

func recallSpeed(ctx context.Context, b *bench, data *recallData) error {
	if err := data.searchAmong(ctx, b, stepsOfN*b.n); err != nil || !b.full || b.short {
		return err
	}
	return data.searchAmong(ctx, b, 10*stepsOfN*b.n)
}

// asking is one kind of searches.
type asking struct {
	name    string
	queries []string
	domain  string
	steps   bool
	limit   time.Duration // of p50; 0: not judged

	ours *cell
	fts  *cell         // nil where the table has nothing of the kind
	hits int           // of ours, in all
	cpu  time.Duration // of ours
}

// worstPart is how often the p50 a p99 may be.
const worstPart = 5

// searchAmong measures searches among at least so many steps.
func (d *recallData) searchAmong(ctx context.Context, b *bench, steps int) (err error) {
	large := steps > stepsOfN*b.n
	path := filepath.Join(b.dir, fmt.Sprintf("recall-%d.db", steps))
	var table *ftsTable
	if !large {
		if table, err = newFTSTable(ctx, path+".fts"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, table.close()) }()
	}
	episodes, stored, took, err := d.fill(ctx, path, table, steps)
	if err != nil {
		return err
	}
	store, err := episodic.Open(ctx, path, uncached())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	begin := time.Now()
	if _, err := store.Search(ctx, d.titles[0], nil); err != nil {
		return err
	}
	b.printf("\n%d steps in %d episodes, imported in %s, %d at once. The first search of a Store took %s. Each common word stands in %.0f %% of the runs or more.\n",
		stored, episodes, seconds(took), batchSize, ms(time.Since(begin)), 100*d.commonIn)

	p50 := 12 * time.Millisecond
	if large {
		p50 = 80 * time.Millisecond
	}
	kinds := []*asking{
		{name: "titles", queries: d.titles, limit: p50},
		{name: "titles, hits are steps", queries: d.titles, steps: true},
		{name: "whole task texts", queries: d.texts, limit: p50},
		{name: "a common word", queries: d.common, limit: p50},
		{name: "titles, in a domain of 1 %", queries: d.titles, domain: "rare", limit: 5 * time.Millisecond},
	}
	if large {
		kinds = kinds[:4]
	}
	if err := d.time(ctx, b, store, table, kinds); err != nil {
		return err
	}
	if large {
		return nil
	}
	if _, err := store.Compact(ctx, nil); err != nil {
		return err
	}
	b.printf("\nAfter Compact:\n")
	return d.time(ctx, b, store, nil, []*asking{{name: "titles", queries: d.titles}})
}

// fill imports the runs again and again, no two with the same task, and one in a hundred in the
// domain "rare". table gets a row for each step, unless it is nil.
func (d *recallData) fill(ctx context.Context, path string, table *ftsTable, steps int) (episodes, stored int, took time.Duration, err error) {
	store, err := episodic.Open(ctx, path, nil)
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for stored < steps {
		var batch []*episodic.Episode
		var texts []string
		for len(batch) < batchSize && stored < steps {
			e := *d.runs[episodes%len(d.runs)]
			e.ID, e.Steps, e.Context.Domain = episodic.NewID(), slices.Clone(e.Steps), "common"
			e.Description += fmt.Sprintf(" (%d)", episodes/len(d.runs)+1)
			if rare(episodes) {
				e.Context.Domain = "rare"
			}
			for i := range e.Steps {
				texts = append(texts, textOf(&e.Steps[i]))
			}
			batch = append(batch, &e)
			episodes++
			stored += len(e.Steps)
		}
		begin := time.Now()
		if err := addAll(ctx, store, batch); err != nil {
			return 0, 0, 0, err
		}
		took += time.Since(begin)
		if table != nil {
			if err := table.add(ctx, texts...); err != nil {
				return 0, 0, 0, err
			}
		}
	}
	return episodes, stored, took, nil
}

func textOf(s *episodic.Step) string {
	texts := []string{s.Tool, s.Action, string(s.Parameters)}
	if s.Result != nil {
		texts = append(texts, s.Result.Text)
	}
	return strings.Join(texts, "\n")
}

// time measures the kinds by turns and prints and judges what was found.
func (d *recallData) time(ctx context.Context, b *bench, store *episodic.Store, table *ftsTable, kinds []*asking) error {
	var cells []*cell
	for _, k := range kinds {
		k.ours = loadCell(k.name, 1, k.search(store))
		measure := k.ours.measure
		k.ours.measure = func(ctx context.Context, window time.Duration) (sample, error) {
			before := cpuTime()
			s, err := measure(ctx, window)
			k.cpu += cpuTime() - before
			return s, err
		}
		cells = append(cells, k.ours)
		if table != nil && k.domain == "" && !k.steps {
			k.fts = loadCell(k.name+", plain FTS5", 1, k.plainly(table))
			cells = append(cells, k.fts)
		}
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}
	rows := [][]string{{"queries", "searches", "hits each", "p50", "p99", "slowest", "CPU a search", "plain FTS5: searches", "p50", "p99"}}
	for _, k := range kinds {
		n := k.ours.acknowledged()
		row := []string{k.name, fmt.Sprint(n), fmt.Sprintf("%.1f", k.hitsEach()), ms(k.ours.percentile(0.5)), ms(k.ours.percentile(0.99)), ms(k.ours.percentile(1)), ms(k.cpu / time.Duration(max(n, 1))), "", "", ""}
		if k.fts != nil {
			row[7], row[8], row[9] = fmt.Sprint(k.fts.acknowledged()), ms(k.fts.percentile(0.5)), ms(k.fts.percentile(0.99))
		}
		rows = append(rows, row)
	}
	b.table(rows...)
	for _, k := range kinds {
		if k.limit == 0 || d.swe == nil {
			continue
		}
		p50, p99 := k.ours.percentile(0.5), k.ours.percentile(0.99)
		switch {
		case k.domain != "":
			b.judge(p50 <= k.limit && k.hits > 0, fmt.Sprintf("%s: p50 at most %v", k.name, k.limit), "%s with %.1f hits", ms(p50), k.hitsEach())
		case k.limit > 12*time.Millisecond:
			b.judge(p50 <= k.limit, fmt.Sprintf("%s: p50 at most %v", k.name, k.limit), "%s", ms(p50))
		default:
			b.judge(p50 <= k.limit && p99 <= worstPart*k.limit, fmt.Sprintf("%s: p50 at most %v, p99 %v", k.name, k.limit, worstPart*k.limit), "%s, %s", ms(p50), ms(p99))
		}
	}
	return nil
}

func (k *asking) hitsEach() float64 { return float64(k.hits) / float64(max(k.ours.acknowledged(), 1)) }

func (k *asking) search(store *episodic.Store) op {
	next := counter()
	return func(ctx context.Context, _ int) error {
		query := k.queries[next()%len(k.queries)]
		results, err := store.Search(ctx, query, &episodic.SearchOptions{Filter: episodic.EpisodeFilter{Domain: k.domain}, Steps: k.steps})
		if err != nil {
			return err
		}
		k.hits += len(results.Hits)
		if len(results.Hits) == 0 && k.domain == "" || results.Waiting > 0 {
			return fmt.Errorf("%d hits for %.60q, %d episodes are not indexed", len(results.Hits), query, results.Waiting)
		}
		for _, hit := range results.Hits {
			if k.domain != "" && hit.Episode.Context.Domain != k.domain {
				return fmt.Errorf("a hit for %.60q is of the domain %q", query, hit.Episode.Context.Domain)
			}
		}
		return nil
	}
}

func (k *asking) plainly(table *ftsTable) op {
	next := counter()
	return func(ctx context.Context, _ int) error {
		query := k.queries[next()%len(k.queries)]
		rows, err := table.search(ctx, query, 10)
		if err == nil && len(rows) == 0 {
			err = fmt.Errorf("FTS5 finds nothing for %.60q", query)
		}
		return err
	}
}
