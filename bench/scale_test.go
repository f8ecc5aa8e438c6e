package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestGrowthTable(t *testing.T) {
	table := &growthTable{head: "file", what: "episodes"}
	for i, n := range []int{1000, 10_000, 40_000} {
		table.sizes = append(table.sizes, n)
		d := time.Millisecond
		table.time("level", []time.Duration{d, d, 9 * d})
		table.time("bends", []time.Duration{[]time.Duration{d, d, 4 * d}[i]})
		table.whole("everything", time.Duration(n)*time.Microsecond)
		table.add("nothing", scaleBends, 0, "0")
	}
	var out strings.Builder
	b := &bench{report: &report{out: &out}}
	table.print(b)
	for _, want := range []string{
		"| level | 1.00/9.00 ms | 1.00/9.00 ms | 1.00/9.00 ms | 1 |\n",
		"| bends | 1.00/1.00 ms | 1.00/1.00 ms | 4.00/4.00 ms | 1.00x (1.00 to 10.00) |\n", // fourfold within a fourfold size
		"| everything | 0.001 s | 0.010 s | 0.040 s | 10.00x (10.00 to 10.00) |\n",
		"| nothing | 0 | 0 | 0 | - |\n",
		"- bends: 10.0 times per tenfold size from 10000 to 40000 episodes, 1.00/1.00 ms to 4.00/4.00 ms\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n- "); n != 1 {
		t.Errorf("%d bends:\n%s", n, out.String())
	}
	table.judge(b, "level", "bends")
	if b.judged != 2 || b.missed != 1 {
		t.Errorf("%d judged, %d missed", b.judged, b.missed)
	}
}

func TestProcessorTime(t *testing.T) {
	for begin := time.Now(); time.Since(begin) < 30*time.Millisecond; {
	}
	before := cpuTime()
	used, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after := cpuTime(); used < before-50*time.Millisecond || used > after+50*time.Millisecond {
		t.Errorf("%v, not between %v and %v", used, before, after)
	}
}
