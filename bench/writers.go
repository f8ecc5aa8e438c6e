package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

const writersClaim = "Many processes that write to one libSQL server: this program, started again, in groups that share a folder of lock files as the processes of a machine do. " +
	"Each starts episodes and appends 5 steps of 300 bytes to each, one call after the other. " +
	"Targets: never a failed call, never a server that gives its write lock to nobody afterwards, nothing lost, nothing doubled; " +
	"32 processes of a machine write 0.85 times as much as one, p99 300 ms, the slowest 0.6 of the mean; " +
	"8 and 16 machines have at most three writes under way at once except while the server stalls, p99 1 s, the slowest 0.7 of the mean, 130 writes/s with one writer each and 600 with eight. " +
	"Processes that are killed or stopped, a restarted server and lost lock files let nobody else wait for more than 2 s. " +
	"16 processes on one file: longest wait 1 s, slowest 0.6 of the mean. " +
	"With -baseline: one process and one machine write 0.97 times as much as those of another commit, and 16 on a file no less."

// writerVariable makes this program a writer instead.
const writerVariable = "EPISODIC_BENCH_WRITER"

const (
	faultWindow = 12 * time.Second // at least: some faults take 10 s
	stallTarget = 20 * time.Second // after which a stuck server must be told of
)

func writers(ctx context.Context, b *bench) error {
	for _, part := range []func(context.Context, *bench) error{oneMachine, manyMachines, faultyCrowds, fileWriters, loneWriters, stuckBaseline} {
		if err := part(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// crowds runs those whose names match, and prints their table. With -full each runs as
// often as -rounds says.
func (b *bench) crowds(ctx context.Context, window time.Duration, list ...*crowd) ([]*crowdResult, error) {
	rounds := 1
	if b.full && !b.short {
		rounds = b.rounds
	}
	var all []*crowdResult
	for _, c := range list {
		if !b.match.MatchString(c.name) {
			continue
		}
		if b.short { // four at once can make a server get stuck
			c.machines = min(c.machines, 3)
			c.each = min(c.each, 3/c.machines)
		}
		for range rounds {
			o, err := c.run(ctx, b, window)
			if err != nil {
				return all, fmt.Errorf("%s: %w", c.name, err)
			}
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	b.printf("\n%v each.", window)
	if b.short {
		b.printf(" With -short they are three processes at most.")
	}
	b.printf("\n")
	b.outcomes(all)
	for _, o := range all {
		if o.lost+o.doubled > 0 {
			return all, fmt.Errorf("%s: %d acknowledged writes are lost, %d episodes hold what they must not", o.name, o.lost, o.doubled)
		}
	}
	return all, nil
}

// outcomes prints a table.
func (b *bench) outcomes(all []*crowdResult) {
	table := [][]string{{"", "writes /s", "p50", "p99", "max", "slowest to mean", "longest silence", "failed", "writes again after", "lost, doubled", "unknown (stored)",
		"machines at once (no stall)", "at 4 or more (no stall)"}}
	for _, o := range all {
		after := ms(o.after)
		switch {
		case o.onFile:
			after = "-" // there is no server
		case o.stuck:
			after = "**STUCK**"
		}
		row := []string{o.name, digits(o.rate()), ms(percentile(o.latencies, 0.5)), ms(percentile(o.latencies, 0.99)), ms(percentile(o.latencies, 1)),
			fmt.Sprintf("%.2f", o.slowest()), ms(o.silence), fmt.Sprint(o.failures()), after,
			fmt.Sprintf("%d, %d", o.lost, o.doubled), fmt.Sprintf("%d (%d)", o.unknown, o.unknownStored), "-", "-"}
		if o.turned {
			row[11] = fmt.Sprintf("%d (%d)", o.all.most, o.quiet.most)
			row[12] = fmt.Sprintf("%s (%s)", ms(o.all.at4), ms(o.quiet.at4))
		}
		table = append(table, row)
	}
	b.table(table...)
	for _, o := range all {
		for _, text := range slices.Sorted(maps.Keys(o.errs)) {
			b.printf("- %s, %d times: %s\n", o.name, o.errs[text], text)
		}
	}
	if slices.ContainsFunc(all, func(o *crowdResult) bool { return o.noTurns && o.program == "" }) {
		b.printf("- Options has no LockDir: the writers of a machine know nothing of each other.\n")
	}
}

// worst is the greatest of what f finds in the outcomes.
func worst[T int | float64 | time.Duration](all []*crowdResult, f func(*crowdResult) T) (greatest T) {
	for i, o := range all {
		if x := f(o); i == 0 || x > greatest {
			greatest = x
		}
	}
	return greatest
}

func least(all []*crowdResult, f func(*crowdResult) float64) float64 {
	return -worst(all, func(o *crowdResult) float64 { return -f(o) })
}

func (o *crowdResult) p99() time.Duration  { return percentile(o.latencies, 0.99) }
func (o *crowdResult) wait() time.Duration { return percentile(o.latencies, 1) }

// judgeSound judges what is true of every crowd. Of failed calls it takes account only
// if none may fail.
func (b *bench) judgeSound(what string, all []*crowdResult, mayFail bool) {
	stuck, failed := 0, 0
	for _, o := range all {
		if o.stuck {
			stuck++
		}
		failed += o.failures()
	}
	b.judge(stuck == 0, what+": the server always writes again", "stuck in %d of %d runs", stuck, len(all))
	if !mayFail {
		b.judge(failed == 0, what+": no call fails", "%d failed", failed)
	}
}

func (b *bench) judgeFair(what string, all []*crowdResult, wantP99 time.Duration, wantSlowest float64) {
	p99 := worst(all, (*crowdResult).p99)
	b.judge(p99 <= wantP99, fmt.Sprintf("%s: p99 at most %v", what, wantP99), "%s", ms(p99))
	slowest := least(all, (*crowdResult).slowest)
	b.judge(slowest >= wantSlowest, fmt.Sprintf("%s: slowest at least %.1f of the mean", what, wantSlowest), "%.2f", slowest)
}

func (b *bench) judgeRate(what string, all []*crowdResult, want float64) {
	rate := least(all, (*crowdResult).rate)
	b.judge(rate >= want, fmt.Sprintf("%s: at least %.0f writes/s", what, want), "%s", digits(rate))
}

// ofCrowd returns the results of one crowd.
func ofCrowd(all []*crowdResult, name string) (some []*crowdResult) {
	for _, o := range all {
		if o.name == name {
			some = append(some, o)
		}
	}
	return some
}

func oneMachine(ctx context.Context, b *bench) error {
	const one, many = "1 machine of 1", "1 machine of 32"
	list := []*crowd{crowd{machines: 1, each: 1}.named(), crowd{machines: 1, each: 8}.named(), crowd{machines: 1, each: 32}.named()}
	if b.full {
		list = append(list, crowd{machines: 1, each: 8, callers: 8}.named(), crowd{machines: 1, each: 32, rtt: farRTT}.named())
	}
	all, err := b.crowds(ctx, b.duration, list...)
	if err != nil || len(all) == 0 {
		return err
	}
	b.judgeSound("one machine", all, false)
	if ones, manys := ofCrowd(all, one), ofCrowd(all, many); len(ones) > 0 && len(manys) > 0 {
		b.judgeFair(many, manys, 300*time.Millisecond, 0.6)
		ratio := least(manys, (*crowdResult).rate) / least(ones, (*crowdResult).rate)
		b.judge(ratio >= 0.85, "32 processes write at least 0.85 times as much as one", "%.2f", ratio)
	}
	return nil
}

// named returns the crowd under a name that tells what it is.
func (c crowd) named() *crowd {
	c.name = fmt.Sprintf("%d machines of %d", c.machines, c.each)
	if c.machines == 1 {
		c.name = fmt.Sprintf("1 machine of %d", c.each)
	}
	if c.callers > 1 {
		c.name += fmt.Sprintf(", %d callers each", c.callers)
	}
	if c.pause > 0 {
		c.name += fmt.Sprintf(", pauses of %v", c.pause)
	}
	if c.bursts {
		c.name += ", bursts"
	}
	if c.rtt > 0 {
		c.name += fmt.Sprintf(", at %v", c.rtt)
	}
	if c.fault != nil {
		c.name += ", " + c.fault.name
	}
	return &c
}

func manyMachines(ctx context.Context, b *bench) error {
	list := []*crowd{
		crowd{machines: 3, each: 2}.named(), crowd{machines: 4, each: 2}.named(),
		crowd{machines: 8, each: 1}.named(), crowd{machines: 8, each: 1, callers: 8}.named(),
		crowd{machines: 8, each: 2, pause: 50 * time.Millisecond}.named(),
		crowd{machines: 16, each: 1}.named(), crowd{machines: 16, each: 2, rtt: farRTT}.named(),
		crowd{machines: 16, each: 1, pause: 500 * time.Millisecond}.named(), crowd{machines: 16, each: 1, bursts: true}.named(),
	}
	if b.full {
		list = nil
		for _, machines := range []int{8, 16} {
			for _, rtt := range []time.Duration{0, farRTT} {
				for _, each := range []int{1, 2} {
					for _, pause := range []time.Duration{0, 50 * time.Millisecond, 500 * time.Millisecond} {
						list = append(list, crowd{machines: machines, each: each, pause: pause, rtt: rtt}.named())
					}
					list = append(list, crowd{machines: machines, each: each, bursts: true, rtt: rtt}.named())
				}
			}
			list = append(list, crowd{machines: machines, each: 1, callers: 8}.named())
		}
	}
	all, err := b.crowds(ctx, b.duration, list...)
	if err != nil || len(all) == 0 {
		return err
	}
	b.judgeSound("many machines", all, false)
	var many, ones, eights []*crowdResult
	turned := true
	for _, o := range all {
		if o.machines < 8 {
			continue
		}
		many = append(many, o)
		turned = turned && o.turned
		switch {
		case o.pause > 0 || o.bursts || o.rtt > 0 || o.each > 1:
		case o.callers == 8:
			eights = append(eights, o)
		default:
			ones = append(ones, o)
		}
	}
	if len(many) == 0 {
		return nil
	}
	b.judgeFair("8 and 16 machines", many, time.Second, 0.7)
	if turned {
		most := worst(many, func(o *crowdResult) int { return o.quiet.most })
		b.judge(most < crowded, "8 and 16 machines: at most three writes under way at once but for stalls", "%d", most)
	} else {
		b.printf("- How many writes were under way at once is unknown: the Stores told of no turns.\n")
	}
	if len(ones) > 0 {
		b.judgeRate("one writer a machine, no pauses", ones, 130)
	}
	if len(eights) > 0 {
		b.judgeRate("eight callers a machine", eights, 600)
	}
	return nil
}

func faultyCrowds(ctx context.Context, b *bench) error {
	window := max(b.duration, faultWindow)
	if b.short {
		window = b.duration
	}
	sizes := [][2]int{{4, 4}}
	if b.full {
		sizes = [][2]int{{1, 16}, {4, 4}, {16, 1}}
	}
	var list []*crowd
	for _, size := range sizes {
		for _, f := range []*fault{halfKilled, someFrozen, serverRestarted, locksDeleted, noLockFolder} {
			list = append(list, crowd{machines: size[0], each: size[1], fault: f}.named())
		}
	}
	list = append(list, crowd{machines: 8, each: 1, fault: serverStalls}.named(), crowd{machines: 16, each: 1, fault: serverStalls}.named())
	all, err := b.crowds(ctx, window, list...)
	if err != nil || len(all) == 0 {
		return err
	}
	b.printf("What is told of calls is told of processes that were neither killed nor stopped.\n\n")
	var struck, restarted, stalls []*crowdResult
	for _, o := range all {
		switch o.fault {
		case serverStalls:
			stalls = append(stalls, o)
		case serverRestarted:
			restarted = append(restarted, o)
		default:
			struck = append(struck, o)
		}
	}
	const limit = 2 * time.Second
	if len(struck) > 0 {
		b.judgeSound("faults of writers", struck, false)
		longest := worst(struck, (*crowdResult).wait)
		b.judge(longest <= limit, "faults of writers: the others wait for at most 2 s", "%s", ms(longest))
	}
	if len(restarted) > 0 {
		b.judgeSound("a restarted server", restarted, true)
		longest := worst(restarted, func(o *crowdResult) time.Duration { return o.silence })
		b.judge(longest <= limit, "a restarted server: nobody writes for at most 2 s", "%s", ms(longest))
	}
	for _, o := range stalls {
		b.judge(!o.stuck || o.told > 0 && o.told <= stallTarget, fmt.Sprintf("%s: not stuck, or told within %v", o.name, stallTarget),
			"stuck: %v, told after %v", o.stuck, o.told)
	}
	return nil
}

func fileWriters(ctx context.Context, b *bench) error {
	const many = "16 processes on one file"
	ours := &crowd{name: many, machines: 1, each: 16, onFile: true}
	all, err := b.crowds(ctx, b.duration, &crowd{name: "1 process on one file", machines: 1, each: 1, onFile: true}, ours)
	if err != nil {
		return err
	}
	if manys := ofCrowd(all, many); len(manys) > 0 {
		b.judge(worst(manys, (*crowdResult).failures) == 0, many+": no call fails", "%d failed at most", worst(manys, (*crowdResult).failures))
		longest := worst(manys, (*crowdResult).wait)
		b.judge(longest < time.Second, many+": longest wait under 1 s", "%s", ms(longest))
		slowest := least(manys, (*crowdResult).slowest)
		b.judge(slowest >= 0.6, many+": slowest at least 0.6 of the mean", "%.2f", slowest)
	}
	if b.baseline == "" {
		return nil
	}
	return b.beside(ctx, 1, ours)
}

// loneWriters are those that the turns of others must not slow down. There are three on
// the machine, because with more the server of a commit without turns gets stuck.
func loneWriters(ctx context.Context, b *bench) error {
	var list []*crowd
	for _, rtt := range []time.Duration{0, 40 * time.Millisecond} {
		list = append(list, &crowd{name: fmt.Sprintf("one process alone, at %v", rtt), machines: 1, each: 1, rtt: rtt},
			&crowd{name: fmt.Sprintf("one machine of 3 alone, at %v", rtt), machines: 1, each: 3, rtt: rtt})
	}
	return b.beside(ctx, 0.97, list...)
}

// beside measures crowds by turns with the same ones of the baseline, if there is one.
// least is the least ratio of ours to its.
func (b *bench) beside(ctx context.Context, least float64, list ...*crowd) error {
	type pair struct {
		ours, its *cell
		requests  uint64 // of ours, of which calls
		calls     int
		onFile    bool
	}
	var pairs []*pair
	var cells []*cell
	for _, c := range list {
		if !b.match.MatchString(c.name) {
			continue
		}
		p := &pair{onFile: c.onFile}
		p.ours = &cell{name: c.name, measure: func(ctx context.Context, window time.Duration) (sample, error) {
			o, err := c.sound(ctx, b, window)
			if err == nil {
				p.requests += o.requests
				p.calls += len(o.latencies)
			}
			return o.sample(), err
		}}
		cells = append(cells, p.ours)
		if b.baseline != "" {
			its := *c
			its.program = b.baseline
			p.its = &cell{name: c.name + ", baseline", measure: func(ctx context.Context, window time.Duration) (sample, error) {
				o, err := its.sound(ctx, b, window)
				return o.sample(), err
			}}
			cells = append(cells, p.its)
		}
		pairs = append(pairs, p)
	}
	if len(pairs) == 0 {
		return nil
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}
	table := [][]string{{"", "writes /s", "p50", "p99", "requests a write", "baseline /s", "p50", "p99", "ours to its"}}
	for _, p := range pairs {
		row := []string{p.ours.name, digits(p.ours.rate()), ms(p.ours.percentile(0.5)), ms(p.ours.percentile(0.99)), "-", "-", "-", "-", "-"}
		if !p.onFile {
			row[4] = fmt.Sprintf("%.3f", float64(p.requests)/float64(max(p.calls, 1)))
		}
		if p.its != nil {
			row = append(row[:5], digits(p.its.rate()), ms(p.its.percentile(0.5)), ms(p.its.percentile(0.99)), compare(p.ours, p.its).String())
		}
		table = append(table, row)
	}
	b.table(table...)
	for _, p := range pairs {
		if !p.onFile {
			each := float64(p.requests) / float64(max(p.calls, 1))
			b.judge(each <= mostRequests, fmt.Sprintf("%s: at most %v requests a write", p.ours.name, mostRequests), "%.3f", each)
		}
		if p.its != nil {
			got := compare(p.ours, p.its)
			b.judge(got.median >= least, fmt.Sprintf("%s: at least %v of the baseline's rate", p.ours.name, least), "%v", got)
		}
	}
	return nil
}

// mostRequests is how many requests a write may take, with those that fetch and train
// dictionaries.
const mostRequests = 1.1

// sound runs a crowd in which nothing may fail.
func (c *crowd) sound(ctx context.Context, b *bench, window time.Duration) (*crowdResult, error) {
	o, err := c.run(ctx, b, window)
	if err != nil {
		return &crowdResult{window: window}, err
	}
	if o.stuck || o.failures() > 0 || o.lost+o.doubled > 0 {
		err = fmt.Errorf("stuck: %v, %d failed, %d lost, %d doubled: %v", o.stuck, o.failures(), o.lost, o.doubled, o.errs)
	}
	return o, err
}

func (o *crowdResult) sample() sample {
	return sample{window: o.window, done: float64(o.done), latencies: o.latencies}
}

// stuckBaseline shows what happened before, which is not judged.
func stuckBaseline(ctx context.Context, b *bench) error {
	if b.baseline == "" || b.short {
		return nil
	}
	c := crowd{machines: 8, each: 1, program: b.baseline}.named()
	c.name += ", baseline"
	_, err := b.crowds(ctx, b.duration, c)
	return err
}
