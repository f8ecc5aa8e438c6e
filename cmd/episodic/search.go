package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

type searchCmd struct {
	Query []string `arg:"" help:"Plain words; an episode that has more of them, and rarer ones, ranks higher."`
	N     int      `short:"n" name:"limit" default:"10" help:"Print at most this many."`
	filterFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *searchCmd) Run(ctx context.Context, a *app) error {
	return a.withMemory(ctx, func(store *episodic.Store) error { return c.search(ctx, a, store) })
}

func (c *searchCmd) search(ctx context.Context, a *app, store *episodic.Store) error {
	if err := checkLimit(c.N); err != nil {
		return err
	}
	hits, err := store.Search(ctx, strings.Join(c.Query, " "), &episodic.SearchOptions{Filter: *c.filter(), Limit: c.N})
	if err != nil {
		return err
	}
	if c.JSON {
		return a.printJSON(struct {
			Hits []episodic.Hit `json:"hits"`
		}{append([]episodic.Hit{}, hits...)})
	}
	if len(hits) == 0 {
		a.complain("no episode fits; try other words, or episodic list")
		if err := a.explainNone(ctx, store, &c.filterFlags); err != nil {
			return err
		}
	}
	for i, hit := range hits {
		e := hit.Episode
		head := fmt.Sprintf("%2d. %5.2f  %-15s  %s  ", i+1, hit.Score, outcomeName(e), e.Start.Format(time.DateOnly))
		a.printf("%s%s\n", head, cut(oneLine(e.Description), a.width()-len(head)))
		const margin = "           "
		if snippet := oneLine(hit.Snippet); snippet != "" {
			a.printf("%s%s\n", margin, cut(snippet, a.width()-len(margin)))
		}
		a.printf("%s%v\n", margin, e.ID)
	}
	return nil
}
