package rank

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRankingIsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Corpus{Episodes: []Episode{{ID: 30}, {ID: 10}, {ID: 20}}}
		// Few scores, so that many are the same.
		drawn := rapid.Custom(func(t *rapid.T) Candidate {
			return Candidate{Episode: rapid.Int32Range(0, 2).Draw(t, "episode"), Score: float64(rapid.IntRange(1, 3).Draw(t, "score")), Step: Step{Place: rapid.Int64Range(0, 1000).Draw(t, "place")}}
		})
		all := rapid.SliceOf(drawn).Draw(t, "candidates")
		want := slices.Clone(all)
		slices.SortFunc(want, func(a, b Candidate) int {
			return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(c.Episodes[a.Episode].ID, c.Episodes[b.Episode].ID), cmp.Compare(a.Step.Place, b.Step.Place))
		})
		r := newRanking(c, all)
		asked := 0
		for _, n := range rapid.SliceOf(rapid.IntRange(0, len(all)+1)).Draw(t, "asked for") {
			if got := r.To(n); !slices.Equal(got, want[:min(n, len(want))]) {
				t.Fatalf("the best %d are %+v, not %+v", n, got, want)
			}
			asked = max(asked, min(n, len(all)))
		}
		if len(r.best) != asked || r.Len() != len(all) {
			t.Fatalf("%d of %d are in order, %d were asked for", len(r.best), r.Len(), asked)
		}
	})
}
