package eval

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// Report collects the scores of questions. The zero value is empty.
type Report struct {
	byType map[string][]answer
}

type answer struct {
	scores Scores
	took   time.Duration
}

// Row sums up the questions of a type, or all of them.
type Row struct {
	Type      string `json:"type,omitempty"`
	Questions int    `json:"questions"`
	Scores
	// The median and the 99th percentile of the latency in milliseconds, by the nearest rank.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// Add adds the answer to a question.
func (r *Report) Add(questionType string, s Scores, took time.Duration) {
	if r.byType == nil {
		r.byType = make(map[string][]answer)
	}
	r.byType[questionType] = append(r.byType[questionType], answer{s, took})
}

// Rows returns a row for each type, in the order of their names, and one for all
// questions, each of which weighs the same.
func (r *Report) Rows() (types []Row, all Row) {
	var answers []answer
	for _, name := range slices.Sorted(maps.Keys(r.byType)) {
		types = append(types, row(name, r.byType[name]))
		answers = append(answers, r.byType[name]...)
	}
	return types, row("", answers)
}

func row(name string, answers []answer) Row {
	r := Row{Type: name, Questions: len(answers)}
	for _, a := range answers {
		r.add(a.scores, 1/float64(len(answers)))
	}
	slices.SortFunc(answers, func(a, b answer) int { return cmp.Compare(a.took, b.took) })
	r.P50, r.P99 = quantile(answers, 0.50), quantile(answers, 0.99)
	return r
}

// quantile returns the latency, in milliseconds, that the part p of the answers does not exceed.
func quantile(sorted []answer, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	n := int(math.Ceil(p * float64(len(sorted))))
	return float64(sorted[n-1].took) / float64(time.Millisecond)
}
