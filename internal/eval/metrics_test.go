package eval

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// results are hits of which those at the given ranks are relevant.
func results(n int, ranks ...int) []bool {
	hits := make([]bool, n)
	for _, r := range ranks {
		hits[r-1] = true
	}
	return hits
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-12 }

func TestMetricsOfWorkedExamples(t *testing.T) {
	log2 := math.Log2
	for _, tt := range []struct {
		name         string
		hits         []bool
		relevant     int
		r5, r10, r20 float64
		rr, ndcg     float64
		r1, at3      float64 // recall at 1, nDCG at 3
	}{
		{name: "nothing found", relevant: 2},
		{name: "the only one is first", hits: results(100, 1), relevant: 1, r5: 1, r10: 1, r20: 1, rr: 1, ndcg: 1, r1: 1, at3: 1},
		{name: "the only one is last", hits: results(100, 100), relevant: 1, rr: 0.01},
		{
			name: "second and fourth, and one that is not there", hits: results(100, 2, 4), relevant: 3,
			r5: 2. / 3, r10: 2. / 3, r20: 2. / 3, rr: 0.5,
			ndcg: (1/log2(3) + 1/log2(5)) / (1 + 1/log2(3) + 1/log2(4)),
			at3:  1 / log2(3) / (1 + 1/log2(3) + 1/log2(4)),
		},
		{
			name: "some behind the cut", hits: results(100, 3, 7, 12, 20, 21), relevant: 5, r5: 0.2, r10: 0.4, r20: 0.8, rr: 1. / 3,
			ndcg: (1/log2(4) + 1/log2(8)) / (1 + 1/log2(3) + 1/log2(4) + 1/log2(5) + 1/log2(6)),
			at3:  1 / log2(4) / (1 + 1/log2(3) + 1/log2(4)),
		},
		{
			name: "more relevant than the cut", hits: results(100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), relevant: 12,
			r5: 5. / 12, r10: 10. / 12, r20: 1, rr: 1, ndcg: 1, r1: 1. / 12, at3: 1,
		},
		{name: "fewer results than the cut", hits: results(2, 2), relevant: 1, r5: 1, r10: 1, r20: 1, rr: 0.5, ndcg: 1 / log2(3), at3: 1 / log2(3)},
	} {
		for _, v := range []struct {
			name      string
			got, want float64
		}{
			{"R@1", Recall(tt.hits, tt.relevant, 1), tt.r1},
			{"R@5", Recall(tt.hits, tt.relevant, 5), tt.r5},
			{"R@10", Recall(tt.hits, tt.relevant, 10), tt.r10},
			{"R@20", Recall(tt.hits, tt.relevant, 20), tt.r20},
			{"RR", ReciprocalRank(tt.hits), tt.rr},
			{"nDCG@10", NDCG(tt.hits, tt.relevant, 10), tt.ndcg},
			{"nDCG@3", NDCG(tt.hits, tt.relevant, 3), tt.at3},
		} {
			if !near(v.got, v.want) {
				t.Errorf("%s: %s is %v, want %v", tt.name, v.name, v.got, v.want)
			}
		}
	}
	// By numbers, in case both sides above are wrong in the same way.
	if got := NDCG(results(100, 2, 4), 3, 10); !near(got, 0.49818925746641285) {
		t.Errorf("nDCG@10 is %v", got)
	}
	if got := NDCG(results(100, 3, 7, 12, 20, 21), 5, 10); !near(got, 0.2826335043946801) {
		t.Errorf("nDCG@10 is %v", got)
	}
}

// small has two collections. In the second, x1 is part of x, and there is no part of y.
func small() *Dataset {
	return &Dataset{Format: "test", Sources: []Source{{Name: "small"}}, Collections: []Collection{
		{
			Name:      "first",
			Documents: []Document{{ID: "a", Title: "A", Parts: []Part{{ID: "a1", Actor: "p"}, {Actor: "q"}, {ID: "a3", Actor: "p"}}}, {ID: "b", Title: "B", Parts: []Part{{ID: "b1", Actor: "p"}}}},
			Questions: []Question{
				{ID: "both parts", Text: "?", Relevant: []string{"a1", "a3", "a1"}},
				{ID: "document", Text: "?", Relevant: []string{"b"}},
				{ID: "missing", Text: "?", Relevant: []string{"b1", "z", "z"}},
			},
		},
		{
			Name:      "second",
			Documents: []Document{{ID: "x", Title: "X", Parts: []Part{{ID: "x1", Actor: "p"}, {ID: "x2", Actor: "p"}}}, {ID: "y", Title: "Y"}},
			Questions: []Question{{ID: "excluding", Text: "?", Relevant: []string{"y", "x1"}, Exclude: []string{"x2", "y", "x2"}}},
		},
	}}
}

