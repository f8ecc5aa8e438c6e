package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/episodic-memory/episodic"
)

type deleteCmd struct {
	Yes      bool     `short:"y" help:"Ask nothing."`
	IDs      []string `arg:"" name:"id" help:"Ids of episodes, or enough of their first digits."`
	Receipts string   `placeholder:"FILE" help:"Add a receipt of each deletion to this file, a line each, which verify reads; - is standard output."`
}

// Help is shown by delete --help.
func (*deleteCmd) Help() string {
	return `Asks first, unless all ids are whole, or one episode is named by 8 digits or more; where nobody can be asked it deletes nothing without --yes. An id that fits several episodes, or none, deletes nothing.

The words of what was deleted leave the search index and dictionaries with compact, and every trace of it leaves the file with compact --secure.`
}

// plainDigits is how many digits of an id name an episode without a question.
const plainDigits = 8

func (c *deleteCmd) Run(ctx context.Context, a *app) error {
	return a.withReceipts(ctx, c.Receipts, func(ctx context.Context) error { return c.delete(ctx, a) })
}

func (c *deleteCmd) delete(ctx context.Context, a *app) error {
	return a.withMemory(ctx, func(store *episodic.Store) error {
		// Find all of them first, so that a mistyped id deletes nothing.
		var found []*episodic.Episode
		whole, short := true, false
		for _, prefix := range c.IDs {
			id, err := resolve(ctx, store, prefix)
			if err != nil {
				return fmt.Errorf("nothing deleted: %w", err)
			}
			if _, err := episodic.ParseID(prefix); err != nil {
				whole, short = false, short || digits(prefix) < plainDigits
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
		if !c.Yes && !whole && (short || len(found) > 1) {
			for _, e := range found {
				a.printf("%v  %s\n", e.ID, cut(oneLine(e.Description), a.width()-38))
			}
			if err := a.agree(fmt.Sprintf("Delete %s?", count(len(found), "episode")), "nothing was deleted"); err != nil {
				return err
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

// digits counts those of an id, without hyphens.
func digits(prefix string) (n int) {
	for _, r := range prefix {
		if r != '-' {
			n++
		}
	}
	return n
}
