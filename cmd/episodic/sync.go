package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
)

type syncCmd struct {
	Status syncStatusCmd `cmd:"" default:"withargs" help:"Say how new the replica is (the default)."`
	Now    syncNowCmd    `cmd:"" help:"Push what is queued, bring the replica up to date, and wait until it is."`
	Outbox syncOutboxCmd `cmd:"" help:"List the writes that are queued on this machine, and why the server has refused some."`
	Verify syncVerifyCmd `cmd:"" help:"Compare the replica with the server, and fetch anew what differs."`
	Reset  syncResetCmd  `cmd:"" help:"Delete the replica; it is made anew when it is needed."`

	Conflicts syncConflictsCmd `cmd:"" help:"List what queued writes of this or other machines have met, and restore what lost."`
}

// Help is shown by sync --help.
func (*syncCmd) Help() string {
	return `A program that uses a server keeps a replica of the server's memory in the user's cache folder: what it reads comes from there, and while the server cannot be reached it still does. All programs of this machine share it. It can be deleted at any time: nothing is stored there alone.

With EPISODIC_REPLICA=0 in the environment there is none. With --offline queue (EPISODIC_OFFLINE=queue) what commands write is acknowledged when it is on this machine's disk, in an outbox, and pushed when the server can be reached; a command waits about a second for that, and says what is left. Later commands push it, whether they queue or not, before they write something themselves. The outbox is in the user's state folder, and sync reset leaves it alone: it holds what is nowhere else.`
}

// statusWait is how long sync status waits for the server.
const statusWait = 2 * time.Second

type syncStatusCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *syncStatusCmd) Run(ctx context.Context, a *app) error {
	return a.withReplica(ctx, func(store *episodic.Store) error {
		// Only who asks the server knows whether it can be reached.
		asked, cancel := context.WithTimeout(episodic.WithFresh(ctx), statusWait)
		defer cancel()
		_, err := store.ListEpisodes(asked, nil, &episodic.Paging{Limit: 1})
		if err != nil && ctx.Err() != nil {
			return err
		}
		if _, err := awaitPush(ctx, store); err != nil {
			return err
		}
		return a.printSync(ctx, store, err, c.JSON)
	})
}

type syncNowCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *syncNowCmd) Run(ctx context.Context, a *app) error {
	return a.withReplica(ctx, func(store *episodic.Store) error {
		a.publish(store)
		refused := store.Flush(ctx)
		if refused != nil && !errors.Is(refused, episodic.ErrConflict) {
			return fmt.Errorf("%w; what is queued is kept, and running it again goes on", refused)
		}
		var bar *progress
		var most int64
		err := store.Sync(ctx, func(remaining int64) {
			if remaining > most {
				bar.done()
				most, bar = remaining, newProgress(a.stderr, "sync", remaining, false)
			}
			bar.set(most - remaining)
		})
		bar.done()
		if err != nil {
			return fmt.Errorf("%w; what was fetched is kept, and running it again goes on", err)
		}
		if err := a.printSync(ctx, store, nil, c.JSON); err != nil || refused == nil {
			return err
		}
		return fmt.Errorf("%w; sync outbox says why, and sync outbox --discard N gives one up", refused)
	})
}

type syncOutboxCmd struct {
	Discard int64 `placeholder:"N" help:"Give up write N, which the server has refused; what waits for it goes on."`
	JSON    bool  `name:"json" help:"Print JSON."`
}

func (c *syncOutboxCmd) Run(ctx context.Context, a *app) error {
	if _, err := a.serverTarget(ctx); err != nil {
		return err
	}
	return a.withMemory(ctx, func(store *episodic.Store) error {
		if c.Discard != 0 {
			if err := store.Discard(ctx, c.Discard); err != nil {
				return err
			}
			if !c.JSON {
				a.printf("queued write %d is given up\n", c.Discard)
			}
		}
		writes := []episodic.QueuedWrite{}
		for w, err := range store.Queued(ctx) {
			if err != nil {
				return err
			}
			if writes = append(writes, w); c.JSON {
				continue
			}
			a.printf("%d  %s  %s %v  %s\n", w.Number, w.Time.Local().Format(time.DateTime), w.Write, w.Item, size(w.Bytes))
			if w.Refused != "" {
				a.printf("    refused: %s\n", oneLine(w.Refused))
			}
		}
		if c.JSON {
			return a.printJSON(struct {
				Writes []episodic.QueuedWrite `json:"writes"`
			}{writes})
		}
		if len(writes) == 0 {
			a.printf("nothing is queued\n")
		}
		return nil
	})
}

type syncVerifyCmd struct {
	Deep bool `help:"Compare each payload too, which takes about 40 bytes of traffic for each, and 100 for each item."`
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *syncVerifyCmd) Run(ctx context.Context, a *app) error {
	return a.withReplica(ctx, func(store *episodic.Store) error {
		found, err := store.VerifyReplica(ctx, c.Deep)
		if c.JSON && (err == nil || len(found) > 0) {
			err = errors.Join(err, a.printJSON(struct {
				Differences []episodic.ReplicaDifference `json:"differences"`
			}{append([]episodic.ReplicaDifference{}, found...)}))
		}
		for _, d := range found {
			if !c.JSON {
				a.printf("%s %v  here: %s; on the server: %s\n", d.Kind, d.ID, cmp.Or(d.Here, "missing"), cmp.Or(d.There, "missing"))
			}
		}
		if err == nil && len(found) == 0 && !c.JSON {
			a.printf("the replica holds what the server does\n")
		}
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("%s differed, and came anew from the server", count(len(found), "item"))
		}
		return err
	})
}

type syncResetCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *syncResetCmd) Run(ctx context.Context, a *app) error {
	target, err := a.serverTarget(ctx)
	if err == nil && !isServer(target) {
		err = invalid("sync", "%s is linked to a server; link --undo makes it a local memory", target)
	}
	if err != nil {
		return err
	}
	removed, err := episodic.RemoveReplica(ctx, target, a.options(target))
	if err != nil {
		return err
	}
	if c.JSON {
		return a.printJSON(struct {
			Removed bool `json:"removed"`
		}{removed})
	}
	if !removed {
		a.complain("there was no replica of %s", shownTarget(target))
	}
	return nil
}

// serverTarget is the target, if it is a server or a file that is linked to one.
func (a *app) serverTarget(ctx context.Context) (string, error) {
	target, err := a.target(false)
	if err != nil || isServer(target) {
		return target, err
	}
	linked, err := episodic.LinkedServer(ctx, target)
	if err == nil && linked == "" {
		err = invalid("sync", "%s is a local file, so there is nothing to synchronise; --db names a server", target)
	}
	return target, err
}

// withReplica opens a server's memory with its replica, calls f and closes it.
func (a *app) withReplica(ctx context.Context, f func(*episodic.Store) error) error {
	if _, err := a.serverTarget(ctx); err != nil {
		return err
	}
	return a.withMemory(ctx, func(store *episodic.Store) error {
		if store.Stats().Replica == nil {
			return invalid("sync", "no replica of this server is kept: EPISODIC_REPLICA=0 says so, or there is no cache folder that can be written")
		}
		return f(store)
	})
}

// printSync prints the state of a replica and of what is queued; asked is why the server could
// not be asked.
func (a *app) printSync(ctx context.Context, store *episodic.Store, asked error, asJSON bool) error {
	target, err := a.target(false)
	if err != nil {
		return err
	}
	box, err := store.Outbox(ctx)
	if err != nil {
		return err
	}
	s := store.Stats()
	r, queue := s.Replica, queueStats(store)
	if asked != nil && r.Down == "" {
		r.Down = asked.Error()
	}
	if asJSON {
		return a.printJSON(struct {
			Database string `json:"database"`
			*episodic.ReplicaStats
			Outbox       episodic.Outbox `json:"outbox"`
			Sent         uint64          `json:"bytes_sent"` // by pulls of this process
			Received     uint64          `json:"bytes_received"`
			PushSent     uint64          `json:"push_bytes_sent"` // by its writes
			PushReceived uint64          `json:"push_bytes_received"`
		}{shownTarget(target), r, box, s.Server.PullBytes.Sent, s.Server.PullBytes.Received, s.Server.WriteBytes.Sent, s.Server.WriteBytes.Received})
	}
	a.printf("database    %s\n", plain(shownTarget(target)))
	a.printf("replica     %s\n", plain(r.Path))
	if r.AsOf.IsZero() {
		a.printf("as of       no moment yet: changes are being fetched\n")
	} else {
		a.printf("as of       %s, %s ago\n", r.AsOf.Local().Format(time.DateTime), time.Since(r.AsOf).Round(100*time.Millisecond))
	}
	if r.Complete {
		a.printf("complete    yes\n")
	} else {
		a.printf("complete    no, about %s to be fetched\n", count(int(r.Remaining), "item"))
	}
	if !r.Since.IsZero() {
		a.printf("since       %s: episodes that began before are read from the server\n", r.Since.Local().Format(time.DateTime))
	}
	if r.Down != "" {
		a.printf("server      %s\n", oneLine(r.Down))
	}
	a.printf("fetched     %s by this process: %s sent, %s received\n", count(int(r.Items), "item"), size(int64(s.Server.PullBytes.Sent)), size(int64(s.Server.PullBytes.Received)))
	if r.Queue == nil {
		return nil
	}
	a.printf("pushed      %s by this process: %s sent, %s received\n", count(int(queue.Pushed), "write"), size(int64(s.Server.WriteBytes.Sent)), size(int64(s.Server.WriteBytes.Received)))
	if box.Waiting == 0 {
		a.printf("outbox      empty\n")
		return nil
	}
	a.printf("outbox      %s of %s, the oldest from %s\n", count(int(box.Waiting), "write"), size(box.Bytes), box.Oldest.Local().Format(time.DateTime))
	if box.Refused > 0 {
		a.printf("refused     %s, and later ones of the same items wait; sync outbox says why\n", count(int(box.Refused), "write"))
	}
	if queue.Down != "" {
		a.printf("not pushed  %s\n", oneLine(queue.Down))
	}
	return nil
}