func TestTasksHaveTheEvidenceOfTheirLevel(t *testing.T) {
	d := small()
	describe := func(level Level) (got []string) {
		for _, task := range d.Tasks(level) {
			got = append(got, fmt.Sprintf("%s in %d: %v, %d missing, %d wanted", task.Question.ID, task.Collection, task.relevant, task.Missing, task.Want()))
		}
		return got
	}
	for _, tt := range []struct {
		level Level
		want  []string
	}{
		{Episodes, []string{
			"both parts in 0: map[{0 0 -1}:true], 0 missing, 100 wanted",
			"document in 0: map[{0 1 -1}:true], 0 missing, 100 wanted",
			"missing in 0: map[{0 1 -1}:true], 1 missing, 100 wanted",
			"excluding in 1: map[{1 0 -1}:true {1 1 -1}:true], 0 missing, 102 wanted",
		}},
		{Steps, []string{
			"both parts in 0: map[{0 0 0}:true {0 0 2}:true], 0 missing, 100 wanted",
			"missing in 0: map[{0 1 0}:true], 1 missing, 100 wanted",
			"excluding in 1: map[{1 0 0}:true], 0 missing, 102 wanted",
		}},
	} {
		if got := describe(tt.level); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: the tasks are\n%q, want\n%q", tt.level, got, tt.want)
		}
	}
	if d.Level() != Steps {
		t.Errorf("the level is %s", d.Level())
	}
	d.Collections = d.Collections[:1]
	d.Collections[0].Questions = d.Collections[0].Questions[1:2]
	if d.Level() != Episodes {
		t.Errorf("without parts the level is %s", d.Level())
	}
}

func TestScoreTakesOutWhatIsExcludedAndCountsOnce(t *testing.T) {
	d := &Dataset{Collections: []Collection{{
		Documents: []Document{{ID: "self", Parts: []Part{{ID: "s1"}, {ID: "s2"}}}, {ID: "other", Parts: []Part{{ID: "o1"}}}, {ID: "third"}},
		Questions: []Question{{Relevant: []string{"o1", "gone"}, Exclude: []string{"self"}}},
	}}}
	steps, episodes := d.Tasks(Steps)[0], d.Tasks(Episodes)[0]
	if steps.Want() != 103 || episodes.Want() != 101 {
		t.Errorf("%d steps and %d episodes are wanted", steps.Want(), episodes.Want())
	}
	want := Scores{Recall5: 0.5, Recall10: 0.5, Recall20: 0.5, MRR: 0.5, NDCG10: 1 / math.Log2(3) / (1 + 1/math.Log2(3))}
	// A result of another collection is one that is not relevant.
	if got := steps.Score([]Key{{0, 0, 1}, {5, 1, 0}, {0, 0, 0}, {5, 1, 0}, {0, 1, 0}, {0, 1, 0}}); got != want {
		t.Errorf("steps: %+v, want %+v", got, want)
	}
	if got := episodes.Score([]Key{{0, 0, -1}, {0, 2, -1}, {0, 1, -1}}); got != want {
		t.Errorf("episodes: %+v, want %+v", got, want)
	}
}

func TestScoreLooksAtTheBest100(t *testing.T) {
	c := Collection{Questions: []Question{{Relevant: []string{"d100"}}, {Relevant: []string{"d101"}}}}
	var found []Key
	for i := range 200 {
		c.Documents = append(c.Documents, Document{ID: fmt.Sprintf("d%d", i+1)})
		found = append(found, Key{0, i, -1})
	}
	tasks := (&Dataset{Collections: []Collection{c}}).Tasks(Episodes)
	if a, b := tasks[0].Score(found).MRR, tasks[1].Score(found).MRR; a != 0.01 || b != 0 {
		t.Errorf("MRR of rank 100 is %v, of rank 101 %v", a, b)
	}
}

// byIDs computes the scores of distinct results from sets of ids, as papers define them.
func byIDs(ranked []string, relevant map[string]bool) Scores {
	recall := func(k int) float64 {
		found := 0
		for id := range relevant {
			for _, r := range ranked[:min(k, len(ranked))] {
				if r == id {
					found++
				}
			}
		}
		return float64(found) / float64(len(relevant))
	}
	s := Scores{Recall5: recall(5), Recall10: recall(10), Recall20: recall(20)}
	var dcg, ideal float64
	for i := range min(10, len(relevant)) {
		ideal += 1 / math.Log2(float64(i)+2)
	}
	for i, id := range ranked {
		if !relevant[id] {
			continue
		}
		if s.MRR == 0 && i < 100 {
			s.MRR = 1 / float64(i+1)
		}
		if i < 10 {
			dcg += 1 / math.Log2(float64(i)+2)
		}
	}
	s.NDCG10 = dcg / ideal
	return s
}

func TestScoreIsThatOfSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Collection
		numbers := make([]int, rapid.IntRange(1, 130).Draw(t, "documents"))
		for i := range numbers {
			numbers[i] = i
			c.Documents = append(c.Documents, Document{ID: strconv.Itoa(i)})
		}
		relevant := make(map[string]bool)
		// Ids beyond the documents are evidence that does not exist.
		for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(numbers)+2), 1, 15, rapid.ID[int]).Draw(t, "relevant") {
			relevant[strconv.Itoa(n)] = true
		}
		q := Question{}
		for id := range relevant {
			q.Relevant = append(q.Relevant, id)
		}
		c.Questions = []Question{q}
		var found []Key
		var ids []string
		for _, n := range rapid.Permutation(numbers).Draw(t, "ranking")[:rapid.IntRange(0, len(numbers)).Draw(t, "results")] {
			found = append(found, Key{0, n, -1})
			ids = append(ids, strconv.Itoa(n))
		}
		task := (&Dataset{Collections: []Collection{c}}).Tasks(Episodes)[0]
		got, want := task.Score(found), byIDs(ids, relevant)
		for i, pair := range [][2]float64{
			{got.Recall5, want.Recall5}, {got.Recall10, want.Recall10}, {got.Recall20, want.Recall20}, {got.MRR, want.MRR}, {got.NDCG10, want.NDCG10},
		} {
			if !near(pair[0], pair[1]) {
				t.Fatalf("figure %d is %v, want %v", i, pair[0], pair[1])
			}
		}
	})
}
