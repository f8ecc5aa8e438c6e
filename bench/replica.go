package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const replicaClaim = "A client that keeps a replica of a server's memory in a file of its own (`Options.Replica`; the servers of `Options.Replicas` are the matter of `replicas`). " +
	"**Bytes:** all that passes on the socket, HTTP heads and a bearer token of 280 characters included, for whole lives of episodes through start, appends and complete, fetched once by another client, and for an import. " +
	"Targets: queued runs of a coding agent at most 0.30 of their JSON up, with searches by step on both sides, and 0.25 up for an import; tau-bench no more than without a replica. " +
	"**Speed:** at a round trip (RTT) of 40 ms, beside a local file with the same episodes. Targets: reads at most 1.1 times the file's p50, a get within 0.2 ms, no request for a read but the look every 5 s. " +
	"**Fresh:** a client that has nothing yet, 2,000 episodes on the server. Targets: the first search within 2 s, complete and indexed within 10 s. " +
	"**Dead:** from `Open` to the first answer while the server refuses: 20 ms; no call hangs while it is silent. " +
	"**Processes:** 32 on one machine queue their writes in one outbox, beside 32 that write to the server. Targets: at most 1/8 of the requests for each write, pushes and pulls included; no call fails, and the server always writes again. " +
	"**Memory** (only with -full): 100,000 small episodes in a client of less than 200 MB."

// replicaRTT is the round trip to the server.
const replicaRTT = 40 * time.Millisecond

func replicaScenario(ctx context.Context, b *bench) error {
	for _, part := range []struct {
		name string
		full bool
		run  func(context.Context, *bench) error
	}{
		{"bytes", false, replicaBytes},
		{"speed", false, replicaSpeed},
		{"fresh", false, replicaFresh},
		{"dead", false, replicaDead},
		{"processes", false, replicaProcesses},
		{"memory", true, replicaMemory},
	} {
		if !b.match.MatchString(part.name) || part.full && !b.full {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: replica: %s\n", part.name)
		b.printf("\n### %s\n\n", part.name)
		if err := part.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	b.printf("\nThe time of queued writes beside a file's was left out.\n")
	return nil
}

func (b *bench) replicaRTT() time.Duration {
	if b.short {
		return shortRTT
	}
	return replicaRTT
}

// machine is a client's: a folder with its replica and locks, and a link to the server.
type machine struct {
	dir  string
	url  string // of the link
	link *hranatest.Link
}

// newMachine makes a machine that is a round trip away from the server at url.
func newMachine(b *bench, url string, rtt time.Duration) (*machine, error) {
	dir, err := os.MkdirTemp(b.dir, "machine-")
	if err != nil {
		return nil, err
	}
	link, err := hranatest.NewLink(url)
	if err != nil {
		return nil, err
	}
	link.SetRTT(rtt)
	return &machine{dir, link.URL(), link}, nil
}

func (m *machine) path() string { return filepath.Join(m.dir, "replica.db") }

// open opens a Store of the machine, with or without a replica.
func (m *machine) open(ctx context.Context, replica bool, opts *episodic.Options) (*episodic.Store, error) {
	o := episodic.Options{}
	if opts != nil {
		o = *opts
	}
	m.settle(&o, replica)
	return episodic.Open(ctx, m.url, &o)
}

// settle sets the options that keep a Store to the machine's folder.
func (m *machine) settle(o *episodic.Options, replica bool) {
	o.AuthToken, o.LockDir, o.CacheDir = episodic.StaticToken(wireToken), m.dir, m.dir
	o.Replica.Disabled = !replica
	if replica {
		o.Replica.Path = m.path()
	}
}

// syncOnce lets the machine's replica get all that the server has.
func (m *machine) syncOnce(ctx context.Context) error {
	store, err := m.open(ctx, true, nil)
	if err != nil {
		return err
	}
	return errors.Join(store.Sync(ctx, nil), store.Close())
}

// passed is what has passed on the link, once nothing is under way any more.
func (m *machine) passed(ctx context.Context) (c hranatest.LinkCounts, err error) {
	for before := (hranatest.LinkCounts{Requests: -1}); c != before && err == nil; {
		before = c
		err = rest(ctx, 100*time.Millisecond)
		c = m.link.Counts()
	}
	return c, err
}

// since is what was counted after another count.
func since(now, before hranatest.LinkCounts) hranatest.LinkCounts {
	now.Accepted -= before.Accepted
	now.Requests -= before.Requests
	now.BytesUp -= before.BytesUp
	now.BytesDown -= before.BytesDown
	return now
}

// codingRuns are the runs of a coding agent as episodes; none if they are not there.
func (b *bench) codingRuns(ctx context.Context) (runs []*episodic.Episode, err error) {
	d, err := b.dataset(ctx, "swe", "swe-runs.jsonl.gz", "swe-queries-dev.json")
	if err != nil || d == nil {
		return nil, err
	}
	documents := d.Collections[0].Documents
	for i := range documents {
		e := episodeOf(&documents[i])
		e.TaskType, e.Outcome.Kind = episodic.TaskOther, episodic.Success // as they are when they come back
		runs = append(runs, e)
	}
	return runs, nil
}

// airlineEpisodes are the runs of tau-bench of tasks with an even number and the others;
// none if they are not there.
func (b *bench) airlineEpisodes() (test, train []*episodic.Episode, err error) {
	runs, err := airlineRuns(b.data)
	if errors.Is(err, fs.ErrNotExist) {
		b.printf("\nThe episodes of tau-bench were left out, because they are not in %s.\n", b.data)
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	m := airline(runs, 0)
	return m.test, m.train, nil
}
