package eval

import (
	"reflect"
	"testing"
	"time"
)

func TestRowsAreMeansOverQuestions(t *testing.T) {
	var r Report
	if types, all := r.Rows(); types != nil || all != (Row{}) {
		t.Errorf("without questions: %+v, %+v", types, all)
	}
	r.Add("when", Scores{1, 1, 1, 1, 1}, 4*time.Millisecond)
	r.Add("how", Scores{}, 3*time.Millisecond)
	r.Add("when", Scores{0, 0.5, 0.5, 0.25, 0.5}, 500*time.Microsecond)
	r.Add("when", Scores{0, 0, 1, 0.25, 0}, 2*time.Millisecond)
	r.Add("when", Scores{1, 1, 1, 0.5, 0.5}, time.Millisecond)
	types, all := r.Rows()
	want := []Row{
		{Type: "how", Questions: 1, P50: 3, P99: 3},
		{Type: "when", Questions: 4, Scores: Scores{0.5, 0.625, 0.875, 0.5, 0.5}, P50: 1, P99: 4},
	}
	if !reflect.DeepEqual(types, want) {
		t.Errorf("types are\n%+v, want\n%+v", types, want)
	}
	s := all.Scores
	if all.Questions != 5 || all.P50 != 2 || all.P99 != 4 || !near(s.Recall5, 0.4) || !near(s.Recall10, 0.5) || !near(s.Recall20, 0.7) || !near(s.MRR, 0.4) || !near(s.NDCG10, 0.4) {
		t.Errorf("all is %+v", all)
	}
}

func TestQuantilesAreOfTheNearestRank(t *testing.T) {
	var r Report
	for i := range 200 {
		r.Add("", Scores{}, time.Duration(200-i)*time.Millisecond)
	}
	if _, all := r.Rows(); all.P50 != 100 || all.P99 != 198 {
		t.Errorf("p50 is %v, p99 %v", all.P50, all.P99)
	}
}
