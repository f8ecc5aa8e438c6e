package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const othersClaim = "Other memories and drivers, each in a process of its own and used as its documentation says, beside a Store in one: the same episodes, small memories. " +
	"Packages are pinned, and installed into `.cache/rivals`; what cannot run is named. Their rates are not judged, only that no call of ours fails."

const (
	othersEpisodes  = 2000
	othersPool      = 500 // different episodes that are put
	othersCallers   = 8
	othersPart      = 3 // a cell takes that part of -duration, because there are so many
	othersFilling   = 2 // at a time
	othersFillLimit = time.Minute
	// othersPatience is how long a call may take besides its window.
	othersPatience      = 15 * time.Second
	othersPatienceShort = 5 * time.Second
)

// otherOperation is one that is measured.
type otherOperation struct {
	name, op string
	callers  int
}

// Writers at once come last: they can make a server hang.
var otherOperations = []otherOperation{
	{"get", "get", 1},
	{fmt.Sprintf("list the newest %d", rivalList), "list", 1},
	{"search three rare words", "search", 1},
	{"put, " + callersOf(1), "put", 1},
	{fmt.Sprintf("life of %d steps", longSteps), "life", 1},
	{"put, " + callersOf(othersCallers), "put", othersCallers},
}

// contestant is a system with a memory of its own, on a file or a server.
type contestant struct {
	*otherSystem
	title  string // in tables
	held   int    // episodes
	target string // its worker's
	worker *worker
	why    error // it has no worker; nil: it has one
	size   int64 // on the disk after filling; 0: unknown
	cells  map[otherOperation]*cell

	onServer bool // one of its own, at the end of a link, not on a file
	server   *hranatest.Server
	link     *hranatest.Link
}

func others(ctx context.Context, b *bench) error {
	part := *b
	part.duration /= othersPart
	data, err := b.repeats()
	if err != nil {
		return err
	}
	material := filepath.Join(b.dir, "material")
	if err := data.writeOthers(b, material); err != nil {
		return err
	}
	table := [][]string{{"system", "runs", "synced", "search by", "else"}}
	for _, s := range otherSystems {
		if b.chosen(s) {
			table = append(table, []string{s.fullName(), s.runs, s.synced, s.search, s.differs})
		}
	}
	b.printf("\nWhat is not equal:\n")
	b.table(table...)
	var faster []string
	for _, onServer := range []bool{false, true} {
		place := "file"
		if onServer {
			place = fmt.Sprintf("server at %v", b.farRTT())
		}
		var all []*contestant
		for i, s := range otherSystems {
			if !b.chosen(s) || (onServer && !s.server) || (!onServer && !s.file) {
				continue
			}
			c := &contestant{otherSystem: s, title: s.name, held: s.episodes(min(othersEpisodes, b.n)), onServer: onServer, target: filepath.Join(b.dir, fmt.Sprintf("other-%d", i))}
			if s.most > 0 {
				c.title = fmt.Sprintf("%s (%d episodes)", s.name, c.held)
			}
			all = append(all, c)
		}
		list, err := compete(ctx, &part, place, material, all)
		if err != nil {
			return err
		}
		faster = append(faster, list...)
	}
	b.printf("\nWhere the others are faster:\n\n")
	if len(faster) == 0 {
		faster = []string{"nowhere"}
	}
	b.printf("- %s\n", strings.Join(faster, "\n- "))
	return nil
}

// chosen is whether a system is run: ours always is, since the others are compared with it.
func (b *bench) chosen(s *otherSystem) bool { return s.ours || b.match.MatchString(s.name) }

// writeOthers writes the files that workers read.
func (r *repeats) writeOthers(b *bench, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	n := min(othersEpisodes, b.n)
	stored, err := r.episodes(0, n)
	if err != nil {
		return err
	}
	pool, err := r.episodes(n, othersPool)
	if err != nil {
		return err
	}
	long, err := r.long(n, othersPool)
	if err != nil {
		return err
	}
	err = errors.Join(writeMaterial(dir, "fill", stored), writeMaterial(dir, "put", pool), writeMaterial(dir, "life", long))
	for _, s := range otherSystems {
		err = errors.Join(err, writeKnown(dir, stored[:s.episodes(n)]))
	}
	return err
}

