package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// bar is a ratio of a table.
type bar struct {
	table, name string
	ratio
}

// ratioCell is a ratio as its String has it.
var ratioCell = regexp.MustCompile(`^([0-9.]+)x \(([0-9.]+) to ([0-9.]+)\)$`)

// bars are the ratios of a part's tables, in their order.
func (s *scenarioReport) bars() (list []bar) {
	for _, table := range s.Tables {
		for _, row := range table[min(1, len(table)):] {
			for i, cell := range row {
				m := ratioCell.FindStringSubmatch(cell)
				if m == nil {
					continue
				}
				var v [3]float64
				for k := range v {
					v[k], _ = strconv.ParseFloat(m[k+1], 64) // the expression lets little else pass
				}
				if v[1] <= 0 || v[0] <= 0 {
					continue
				}
				name := strings.TrimSpace(row[0])
				if head := table[0][i]; len(table[0]) > 2 {
					name += " · " + head
				}
				list = append(list, bar{strings.TrimSpace(table[0][0]), name, ratio{v[0], v[1], v[2]}})
			}
		}
	}
	return list
}

const chartStyle = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .head { font-weight: 600; font-size: 14px } .table { font-style: italic }
.page { fill: #ffffff } .bar { fill: #2f6fb0 } .spread { stroke: #59636e } .one { stroke: #59636e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .page { fill: #0d1117 } .bar { fill: #6ea8e0 } .spread, .one { stroke: #9198a1 } }
</style>
`

// Places of the chart, in pixels.
const (
	chartWidth = 960
	chartLeft  = 440 // of the bars
	chartRow   = 20
)

// writeChart draws all ratios on a scale where doubling and halving are as long, around 1. It
// draws nothing if there are none.
func (r *report) writeChart(path string) error {
	var b strings.Builder
	y, most := 0, 2.0
	for _, s := range r.scenarios {
		for _, bar := range s.bars() {
			most = max(most, bar.high, 1/bar.low)
		}
	}
	half := float64(chartWidth-chartLeft-90) / 2
	at := func(ratio float64) float64 { return chartLeft + half*(1+math.Log(ratio)/math.Log(most)) }
	for _, s := range r.scenarios {
		bars := s.bars()
		if len(bars) == 0 {
			continue
		}
		y += 2 * chartRow
		fmt.Fprintf(&b, "<text class=\"head\" x=\"16\" y=\"%d\">%s</text>\n", y, escaped(s.Name))
		top := y + 6
		for i, bar := range bars {
			if bar.table != "" && (i == 0 || bar.table != bars[i-1].table) {
				y += chartRow
				fmt.Fprintf(&b, "<text class=\"table\" x=\"16\" y=\"%d\">%s</text>\n", y, escaped(bar.table))
			}
			y += chartRow
			from, to := min(at(1), at(bar.median)), max(at(1), at(bar.median))
			fmt.Fprintf(&b, "<text x=\"16\" y=\"%d\">%s</text><rect class=\"bar\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"12\"/>", y, escaped(cutTo(bar.name, 64)), from, y-10, max(to-from, 1))
			fmt.Fprintf(&b, "<line class=\"spread\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text x=\"%d\" y=\"%d\">%.2fx</text>\n", at(bar.low), at(bar.high), y-4, y-4, chartWidth-70, y, bar.median)
		}
		fmt.Fprintf(&b, "<line class=\"one\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", at(1), at(1), top, y+4)
	}
	if y == 0 {
		return nil
	}
	y += chartRow
	chart := fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Ratios of the benchmarks\">\n%s<rect class=\"page\" width=\"100%%\" height=\"100%%\"/>\n%s</svg>\n",
		chartWidth, y, chartWidth, y, chartStyle, b.String())
	return os.WriteFile(path, []byte(chart), 0o644)
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}

// cutTo keeps the first runes of a text.
func cutTo(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
