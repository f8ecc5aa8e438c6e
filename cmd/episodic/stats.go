package main

import (
	"context"

	"github.com/episodic-memory/episodic"
)

type statsCmd struct {
	JSON bool `name:"json" help:"Print JSON: the counts, and under store what this process did."`
}

func (c *statsCmd) Run(ctx context.Context, a *app) error {
	target, err := a.target(false)
	if err != nil {
		return err
	}
	return a.withMemory(ctx, func(store *episodic.Store) error {
		n, err := store.Counts(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.printJSON(struct {
				episodic.Counts
				Store    episodic.Stats `json:"store"`
				Database string         `json:"database"`
			}{n, store.Stats(), shownTarget(target)})
		}
		a.printf("database    %s\n", plain(shownTarget(target)))
		for _, row := range []struct {
			name string
			n    int64
		}{
			{"episodes", n.Episodes}, {"steps", n.Steps}, {"patterns", n.Patterns}, {"heuristics", n.Heuristics},
			{"embeddings", n.Embeddings}, {"relations", n.Relations}, {"tags", n.Tags},
		} {
			a.printf("%-11s %d\n", row.name, row.n)
		}
		return nil
	})
}
