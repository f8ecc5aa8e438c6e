package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

type exportCmd struct {
	Output     string   `short:"o" placeholder:"FILE" help:"The file to write, which must not be there yet; standard output if it is left out."`
	Format     string   `enum:"jsonl,markdown,openai,anthropic" default:"jsonl" help:"jsonl: all there is, as import reads it; markdown: episodes for people; openai, anthropic: episodes as chat transcripts, a JSON object a line."`
	Since      int64    `placeholder:"N" help:"Only what has changed after change N, deletions included; the export before said which."`
	Embeddings bool     `help:"Embeddings too."`
	Domain     string   `help:"Only episodes of this domain, and nothing but episodes."`
	Tag        []string `sep:"none" help:"Only episodes with this tag; repeatable, then with all of them."`
	Outcome    string   `help:"Only episodes with this outcome: success, partial_success, failure, abstained."`
}

// Help is shown by export --help.
func (*exportCmd) Help() string {
	return `Writes what is in the scope: episodes with their steps, then patterns, heuristics, relations, and embeddings if asked. Importing that into an empty database gives the same memory, and exporting it again the same bytes. How far the export goes is told on stderr.`
}

func (c *exportCmd) Run(ctx context.Context, a *app) error {
	if c.Since < 0 {
		return invalid("--since", "is negative (%d)", c.Since)
	}
	var damaged []*episodic.DamagedError
	err := a.toRead(ctx, func(store *episodic.Store) (err error) {
		var out io.Writer = a.out
		if c.Output != "" {
			f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			w := bufio.NewWriterSize(f, 1<<20)
			defer func() {
				if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
					err = errors.Join(err, os.Remove(c.Output)) // half of it is of no use
				}
			}()
			out = w
		}
		x := &exporter{store: store, out: out, embeddings: c.Embeddings}
		if x.write, err = exportFormat(c.Format); err != nil {
			return err
		}
		x.onlyEpisodes = c.Format != "jsonl"
		if c.Domain != "" || len(c.Tag) > 0 || c.Outcome != "" {
			x.onlyEpisodes = true
			x.filter = &episodic.EpisodeFilter{Domain: c.Domain, Tags: c.Tag, Outcome: episodic.OutcomeKind(c.Outcome)}
		}
		if err := x.run(ctx, c.Since); err != nil {
			return err
		}
		a.note("exported %s; what changes from here on: export --since %d", x.said(), x.last)
		damaged = x.damaged
		return nil
	})
	if err != nil {
		return err
	}
	return a.missing(damaged) // the rest is exported
}

// exportFormat returns what writes an episode.
func exportFormat(name string) (func(io.Writer, *episodic.Episode) error, error) {
	switch name {
	case "markdown":
		return writeMarkdown, nil
	case "openai":
		return func(w io.Writer, e *episodic.Episode) error { return writeJSONLine(w, openAIChat(e)) }, nil
	case "anthropic":
		return func(w io.Writer, e *episodic.Episode) error { return writeJSONLine(w, anthropicChat(e)) }, nil
	}
	return func(w io.Writer, e *episodic.Episode) error {
		e.StepCount = 0 // the steps are there
		return writeJSONLine(w, e)
	}, nil
}

func writeJSONLine(w io.Writer, v any) error { return jsonEncoder(w).Encode(v) }

// exporter writes what a Store holds.
type exporter struct {
	store        *episodic.Store
	out          io.Writer
	write        func(io.Writer, *episodic.Episode) error
	filter       *episodic.EpisodeFilter // nil: all
	onlyEpisodes bool
	embeddings   bool

	last    int64 // change that is in the export
	counts  map[string]int
	damaged []*episodic.DamagedError // what is missing
}

// skipped reports whether an item is left out because of the error with which it was read: it
// was deleted meanwhile, or is damaged, which is noted.
func (x *exporter) skipped(err error) bool {
	damage, ok := errors.AsType[*episodic.DamagedError](err)
	if ok {
		x.damaged = append(x.damaged, damage)
	}
	return ok || errors.Is(err, episodic.ErrNotFound)
}

// exported is a line of an export that is no episode.
type exported struct {
	Pattern   *episodic.Pattern   `json:"pattern,omitempty"`
	Heuristic *episodic.Heuristic `json:"heuristic,omitempty"`
	Relation  *episodic.Relation  `json:"relation,omitempty"`
	Embedding *episodic.Embedding `json:"embedding,omitempty"`
	Deleted   *transcript.Deleted `json:"deleted,omitempty"`
}

