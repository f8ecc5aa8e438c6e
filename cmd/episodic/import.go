package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

type importCmd struct {
	Paths   []string `arg:"" name:"path" optional:"" help:"Files, folders with all that is below them, or patterns such as 'logs/*.jsonl'; - is standard input. Files may be compressed (gzip, Zstandard)."`
	From    string   `placeholder:"FORMAT" help:"What the files are: ${formats}. Left out, each file is told by how it begins. Without a path it is whose own folder is read: ${sources}."`
	Format  string   `hidden:"" placeholder:"FORMAT" help:"As --from."`
	Domain  string   `help:"Domain of the imported episodes that have none."`
	Tag     []string `sep:"none" help:"Tag for all imported episodes, besides their own; repeatable."`
	Since   string   `placeholder:"TIME" help:"Leave out files that were changed before: a date, a time, or how long ago, such as 7d or 12h."`
	Split   string   `enum:"session,prompt" default:"session" help:"What becomes an episode: a whole session, or each prompt in it."`
	System  bool     `name:"system-prompt" help:"Keep system prompts too, as metadata."`
	Outcome string   `name:"outcome-field" placeholder:"FIELD" help:"The field that says whether a run succeeded, its parts divided by dots."`
	Replace bool     `help:"Let a record that differs from what is stored under its id replace it."`
	Again   bool     `name:"undelete" help:"Store episodes again that were deleted after an earlier import."`
	DryRun  bool     `help:"Say what would be read, and store nothing."`

	Receipts string `placeholder:"FILE" help:"Add a receipt of each episode that is stored to this file, a line each, which verify reads; - is standard output."`
}

// Help is shown by import --help.
func (*importCmd) Help() string {
	return `Each tool call with its answer becomes a step, and so does what an agent said without calling a tool. The first prompt is the task, later ones are kept with the steps that they led to, and the last words are the verdict. What came of a run is kept where its record says so; otherwise it is not judged. Images, encrypted reasoning and the like are left out, and counted.

A run is known by what its record calls it: importing again adds nothing, and updates runs that have grown, without losing what was added to them here. One that was deleted stays deleted. What is wrong with a file is told on stderr, and the rest is imported.`
}

func (c *importCmd) Run(ctx context.Context, a *app) error {
	im := newImporter(a, nil)
	im.domain, im.tags, im.replace, im.undelete = c.Domain, c.Tag, c.Replace, c.Again
	im.opts = transcript.Options{Format: formatNamed(c.From, c.Format), System: c.System, OutcomeField: c.Outcome}
	if f := im.opts.Format; f != "" && !slices.Contains(transcript.Formats(), f) {
		return invalid("--from", "is %.40q; known are %s", f, strings.Join(transcript.Formats(), ", "))
	}
	if c.Split == "prompt" {
		im.opts.Split = transcript.ByPrompt
	}
	var err error
	if im.since, err = sinceTime(c.Since, time.Now()); err != nil {
		return err
	}
	files, err := im.files(c.Paths, im.opts.Format)
	if err != nil {
		return err
	}
	if c.DryRun {
		return im.run(ctx, files)
	}
	return a.withReceipts(ctx, c.Receipts, func(ctx context.Context) error {
		return a.withStore(ctx, func(store *episodic.Store) error {
			a.publish(store)
			im.store = store
			err := im.run(ctx, files)
			if ctx.Err() == nil {
				im.train(ctx)
			}
			return err
		})
	})
}

// formatNamed is the format that is asked for by either flag; auto is none.
func formatNamed(from, format string) string {
	if from == "" {
		from = format
	}
	if from == "auto" {
		return ""
	}
	return from
}

// sinceTime reads a date, a time, or how long before now.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	var days int
	if n, err := fmt.Sscanf(text, "%dd", &days); n == 1 && err == nil && strings.HasSuffix(text, "d") && days >= 0 {
		return now.AddDate(0, 0, -days), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, invalid("--since", "is %.40q; write a date such as 2026-01-31, a time such as 2026-01-31T09:30:00Z, or how long ago, such as 7d or 12h", text)
}

// invalid is an error about what was asked for.
func invalid(field, format string, args ...any) error {
	return &episodic.InvalidError{Field: field, Problem: fmt.Sprintf(format, args...)}
}
