package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const (
	firstRuns      = 10
	firstRunsShort = 2
	firstBytes     = 8192
)

// linkBytes is what has passed on a link, in both directions.
func linkBytes(l *hranatest.Link) int64 {
	c := l.Counts()
	return c.BytesUp + c.BytesDown
}

// weighed is a cell on a link that counts its bytes. It fails if it hangs.
type weighed struct {
	*cell
	bytes int64
}

func weigh(b *bench, name string, callers int, f *far, o op) *weighed {
	w := &weighed{cell: loadCell(name, callers, o)}
	quiet := wireQuiet
	if b.short {
		quiet = 10 * shortRTT
	}
	measure := w.cell.measure
	w.cell.measure = func(ctx context.Context, window time.Duration) (sample, error) {
		before := linkBytes(f.link)
		bounded, cancel := context.WithTimeout(ctx, window+rivalPatience)
		defer cancel()
		s, err := measure(bounded, window)
		if err != nil {
			return s, err
		}
		err = pauseFor(ctx, quiet) // streams are closed in the background
		w.bytes += linkBytes(f.link) - before
		return s, err
	}
	return w
}

// each is the bytes of an operation.
func (w *weighed) each() float64 { return float64(w.bytes) / float64(w.acknowledged()) }

// serverRivals compares one filled server of each side.
func serverRivals(ctx context.Context, b *bench, data *repeats) error {
	episodes, ids, err := data.serverEpisodes(b)
	if err != nil {
		return err
	}
	ours, err := fillServer(ctx, b, true, episodes)
	if err != nil {
		return err
	}
	defer ours.Kill()
	its, err := fillServer(ctx, b, false, episodes)
	if err != nil {
		return err
	}
	defer its.Kill()
	long, err := data.long(len(episodes), rivalPool)
	if err != nil {
		return err
	}
	if err := farContests(ctx, b, ours, its, ids, long); err != nil {
		return err
	}
	return firstCalls(ctx, b, ours, its, ids, long[0])
}

func farContests(ctx context.Context, b *bench, ourServer, itsServer *hranatest.Server, ids []episodic.ID, long []*episodic.Episode) (err error) {
	var sides []*far
	defer func() {
		for _, f := range sides {
			err = errors.Join(err, f.close())
		}
	}()
	for _, s := range []struct {
		server *hranatest.Server
		open   opener
	}{{ourServer, openUncached}, {ourServer, openUs}, {itsServer, openThem}} {
		f, err := openFar(ctx, b, s.server, s.open)
		if err != nil {
			return err
		}
		sides = append(sides, f)
	}
	uncached, us, them := sides[0], sides[1], sides[2]
	get := func(callers int, f *far) *weighed {
		return weigh(b, "get, no cache, "+callersOf(callers), callers, f, getting(f, ids))
	}
	life := func(f *far) *weighed {
		return weigh(b, fmt.Sprintf("life of %d steps", longSteps), 1, f, living(f, long))
	}
	contests := []struct {
		ours, its    *weighed
		least, bytes float64 // of the rates, and at most of the bytes; 0: not judged
	}{
		{get(farCallers, uncached), get(farCallers, them), 2.3, 0},
		{get(1, uncached), get(1, them), 0, 0.5},
		{life(us), life(them), 1.1, 0.07},
	}
	warm := farWarmUp
	if b.short {
		warm = b.farRTT()
	}
	var rates []contest
	table := [][]string{{"bytes of each", "ours", "libsql-client-go", "ours to its"}}
	for _, c := range contests {
		for _, w := range []*weighed{c.ours, c.its} {
			if _, err := w.measure(ctx, warm); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.bytes = 0
		}
		if err := b.interleave(ctx, c.ours.cell, c.its.cell); err != nil {
			return err
		}
		rates = append(rates, contest{c.ours.name, c.ours.cell, c.its.cell, c.least})
		table = append(table, []string{c.ours.name, digits(c.ours.each()), digits(c.its.each()), digits(c.ours.each() / c.its.each())})
	}
	where := fmt.Sprintf("server at %v", b.farRTT())
	b.contests(where, "libsql-client-go", rates)
	b.table(table...)
	for _, c := range contests {
		if got := c.ours.each() / c.its.each(); c.bytes > 0 {
			b.judge(got <= c.bytes, fmt.Sprintf("%s: %s in at most %.2f of the rival's bytes", where, c.ours.name, c.bytes), "%s", digits(got))
		}
	}
	return nil
}

// firstCall is a cell of processes that each make one call.
type firstCall struct {
	*cell
	task  childTask
	link  *hranatest.Link
	bytes []int64
}

// firstCalls compares what a process takes, from its start on, that gets an episode, and
// one that puts one. Targets: of the gets.
func firstCalls(ctx context.Context, b *bench, ours, its *hranatest.Server, ids []episodic.ID, put *episodic.Episode) error {
	runs := firstRuns
	if b.short {
		runs = firstRunsShort
	}
	var all []*firstCall
	var cells []*cell
	for _, s := range []struct {
		name   string
		server *hranatest.Server
		put    *episodic.Episode
	}{{"get, ours", ours, nil}, {"get, libsql-client-go", its, nil}, {"put, ours", ours, put}, {"put, libsql-client-go", its, put}} {
		link, err := newFarLink(b, s.server)
		if err != nil {
			return err
		}
		defer link.Close()
		c := &firstCall{cell: &cell{name: s.name}, link: link, task: childTask{Ours: s.server == ours, Server: true, Target: link.URL(), IDs: ids, Put: s.put}}
		c.measure = func(ctx context.Context, _ time.Duration) (sample, error) {
			r := repeat(ctx, (runs+b.rounds-1)/b.rounds, c.run)
			return r, errors.Join(r.errs...)
		}
		all, cells = append(all, c), append(cells, c.cell)
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}
	table := [][]string{{"first call of a process", "runs", "p50", "slowest", "bytes"}}
	for _, c := range all {
		table = append(table, []string{c.name, fmt.Sprint(c.acknowledged()), ms(c.percentile(0.5)), ms(c.percentile(1)), fmt.Sprint(middle(c.bytes))})
	}
	b.table(table...)
	us, them := all[0], all[1]
	got := us.percentile(0.5).Seconds() / them.percentile(0.5).Seconds()
	where := fmt.Sprintf("server at %v", b.farRTT())
	b.judge(got <= 1.05, where+": the first get of a process at most 1.05x the rival's time", "%.2fx", got)
	b.judge(middle(us.bytes) <= firstBytes, fmt.Sprintf("%s: the first get of a process in at most %d bytes", where, firstBytes), "%d", middle(us.bytes))
	return nil
}

// run lets a child make its call. What the link holds back when it has ended
// has not reached it.
func (c *firstCall) run(ctx context.Context, _ int) error {
	ctx, cancel := context.WithTimeout(ctx, rivalPatience)
	defer cancel()
	before := linkBytes(c.link)
	_, err := c.task.run(ctx)
	c.bytes = append(c.bytes, linkBytes(c.link)-before)
	return err
}
