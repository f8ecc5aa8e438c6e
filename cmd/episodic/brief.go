package main

import (
	"context"
	"strings"

	"github.com/episodic-memory/episodic"
)

type briefCmd struct {
	Task   []string `arg:"" help:"The task in words, or an error message."`
	Budget int      `default:"400" placeholder:"TOKENS" help:"Print at most about this many tokens, at least 100."`
	filterFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *briefCmd) Run(ctx context.Context, a *app) error {
	return a.toRead(ctx, func(store *episodic.Store) error { return c.brief(ctx, a, store) })
}

func (c *briefCmd) brief(ctx context.Context, a *app, store *episodic.Store) error {
	if c.Budget == 0 { // the Store's default
		return invalid("--budget", "is 0; leave it out for 400 tokens")
	}
	b, err := store.Brief(ctx, strings.Join(c.Task, " "), &episodic.BriefOptions{Budget: c.Budget, Filter: *c.filter()})
	if err != nil {
		return err
	}
	if b.Waiting > 0 {
		a.complain("%d of the items are not indexed yet and cannot be found; episodic compact indexes them", b.Waiting)
	}
	for _, damage := range b.Damaged {
		a.complain("left out: %v", damage) // no failure: hooks take what there is
	}
	text := b.Text()
	if text == "" {
		a.complain("nothing in the memory fits this task well enough")
		if err := a.explainNone(ctx, store, &c.filterFlags); err != nil {
			return err
		}
	}
	if c.JSON {
		return a.printJSON(b)
	}
	a.printf("%s", plain(text))
	return nil
}
