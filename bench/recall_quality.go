package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/eval"
)

// yardstick is a dataset, asked in several ways.
type yardstick struct {
	name  string
	data  *eval.Dataset
	level eval.Level
	ways  []string // in the order of the table
	of    map[string]*eval.Report
}

// way finds documents or parts, the best first.
type way func(ctx context.Context, query string, limit int) ([]eval.Key, error)

const (
	wayFTS    = "plain FTS5"
	waySearch = "`Search`"
	wayBare   = "its ranking, called directly"
	wayWords  = "without meaning: words only"
)

func recallQuality(ctx context.Context, b *bench, data *recallData) error {
	for _, y := range []*yardstick{{name: "LoCoMo, turns", data: data.locomo}, {name: "SWE, runs", data: data.swe}} {
		if y.data == nil {
			continue
		}
		if err := y.measure(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", y.name, err)
		}
		words, found, err := y.report(b)
		if err != nil {
			return err
		}
		if y.level == eval.Steps {
			b.judge(words.Recall5 >= 0.70 && words.Recall10 >= 0.785, y.name+", words only: recall@5 at least 0.70, recall@10 0.785", "%.3f, %.3f", words.Recall5, words.Recall10)
			b.judge(found.Recall5 >= 0.72 && found.Recall10 >= 0.80, y.name+": recall@5 at least 0.72, recall@10 0.80", "%.3f, %.3f", found.Recall5, found.Recall10)
		} else {
			b.judge(words.Recall10 >= 0.585 && words.MRR >= 0.54, y.name+", words only: recall@10 at least 0.585, MRR 0.54", "%.3f, %.3f", words.Recall10, words.MRR)
			b.judge(found.Recall10 >= words.Recall10-0.01 && found.MRR >= words.MRR-0.01, y.name+": at most 0.01 below words only", "%.3f, %.3f", found.Recall10, found.MRR)
		}
	}
	return nil
}

// measure asks all questions in all ways, each of the memory of its collection.
func (y *yardstick) measure(ctx context.Context, b *bench) error {
	y.level, y.of = y.data.Level(), make(map[string]*eval.Report)
	for c := range y.data.Collections {
		if err := y.ask(ctx, y.path(b, c), c, y.tasks(c)); err != nil {
			return err
		}
	}
	return nil
}

// tasks are the questions of collection c.
func (y *yardstick) tasks(c int) []eval.Task {
	return slices.DeleteFunc(y.data.Tasks(y.level), func(t eval.Task) bool { return t.Collection != c })
}

func (y *yardstick) path(b *bench, c int) string {
	return filepath.Join(b.dir, fmt.Sprintf("recall-%s-%d.db", y.data.Format, c))
}

