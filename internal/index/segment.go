package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/vector"
)

// ErrDamaged is what bytes give that Encode and Merge did not write.
var ErrDamaged = errors.New("the search index is damaged")

// docTable names the documents of a unit or a segment, whose postings mean them by their
// places in it.
type docTable struct {
	places  []int64               // ascending
	lengths [][rank.Fields]uint32 // tokens in each field
	codes   []vector.Code         // of the built-in model
}

func (t *docTable) add(place int64, lengths [rank.Fields]uint32, code vector.Code) {
	t.places = append(t.places, place)
	t.lengths = append(t.lengths, lengths)
	t.codes = append(t.codes, code)
}

// codedDoc is the least that encode takes for a document that has a code, as nearly all have.
const codedDoc = 3 + 8*len(vector.Code{})

// grow makes room for so many documents.
func (t *docTable) grow(n int) {
	t.places = slices.Grow(t.places, n)
	t.lengths = slices.Grow(t.lengths, n)
	t.codes = slices.Grow(t.codes, n)
}

// part is the documents as they are ranked.
func (t *docTable) part() *rank.Part {
	return &rank.Part{Places: t.places, Lengths: t.lengths, Codes: t.codes}
}

// hasCode is set beside the fields of a document that has a code of the built-in model.
// That of another model would have a bit of its own.
const hasCode = 1 << 7

// encode writes for each document how far it is from the one before, which fields it
// has, their lengths, and its code.
func (t *docTable) encode() []byte {
	out := []byte{}
	last := int64(0)
	for i, place := range t.places {
		out = binary.AppendUvarint(out, uint64(place-last))
		last = place
		mask := byte(0)
		for f, n := range t.lengths[i] {
			if n > 0 {
				mask |= 1 << f
			}
		}
		if t.codes[i] != (vector.Code{}) {
			mask |= hasCode
		}
		out = append(out, mask)
		for _, n := range t.lengths[i] {
			if n > 0 {
				out = binary.AppendUvarint(out, uint64(n))
			}
		}
		if mask&hasCode != 0 {
			for _, word := range t.codes[i] {
				out = binary.LittleEndian.AppendUint64(out, word)
			}
		}
	}
	return out
}

// decodeDocs reads a docTable whose places count from base.
func decodeDocs(data []byte, base int64) (*docTable, error) {
	t := &docTable{}
	t.grow(len(data) / codedDoc)
	r := reader{data: data}
	for place := base; len(r.data) > 0 && r.err == nil; {
		step := r.uvarint()
		if step > math.MaxInt64-uint64(max(place, 0)) || len(t.places) > 0 && step == 0 {
			return nil, ErrDamaged
		}
		place += int64(step)
		mask := r.byte()
		var lengths [rank.Fields]uint32
		for f := range lengths {
			if mask>>f&1 != 0 {
				lengths[f] = uint32(min(r.uvarint(), math.MaxUint32))
			}
		}
		var code vector.Code
		if mask&hasCode != 0 {
			for i := range code {
				code[i] = r.uint64()
			}
		}
		t.add(place, lengths, code)
	}
	return t, r.err
}

// decodeUnit takes apart what Encode returned; places of its documents count from base.
func decodeUnit(data []byte, base int64) (*docTable, []byte, error) {
	r := reader{data: data}
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.data)) {
		return nil, nil, ErrDamaged
	}
	t, err := decodeDocs(r.data[:n], base)
	return t, r.data[n:], err
}

// A block is terms in order, each with its postings: how many bytes it has in common with
// the term before, the rest of it, the number of postings, their length in bytes if they
// are more than a few, the postings. A posting is twice the distance from the document
// before, plus one if its counts differ from those of the posting before and follow.
const (
	unsized  = 16 // lists of fewer postings do not say their length
	usualTF  = rank.TF(1 << (2 * rank.Text))
	maxShare = 255
)

type blockWriter struct {
	data  []byte
	first string // term of the block
	last  string
	list  []byte
}

