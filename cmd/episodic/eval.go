package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/eval"
)

type evalCmd struct {
	Format  string `arg:"" enum:"jsonl,locomo,longmemeval,swe" help:"What the file holds: jsonl, as docs/eval.md describes it, or a public dataset: locomo, longmemeval, swe."`
	File    string `arg:"" help:"The dataset; it may be compressed by gzip."`
	Queries string `arg:"" optional:"" help:"The questions of swe, which are in a file of their own."`
	Level   string `enum:"auto,episode,step" default:"auto" help:"What is to be found: episode, whole documents; step, parts of them; auto, step if the questions name parts."`
	Shared  bool   `help:"Put all collections into one memory. Otherwise each has its own."`
	Keep    string `placeholder:"FOLDER" help:"Keep the memories in this folder, which must be new or empty. Otherwise they are deleted."`
	Model   string `placeholder:"SPEC" help:"Compare meanings by this embedding model, as of model use. Otherwise by none."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Help is shown by eval --help.
func (*evalCmd) Help() string {
	return `The documents of the dataset become episodes of memories in temporary files, and each question is one search. Printed are recall at 5, 10 and 20, MRR over the best 100 and nDCG at 10, for each type of question and over all; how long searches take; and how large the files are. No model judges anything: what is relevant, the dataset says. Your own memory is neither read nor changed.`
}

func (c *evalCmd) Run(ctx context.Context, a *app) error {
	if a.db != nil || a.project != nil || a.user != nil {
		return invalid("", "eval has no --db, --project or --user: it fills memories of its own, which --keep keeps")
	}
	data, err := eval.Load(ctx, c.Format, c.File, c.Queries)
	if errors.Is(err, eval.ErrQueries) {
		return invalid("", "%v", err)
	}
	if err != nil {
		return err
	}
	level := eval.Level(c.Level)
	if c.Level == "auto" {
		level = data.Level()
	}
	ev := &evaluation{app: a, data: data, level: level, tasks: data.Tasks(level)}
	if len(ev.tasks) == 0 {
		return fmt.Errorf("no question of %s names a part of a document; use --level %s", c.File, eval.Episodes)
	}
	if c.Model != "" {
		spec, err := a.resolveModel(c.Model)
		if err != nil {
			return err
		}
		if ev.model, err = episodic.OpenEmbedder(ctx, spec); err != nil {
			return err
		}
	}
	if err := ev.run(ctx, c.Keep, c.Shared); err != nil {
		return err
	}
	r := ev.result()
	if c.JSON {
		return a.printJSON(r)
	}
	a.printEvaluation(r)
	if c.Keep != "" {
		a.printf("\nkept in %s\n", plain(c.Keep))
	}
	return nil
}

// evalFolder makes the folder for the memories. Files that are there already are nobody's
// to overwrite.
func evalFolder(keep string) (string, error) {
	if keep == "" {
		dir, err := os.MkdirTemp("", "episodic-eval-")
		if err != nil {
			return "", fmt.Errorf("make a folder for the memories: %w; choose one with --keep", err)
		}
		return dir, nil
	}
	if err := os.MkdirAll(keep, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of --keep: %w", err)
	}
	entries, err := os.ReadDir(keep)
	if err == nil && len(entries) > 0 {
		return "", invalid("--keep", "names the folder %s, which is not empty", keep)
	}
	return keep, err
}

// memoryName is the name of the file for the collection i.
func memoryName(i int, collection string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return -1
	}, collection)
	name := fmt.Sprintf("%03d", i+1)
	if safe != "" {
		name += "-" + safe[:min(len(safe), 60)]
	}
	return name + ".db"
}

// databaseFiles are the files that SQLite may make for a database.
func databaseFiles(path string) []string { return []string{path, path + "-wal", path + "-shm"} }

// evalResult is what eval prints as JSON.
type evalResult struct {
	Format    string        `json:"format"`
	Sources   []eval.Source `json:"sources"`
	Level     eval.Level    `json:"level"`
	Memories  int           `json:"memories"`
	Documents int           `json:"documents"`
	Parts     int           `json:"parts"`
	// LeftOut counts the questions without evidence that could be found, and Missing the
	// pieces of evidence of the others that do not exist and count as not found.
	LeftOut int `json:"questions_left_out"`
	Missing int `json:"evidence_missing"`
	// Model is the embedding model, and Without counts the questions in which it took no part.
	Model       string     `json:"model,omitempty"`
	Without     int        `json:"questions_without_model,omitempty"`
	LoadSeconds float64    `json:"load_seconds"`
	FileBytes   int64      `json:"file_bytes"`
	DataBytes   int64      `json:"data_bytes"` // of the documents as JSON of episodes
	Types       []eval.Row `json:"types"`
	All         eval.Row   `json:"all"`
}

func (a *app) printEvaluation(r *evalResult) {
	for _, s := range r.Sources {
		a.printf("%-11s %s, %s, SHA-256 %s\n", r.Format, plain(s.Name), size(s.Bytes), s.SHA256)
	}
	a.printf("%-11s %s with %s, in %s; loaded in %.1f s\n", "documents", count(r.Documents, "document"), count(r.Parts, "part"), memories(r.Memories), r.LoadSeconds)
	a.printf("%-11s %s, %.2f of the %s that the documents take as JSON\n", "files", size(r.FileBytes), float64(r.FileBytes)/float64(r.DataBytes), size(r.DataBytes))
	a.printf("%-11s %s", "questions", count(r.All.Questions, "question"))
	if r.LeftOut > 0 {
		a.printf("; %d left out: no evidence at this level", r.LeftOut)
	}
	if r.Missing > 0 {
		a.printf("; evidence that does not exist, %s, counts as not found", count(r.Missing, "piece"))
	}
	if r.Model != "" {
		a.printf("\n%-11s %s%s", "model", oneLine(r.Model), also(uint64(r.Without), "questions without it"))
	}
	a.printf("\n%-11s %s\n\n", "level", r.Level)

	rows := append(append([]eval.Row{}, r.Types...), r.All)
	rows[len(rows)-1].Type = "all"
	if len(r.Types) == 1 && r.Types[0].Type == "" {
		rows = rows[1:] // the dataset has no types
	}
	widest := 0
	for i := range rows {
		rows[i].Type = cut(oneLine(rows[i].Type), 40)
		widest = max(widest, len([]rune(rows[i].Type)))
	}
	a.printf("%-*s  questions    R@5   R@10   R@20    MRR  nDCG@10   p50 ms   p99 ms\n", widest, "")
	for _, row := range rows {
		a.printf("%-*s  %9d  %5.3f  %5.3f  %5.3f  %5.3f    %5.3f  %7.2f  %7.2f\n", widest, row.Type, row.Questions,
			row.Recall5, row.Recall10, row.Recall20, row.MRR, row.NDCG10, row.P50, row.P99)
	}
}

func memories(n int) string {
	if n == 1 {
		return "1 memory"
	}
	return fmt.Sprintf("%d memories", n)
}
