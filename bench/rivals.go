package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/episodic-memory/episodic"
)

const rivalsClaim = "A Store against the plain way of doing the same: each episode as one JSON text in a table that FTS5 indexes by triggers, every change rewriting it whole, what is read decoded by encoding/json. " +
	"On a local file that is the bare driver, as durable as the Store, with prepared statements; on a libSQL server 20 ms away it is libsql-client-go. " +
	"The episodes are runs of tau-bench, repeated with other names and times. " +
	"Targets on the file, of its rate: a put 0.9 times, by 32 callers 2.5; a life of a start, 20 steps and a completion 1.1; a get 1.3, with and without the cache; a list of 50 4.7; an import 1. " +
	"An append at step 80 takes 1.1 times that at step 5, readers of 200 MB twice the driver's memory, a put three times a synced write of 4 KB, at most. " +
	"Targets on the server: a put by 1, 2, 4 and 8 callers 1, 1.3, 1.3 and 1.5 times its rate, a get by 32 callers 2.3, a life 1.1 in at most 0.07 of the bytes, a get in half the bytes; " +
	"the first get of a process in 1.05 of its time and 8 KB."

func rivals(ctx context.Context, b *bench) error {
	data, err := b.repeats()
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *bench, *repeats) error{fileRivals, memoryRivals, serverPuts, serverRivals} {
		if err := part(ctx, b, data); err != nil {
			return err
		}
	}
	return nil
}

// side is one of the two that are compared.
type side interface {
	// put stores the episode as a new one, add those of a list as they are.
	put(ctx context.Context, e *episodic.Episode) error
	add(ctx context.Context, list []*episodic.Episode) error
	start(ctx context.Context, e episodic.Episode) (running, error)
	get(ctx context.Context, id episodic.ID) error
	// list and search return how many episodes they have read.
	list(ctx context.Context, n int) (int, error)
	search(ctx context.Context, words string) (int, error)
	count(ctx context.Context) (int, error)
	close() error
}

// running is an episode that goes on.
type running interface {
	append(ctx context.Context, s episodic.Step) error
	complete(ctx context.Context, done episodic.Completion) error
}

// ourSide is a Store.
type ourSide struct{ *episodic.Store }

// uncached returns the options of a Store that reads from the database: a server's too,
// without a replica.
func uncached() *episodic.Options {
	return &episodic.Options{Cache: episodic.Cache{Disabled: true}, Replica: episodic.Replica{Disabled: true}}
}

// direct returns the options of a Store that has a cache, and no replica of a server.
func direct() *episodic.Options {
	return &episodic.Options{Replica: episodic.Replica{Disabled: true}}
}

func openOurSide(ctx context.Context, target string, opts *episodic.Options) (side, error) {
	store, err := episodic.Open(ctx, target, opts)
	if err != nil {
		return nil, err
	}
	return &ourSide{store}, nil
}

func (o *ourSide) put(ctx context.Context, e *episodic.Episode) error {
	whole := *e
	whole.ID = episodic.ID{}
	return o.PutEpisode(ctx, &whole)
}

func (o *ourSide) add(ctx context.Context, list []*episodic.Episode) error {
	added, err := o.AddEpisodes(ctx, list...)
	if err == nil && added != len(list) {
		err = fmt.Errorf("added %d of %d episodes", added, len(list))
	}
	return err
}

// ourRunning is an episode that only the database has as a whole.
type ourRunning struct {
	side *ourSide
	id   episodic.ID
}

func (o *ourSide) start(ctx context.Context, e episodic.Episode) (running, error) {
	err := o.StartEpisode(ctx, &e)
	return &ourRunning{o, e.ID}, err
}

func (u *ourRunning) append(ctx context.Context, s episodic.Step) error {
	_, err := u.side.AppendSteps(ctx, u.id, s)
	return err
}

func (u *ourRunning) complete(ctx context.Context, done episodic.Completion) error {
	return u.side.CompleteEpisode(ctx, u.id, done)
}

