package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/eval"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// evaluation fills memories with a dataset and asks its questions.
type evaluation struct {
	*app
	data  *eval.Dataset
	level eval.Level
	tasks []eval.Task
	model episodic.Embedder // nil: none

	without int // questions in which it took no part

	keys     map[episodic.ID]eval.Key // of the documents in the memory that is asked
	report   eval.Report
	progress *progress
	done     int64 // documents stored and questions asked

	memories, documents, parts int
	loading                    time.Duration
	fileBytes, dataBytes       int64
}

// run evaluates the dataset in memories of the folder keep, or in a temporary one if that is
// empty.
func (ev *evaluation) run(ctx context.Context, keep string, shared bool) (err error) {
	dir, err := evalFolder(keep)
	if err != nil {
		return err
	}
	if keep == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	todo := len(ev.tasks)
	for _, c := range ev.data.Collections {
		todo += len(c.Documents)
	}
	ev.progress = newProgress(ev.stderr, "documents and questions", int64(todo), false)
	defer ev.progress.done()
	all := len(ev.data.Collections)
	if shared {
		return ev.memory(ctx, filepath.Join(dir, "memory.db"), 0, all)
	}
	for i := range all {
		path := filepath.Join(dir, memoryName(i, ev.data.Collections[i].Name))
		if err := ev.memory(ctx, path, i, i+1); err != nil {
			return err
		}
		if keep == "" {
			for _, file := range databaseFiles(path) {
				os.Remove(file) // the folder is removed in any case; this saves space meanwhile
			}
		}
	}
	return nil
}

