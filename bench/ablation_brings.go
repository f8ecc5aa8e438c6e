package main

import (
	"fmt"
	"strings"
)

// notable is the change from which on a system is said to bring something.
const notable = 1.05

// finding is what became of a figure without a system: its ratio to that with everything on,
// of which more is worse.
type finding struct {
	system, where, column string
	ratio
}

// sure reports whether the change has the same sign in all rounds.
func (f *finding) sure() bool { return f.low > 1 || f.high < 1 }

func (f *finding) cell() string {
	if f == nil {
		return "-"
	}
	return fmt.Sprintf("%v, %s, %s", f.ratio, f.column, f.where)
}

// inverse is the ratio the other way round.
func (r ratio) inverse() ratio { return ratio{1 / r.median, 1 / r.high, 1 / r.low} }

// brought is what a system brings and costs at most, by those findings that are sure.
type brought struct {
	system      string
	gain, price *finding // nil: none
}

// brings sums the findings up, for each system, in their order.
func brings(findings []finding) (all []*brought) {
	of := make(map[string]*brought)
	for i := range findings {
		f := &findings[i]
		s := of[f.system]
		if s == nil {
			s = &brought{system: f.system}
			of[f.system], all = s, append(all, s)
		}
		switch {
		case !f.sure():
		case f.median > 1 && (s.gain == nil || f.median > s.gain.median):
			s.gain = f
		case f.median < 1 && (s.price == nil || f.median < s.price.median):
			s.price = f
		}
	}
	return all
}

// little reports whether the system changes nothing for the better by as much as is notable.
func (s *brought) little() bool { return s.gain == nil || s.gain.median < notable }

// bringTable prints what each system brings, and which bring little.
func bringTable(b *bench, findings []finding) {
	table := [][]string{{"what each system brings: the work without it", "the most that it saves or adds", "the most that it costs"}}
	var little []string
	for _, s := range brings(findings) {
		table = append(table, []string{s.system, s.gain.cell(), s.price.cell()})
		if s.little() {
			little = append(little, s.system)
		}
	}
	if len(table) == 1 {
		return
	}
	b.table(table...)
	if len(little) == 0 {
		little = []string{"none"}
	}
	b.printf("Only changes whose lowest and highest ratio are on the same side of 1 count (rounds: %d). Systems that bring less than %.0f %% in every column of every table: %s.\n",
		b.rounds, 100*(notable-1), strings.Join(little, ", "))
}