func (o *ourSide) get(ctx context.Context, id episodic.ID) error {
	e, err := o.Episode(ctx, id)
	if err != nil {
		return err
	}
	return checkID(e, id)
}

func checkID(e *episodic.Episode, id episodic.ID) error {
	if e.ID != id {
		return fmt.Errorf("asked for episode %v, got %v", id, e.ID)
	}
	return nil
}

func (o *ourSide) list(ctx context.Context, n int) (int, error) {
	page, err := o.ListEpisodes(ctx, nil, &episodic.Paging{Limit: n})
	if err != nil {
		return 0, err
	}
	return len(page.Items), nil
}

func (o *ourSide) search(ctx context.Context, words string) (int, error) {
	found, err := o.Search(ctx, words, nil)
	if err != nil {
		return 0, err
	}
	return len(found.Hits), nil
}

func (o *ourSide) count(ctx context.Context) (int, error) {
	counts, err := o.Counts(ctx)
	return int(counts.Episodes), err
}

func (o *ourSide) close() error { return o.Close() }

// The operations that are measured, on either side.

func putting(s side, pool []*episodic.Episode) op {
	next := counter()
	return func(ctx context.Context, _ int) error { return s.put(ctx, pool[next()%len(pool)]) }
}

func living(s side, pool []*episodic.Episode) op {
	next := counter()
	return func(ctx context.Context, _ int) error { return live(ctx, s, pool[next()%len(pool)]) }
}

// live starts an episode, appends its steps one by one, and completes it.
func live(ctx context.Context, s side, e *episodic.Episode) error {
	r, err := s.start(ctx, begun(e))
	if err != nil {
		return err
	}
	for _, step := range e.Steps {
		if err := r.append(ctx, step); err != nil {
			return err
		}
	}
	return r.complete(ctx, episodic.Completion{Outcome: e.Outcome, End: e.End, Reward: e.Reward, Reflection: e.Reflection})
}

func getting(s side, ids []episodic.ID) op {
	return func(ctx context.Context, _ int) error { return s.get(ctx, ids[rand.IntN(len(ids))]) }
}

func listing(s side, want int) op {
	return func(ctx context.Context, _ int) error {
		n, err := s.list(ctx, want)
		if err == nil && n != want {
			err = fmt.Errorf("listed %d episodes, not %d", n, want)
		}
		return err
	}
}

func searching(s side, words []string) op {
	return func(ctx context.Context, _ int) error {
		q := query(words)
		n, err := s.search(ctx, q)
		if err == nil && n == 0 {
			err = fmt.Errorf("nothing found for %q", q)
		}
		return err
	}
}

func callersOf(n int) string {
	if n == 1 {
		return "1 caller"
	}
	return fmt.Sprintf("%d callers", n)
}

// contest is a cell of ours and the rival's that it is compared with.
type contest struct {
	name      string
	ours, its *cell
	least     float64 // of our rate to its; 0: not judged
}

// contests prints the table of some contests, and then judges them.
func (b *bench) contests(where, rival string, list []contest) {
	table := [][]string{{where, "ours /s", "p50", "p99", rival + " /s", "p50", "p99", "ours to its"}}
	for _, c := range list {
		row := []string{c.name}
		for _, x := range []*cell{c.ours, c.its} {
			row = append(row, digits(x.rate()), ms(x.percentile(0.5)), ms(x.percentile(0.99)))
		}
		table = append(table, append(row, compare(c.ours, c.its).String()))
	}
	b.table(table...)
	for _, c := range list {
		c.judge(b, where)
	}
}

func (c *contest) judge(b *bench, where string) {
	if c.least > 0 {
		got := compare(c.ours, c.its)
		b.judge(got.median >= c.least, fmt.Sprintf("%s: %s at least %.2gx the rival's rate", where, c.name, c.least), "%v", got)
	}
}

// checkHeld fails if a side holds another number of episodes than it should.
func checkHeld(ctx context.Context, s side, want int) error {
	n, err := s.count(ctx)
	if err == nil && n != want {
		err = fmt.Errorf("%d episodes are stored, not %d", n, want)
	}
	return err
}
