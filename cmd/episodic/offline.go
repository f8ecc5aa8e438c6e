package main

import (
	"context"
	"time"

	"github.com/episodic-memory/episodic"
)

const offlineEnv = "EPISODIC_OFFLINE"

// offlineFrom says when writes are acknowledged, by the flag if it was given, and otherwise by
// the environment.
func offlineFrom(flag *string, env string) (episodic.Offline, error) {
	name, given := "$"+offlineEnv, env
	if flag != nil {
		name, given = "--offline", *flag
	}
	switch given {
	case "", "through":
		return episodic.Through, nil
	case "queue":
		return episodic.Queue, nil
	}
	return 0, invalid(name, "is %q; it must be queue or through", given)
}

// queueStats is what a Store has done with queued writes; zero if it has no queue.
func queueStats(store *episodic.Store) episodic.QueueStats {
	if r := store.Stats().Replica; r != nil && r.Queue != nil {
		return *r.Queue
	}
	return episodic.QueueStats{}
}

// pushWait is for how long a command waits for what is queued to be pushed.
const pushWait = time.Second

// awaitPush waits until what is queued has been pushed, or could not be, and returns what is
// left.
func awaitPush(ctx context.Context, store *episodic.Store) (episodic.Outbox, error) {
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		box, err := store.Outbox(ctx)
		if err != nil || box.Waiting == box.Refused || queueStats(store).Down != "" || time.Since(begun) >= pushWait {
			return box, err
		}
	}
}

// tellQueued says how much is queued and not on the server yet, if this command has queued
// something.
func (a *app) tellQueued(ctx context.Context, store *episodic.Store) error {
	if queueStats(store).Queued == 0 {
		return nil
	}
	box, err := awaitPush(context.WithoutCancel(ctx), store) // an import that was interrupted has queued too
	if err != nil || box.Waiting == 0 {
		return err
	}
	a.printf("%s queued on this machine, not yet stored on the server; sync now pushes them\n", count(int(box.Waiting), "write"))
	if box.Refused > 0 {
		a.printf("the server has refused %d of them; sync outbox says why\n", box.Refused)
	}
	return nil
}
