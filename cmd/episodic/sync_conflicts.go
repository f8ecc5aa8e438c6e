package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

type syncConflictsCmd struct {
	Restore int64 `placeholder:"N" help:"Store again what conflict N has kept."`
	JSON    bool  `name:"json" help:"Print JSON."`
}

// Help is shown by sync conflicts --help.
func (*syncConflictsCmd) Help() string {
	return `A write that was queued on a machine may come to the server after others have changed or deleted the same item. Where both have changed the same field, the write that comes later is stored; what it replaces is kept on the server for 30 days, or until the item is deleted. All machines list the same conflicts.

--restore puts what was kept over what the item is now, or stores it anew if it is deleted, and ends the conflict.`
}

func (c *syncConflictsCmd) Run(ctx context.Context, a *app) error {
	if _, err := a.serverTarget(ctx); err != nil {
		return err
	}
	return a.withMemory(ctx, func(store *episodic.Store) error {
		if c.Restore != 0 {
			if err := store.Restore(ctx, c.Restore); err != nil {
				return err
			}
			if c.JSON {
				return a.printJSON(struct {
					Restored int64 `json:"restored"`
				}{c.Restore})
			}
			a.printf("conflict %d is restored\n", c.Restore)
			return nil
		}
		list := []episodic.Conflict{}
		var damaged []*episodic.DamagedError
		for conflict, err := range store.Conflicts(ctx) {
			if damage, ok := errors.AsType[*episodic.DamagedError](err); ok {
				damaged = append(damaged, damage)
				continue
			}
			if err != nil {
				return err
			}
			list = append(list, conflict)
		}
		if c.JSON {
			return errors.Join(a.printJSON(struct {
				Conflicts []episodic.Conflict `json:"conflicts"`
			}{list}), a.missing(damaged))
		}
		if len(list)+len(damaged) == 0 {
			a.printf("there are no conflicts\n")
		}
		for i := range list {
			a.printConflict(&list[i])
		}
		return a.missing(damaged)
	})
}

func (a *app) printConflict(c *episodic.Conflict) {
	a.printf("%-4d %s  %s %v\n", c.Number, c.Time.Local().Format(time.DateTime), c.ItemKind, c.Item)
	a.printf("     %s\n", oneLine(conflictText(c)))
}

// conflictText says what happened.
func conflictText(c *episodic.Conflict) string {
	name := "the item"
	switch {
	case c.Episode != nil:
		name = fmt.Sprintf("%.60q", c.Episode.Description)
	case c.Pattern != nil:
		name = fmt.Sprintf("%.60q", c.Pattern.Description)
	case c.Heuristic != nil:
		name = fmt.Sprintf("%.60q", c.Heuristic.Condition)
	case c.Write != "":
		name = "the write (" + c.Write + ")"
	}
	switch c.Kind {
	case episodic.ConflictChanged:
		return fmt.Sprintf("two have changed %s; kept of the earlier %s", strings.Join(c.Fields, ", "), name)
	case episodic.ConflictSameID:
		return "two were stored with one id; kept is " + name
	case episodic.ConflictLate:
		return count(c.Late, "step") + " came after it had ended, and stand behind all others; nothing is lost"
	case episodic.ConflictGone:
		return "it was deleted before a write came to it; kept is " + name
	case episodic.ConflictDeleted:
		return "it was changed before its deletion came to it; kept is " + name
	}
	return string(c.Kind)
}
