package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"

	"github.com/episodic-memory/episodic/internal/rank"
)

// Document is what one search result is made of: the head of an episode, or a step.
type Document struct {
	// Number tells documents of a unit apart; it grows from one to the next.
	Number int
	// Texts are in the order of the fields of package rank.
	Texts [rank.Fields]string
	// Actor is whose the document is, such as a tool or a speaker; empty if nobody's.
	Actor string
}

// actorMark is the first byte of terms that name actors. No token begins with it.
const actorMark = "\x01"

// ActorTerm returns the term under which the documents of an actor are found.
func ActorTerm(name string) string { return actorMark + Fold(name) }

// unit collects documents and inverts them. It is used again, with the names of terms that it
// has seen.
type unit struct {
	docs     docTable
	terms    map[string]int32 // the place of each name in names and lists
	names    []string
	lists    []chain
	used     []int32 // terms of the documents
	postings []posting
	tokens   []byte
}

// chain is the postings of a term, by their places in unit.postings, from 1; 0 is none.
type chain struct{ first, last int32 }

// Bounds of what a unit keeps for the next.
const (
	keptTerms    = 10_000
	keptPostings = 50_000
)

var unitPool = sync.Pool{New: func() any { return &unit{terms: make(map[string]int32)} }}

// Encode returns documents as a unit: postings that can be searched as they are, and
// merged with others. Their numbers must grow. The same documents give the same bytes.
func Encode(docs []Document) []byte {
	u := unitPool.Get().(*unit)
	for i := range docs {
		u.add(&docs[i])
	}
	out := u.encode()
	if len(u.names) <= keptTerms && len(u.postings) <= keptPostings {
		u.reset()
		unitPool.Put(u)
	}
	return out
}

func (u *unit) reset() {
	for _, i := range u.used {
		u.lists[i] = chain{}
	}
	u.used, u.postings = u.used[:0], u.postings[:0]
	d := &u.docs
	d.places, d.lengths, d.codes = d.places[:0], d.lengths[:0], d.codes[:0]
}

func (u *unit) add(d *Document) {
	n := int32(len(u.docs.places))
	var lengths [rank.Fields]uint32
	for f, text := range d.Texts {
		u.tokens = AppendTokens(u.tokens[:0], text)
		for rest := u.tokens; len(rest) > 0; {
			end := bytes.IndexByte(rest, ' ')
			if end < 0 {
				end = len(rest)
			}
			if end > 0 {
				u.count(rest[:end], n, f)
				lengths[f]++
			}
			rest = rest[min(end+1, len(rest)):]
		}
	}
	if d.Actor != "" {
		u.count([]byte(ActorTerm(d.Actor)), n, rank.Text)
	}
	u.docs.add(int64(d.Number), lengths, codeOf(d))
}

func (u *unit) count(term []byte, doc int32, field int) {
	at, known := u.terms[string(term)]
	if !known {
		at = int32(len(u.lists))
		name := string(term)
		u.terms[name] = at
		u.names = append(u.names, name)
		u.lists = append(u.lists, chain{})
	}
	l := &u.lists[at]
	if l.last == 0 || u.postings[l.last-1].doc != doc {
		u.postings = append(u.postings, posting{doc: doc})
		n := int32(len(u.postings))
		if l.last == 0 {
			l.first = n
			u.used = append(u.used, at)
		} else {
			u.postings[l.last-1].next = n
		}
		l.last = n
	}
	u.postings[l.last-1].counts[field]++
}

// posting counts a term in a document, exactly. next is that in the next document.
type posting struct {
	doc    int32
	next   int32
	counts [rank.Fields]uint32
}

// tf packs the counts into two bits for each field: none, once, two or three times, more.
func (p *posting) tf() (tf rank.TF) {
	for f, n := range p.counts {
		tf |= rank.TF(min(3, bits.Len32(n))) << (2 * f)
	}
	return tf
}

func (u *unit) encode() []byte {
	slices.SortFunc(u.used, func(a, b int32) int { return cmp.Compare(u.names[a], u.names[b]) })
	table := u.docs.encode()
	out := binary.AppendUvarint(nil, uint64(len(table)))
	out = append(out, table...)
	var w blockWriter
	var list []rank.Posting
	for _, i := range u.used {
		list = list[:0]
		for j := u.lists[i].first; j > 0; j = u.postings[j-1].next {
			p := &u.postings[j-1]
			list = append(list, rank.Posting{Doc: p.doc, TF: p.tf()})
		}
		w.add(u.names[i], list)
	}
	return append(out, w.data...)
}