// ask makes a memory of collection c and asks the questions.
func (y *yardstick) ask(ctx context.Context, path string, c int, tasks []eval.Task) (err error) {
	store, keys, err := y.memory(ctx, path, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := y.run(ctx, waySearch, tasks, y.searching(store, keys)); err != nil {
		return err
	}
	table, err := newFTSTable(ctx, path+".fts")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.close()) }()
	plain, err := y.plainly(ctx, table, c)
	if err != nil {
		return err
	}
	if err := y.run(ctx, wayFTS, tasks, plain); err != nil {
		return err
	}
	r, err := y.ranker(ctx, path, keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.engine.Close()) }()
	for _, i := range ingredients {
		if i.level == "" || i.level == y.level {
			if err := y.run(ctx, i.name, tasks, r.without(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// memory makes a memory of collection c, and returns the keys of its episodes.
func (y *yardstick) memory(ctx context.Context, path string, c int) (*episodic.Store, map[episodic.ID]eval.Key, error) {
	documents := y.data.Collections[c].Documents
	keys := make(map[episodic.ID]eval.Key)
	episodes := make([]*episodic.Episode, len(documents))
	for i := range documents {
		episodes[i] = episodeOf(&documents[i])
		keys[episodes[i].ID] = eval.Key{Collection: c, Document: i, Part: -1}
	}
	store, err := episodic.Open(ctx, path, uncached())
	if err != nil {
		return nil, nil, err
	}
	err = addAll(ctx, store, episodes)
	if err == nil {
		err = checkHeld(ctx, &ourSide{store}, len(episodes)) // others would take places in answers
	}
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return store, keys, nil
}

// ranker opens a memory for its index; its engine is to be closed.
func (y *yardstick) ranker(ctx context.Context, path string, keys map[episodic.ID]eval.Key) (*ranker, error) {
	e, err := embedded.Open(ctx, embedded.Config{Path: path})
	if err != nil {
		return nil, err
	}
	r := &ranker{engine: e, steps: y.level == eval.Steps}
	if r.keys, err = keysBySeq(ctx, e, keys); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return r, nil
}

func (y *yardstick) run(ctx context.Context, name string, tasks []eval.Task, w way) error {
	if y.of[name] == nil {
		y.of[name] = &eval.Report{}
		y.ways = append(y.ways, name)
	}
	for i := range tasks {
		begin := time.Now()
		found, err := w(ctx, tasks[i].Question.Text, tasks[i].Want())
		took := time.Since(begin)
		if err != nil {
			return fmt.Errorf("%s: question %q: %w", name, tasks[i].Question.ID, err)
		}
		y.of[name].Add("", tasks[i].Score(found), took)
	}
	return nil
}

func (y *yardstick) searching(store *episodic.Store, keys map[episodic.ID]eval.Key) way {
	return func(ctx context.Context, query string, limit int) (found []eval.Key, err error) {
		results, err := store.Search(ctx, query, &episodic.SearchOptions{Limit: min(limit, 1000), Steps: y.level == eval.Steps, EachRun: true})
		if err != nil {
			return nil, err
		}
		for _, hit := range results.Hits {
			key := keys[hit.Episode.ID]
			if y.level == eval.Steps {
				key.Part = hit.Steps[0].Number - 1
			}
			found = append(found, key)
		}
		return found, nil
	}
}

// plainly fills an FTS5 table with a row for each of what is to be found.
func (y *yardstick) plainly(ctx context.Context, table *ftsTable, c int) (way, error) {
	var keys []eval.Key
	var texts []string
	for i, doc := range y.data.Collections[c].Documents {
		whole := []string{doc.Title}
		for j, p := range doc.Parts {
			text := strings.Join([]string{p.Actor, p.Text, p.Parameters, p.Result}, "\n")
			if whole = append(whole, text); y.level == eval.Steps {
				keys, texts = append(keys, eval.Key{Collection: c, Document: i, Part: j}), append(texts, text)
			}
		}
		if y.level == eval.Episodes {
			keys, texts = append(keys, eval.Key{Collection: c, Document: i, Part: -1}), append(texts, strings.Join(whole, "\n"))
		}
	}
	if err := table.add(ctx, texts...); err != nil {
		return nil, err
	}
	return func(ctx context.Context, query string, limit int) (found []eval.Key, err error) {
		rows, err := table.search(ctx, query, limit)
		for _, n := range rows {
			found = append(found, keys[n])
		}
		return found, err
	}, nil
}

// report prints the table and returns the rows of words alone and of Search.
func (y *yardstick) report(b *bench) (words, found eval.Row, err error) {
	_, words = y.of[wayWords].Rows()
	_, found = y.of[waySearch].Rows()
	_, bare := y.of[wayBare].Rows()
	if off := math.Abs(found.MRR - bare.MRR); off > 0.002 {
		return words, found, fmt.Errorf("%s: what is taken out is not taken out of what Search does: an MRR of %.4f, %.4f", y.name, found.MRR, bare.MRR)
	}
	source := y.data.Sources[0]
	b.printf("\n%s: %d questions, %s of sha256 %.12s. p50 is that of a search for the best %d.\n", y.name, found.Questions, source.Name, source.SHA256, eval.Depth)
	table := [][]string{{y.name, "recall@5", "recall@10", "recall@20", "MRR", "nDCG@10", "p50", "adds to recall@10", "adds to MRR"}}
	for _, name := range y.ways {
		_, row := y.of[name].Rows()
		line := []string{name}
		for _, x := range []float64{row.Recall5, row.Recall10, row.Recall20, row.MRR, row.NDCG10} {
			line = append(line, fmt.Sprintf("%.3f", x))
		}
		line = append(line, digits(row.P50)+" ms", "", "")
		if name != wayFTS && name != waySearch && name != wayBare {
			line[7], line[8] = fmt.Sprintf("%+.3f", bare.Recall10-row.Recall10), fmt.Sprintf("%+.3f", bare.MRR-row.MRR)
		}
		table = append(table, line)
	}
	b.table(table...)
	return words, found, nil
}
