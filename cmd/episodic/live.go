package main

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
)

// liveDirEnv names the folder for the sockets of commands that may take long, and of
// the Stores that stats --live looks at; unset: the library's choice.
const liveDirEnv = "EPISODIC_LIVE_DIR"

// publish lets stats --live show this command while it runs.
func (a *app) publish(store *episodic.Store) {
	if err := store.PublishStats(a.getenv(liveDirEnv)); err != nil {
		a.complain("%v; episodic stats --live will not show this command", err)
	}
}

// live says what the running processes do.
func (c *statsCmd) live(ctx context.Context, a *app) error {
	if a.db != nil || a.project != nil || a.user != nil {
		return invalid("--live", "shows all running processes of this user; leave --db, --project and --user out")
	}
	stores, err := episodic.LiveStores(ctx, a.getenv(liveDirEnv))
	if err != nil {
		return fmt.Errorf("%w ($%s names the folder)", err, liveDirEnv)
	}
	if c.JSON {
		return a.printJSON(struct {
			Stores []episodic.LiveStore `json:"stores"`
		}{append([]episodic.LiveStore{}, stores...)})
	}
	if len(stores) == 0 {
		a.complain("no running process of this user publishes its statistics; a program does it by Store.PublishStats, episodic import and compact always do")
	}
	for i, s := range stores {
		if i > 0 {
			a.printf("\n")
		}
		a.printLive(s, time.Now())
	}
	return nil
}

func (a *app) printLive(l episodic.LiveStore, now time.Time) {
	a.printf("process     %d", l.PID)
	if l.Stats == nil {
		a.printf(": %s\n", oneLine(l.Error))
		return
	}
	a.printf(" %s\n", oneLine(l.Program))
	a.printf("database    %s\n", oneLine(l.Target))
	a.printf("open since  %s, for %v\n", l.Opened.Local().Format(time.DateTime), now.Sub(l.Opened).Round(time.Second))
	s := l.Stats
	a.printf("reads       %d\n", s.Reads)
	a.printf("writes      %d, in %s\n", s.Writes, count(int(s.Commits), "transaction"))
	if k := s.Cache; k != nil {
		a.printf("cache       %d hits, %d misses%s\n", k.Hits, k.Misses, also(k.StaleServed, "served stale"))
	}
	if e := s.Embedder; e != nil {
		a.printf("model       %s: %s embedded%s\n", oneLine(e.Name), count(int(e.Embedded), "document"), also(e.Failures+e.Missed, "failures"))
	}
	if s.Server == nil {
		a.printf("failures    %s\n", failures(s.Failures))
		a.printf("retries     %d\n", s.Retries)
		return
	}
	a.printTraffic(s)
}