func (w *blockWriter) add(term string, postings []rank.Posting) {
	shared := 0
	if len(w.data) == 0 {
		w.first, w.last = term, ""
	}
	for shared < min(len(term), len(w.last), maxShare) && term[shared] == w.last[shared] {
		shared++
	}
	w.last = term
	w.data = binary.AppendUvarint(w.data, uint64(shared))
	w.data = binary.AppendUvarint(w.data, uint64(len(term)-shared))
	w.data = append(w.data, term[shared:]...)
	w.list = appendPostings(w.list[:0], postings)
	w.data = binary.AppendUvarint(w.data, uint64(len(postings)))
	if len(postings) >= unsized {
		w.data = binary.AppendUvarint(w.data, uint64(len(w.list)))
	}
	w.data = append(w.data, w.list...)
}

func appendPostings(out []byte, postings []rank.Posting) []byte {
	last, tf := int32(-1), usualTF
	for _, p := range postings {
		v := uint64(p.Doc-last-1) << 1
		last = p.Doc
		if p.TF == tf {
			out = binary.AppendUvarint(out, v)
			continue
		}
		tf = p.TF
		out = append(binary.AppendUvarint(out, v|1), byte(tf))
	}
	return out
}

// blockReader reads the terms of a block in turn.
type blockReader struct {
	r    reader
	term []byte
	n    int
	list []byte // postings; nil if they must be read to be passed
}

// next reads a term; false at the end, or if r.err is set.
func (b *blockReader) next() bool {
	if b.n > 0 && b.list == nil {
		for range b.n { // pass the postings, which nobody read
			if b.r.uvarint()&1 != 0 {
				b.r.byte()
			}
		}
	}
	if b.r.err != nil || len(b.r.data) == 0 {
		return false
	}
	shared, suffix := b.r.uvarint(), b.r.uvarint()
	if shared > uint64(len(b.term)) || suffix > uint64(len(b.r.data)) {
		b.r.fail()
		return false
	}
	b.term = append(b.term[:shared], b.r.data[:suffix]...)
	b.r.data = b.r.data[suffix:]
	n := b.r.uvarint()
	if n > uint64(len(b.r.data)) { // a posting has a byte at least
		b.r.fail()
		return false
	}
	b.n, b.list = int(n), nil
	if n >= unsized {
		size := b.r.uvarint()
		if size > uint64(len(b.r.data)) {
			b.r.fail()
			return false
		}
		b.list, b.r.data = b.r.data[:size:size], b.r.data[size:]
	}
	return b.r.err == nil
}

// postings appends those of the term to out. docs is how many documents there are.
func (b *blockReader) postings(out []rank.Posting, docs int) []rank.Posting {
	data := b.r.data
	if b.list != nil {
		data = b.list
	}
	out = slices.Grow(out, b.n)
	last, tf := int64(-1), usualTF
	for range b.n {
		var v uint64
		n := 1
		if len(data) > 0 && data[0] < 0x80 {
			v = uint64(data[0])
		} else {
			v, n = binary.Uvarint(data)
		}
		if n <= 0 || int(v&1) > len(data)-n {
			b.r.fail()
			return out
		}
		if v&1 != 0 {
			tf = rank.TF(data[n])
			n++
		}
		data = data[n:]
		if last += 1 + int64(v>>1); v>>1 > math.MaxInt32 || last >= int64(docs) {
			b.r.fail()
			return out
		}
		out = append(out, rank.Posting{Doc: int32(last), TF: tf})
	}
	if b.list == nil {
		b.r.data = data
	}
	b.n, b.list = 0, nil
	return out
}

// reader reads numbers, and remembers that there was none.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("%w", ErrDamaged)
	}
	r.data = nil
}

func (r *reader) uvarint() uint64 {
	if len(r.data) > 0 && r.data[0] < 0x80 {
		v := r.data[0]
		r.data = r.data[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) uint64() uint64 {
	if len(r.data) < 8 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.data)
	r.data = r.data[8:]
	return v
}

func (r *reader) byte() byte {
	if len(r.data) == 0 {
		r.fail()
		return 0
	}
	v := r.data[0]
	r.data = r.data[1:]
	return v
}