// memory makes a memory of the collections from first to before end and asks their
// questions. It is opened anew in between, as by a program that finds it there.
func (ev *evaluation) memory(ctx context.Context, path string, first, end int) error {
	ev.memories++
	ev.keys = make(map[episodic.ID]eval.Key)
	err := withFile(ctx, path, ev.model, &ev.loading, func(store *episodic.Store) error {
		for c := first; c < end; c++ {
			if err := ev.fill(ctx, store, c); err != nil {
				return err
			}
		}
		began := time.Now()
		_, err := store.TrainDictionaries(ctx) // as import does
		if err == nil && ev.model != nil {
			err = store.EmbedDocuments(ctx, nil)
		}
		ev.loading += time.Since(began)
		return err
	})
	if err != nil {
		return err
	}
	for _, file := range databaseFiles(path) {
		info, err := os.Stat(file)
		switch {
		case err == nil:
			ev.fileBytes += info.Size()
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return withFile(ctx, path, ev.model, new(time.Duration), func(store *episodic.Store) error {
		for i := range ev.tasks {
			if c := ev.tasks[i].Collection; c < first || c >= end {
				continue
			}
			if err := ev.answer(ctx, store, &ev.tasks[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// withFile opens a memory in a file, calls f and closes it. It adds to closing how long that
// took. Nothing is cached: a question that is asked twice is two searches.
func withFile(ctx context.Context, path string, model episodic.Embedder, closing *time.Duration, f func(*episodic.Store) error) error {
	store, err := episodic.Open(ctx, path, &episodic.Options{Cache: episodic.Cache{Disabled: true}, Embedder: model})
	if err != nil {
		return err
	}
	err = f(store)
	began := time.Now()
	closeErr := store.Close()
	*closing += time.Since(began)
	return errors.Join(err, closeErr)
}

// fill stores the documents of collection c.
func (ev *evaluation) fill(ctx context.Context, store *episodic.Store, c int) error {
	documents := ev.data.Collections[c].Documents
	for from := 0; from < len(documents); from += batchEpisodes {
		batch := documents[from:min(from+batchEpisodes, len(documents))]
		episodes := make([]*episodic.Episode, len(batch))
		for i := range batch {
			key := eval.Key{Collection: c, Document: from + i, Part: -1}
			e := episodeOf(&batch[i], key)
			episodes[i], ev.keys[e.ID] = e, key
		}
		began := time.Now()
		_, err := store.AddEpisodes(ctx, episodes...)
		ev.loading += time.Since(began)
		if errors.Is(err, episodic.ErrInvalid) {
			// %v: the file is to blame, not the command line.
			return fmt.Errorf("documents %q to %q of %s: %v", batch[0].ID, batch[len(batch)-1].ID, ev.data.Sources[0].Name, err)
		}
		if err != nil {
			return err
		}
		for _, e := range episodes {
			n, err := documentSize(e)
			if err != nil {
				return err
			}
			ev.dataBytes += n
			ev.parts += len(e.Steps)
		}
		ev.documents += len(batch)
		ev.advance(len(batch))
	}
	return nil
}

// episodeOf makes an episode of a document. Its ID is the same each time, and so is its time if
// none is known: figures must not depend on when they are measured.
func episodeOf(doc *eval.Document, key eval.Key) *episodic.Episode {
	e := &episodic.Episode{
		ID:          transcript.DeriveID(episodic.Scope{}, "eval", fmt.Sprintf("[%d,%d]", key.Collection, key.Document)),
		Description: doc.Title,
		Context:     episodic.Context{Tags: doc.Tags},
		Start:       doc.Time,
		StepCount:   len(doc.Parts),
	}
	if e.Start.IsZero() {
		e.Start = time.Unix(0, 0).UTC()
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

// documentSize is the length of the JSON of an episode that has been stored, as show prints
// it.
func documentSize(e *episodic.Episode) (int64, error) {
	var b bytes.Buffer
	err := jsonEncoder(&b).Encode(e)
	return int64(b.Len() - 1), err // without the line feed
}

// answer asks one question and reports how good the answer is.
func (ev *evaluation) answer(ctx context.Context, store *episodic.Store, t *eval.Task) error {
	began := time.Now()
	found, err := ev.search(ctx, store, t.Question.Text, t.Want())
	took := time.Since(began)
	if err != nil {
		return fmt.Errorf("question %q: %w", t.Question.ID, err)
	}
	ev.report.Add(t.Question.Type, t.Score(found), took)
	ev.advance(1)
	return nil
}

func (ev *evaluation) advance(n int) {
	ev.done += int64(n)
	ev.progress.set(ev.done)
}

// search returns what the Store finds, the best first.
func (ev *evaluation) search(ctx context.Context, store *episodic.Store, query string, limit int) ([]eval.Key, error) {
	const most = 1000 // that a search returns
	results, err := store.Search(ctx, query, &episodic.SearchOptions{Limit: min(limit, most), Steps: ev.level == eval.Steps, EachRun: true})
	if err != nil {
		return nil, err
	}
	if ev.model != nil && results.Model == "" {
		ev.without++
	}
	found := make([]eval.Key, len(results.Hits))
	for i, hit := range results.Hits {
		found[i] = ev.keys[hit.Episode.ID]
		if ev.level == eval.Steps {
			found[i].Part = hit.Steps[0].Number - 1
		}
	}
	return found, nil
}

func (ev *evaluation) result() *evalResult {
	r := &evalResult{
		Format: ev.data.Format, Sources: ev.data.Sources, Level: ev.level,
		Memories: ev.memories, Documents: ev.documents, Parts: ev.parts,
		LoadSeconds: ev.loading.Seconds(), FileBytes: ev.fileBytes, DataBytes: ev.dataBytes, Without: ev.without,
	}
	if ev.model != nil {
		r.Model = ev.model.Name()
	}
	r.Types, r.All = ev.report.Rows()
	r.LeftOut = ev.data.LeftOut - len(ev.tasks)
	for _, c := range ev.data.Collections {
		r.LeftOut += len(c.Questions)
	}
	for i := range ev.tasks {
		r.Missing += ev.tasks[i].Missing
	}
	return r
}
