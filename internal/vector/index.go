package vector

import (
	"fmt"
	"math"
	"runtime"
)

// ID names a vector.
type ID = [16]byte

const (
	// minSketched is how many vectors there must be for sketches to pay; the cosines of
	// fewer are all computed.
	minSketched = 2048
	// minDimension is that of vectors from which on sketches pay; a few numbers are
	// compared as quickly, and have few rotations of the kind used.
	minDimension = 64
	// blockVectors and blockBytes bound a block, which is allocated as a whole.
	blockVectors = 1024
	blockBytes   = 4 << 20
	// entryBytes is what a vector takes in Index.at: 24 bytes in a map that is between
	// 7/16 and 7/8 full.
	entryBytes = 40
)

// Index holds vectors of one dimension in memory. Searches may run concurrently with
// each other, and with nothing else.
type Index struct {
	dim      int
	at       map[ID]place
	segments [Int8 + 1]segment // by format
	sketcher *sketcher         // nil: no vector has a sketch
	sketched int               // vectors that there were when the sketcher was made

	// Memory of Put.
	numbers []float32
	scratch *sketchScratch
}

// place is where a vector lies.
type place struct {
	format Format
	n      uint32 // of the segment's vectors
}

// segment holds the vectors of a format, without gaps: all blocks but the last are full.
type segment struct {
	size     int // bytes of a vector
	perBlock int
	n        int
	blocks   []*block
}

// block is some vectors of a segment, in columns.
type block struct {
	ids      []ID
	labels   []uint32
	scales   []float64 // 1/length of the vector, 0 if that is 0
	numbers  []byte    // segment.size bytes for each
	sketches []uint64  // nil, or words*perBlock: see distances
}

// NewIndex returns an empty index for vectors of dim numbers.
func NewIndex(dim int) (*Index, error) {
	if dim < 1 || dim > MaxDimension {
		return nil, fmt.Errorf("vectors of %d numbers; 1 to %d can be stored", dim, MaxDimension)
	}
	x := &Index{dim: dim, at: make(map[ID]place), numbers: make([]float32, dim)}
	for f, size := range [...]int{Float16: 2 * dim, Float32: 4 * dim, Int8: int8Codes(dim) + 8} {
		x.segments[f] = segment{size: size, perBlock: max(16, min(blockVectors, blockBytes/size))}
	}
	return x, nil
}

// Dim returns the dimension.
func (x *Index) Dim() int { return x.dim }

// Len returns how many vectors there are.
func (x *Index) Len() int { return len(x.at) }

// Bytes returns about how much memory the vectors take.
func (x *Index) Bytes() int64 {
	bytes := int64(len(x.at)) * entryBytes
	for _, s := range x.segments {
		for _, b := range s.blocks {
			bytes += int64(cap(b.ids)*16 + cap(b.labels)*4 + cap(b.scales)*8 + cap(b.numbers) + cap(b.sketches)*8)
		}
	}
	return bytes
}

// EstimateBytes returns about how much memory n vectors of dim numbers take, each of so
// many bytes as it is stored.
func EstimateBytes(n int64, dim, stored int) int64 {
	each := int64(stored + entryBytes + 16 + 4 + 8)
	if dim >= minDimension && n >= minSketched {
		each += int64(8 * sketchWords(dim))
	}
	return n * each
}

// Vector returns the vector and the label of an id.
func (x *Index) Vector(id ID) (v []float32, label uint32, known bool) {
	p, known := x.at[id]
	if !known {
		return nil, 0, false
	}
	v = make([]float32, x.dim)
	b, i := x.find(p)
	b.decode(v, i)
	return v, b.labels[i], true
}

// Put adds a vector, or replaces the one of the same id. stored is what Encode
// returned; the label is a number by which searches can be narrowed. Errors: those of
// Decode.
func (x *Index) Put(id ID, label uint32, stored []byte) error {
	f, err := formatOf(stored, int64(x.dim))
	if err != nil {
		return err
	}
	v := x.numbers
	if err := decode(v, stored, f); err != nil {
		return err
	}
	p, known := x.at[id]
	if known && p.format != f {
		x.Delete(id)
		known = false
	}
	if !known {
		s := &x.segments[f]
		p = place{f, uint32(s.n)}
		s.grow()
		x.at[id] = p
	}
	b, i := x.find(p)
	b.ids[i], b.labels[i], b.scales[i] = id, label, inverseLength(v)
	copy(b.numbers[i*b.size:][:b.size], stored)
	if x.sketcher != nil {
		x.sketch(&b, i, v, x.scratch)
	}
	return nil
}

