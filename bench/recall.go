package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/eval"
)

const recallClaim = "What `Search` finds on a local file, by words alone and with what they mean, how fast, and what its index costs. **Quality:** the questions of LoCoMo (development half; a hit is a turn, each conversation a memory of its own) and the titles of " +
	"500 runs of a coding agent on SWE-bench (a hit is another run that edited a same file), beside plain FTS5 with the same texts. Targets: LoCoMo recall@5 0.70 and recall@10 0.785 by words, 0.72 and 0.80 with meaning; SWE recall@10 0.585 and MRR 0.54 by words, and at most 0.01 less with meaning. " +
	"**Speed:** one caller and no cache, among the steps of these runs, repeated. Targets: for 100,000 steps p50 12 ms and p99 60 ms for titles, whole task texts and a common word, 5 ms with a filter that one episode in a hundred passes; for 1,000,000 p50 80 ms. " +
	"**Size:** the file of the 500 runs takes at most 0.45 of their JSON. **Cost:** with -baseline, putting an episode takes at most 1.4 times, appending a step 1.3 times as long as it does there."

// recallData is what is searched and what is asked.
type recallData struct {
	locomo, swe *eval.Dataset       // nil: not there
	runs        []*episodic.Episode // of swe; generated ones if that is not there
	titles      []string            // of runs, to be searched for
	texts       []string            // the whole tasks
	common      []string            // words that stand in nearly all runs
	commonIn    float64             // the part of the runs that hold the rarest of them
}

func recall(ctx context.Context, b *bench) error {
	data, err := b.recallData(ctx)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, *bench, *recallData) error
	}{{"quality", recallQuality}, {"speed", recallSpeed}, {"size", recallSize}, {"cost", recallCost}} {
		if !b.match.MatchString(part.name) {
			continue
		}
		b.printf("\n### %s\n\n", part.name)
		if err := part.run(ctx, b, data); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func (b *bench) recallData(ctx context.Context) (*recallData, error) {
	d := &recallData{}
	var err error
	if d.locomo, err = b.dataset(ctx, "locomo", "locomo-dev.json", ""); err != nil {
		return nil, err
	}
	if d.swe, err = b.dataset(ctx, "swe", "swe-runs.jsonl.gz", "swe-queries-dev.json"); err != nil {
		return nil, err
	}
	words := &tally{}
	if d.swe == nil {
		b.printf("\nSpeed, size and cost are those of generated episodes, and not judged.\n")
		d.runs = b.corpus.episodes(0, min(b.n, 1000))
		for _, e := range d.runs {
			d.titles, d.texts = append(d.titles, firstWords(e.Description, 10)), append(d.texts, e.Description)
		}
	} else {
		documents := d.swe.Collections[0].Documents
		for i := range documents {
			d.runs, d.texts = append(d.runs, episodeOf(&documents[i])), append(d.texts, documents[i].Title)
		}
		for _, q := range d.swe.Collections[0].Questions {
			d.titles = append(d.titles, q.Text)
		}
	}
	for _, e := range d.runs {
		if err := words.add(e); err != nil {
			return nil, err
		}
	}
	d.common, d.commonIn = words.wordsOf(frequency{part: 1}), 1
	for _, w := range d.common {
		d.commonIn = min(d.commonIn, float64(words.of[w])/float64(words.episodes))
	}
	return d, nil
}

// dataset reads one of the folder of real texts; it is nil if it is not there.
func (b *bench) dataset(ctx context.Context, format, file, queries string) (*eval.Dataset, error) {
	if queries != "" {
		queries = filepath.Join(b.data, queries)
	}
	d, err := eval.Load(ctx, format, filepath.Join(b.data, file), queries)
	if errors.Is(err, fs.ErrNotExist) {
		b.printf("\n%s was left out, because it is not in %s.\n", file, b.data)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if b.short {
		c := &d.Collections[0]
		d.Collections = d.Collections[:1]
		c.Documents, c.Questions = c.Documents[:min(len(c.Documents), 40)], c.Questions[:min(len(c.Questions), 20)]
	}
	return d, nil
}

// episodeOf makes an episode of a document, as episodic eval does.
func episodeOf(doc *eval.Document) *episodic.Episode {
	e := &episodic.Episode{ID: episodic.NewID(), Description: doc.Title, Context: episodic.Context{Tags: doc.Tags}, Start: doc.Time}
	if e.Start.IsZero() {
		e.Start = time.Unix(0, 0).UTC() // so that figures do not depend on the day
	}
	e.End = e.Start
	for i, p := range doc.Parts {
		step := episodic.Step{Number: i + 1, Time: e.Start, Tool: p.Actor, Action: p.Text, Parameters: episodic.JSON(p.Parameters)}
		if p.Result != "" {
			step.Result = &episodic.Result{Kind: episodic.ResultOutput, Text: p.Result}
		}
		e.Steps = append(e.Steps, step)
	}
	return e
}

// addAll imports episodes, batchSize at once.
func addAll(ctx context.Context, store *episodic.Store, episodes []*episodic.Episode) error {
	for from := 0; from < len(episodes); from += batchSize {
		batch := episodes[from:min(from+batchSize, len(episodes))]
		added, err := store.AddEpisodes(ctx, batch...)
		if err == nil && added != len(batch) {
			err = fmt.Errorf("added %d of %d", added, len(batch))
		}
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	return nil
}

func firstWords(text string, n int) string {
	words := strings.Fields(text)
	return strings.Join(words[:min(n, len(words))], " ")
}
