package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

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

// unit collects documents and inverts them.
type unit struct {
	docs   docTable
	terms  map[string]int // the place of its postings in lists
	names  []string
	lists  [][]posting
	tokens []byte
}

// Encode returns documents as a unit: postings that can be searched as they are, and
// merged with others. Their numbers must grow. The same documents give the same bytes.
func Encode(docs []Document) []byte {
	u := &unit{terms: make(map[string]int)}
	for i := range docs {
		u.add(&docs[i])
	}
	return u.encode()
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
	u.docs.add(int64(d.Number), lengths)
}

func (u *unit) count(term []byte, doc int32, field int) {
	at, known := u.terms[string(term)]
	if !known {
		at = len(u.lists)
		name := string(term)
		u.terms[name] = at
		u.names = append(u.names, name)
		u.lists = append(u.lists, nil)
	}
	list := u.lists[at]
	if n := len(list); n > 0 && list[n-1].doc == doc {
		list[n-1].counts[field]++
		return
	}
	p := posting{doc: doc}
	p.counts[field] = 1
	u.lists[at] = append(list, p)
}

// posting counts a term in a document, exactly.
type posting struct {
	doc    int32
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
	order := make([]int, len(u.names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(u.names[a], u.names[b]) })
	table := u.docs.encode()
	out := binary.AppendUvarint(nil, uint64(len(table)))
	out = append(out, table...)
	var w blockWriter
	var list []rank.Posting
	for _, i := range order {
		list = list[:0]
		for j := range u.lists[i] {
			p := &u.lists[i][j]
			list = append(list, rank.Posting{Doc: p.doc, TF: p.tf()})
		}
		w.add(u.names[i], list)
	}
	return append(out, w.data...)
}