// Delete removes the vector of an id, if there is one.
func (x *Index) Delete(id ID) {
	p, known := x.at[id]
	if !known {
		return
	}
	delete(x.at, id)
	s := &x.segments[p.format]
	b, i := x.find(p)
	last, k := x.find(place{p.format, uint32(s.n - 1)})
	if moved := last.ids[k]; moved != id { // the last one fills the gap
		b.ids[i], b.labels[i], b.scales[i] = last.ids[k], last.labels[k], last.scales[k]
		copy(b.numbers[i*s.size:][:s.size], last.numbers[k*s.size:][:s.size])
		for at := 0; at < len(b.sketches); at += s.perBlock {
			b.sketches[at+i] = last.sketches[at+k]
		}
		x.at[moved] = p
	}
	s.shrink()
}

// Settle makes the sketches, if the vectors are many and long enough for them to pay, and makes them
// anew if there are four times as many as when they were made, whose centre may be
// another one. It takes some microseconds for each vector, on all processors.
func (x *Index) Settle() {
	n := x.Len()
	if x.dim < minDimension || n < minSketched || n < 4*x.sketched {
		return
	}
	type worker struct {
		v       []float32
		sums    []float64
		scratch *sketchScratch
	}
	workers := make([]worker, runtime.GOMAXPROCS(0))
	for i := range workers {
		workers[i] = worker{v: make([]float32, x.dim), sums: make([]float64, x.dim)}
	}
	overBlocks(x, workers, func(w *worker, b *blockRef) {
		for i, scale := range b.scales {
			b.decode(w.v, i)
			for k, number := range w.v {
				w.sums[k] += float64(number) * scale
			}
		}
	})
	centre := make([]float32, x.dim)
	for k := range centre {
		for _, w := range workers {
			centre[k] += float32(w.sums[k] / float64(n))
		}
	}
	x.sketcher, x.sketched = newSketcher(centre), n
	x.scratch = x.sketcher.newScratch()
	overBlocks(x, workers, func(w *worker, b *blockRef) {
		if w.scratch == nil {
			w.scratch = x.sketcher.newScratch()
		}
		for i := range b.ids {
			b.decode(w.v, i)
			x.sketch(b, i, w.v, w.scratch)
		}
	})
}

// sketch makes the sketch of v, which is vector i of a block.
func (x *Index) sketch(b *blockRef, i int, v []float32, scratch *sketchScratch) {
	if b.sketches == nil {
		b.sketches = make([]uint64, x.sketcher.words*b.perBlock)
	}
	for k, word := range x.sketcher.sketch(v, b.scales[i], scratch) {
		b.sketches[k*b.perBlock+i] = word
	}
}

// blockRef is a block with the segment that it belongs to.
type blockRef struct {
	*block
	*segment
	format Format
}

// decode reads vector i, which Put has checked.
func (b *blockRef) decode(v []float32, i int) {
	if err := decode(v, b.numbers[i*b.size:], b.format); err != nil {
		panic(err)
	}
}

func (x *Index) blocks() []blockRef {
	var all []blockRef
	for f := range x.segments {
		for _, b := range x.segments[f].blocks {
			all = append(all, blockRef{b, &x.segments[f], Format(f)})
		}
	}
	return all
}

// find returns the block of the vector at a place, and its number there.
func (x *Index) find(p place) (blockRef, int) {
	s := &x.segments[p.format]
	return blockRef{s.blocks[int(p.n)/s.perBlock], s, p.format}, int(p.n) % s.perBlock
}

// grow makes room for one more vector.
func (s *segment) grow() {
	if s.n%s.perBlock == 0 {
		b := &block{}
		if s.n > 0 { // the first one grows, since most sets are small
			b = &block{make([]ID, 0, s.perBlock), make([]uint32, 0, s.perBlock), make([]float64, 0, s.perBlock), make([]byte, 0, s.perBlock*s.size), nil}
		}
		s.blocks = append(s.blocks, b)
	}
	b := s.blocks[len(s.blocks)-1]
	b.ids, b.labels, b.scales = append(b.ids, ID{}), append(b.labels, 0), append(b.scales, 0)
	b.numbers = append(b.numbers, make([]byte, s.size)...)
	s.n++
}

// shrink removes the last vector.
func (s *segment) shrink() {
	s.n--
	b, i := s.blocks[s.n/s.perBlock], s.n%s.perBlock
	b.ids, b.labels, b.scales, b.numbers = b.ids[:i], b.labels[:i], b.scales[:i], b.numbers[:i*s.size]
	if i == 0 {
		s.blocks = s.blocks[:len(s.blocks)-1]
	}
}

func inverseLength(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return 0
	}
	return 1 / math.Sqrt(sum)
}
