package main

import (
	"context"
	"fmt"
)

const (
	queueingProcesses = 32
	// mostQueuedRequests is how many requests a queued write may take, as a part of those of
	// one that is not queued.
	mostQueuedRequests = 1.0 / 8
)

// replicaProcesses counts the requests of many processes of a machine that queue their
// writes, beside as many that do not. All that passes until the last write is on the server
// counts.
func replicaProcesses(ctx context.Context, b *bench) error {
	table := [][]string{{fmt.Sprintf("%d processes", queueingProcesses), "writes", "requests", "requests a write", "to those that are not queued"}}
	var all []*crowdResult
	var ratios []float64
	for _, kind := range []struct {
		name  string
		whole bool
	}{{"starts and steps", false}, {"whole episodes", true}} {
		var each [2]float64
		for i, queued := range []bool{false, true} {
			c := &crowd{name: kind.name, machines: 1, each: queueingProcesses, whole: kind.whole, queued: queued, counted: true}
			if queued {
				c.name += ", queued"
			}
			if b.short {
				c.each = 3 // four at once can make a server get stuck
			}
			o, err := c.run(ctx, b, b.duration)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			all = append(all, o)
			each[i] = float64(o.passed) / float64(max(len(o.latencies), 1))
			row := []string{c.name, fmt.Sprint(len(o.latencies)), fmt.Sprint(o.passed), fmt.Sprintf("%.3f", each[i]), "-"}
			if queued {
				ratios = append(ratios, each[1]/max(each[0], 1e-9))
				row[4] = fmt.Sprintf("%.3f", ratios[len(ratios)-1])
			}
			table = append(table, row)
		}
	}
	b.outcomes(all)
	b.table(table...)
	b.judgeSound("32 processes", all, false)
	lost := worst(all, func(o *crowdResult) int { return o.lost + o.doubled })
	b.judge(lost == 0, "32 processes: nothing is lost or doubled", "%d at most", lost)
	for i, name := range []string{"starts and steps", "whole episodes"} {
		b.judge(ratios[i] <= mostQueuedRequests, name+": queued writes take at most 1/8 of the requests", "%.3f", ratios[i])
	}
	if lost > 0 {
		return fmt.Errorf("%d acknowledged writes are lost or doubled", lost)
	}
	return nil
}
