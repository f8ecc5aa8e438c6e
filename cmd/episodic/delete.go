package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic"
)

type deleteCmd struct {
	IDs      []string `arg:"" name:"id" help:"Ids of episodes, or enough of their first digits."`
	Receipts string   `placeholder:"FILE" help:"Add a receipt of each deletion to this file, a line each, which verify reads; - is standard output."`
}

func (c *deleteCmd) Run(ctx context.Context, a *app) error {
	return a.withReceipts(ctx, c.Receipts, func(ctx context.Context) error { return c.delete(ctx, a) })
}

func (c *deleteCmd) delete(ctx context.Context, a *app) error {
	return a.withMemory(ctx, func(store *episodic.Store) error {
		// Find all of them first, so that a mistyped id deletes nothing.
		var found []*episodic.Episode
		for _, prefix := range c.IDs {
			id, err := resolve(ctx, store, prefix)
			if err != nil {
				return fmt.Errorf("nothing deleted: %w", err)
			}
			e, err := store.Episode(ctx, id)
			if errors.Is(err, episodic.ErrCorrupt) {
				e, err = &episodic.Episode{ID: id, Description: "(damaged)"}, nil
			}
			if err != nil {
				return fmt.Errorf("nothing deleted: %w", err)
			}
			if !slices.ContainsFunc(found, func(f *episodic.Episode) bool { return f.ID == id }) {
				found = append(found, e)
			}
		}
		for _, e := range found {
			if err := store.DeleteEpisode(ctx, e.ID); err != nil {
				return err
			}
			a.printf("deleted %v  %s\n", e.ID, cut(oneLine(e.Description), a.width()-46))
		}
		return nil
	})
}
