package rank

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawn is a corpus with terms, and what it was made of.
type drawn struct {
	corpus Corpus
	query  Query
}

func draw(t *rapid.T) *drawn {
	d := &drawn{}
	ids := make(map[int64]int32)
	place := int64(1) << NumberBits
	terms := rapid.IntRange(1, 4).Draw(t, "terms")
	d.query.Terms = make([]Term, terms)
	d.query.Names = make([]Term, rapid.IntRange(0, 1).Draw(t, "names"))
	parts := rapid.IntRange(1, 3).Draw(t, "parts")
	for range parts {
		p := &Part{}
		for range rapid.IntRange(0, 30).Draw(t, "documents") {
			if rapid.IntRange(0, 5).Draw(t, "next episode") == 0 {
				place = (place>>NumberBits + 1) << NumberBits // a head
			} else {
				place += rapid.Int64Range(1, 2).Draw(t, "distance")
			}
			p.Places = append(p.Places, place)
			var l [Fields]uint32
			for f := range l {
				l[f] = rapid.Uint32Range(0, 50).Draw(t, "length")
			}
			p.Lengths = append(p.Lengths, l)
		}
		gone := rapid.Int64Range(-3, 6).Draw(t, "gone")
		d.corpus.Add(p, func(id int64) (int32, bool) { at, ok := ids[id]; return at, ok }, func(id int64, at int32) { ids[id] = at },
			func(id int64) bool { return id == gone })
		for _, list := range [][]Term{d.query.Terms, d.query.Names} {
			for i := range list {
				var postings []Posting
				for doc := range p.Places {
					if tf := rapid.Uint8().Draw(t, "tf"); tf > 100 {
						postings = append(postings, Posting{Doc: int32(doc), TF: TF(tf)})
					}
				}
				list[i].Postings = append(list[i].Postings, postings)
			}
		}
	}
	d.corpus.Measure(&Defaults)
	return d
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-3*(1+math.Abs(a)+math.Abs(b)) }

// The score of a step is BM25F of its terms, with what is told by TermScores, and a
// constant for its actor; neighbours give their shares of what they hold.
func TestScoresAreMadeOfTheirParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		c, q := &d.corpus, &d.query
		q.Steps = rapid.Bool().Draw(t, "steps")
		s := Score(c, q, &Defaults)
		words := make(map[int64]float64) // what a step has without its actor
		for _, st := range s.Steps {
			for j := range q.Terms {
				a, _ := c.TermScores(&q.Terms[j], &Defaults).Of(st.Place, st.Episode)
				words[st.Place] += a
			}
		}
		for i, st := range s.Steps {
			want, episode := 0.0, 0.0
			for j := range q.Terms {
				a, b := c.TermScores(&q.Terms[j], &Defaults).Of(st.Place, st.Episode)
				want += a
				episode += b
			}
			named := false
			for j := range q.Names {
				for k, part := range c.Parts {
					for _, o := range q.Names[j].Postings[k] {
						named = named || part.Places[o.Doc] == st.Place
					}
				}
			}
			if named {
				want += Defaults.Name
			}
			if !near(st.Own, want) || !near(s.Episodes[st.Episode], episode) {
				t.Fatalf("step at %d has %v and its episode %v, its parts make %v and %v", st.Place, st.Own, s.Episodes[st.Episode], want, episode)
			}
			if q.Steps {
				for k, share := range Defaults.Neighbour {
					for _, to := range []int64{st.Place - int64(k) - 1, st.Place + int64(k) + 1} {
						if to>>NumberBits == st.Place>>NumberBits {
							want += share * words[to]
						}
					}
				}
			}
			if !near(st.Score, want) {
				t.Fatalf("step at %d has %v, with its neighbours %v", st.Place, st.Score, want)
			}
			if i > 0 && st.Score > s.Steps[i-1].Score {
				t.Fatal("steps are not in order")
			}
			if s.Best[st.Episode] < st.Own-1e-6 || !IsStep(st.Place) {
				t.Fatalf("%+v, the best of the episode has %v", st, s.Best[st.Episode])
			}
		}
		for _, ranking := range []*Ranking{c.RankEpisodes(s), c.RankSteps(s)} {
			list := ranking.To(ranking.Len())
			for i, a := range list {
				if i > 0 && a.Score > list[i-1].Score || a.Score <= 0 {
					t.Fatalf("candidates are not in order: %+v", list)
				}
			}
		}
	})
}

