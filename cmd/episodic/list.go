package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
)

type listCmd struct {
	N      int    `short:"n" name:"limit" default:"50" help:"Print at most this many."`
	Cursor string `help:"Go on behind an earlier page, as that page said."`
	filterFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *listCmd) Run(ctx context.Context, a *app) error {
	return a.toRead(ctx, func(store *episodic.Store) error {
		if err := checkLimit(c.N); err != nil {
			return err
		}
		page, err := store.ListEpisodes(ctx, c.filter(), &episodic.Paging{Limit: c.N, Cursor: c.Cursor})
		if err != nil {
			return err
		}
		if c.JSON {
			return errors.Join(a.printJSON(struct {
				Episodes []*episodic.Episode      `json:"episodes"`
				Next     string                   `json:"next"`
				Damaged  []*episodic.DamagedError `json:"damaged,omitempty"`
			}{append([]*episodic.Episode{}, page.Items...), page.Next, page.Damaged}), a.missing(page.Damaged))
		}
		if len(page.Items)+len(page.Damaged) == 0 {
			a.complain("no episodes")
			if err := a.explainNone(ctx, store, &c.filterFlags); err != nil {
				return err
			}
		}
		for _, e := range page.Items {
			head := fmt.Sprintf("%v  %s  %-15s  %4d  ", e.ID, e.Start.Format(time.DateOnly), outcomeName(e), e.StepCount)
			a.printf("%s%s\n", head, cut(oneLine(e.Description), a.width()-len(head)))
		}
		if page.Next != "" {
			// On stderr, so that stdout holds episodes only; after them.
			if err := a.out.Flush(); err != nil {
				return err
			}
			a.note("more follow: repeat the command with --cursor %s", page.Next)
		}
		return a.missing(page.Damaged)
	})
}
