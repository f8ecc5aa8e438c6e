package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic"
)

type compactCmd struct {
	Reindex bool `help:"Make the search index anew first."`
	JSON    bool `name:"json" help:"Print JSON."`
}

// Help is shown by compact --help.
func (*compactCmd) Help() string {
	return `Indexes for search what is waiting, and merges the search index. Trains dictionaries if it is time to, recompresses what was stored without the newest one, and deletes all others. Makes the vectors that are missing of the embedding model, if one is in use. After that neither the search index nor a dictionary holds text of what was deleted before. Others may use the database meanwhile. It can be interrupted at any moment, and goes on when it is run again.

At last a local file gets shorter by what is free in it. A file of an earlier version is written anew for that, once, if a fifth of it is free: that takes up to twice its space meanwhile, and others cannot write until it is done.`
}

func (c *compactCmd) Run(ctx context.Context, a *app) error {
	return a.withMemory(ctx, func(store *episodic.Store) error {
		a.publish(store)
		if c.Reindex {
			if err := store.Reindex(ctx); err != nil {
				return err
			}
		}
		var bar *progress
		done, err := store.Compact(ctx, func(n, all int64) {
			if bar == nil {
				bar = newProgress(a.stderr, "compact", all, false)
			}
			bar.set(n)
		})
		bar.done()
		if err != nil {
			if errors.Is(err, context.Canceled) {
				err = errInterrupted
			}
			return fmt.Errorf("compact stopped with %s rewritten, %s saved: %w; running it again goes on",
				count(int(done.Rewritten), "payload"), size(done.Before-done.After), err)
		}
		if c.JSON {
			err = a.printJSON(done)
		} else {
			a.printCompaction(done)
		}
		if err != nil {
			return err
		}
		if done.Damaged > 0 && !c.JSON {
			a.complain("%s could not be read; the first: %s", count(int(done.Damaged), "payload"), done.Damage)
			return errReported
		}
		if a.model != nil {
			return a.embedNow(ctx, c.JSON)
		}
		return nil
	})
}

func (a *app) printCompaction(done episodic.Compaction) {
	a.printTrained(done.Trained)
	a.printf("%s rewritten", count(int(done.Rewritten), "payload"))
	if done.Before > 0 {
		a.printf(": %s became %s, %s saved (%.0f %%)", size(done.Before), size(done.After), size(done.Before-done.After),
			100*float64(done.Before-done.After)/float64(done.Before))
	}
	a.printf("\n")
	if done.Deleted > 0 {
		a.printf("%s deleted\n", dictionaries(done.Deleted))
	}
	if done.Freed > 0 {
		a.printf("gave back %s\n", size(done.Freed))
	}
	if done.NotFreed != "" {
		a.complain("the file did not get shorter: %s", done.NotFreed)
	}
}

func dictionaries(n int64) string {
	if n == 1 {
		return "1 dictionary"
	}
	return fmt.Sprintf("%d dictionaries", n)
}

// printTrained says what training dictionaries came to.
func (a *app) printTrained(trained []episodic.Training) {
	for _, t := range trained {
		if t.Dictionary == 0 {
			a.printf("no new dictionary for %ss: %s\n", t.Kind, oneLine(t.Reason))
			continue
		}
		a.printf("new dictionary for %ss, made of %s: what took %.1f %% takes %.1f %%\n",
			t.Kind, count(t.Samples, "payload"), 100*t.Before, 100*t.After)
	}
}

// size is a number of bytes in words, such as 1.5 MB for 1,500,000.
func size(n int64) string {
	switch {
	case n >= 10_000_000 || n <= -10_000_000:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	case n >= 1_000_000 || n <= -1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1000 || n <= -1000:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
