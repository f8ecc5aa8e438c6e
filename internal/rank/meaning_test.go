package rank

import (
	"math"
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// bitsOf compares codes with one of its own.
type bitsOf [4]uint64

func (b bitsOf) Differing(code *[4]uint64) (n int) {
	for i := range b {
		n += bits.OnesCount64(b[i] ^ code[i])
	}
	return n
}

func (b bitsOf) Cosine(code *[4]uint64) float64 {
	return math.Cos(math.Pi * float64(b.Differing(code)) / 256)
}

func drawMeanings(t *rapid.T) *drawn {
	d := draw(t)
	code := rapid.Map(rapid.Uint64(), func(n uint64) [4]uint64 { return [4]uint64{n, n, n, n} })
	for _, p := range d.corpus.Parts {
		for range p.Places {
			p.Codes = append(p.Codes, code.Draw(t, "code"))
		}
	}
	d.query.Meaning = bitsOf(code.Draw(t, "asked"))
	d.query.Alike = rapid.Bool().Draw(t, "alike")
	d.query.Steps = rapid.Bool().Draw(t, "steps")
	return d
}

func TestMeaningIsAddedToWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawMeanings(t)
		c, q := &d.corpus, &d.query
		s := Score(c, q, &Defaults)
		words := make(map[[2]int64]float64)
		key := func(o *Candidate) [2]int64 {
			if q.Steps {
				return [2]int64{int64(o.Episode), o.Step.Place}
			}
			return [2]int64{int64(o.Episode)}
		}
		list := c.RankByWords(s, q)
		for _, o := range list.To(list.Len()) {
			words[key(&o)] = o.Score
		}
		ranking := c.Rank(s, q, &Defaults)
		found := ranking.To(ranking.Len())
		for i, o := range found {
			before, has := words[key(&o)]
			if !has && (!q.Alike || q.Meaning.Cosine(c.code(o.Step.Place)) < Defaults.Alike) {
				t.Fatalf("%+v was found, which holds no word and is not alike", o)
			}
			if q.Steps && !has {
				before = s.Episodes[o.Episode]
			}
			if o.Meaning < 0 || !near(o.Score, before+o.Meaning) {
				t.Fatalf("%+v had %v for its words", o, before)
			}
			if i > 0 && o.Score > found[i-1].Score {
				t.Fatal("candidates are not in order")
			}
			delete(words, key(&o))
		}
		if len(words) > 0 {
			t.Fatalf("%v were lost", words)
		}
	})
}

func (c *Corpus) code(place int64) *[4]uint64 {
	part, doc, _ := c.find(place)
	return &c.Parts[part].Codes[doc]
}

func TestTheNearestDocumentsAreCompared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawMeanings(t)
		c, q := &d.corpus, &d.query
		if rapid.Bool().Draw(t, "some") {
			q.Only = rapid.SliceOfN(rapid.Bool(), len(c.Episodes), len(c.Episodes)).Draw(t, "only")
		}
		if rapid.Bool().Draw(t, "of an actor") {
			q.Of = &q.Terms[0]
		}
		want := make(map[int64]float64) // by place, or by episode
		for i, p := range c.Parts {
			of := make(map[int32]bool)
			for _, o := range q.Terms[0].Postings[i] {
				of[o.Doc] = true
			}
			for doc, place := range p.Places {
				e := p.Episode[doc]
				if e < 0 || p.Codes[doc] == [4]uint64{} || q.Only != nil && !q.Only[e] || q.Of != nil && !(of[int32(doc)] && IsStep(place)) || q.Steps && !IsStep(place) {
					continue
				}
				key, cosine := int64(e), q.Meaning.Cosine(&p.Codes[doc])
				if q.Steps {
					key = place
				}
				if best, known := want[key]; !known || cosine > best {
					want[key] = cosine
				}
			}
		}
		found := c.near(q)
		if len(found) != len(want) {
			t.Fatalf("%d are near, of %d", len(found), len(want))
		}
		for _, n := range found {
			key := int64(n.Episode)
			if q.Steps {
				key = n.Place
			}
			if math.Abs(want[key]-n.Cosine) > 1e-9 {
				t.Fatalf("%+v, want %v", n, want[key])
			}
		}
	})
}

// What a list of candidates is fused with is few, so that nothing is made of each candidate.
func TestFuseMakesNothingOfEachCandidate(t *testing.T) {
	allocated := func(candidates int) float64 {
		c, part := &Corpus{}, &Part{}
		for i := range candidates {
			part.Places = append(part.Places, int64(i+1)<<NumberBits)
			part.Lengths = append(part.Lengths, [Fields]uint32{1})
			part.Codes = append(part.Codes, [4]uint64{uint64(i) + 1})
		}
		learn := func(int64, int32) {}
		c.Add(part, func(int64) (int32, bool) { return 0, false }, learn, func(int64) bool { return false })
		s := &Scores{}
		for i := range candidates {
			s.Episodes, s.Best = append(s.Episodes, float64(i+1)), append(s.Best, 0)
		}
		q := &Query{Meaning: bitsOf{}}
		list, compared := c.RankEpisodes(s), c.near(q)
		return testing.AllocsPerRun(1, func() {
			if got := c.Fuse(list, s, compared, q, &Defaults); got.Len() != candidates {
				t.Fatalf("%d candidates, not %d", got.Len(), candidates)
			}
		})
	}
	few, many := allocated(1000), allocated(30_000)
	if many > few+10 {
		t.Errorf("%v allocations for 30,000 candidates, %v for 1,000", many, few)
	}
}