// run writes all items that have changed after a change. The items of a kind come in the
// order of their last changes, so that importing them gives that order again.
func (x *exporter) run(ctx context.Context, since int64) error {
	x.last, x.counts = since, make(map[string]int)
	changes := make(map[episodic.ChangeKind][]episodic.Change)
	var deleted []episodic.Change
	for c, err := range x.store.Changes(ctx, since) {
		if err != nil {
			return err
		}
		x.last = c.Seq
		if c.Deleted {
			deleted = append(deleted, c)
		} else {
			changes[c.Kind] = append(changes[c.Kind], c)
		}
	}
	if err := x.episodes(ctx, changes[episodic.ChangedEpisode]); err != nil || x.onlyEpisodes {
		return err
	}
	for _, kind := range []episodic.ChangeKind{episodic.ChangedPattern, episodic.ChangedHeuristic, episodic.ChangedRelations, episodic.ChangedEmbeddings} {
		for _, c := range changes[kind] {
			if err := x.other(ctx, c); err != nil && !x.skipped(err) {
				return err
			}
		}
	}
	if since == 0 {
		return nil // nothing of them was exported before
	}
	for _, c := range deleted {
		x.counts["deletion"]++
		if err := writeJSONLine(x.out, exported{Deleted: &transcript.Deleted{Kind: c.Kind, ID: c.ID}}); err != nil {
			return err
		}
	}
	return nil
}

// exportsAtOnce is how many episodes are read side by side.
const exportsAtOnce = 8

// episodes writes episodes, those that the filter lets through.
func (x *exporter) episodes(ctx context.Context, changes []episodic.Change) error {
	wanted := map[episodic.ID]bool{}
	if x.filter != nil {
		for e, err := range x.store.Episodes(ctx, x.filter) {
			if err != nil {
				if x.skipped(err) {
					continue
				}
				return err
			}
			wanted[e.ID] = true
		}
	}
	type loaded struct {
		e   *episodic.Episode
		err error
	}
	loading, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	ahead := make(chan chan loaded, exportsAtOnce)
	running.Go(func() {
		defer close(ahead)
		for _, c := range changes {
			if x.filter != nil && !wanted[c.ID] {
				continue
			}
			one := make(chan loaded, 1)
			select {
			case ahead <- one:
			case <-loading.Done():
				return
			}
			running.Go(func() {
				e, err := x.store.Episode(loading, c.ID)
				one <- loaded{e, err}
			})
		}
	})
	for one := range ahead {
		l := <-one
		if l.err != nil {
			if x.skipped(l.err) {
				continue
			}
			return l.err
		}
		x.counts["episode"]++
		if err := x.write(x.out, l.e); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return ctx.Err()
}

// other writes an item that is no episode, or what belongs to one.
func (x *exporter) other(ctx context.Context, c episodic.Change) error {
	line := func(what string, v exported) error {
		x.counts[what]++
		return writeJSONLine(x.out, v)
	}
	switch c.Kind {
	case episodic.ChangedPattern:
		p, err := x.store.Pattern(ctx, c.ID)
		if err != nil {
			return err
		}
		return line("pattern", exported{Pattern: p})
	case episodic.ChangedHeuristic:
		h, err := x.store.Heuristic(ctx, c.ID)
		if err != nil {
			return err
		}
		return line("heuristic", exported{Heuristic: h})
	case episodic.ChangedRelations:
		for r, err := range x.store.Relations(ctx, c.ID, &episodic.RelationFilter{Direction: episodic.Outgoing}) {
			if err != nil {
				if x.skipped(err) {
					continue
				}
				return err
			}
			if err := line("relation", exported{Relation: r}); err != nil {
				return err
			}
		}
	case episodic.ChangedEmbeddings:
		if !x.embeddings {
			return nil
		}
		for _, kind := range []episodic.ItemKind{episodic.ItemEpisode, episodic.ItemPattern, episodic.ItemHeuristic} {
			for e, err := range x.store.Embeddings(ctx, kind, c.ID) {
				if err != nil {
					if x.skipped(err) {
						continue
					}
					return err
				}
				if err := line("embedding", exported{Embedding: e}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// said says what was written.
func (x *exporter) said() string {
	text := count(x.counts["episode"], "episode")
	for _, what := range []string{"pattern", "heuristic", "relation", "embedding", "deletion"} {
		if n := x.counts[what]; n > 0 {
			text += ", " + count(n, what)
		}
	}
	return text
}