// compete measures the contestants by turns, and returns where others are faster than the
// first, which is ours.
func compete(ctx context.Context, b *bench, place, material string, all []*contestant) (faster []string, err error) {
	defer func(all []*contestant) {
		for _, c := range all {
			c.end()
		}
	}(all)
	all, err = enter(ctx, b, material, all)
	if err != nil {
		return nil, err
	}
	for _, o := range otherOperations {
		var cells []*cell
		for _, c := range all {
			if x := c.cell(b, o); x != nil {
				cells = append(cells, x)
			}
		}
		if err := b.interleave(ctx, cells...); err != nil {
			return nil, err
		}
		for _, c := range all[1:] {
			if x := c.cells[o]; !c.ours && x != nil && x.acknowledged() > 0 {
				if r := compare(all[0].cells[o], x); r.median < 1 {
					faster = append(faster, fmt.Sprintf("%s, %s: %s, ours has %v of its rate", place, o.name, c.title, r))
				}
			}
		}
		b.contestants(place, o, all)
	}
	if err := footprints(b, place, all); err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.ours {
			b.judgeOurs(place, c)
		}
	}
	return faster, nil
}

// enter fills the memories, a few at a time, and opens them again in new processes. It
// returns those that can take part, and says why the others cannot.
func enter(ctx context.Context, b *bench, material string, all []*contestant) (able []*contestant, err error) {
	var filling sync.WaitGroup
	slots := make(chan struct{}, othersFilling)
	for _, c := range all {
		filling.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if c.why = c.fill(ctx, b, material); c.why == nil {
				c.why = c.open(ctx, b, material)
			}
		})
	}
	filling.Wait()
	for _, c := range all {
		switch {
		case c.why == nil:
			able = append(able, c)
		case ctx.Err() != nil || c.ours:
			return nil, fmt.Errorf("%s: %w", c.name, c.why)
		default:
			b.printf("- %s does not take part: %v\n", c.name, c.why)
		}
	}
	return able, nil
}

// fill lets one worker fill the memory. A server is not far away meanwhile.
func (c *contestant) fill(ctx context.Context, b *bench, material string) (err error) {
	if c.onServer {
		if c.server, err = startServer(b.dir); err != nil {
			return err
		}
		c.target = c.server.URL()
	}
	if err := c.open(ctx, b, material); err != nil {
		return err
	}
	w := c.worker
	defer func() { _ = w.stop() }() // it has ended, or was killed
	a, err := w.once(ctx, workerCall{Op: "fill", Data: material, Episodes: c.held}, othersFillLimit)
	if err != nil {
		return err
	}
	if int(a.Done) != c.held {
		return fmt.Errorf("filled with %v episodes, not %d", a.Done, c.held)
	}
	if _, err = w.once(ctx, workerCall{Op: "close"}, othersPatience); err != nil {
		return err
	}
	if c.onServer {
		if c.link, err = newFarLink(b, c.server); err != nil {
			return err
		}
		c.target = c.link.URL()
		return nil
	}
	c.size, err = bytesIn(c.target)
	return err
}

// open starts a worker that has the memory open.
func (c *contestant) open(ctx context.Context, b *bench, material string) (err error) {
	if c.worker, err = c.start(ctx, b.short); err != nil {
		return err
	}
	if _, err = c.worker.once(ctx, workerCall{Op: "open", Target: c.target, Data: material, Episodes: c.held}, othersFillLimit); err != nil {
		_ = c.worker.stop() // that it was killed says nothing
	}
	return err
}

// end ends what is running for the contestant.
func (c *contestant) end() {
	if c.worker != nil {
		_ = c.worker.stop() // it was killed
	}
	if c.link != nil {
		c.link.Close()
	}
	if c.server != nil {
		c.server.Kill()
	}
}

