package rank

import "slices"

// Part is documents whose postings lie together. A document is named by its place in the
// part's slices.
type Part struct {
	Places  []int64          // episode<<NumberBits + number, ascending; number 0 is a head
	Lengths [][Fields]uint32 // tokens in each field
	Episode []int32          // of each document, in Corpus.Episodes; -1: the document is gone
	Codes   [][4]uint64      // what each document means, as Query.Meaning reads it; all zero: not known

	// norms are what the counts of each field of a step are multiplied by for its length;
	// 0 for heads and for what is gone.
	norms [][Fields]float32
}

// NumberBits are the lower bits of a place, which number the steps of an episode.
const NumberBits = 24

// lastNumber is the number of what was concluded when an episode ended: a head too.
const lastNumber = 1<<NumberBits - 1

// IsStep reports whether a place is that of a step, and not of a head.
func IsStep(place int64) bool {
	n := place & lastNumber
	return n != 0 && n != lastNumber
}

// Corpus is all documents of an index at one moment.
type Corpus struct {
	Parts    []*Part
	Episodes []Episode
	Steps    int            // documents that are steps
	Tokens   [Fields]uint64 // in all documents

	means means
}

// means are the mean lengths of fields, in tokens.
type means struct {
	step, episode [Fields]float64
}

// Measure takes the mean lengths, by which documents are judged long or short, from what
// was added so far, unless it did so before. It must be called before Score.
func (c *Corpus) Measure(p *Params) {
	if c.means == (means{}) && c.Steps > 0 {
		for f, n := range c.Tokens {
			c.means.step[f] = max(float64(n)/float64(c.Steps), 1)
			c.means.episode[f] = max(float64(n)/float64(max(len(c.Episodes), 1)), 1)
		}
	}
	for _, part := range c.Parts {
		if part.norms == nil {
			part.norms = c.norms(part, p)
		}
	}
}

func (c *Corpus) norms(part *Part, p *Params) [][Fields]float32 {
	norms := make([][Fields]float32, len(part.Places))
	for i := range norms {
		if part.Episode[i] < 0 || !IsStep(part.Places[i]) {
			continue
		}
		for f, n := range part.Lengths[i] {
			norms[i][f] = float32(1 / (1 - p.StepB + p.StepB*float64(n)/max(c.means.step[f], 1)))
		}
	}
	return norms
}

// Episode is what ranking knows of an episode.
type Episode struct {
	ID     int64          // its places, shifted by NumberBits
	Tokens [Fields]uint64 // in all its documents
}

// Add appends a part. The index of an episode that is known already is what known returns
// for its ID; it is asked once for each run of documents of an episode. gone reports that
// documents of an episode are not there any more.
func (c *Corpus) Add(p *Part, known func(id int64) (int32, bool), learn func(id int64, at int32), gone func(id int64) bool) {
	p.Episode = make([]int32, len(p.Places))
	last, at := int64(-1)<<62, int32(-1)
	for i, place := range p.Places {
		if id := place >> NumberBits; id != last {
			last = id
			if gone(id) {
				at = -1
			} else if n, ok := known(id); ok {
				at = n
			} else {
				at = int32(len(c.Episodes))
				c.Episodes = append(c.Episodes, Episode{ID: id})
				learn(id, at)
			}
		}
		p.Episode[i] = at
		if at < 0 {
			continue
		}
		if IsStep(place) {
			c.Steps++
		}
		e := &c.Episodes[at]
		for f, n := range p.Lengths[i] {
			e.Tokens[f] += uint64(n)
			c.Tokens[f] += uint64(n)
		}
	}
	c.Parts = append(c.Parts, p)
}

// Holds reports whether the document at a place has a term.
func (c *Corpus) Holds(place int64, t *Term) bool {
	for i, part := range c.Parts {
		doc, found := slices.BinarySearch(part.Places, place)
		if !found || part.Episode[doc] < 0 {
			continue
		}
		list := t.Postings[i]
		if at := before(list, int32(doc)); at < len(list) && list[at].Doc == int32(doc) {
			return true
		}
	}
	return false
}

// Term is a term of a query with its postings in each part of a corpus.
type Term struct {
	Postings [][]Posting
}

// Query is what is ranked by. The postings are those of one corpus.
type Query struct {
	Terms []Term
	// Names are the actors that the query names: their steps, whatever they hold, get a
	// constant.
	Names []Term
	// TimeWords are terms of which a step gets a small bonus for any; set if the query
	// asks when something was.
	TimeWords []Term
	// Steps says that steps are asked for, and not episodes: then a step has what its
	// neighbours give.
	Steps bool
	// Of narrows the steps that are returned to those of an actor; nil: nothing.
	Of *Term
	// Meaning compares what documents mean with what is asked for; nil: nothing is known of that.
	Meaning Meaning
	// Alike lets documents be found that hold no word of the query, by their meaning alone.
	Alike bool
	// Only narrows what is returned, by Corpus.Episodes; nil: nothing. What words weigh is
	// that of all documents.
	Only []bool
}
