package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

type gcCmd struct {
	OlderThan  age      `placeholder:"AGE" help:"Episodes that began longer ago than this: 90d, 12w, 36h."`
	Before     moment   `placeholder:"TIME" help:"Episodes that began before this time: 2026-01-31, or 2026-01-31T09:30:00Z. Dates are UTC."`
	Outcome    []string `sep:"none" help:"Episodes that ended so: success, partial_success, failure, abstained, or none if they were not judged; repeatable, then with one of them."`
	Protect    []string `sep:"none" placeholder:"TAG" help:"Keep episodes with this tag; repeatable, then with any of them."`
	Keep       int64    `placeholder:"N" help:"Delete no more when at most so many episodes are left."`
	MaxSize    byteSize `placeholder:"SIZE" help:"Delete no more when what is left takes at most this: 500MB, 2GB; compressed, without the index."`
	NoSnapshot bool     `help:"Keep no copy of a local file as it was before."`
	DryRun     bool     `short:"n" help:"Only say what would be deleted."`
	Yes        bool     `short:"y" help:"Ask nothing."`
	JSON       bool     `name:"json" help:"Print JSON: an episode a line, and then the sums."`
}

// Help is shown by gc --help.
func (*gcCmd) Help() string {
	return `Deletes the episodes that meet every condition that is given (--older-than, --before, --outcome, --protect), the oldest first, and gives the space back. With --keep or --max-size it stops as soon as what is left is within the bounds that are given; all episodes count for these, also running and protected ones, which are never deleted. To delete what meets one condition or another, run it once for each.

It says first how many that are, and asks; where nobody can be asked it deletes nothing without --yes. It works in short transactions, between which others write, and can be interrupted at any moment. A local file is copied to FILE.snapshot-gc before, in the place of the last such copy, which restore brings back; of a server make a backup. Every trace of what was deleted leaves the file with compact --secure, and this machine once that copy is removed.`
}

func (c *gcCmd) options() (*episodic.GCOptions, error) {
	o := &episodic.GCOptions{Before: time.Time(c.Before), Protect: c.Protect, Keep: c.Keep, MaxBytes: int64(c.MaxSize)}
	if c.OlderThan > 0 {
		if !o.Before.IsZero() {
			return nil, invalid("--older-than", "and --before say the same; give one of them")
		}
		o.Before = time.Now().Add(-time.Duration(c.OlderThan))
	}
	for _, outcome := range c.Outcome {
		if outcome == "none" {
			outcome = ""
		}
		o.Outcomes = append(o.Outcomes, episodic.OutcomeKind(outcome))
	}
	return o, nil
}

func (c *gcCmd) Run(ctx context.Context, a *app) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	return a.withMemory(ctx, func(store *episodic.Store) error {
		a.publish(store)
		if !c.DryRun && !c.Yes {
			dry := *o
			dry.DryRun = true
			would, err := store.GC(ctx, &dry)
			if err != nil {
				return err
			}
			if would.Episodes > 0 {
				question := fmt.Sprintf("Delete %s, %s, and leave %s, %s?", count(int(would.Episodes), "episode"), size(would.Bytes), count(int(would.Left), "episode"), size(would.LeftBytes))
				if err := a.agree(question, "nothing was deleted"); err != nil {
					return err
				}
			}
		}
		if !c.DryRun && !c.NoSnapshot {
			if err := c.snapshot(ctx, a, store); err != nil {
				return err
			}
		}
		o.DryRun = c.DryRun
		var printed error
		o.Each = func(e episodic.Collected) {
			switch {
			case c.JSON:
				printed = errors.Join(printed, a.printJSON(e))
			case c.DryRun:
				a.printf("%v  %s  %-15s  %s\n", e.ID, e.Start.Format(time.DateOnly), e.Outcome, size(e.Bytes))
			}
		}
		done, err := store.GC(ctx, o)
		if err != nil {
			if errors.Is(err, context.Canceled) {
				err = errInterrupted
			}
			return fmt.Errorf("gc stopped with %s deleted: %w; running it again goes on", count(int(done.Episodes), "episode"), err)
		}
		if c.JSON {
			return errors.Join(printed, a.printJSON(done))
		}
		a.printCollection(&done, c.DryRun)
		return nil
	})
}

// snapshot copies a local file. A server has no folder for that.
func (c *gcCmd) snapshot(ctx context.Context, a *app, store *episodic.Store) error {
	path, err := store.Snapshot(ctx, "gc")
	if errors.Is(err, episodic.ErrInvalid) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("nothing was deleted: %w; --no-snapshot deletes without a copy", err)
	}
	if !c.JSON {
		a.printf("%s is the memory as it was before\n", plain(path))
	}
	return nil
}

func (a *app) printCollection(done *episodic.Collection, dry bool) {
	what := "deleted"
	if dry {
		what = "would be deleted"
	}
	a.printf("%s of %s %s; %s of %s left\n", count(int(done.Episodes), "episode"), size(done.Bytes), what, count(int(done.Left), "episode"), size(done.LeftBytes))
	if done.Kept > 0 {
		a.printf("%s changed by others meanwhile, and left alone\n", count(int(done.Kept), "episode"))
	}
	if done.Freed > 0 {
		a.printf("gave back %s\n", size(done.Freed))
	}
	if done.Reusable > 0 {
		a.printf("%s are free for what is stored next\n", size(done.Reusable))
	}
	if done.NotFreed != "" {
		a.complain("the space did not come back: %s", done.NotFreed)
	}
}

// age is a time span on the command line.
type age time.Duration

func (d *age) UnmarshalText(b []byte) error {
	units := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	text := string(b)
	if text != "" {
		unit := units[text[len(text)-1]]
		n, err := strconv.ParseInt(text[:len(text)-1], 10, 32)
		if err == nil && n > 0 && unit > 0 && n < int64(1<<62/unit) {
			*d = age(time.Duration(n) * unit)
			return nil
		}
	}
	return fmt.Errorf("%q is no age such as 36h, 90d or 12w", text)
}

// byteSize is a number of them on the command line; MB and the like are powers of 1,000, as
// they are printed.
type byteSize int64

func (n *byteSize) UnmarshalText(b []byte) error {
	number, unit := strings.ToUpper(string(b)), int64(1)
	for name, factor := range map[string]int64{"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12} {
		if digits, found := strings.CutSuffix(number, name); found {
			number, unit = digits, factor
		}
	}
	v, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || v < 1 || v > (1<<62)/unit {
		return fmt.Errorf("%q is no size such as 500MB or 2GB", b)
	}
	*n = byteSize(v * unit)
	return nil
}
