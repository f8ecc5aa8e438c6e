package rank

import (
	"math"
	"testing"
)

func TestRescore(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		name             string
		table, by, wants []float64 // NaN in wants: it is left out
	}{
		{"the same scale", []float64{.1, .3}, []float64{.3, .1}, []float64{.3, .1}},
		{"narrow and high", []float64{.1, .3, .5}, []float64{.9, .8, .7}, []float64{.5, .3, .1}},
		{"one without a vector", []float64{.1, .3, .2}, []float64{.8, .7, nan}, []float64{.3, .1, .2}},
		{"one that the table does not know", []float64{.1, .3, nan}, []float64{.7, .8, .9}, []float64{.1, .3, .5}},
		{"one that neither knows", []float64{.1, .3, nan}, []float64{.1, .3, nan}, []float64{.1, .3, nan}},
		{"the table knows none", []float64{nan, nan}, []float64{.7, .9}, []float64{.7, .9}},
		{"the model knows none", []float64{.1, .3}, []float64{nan, nan}, []float64{.1, .3}},
		{"the model tells none apart", []float64{.1, .3}, []float64{.7, .7}, []float64{.7, .7}},
		{"none", nil, nil, nil},
	} {
		var compared []Compared
		for i, cosine := range tt.table {
			compared = append(compared, Compared{Place: int64(i), Cosine: cosine})
		}
		got := Rescore(compared, tt.by)
		n := 0
		for i, want := range tt.wants {
			if want != want {
				continue
			}
			if n == len(got) || got[n].Place != int64(i) || math.Abs(got[n].Cosine-want) > 1e-12 {
				t.Fatalf("%s: %+v, want %v", tt.name, got, tt.wants)
			}
			n++
		}
		if n != len(got) {
			t.Errorf("%s: %+v, want %v", tt.name, got, tt.wants)
		}
	}
}

func TestRescoredAddsTheBestByWords(t *testing.T) {
	c := &Corpus{Episodes: []Episode{{ID: 7}, {ID: 8}}}
	near := []Compared{{Place: 8<<NumberBits + 3, Episode: 1, Cosine: .5}}
	got := c.Rescored(near, newRanking(c, []Candidate{{Episode: 1}, {Episode: 0}}), &Query{})
	if len(got) != 2 || !got[0].best || got[1].Place != 7<<NumberBits || got[1].Cosine == got[1].Cosine || !got[1].best {
		t.Errorf("episodes: %+v", got)
	}
	list := []Candidate{{Episode: 1, Step: Step{Place: 8<<NumberBits + 3}}, {Episode: 1, Step: Step{Place: 8<<NumberBits + 4}}}
	got = c.Rescored([]Compared{{Place: 8<<NumberBits + 3, Episode: 1, Cosine: .5}}, newRanking(c, list), &Query{Steps: true})
	if len(got) != 2 || got[1].Place != 8<<NumberBits+4 {
		t.Errorf("steps: %+v", got)
	}
	many := make([]Candidate, 2*fused)
	for i := range many {
		many[i].Step.Place = int64(i)
	}
	if got := c.Rescored(nil, newRanking(c, many), &Query{Steps: true}); len(got) != fused {
		t.Errorf("%d of the best by words are compared", len(got))
	}
}
