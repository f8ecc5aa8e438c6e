package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic"
)

type statsCmd struct {
	Live bool `help:"Instead, say what the running programs of this user have done since they opened a database."`
	JSON bool `name:"json" help:"Print JSON: the counts, and under store what this process did."`
}

// Help is shown by stats --help.
func (*statsCmd) Help() string {
	return `With --live nothing is asked of a database, but of every program of this user on this machine that publishes its statistics (from Go: Store.PublishStats; import and compact always do). A program that was killed is told once; one that is stopped takes 2 s. The programs and this command find each other in a folder, which $EPISODIC_LIVE_DIR names if it is set.`
}

func (c *statsCmd) Run(ctx context.Context, a *app) error {
	if c.Live {
		return c.live(ctx, a)
	}
	target, err := a.target(false)
	if err != nil {
		return err
	}
	return a.toRead(ctx, func(store *episodic.Store) error {
		n, err := store.Counts(ctx)
		if err != nil {
			return err
		}
		storage, err := store.StorageStats(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.printJSON(struct {
				episodic.Counts
				Storage  episodic.StorageStats `json:"storage"`
				Store    episodic.Stats        `json:"store"`
				Database string                `json:"database"`
			}{n, storage, store.Stats(), shownTarget(target)})
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
		a.printStorageStats(storage)
		a.printServer(store.Stats())
		return nil
	})
}

// printStorageStats prints how small the payloads are. Their plain length is known of
// those that were sampled.
func (a *app) printStorageStats(s episodic.StorageStats) {
	if s.SamplePlain == 0 {
		return
	}
	of := "of what they take plain"
	if s.SamplePayloads < s.Payloads {
		of += fmt.Sprintf(", by the newest %d", s.SamplePayloads)
	}
	a.printf("payloads    %d in %s, %.0f %% %s\n", s.Payloads, size(s.StoredBytes), 100*float64(s.SampleStored)/float64(s.SamplePlain), of)
	if s.Dictionaries > 0 {
		a.printf("besides     %s in %s\n", dictionaries(s.Dictionaries), size(s.DictionaryBytes))
	}
}

// printServer prints what happened on the way to a server; nothing for a local
// file.
func (a *app) printServer(s episodic.Stats) {
	if s.Server == nil {
		return
	}
	a.printf("\nto the server, by this process:\n")
	a.printTraffic(&s)
}

// printTraffic prints what happened on the way to a server.
func (a *app) printTraffic(s *episodic.Stats) {
	p := s.Server.Pool
	a.printf("requests    %d\n", s.Requests)
	var all episodic.Traffic
	for _, t := range []episodic.Traffic{s.Server.ReadBytes, s.Server.PullBytes, s.Server.WriteBytes, s.Server.UpkeepBytes} {
		all.Sent += t.Sent
		all.Received += t.Received
	}
	a.printf("bytes       %s sent, %s received\n", size(int64(all.Sent)), size(int64(all.Received)))
	a.printf("connections %d opened, %d open\n", p.Opened, p.Open)
	a.printf("pings       %d%s\n", p.PingsSent, also(p.PingsFailed, "failed"))
	a.printf("failures    %s\n", failures(s.Failures))
	a.printf("retries     %d%s\n", s.Retries, also(s.Server.RetryBudgetExhausted, "not made: retry budget exhausted"))
}

// failures is "2 timeout, 1 unavailable", or 0.
func failures(by map[string]uint64) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		if n := by[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(reason, "_", " ")))
		}
	}
	if parts == nil {
		return "0"
	}
	return strings.Join(parts, ", ")
}

// also is ", 2 failed", or empty for 0.
func also(n uint64, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d %s", n, what)
}