// cell is one in which the worker does an operation; nil if it cannot. Operations that
// fail are counted; so is a call that ends the worker.
func (c *contestant) cell(b *bench, o otherOperation) *cell {
	if c.why != nil || c.lacks[o.op] != "" {
		return nil
	}
	patience := othersPatience
	if b.short && !c.ours {
		patience = othersPatienceShort
	}
	x := &cell{name: c.name + ", " + o.name, measure: func(ctx context.Context, window time.Duration) (sample, error) {
		a, err := c.worker.call(ctx, workerCall{Op: o.op, Callers: o.callers, WindowMS: window.Milliseconds()}, window+patience)
		if err != nil {
			c.why = err
			return sample{window: window, errs: []error{err}}, ctx.Err()
		}
		return a.sample(window), nil
	}}
	if c.cells == nil {
		c.cells = make(map[otherOperation]*cell)
	}
	c.cells[o] = x
	return x
}

// contestants prints the table of an operation, and below it what it does not tell.
func (b *bench) contestants(place string, o otherOperation, all []*contestant) {
	table := [][]string{{place + ": " + o.name, "/s", "p50", "p99", "ours to its", "failed"}}
	var notes []string
	for _, c := range all {
		row := []string{c.title, "-", "-", "-", "-", "-"}
		x := c.cells[o]
		switch {
		case c.lacks[o.op] != "":
			notes = append(notes, c.name+": "+c.lacks[o.op])
		case x == nil:
			notes = append(notes, fmt.Sprintf("%s: %v", c.name, c.why))
		default:
			failed, _ := x.failures()
			row[5] = fmt.Sprint(failed)
			if x.acknowledged() > 0 {
				row[1], row[2], row[3] = digits(x.rate()), ms(x.percentile(0.5)), ms(x.percentile(0.99))
				row[4] = compare(all[0].cells[o], x).String()
			}
			if failed > 0 {
				notes = append(notes, fmt.Sprintf("%s: %d of %d calls failed, the first: %v", c.name, failed, failed+x.acknowledged(), x.firstError()))
			}
		}
		table = append(table, row)
	}
	b.table(table...)
	for _, n := range notes {
		b.printf("- %s\n", n)
	}
}

// firstError is that of the first operation that failed, if one did.
func (c *cell) firstError() error {
	for _, s := range c.rounds {
		if len(s.errs) > 0 {
			return s.errs[0]
		}
	}
	return nil
}

// footprints prints what the systems take of memory, and of the disk where that is theirs.
func footprints(b *bench, place string, all []*contestant) error {
	const mb = 1 << 20
	table := [][]string{{place + ": footprint", "peak resident MB", "MB on the disk", "KB of an episode"}}
	for _, c := range all {
		row := []string{c.title, "-", "-", "-"}
		if c.why == nil {
			peak, err := groupMemory(c.worker.pid)
			if err != nil {
				return err
			}
			row[1] = digits(float64(peak) / mb)
		}
		if c.size > 0 {
			row[2], row[3] = digits(float64(c.size)/mb), digits(float64(c.size)/float64(c.held)/1024)
		}
		table = append(table, row)
	}
	b.table(table...)
	return nil
}

func (b *bench) judgeOurs(place string, c *contestant) {
	calls, failed := 0, 0
	for _, x := range c.cells {
		n, _ := x.failures()
		failed += n
		calls += n + x.acknowledged()
	}
	b.judge(failed == 0 && calls > 0, fmt.Sprintf("%s: no call of %s fails", place, c.name), "%d of %d", failed, calls)
}

// groupMemory is the most memory that was resident at once in each process of a group,
// in all, in bytes; 0 if there is none.
func groupMemory(group int) (bytes int64, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 3 || fields[2] != fmt.Sprint(group) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		sizes, err := processMemory(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		bytes += sizes["VmHWM"]
	}
	return bytes, nil
}