func TestOnlyTheStepsOfAnActorAreReturned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		d.query.Steps = true
		actor := d.query.Terms[0]
		d.query.Of = &actor
		is := make(map[int64]bool)
		for i, list := range actor.Postings {
			for _, o := range list {
				is[d.corpus.Parts[i].Places[o.Doc]] = true
			}
		}
		for _, st := range Score(&d.corpus, &d.query, &Defaults).Steps {
			if !is[st.Place] {
				t.Fatalf("the step at %d is another actor's", st.Place)
			}
		}
	})
}

func TestOnlyWhatIsChosenIsReturned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		all := Score(&d.corpus, &d.query, &Defaults)
		only := make([]bool, len(d.corpus.Episodes))
		for i := range only {
			only[i] = rapid.Bool().Draw(t, "chosen")
		}
		d.query.Only = only
		some := Score(&d.corpus, &d.query, &Defaults)
		for e, in := range only {
			want := all.Episodes[e]
			if !in {
				want = 0
			}
			if some.Episodes[e] != want || !in && some.Best[e] != 0 {
				t.Fatalf("episode %d, chosen %v: %v and %v, of all %v", e, in, some.Episodes[e], some.Best[e], all.Episodes[e])
			}
		}
		for _, st := range some.Steps {
			if !only[st.Episode] {
				t.Fatal("a step of an episode that was not chosen")
			}
		}
	})
}

func TestFactorsAreGentle(t *testing.T) {
	for kind, want := range map[string]float64{"success": 1.04, "partial_success": 1.02, "": 1, "failure": 0.98, "abstained": 0.98} {
		if got := OutcomeFactor(kind); got != want {
			t.Errorf("%q: %v, want %v", kind, got, want)
		}
	}
	for age, want := range map[time.Duration]float64{-time.Hour: 1.04, 0: 1.04, recencyHalf: 1.02, 2 * recencyHalf: 1.01, 100 * recencyHalf: 1} {
		if got := RecencyFactor(age); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: %v, want %v", age, got, want)
		}
	}
}

func TestGreatestKeepsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores := rapid.SliceOf(rapid.Float32Range(0, 4)).Draw(t, "scores")
		most := rapid.IntRange(0, 8).Draw(t, "most")
		half := len(scores) / 2
		n := int32(len(scores) - half)
		kept := greatest([][]float32{scores[:half], scores[half:]}, [][]span{{{0, int32(half)}}, {{0, n / 2}, {n / 2, n}}}, most)
		var want []scored
		for i, s := range scores {
			switch {
			case s <= 0:
			case i < half:
				want = append(want, scored{0, int32(i), s})
			default:
				want = append(want, scored{1, int32(i - half), s})
			}
		}
		slices.SortStableFunc(want, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
		if want = want[:min(most, len(want))]; !slices.Equal(kept, want) {
			t.Fatalf("%v are kept, want %v", kept, want)
		}
	})
}

func TestPostingsOfSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list, want, got []Posting
		var spans []span
		doc := int32(0)
		for range rapid.IntRange(0, 8).Draw(t, "spans") {
			s := span{from: doc + rapid.Int32Range(0, 40).Draw(t, "between")}
			s.to = s.from + rapid.Int32Range(0, 10).Draw(t, "length")
			spans = append(spans, s)
			doc = s.to
		}
		for d := range doc + 20 {
			if !rapid.Bool().Draw(t, "holds") {
				continue
			}
			list = append(list, Posting{Doc: d})
			if slices.ContainsFunc(spans, func(s span) bool { return s.from <= d && d < s.to }) {
				want = append(want, Posting{Doc: d})
			}
		}
		for part := range in(spans, list) {
			got = append(got, part...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v of %v within %v, want %v", got, list, spans, want)
		}
		for d := range doc + 21 {
			c := Corpus{Parts: []*Part{{Places: []int64{5}, Episode: []int32{0}}, {Places: make([]int64, d+1), Episode: make([]int32, d+1)}}}
			c.Parts[1].Places[d] = 7
			if holds := slices.Contains(list, Posting{Doc: d}); c.Holds(7, &Term{Postings: [][]Posting{nil, list}}) != holds {
				t.Fatalf("%d of %v is held: %v", d, list, !holds)
			}
		}
	})
}
