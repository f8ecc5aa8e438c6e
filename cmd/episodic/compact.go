package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic"
)

type compactCmd struct {
	Reindex bool     `help:"Make the search index anew first."`
	Secure  bool     `help:"Leave nothing of what was deleted, redacted or replaced, and read every byte of the file to see that."`
	Prove   []string `sep:"none" placeholder:"TEXT" help:"With --secure: a text that was deleted, to be looked for in everything that is left; repeatable. - reads texts from standard input, a line each."`
	JSON    bool     `name:"json" help:"Print JSON."`
}

// Help is shown by compact --help.
func (*compactCmd) Help() string {
	return `Indexes for search what is waiting, and merges the search index. Trains dictionaries if it is time to, recompresses what was stored without the newest one, and deletes all others. Makes the vectors that are missing of the embedding model, if one is in use. After that neither the search index nor a dictionary holds text of what was deleted before. Others may use the database meanwhile. It can be interrupted at any moment, and goes on when it is run again.

At last a local file gets shorter by what is free in it. A file of an earlier version is written anew for that, once, if a fifth of it is free: that takes up to twice its space meanwhile, and others cannot write until it is done.

With --secure nothing is left of what was deleted, redacted or replaced before, as far as this machine goes: all dictionaries are replaced, the file is written anew, which takes up to twice its space, its log is emptied, and every page is read until each byte belongs to what is stored. Of a server that is done with this machine's replica and queue, and what only the server's operator can reach is named. With --prove it ends with exit code 1 if a text is still somewhere, and names the place, such as another episode that holds it. docs/security.md says what that proves, and what it does not.`
}

func (c *compactCmd) Run(ctx context.Context, a *app) error {
	texts, err := c.texts(a)
	if err != nil {
		return err
	}
	return a.withMemory(ctx, func(store *episodic.Store) (err error) {
		a.publish(store)
		if c.Reindex {
			if err := store.Reindex(ctx); err != nil {
				return err
			}
		}
		var bar *progress
		tell := func(n, all int64) {
			if bar == nil {
				bar = newProgress(a.stderr, "compact", all, false)
			}
			bar.set(n)
		}
		var secure episodic.Erasure
		done := &secure.Compaction
		if c.Secure {
			secure, err = store.CompactSecurely(ctx, &episodic.SecureOptions{Prove: texts, Progress: tell})
		} else {
			*done, err = store.Compact(ctx, tell)
		}
		bar.done()
		if err != nil {
			if errors.Is(err, context.Canceled) {
				err = errInterrupted
			}
			return fmt.Errorf("compact stopped with %s rewritten, %s saved: %w; running it again goes on",
				count(int(done.Rewritten), "payload"), size(done.Before-done.After), err)
		}
		switch {
		case c.JSON && c.Secure:
			err = a.printJSON(secure)
		case c.JSON:
			err = a.printJSON(done)
		default:
			a.printCompaction(*done)
			a.printErasure(&secure)
		}
		if err != nil {
			return err
		}
		if len(secure.Found) > 0 {
			a.complain("texts that were to be gone are in %s", count(len(secure.Found), "place"))
			return errReported
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

// texts are those that are to be gone.
func (c *compactCmd) texts(a *app) (texts []string, err error) {
	if len(c.Prove) > 0 && !c.Secure {
		return nil, invalid("--prove", "needs --secure")
	}
	for _, text := range c.Prove {
		if text != "-" {
			texts = append(texts, text)
			continue
		}
		lines := bufio.NewScanner(a.stdin)
		for lines.Scan() {
			if line := strings.TrimSuffix(lines.Text(), "\r"); line != "" {
				texts = append(texts, line)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read the texts of --prove: %w", err)
		}
	}
	return texts, nil
}

// printErasure says what compact --secure has seen, without the texts that it looked for.
func (a *app) printErasure(done *episodic.Erasure) {
	for _, f := range done.Files {
		a.printf("%s: all of its %s read, %s; each byte belongs to what is stored, and its log is empty\n", f.Kind, count(int(f.Pages), "page"), size(f.Bytes))
	}
	for _, left := range done.Left {
		a.printf("not done: %s\n", plain(left))
	}
	for _, f := range done.Found {
		a.printf("text %d of --prove is %s\n", f.Text+1, plain(f.Where))
	}
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
