package vector

import (
	"math"
	"math/bits"
)

// minBits is the least length of a sketch. A bit for each number is not enough where
// there are few: then several rotations of a vector are sketched.
const minBits = 384

// sketcher makes sketches: the signs of the numbers of a vector of length 1, less the
// centre of all vectors, after random rotations. The fewer bits of two sketches differ,
// the smaller is the angle between what they were made of (Charikar 2002; centring and
// rotating as in RaBitQ, Gao and Long 2024).
type sketcher struct {
	dim       int
	words     int // of a sketch
	rotations []*rotation
	centre    []float32
}

// newSketcher returns one for vectors around a centre.
func newSketcher(centre []float32) *sketcher {
	dim := len(centre)
	s := &sketcher{dim: dim, words: sketchWords(dim), centre: centre}
	for i := range rotationsOf(dim) {
		s.rotations = append(s.rotations, newRotation(dim, uint64(i)))
	}
	return s
}

func rotationsOf(dim int) int { return (minBits + dim - 1) / dim }

// sketchWords returns the length of a sketch in words.
func sketchWords(dim int) int { return (dim*rotationsOf(dim) + 63) / 64 }

// sketchScratch is memory for making sketches, of one goroutine.
type sketchScratch struct {
	sketch                  []uint64
	centred, rotated, moved []float32
}

func (s *sketcher) newScratch() *sketchScratch {
	return &sketchScratch{make([]uint64, s.words), make([]float32, s.dim), make([]float32, s.dim), make([]float32, s.dim)}
}

// sketch returns the sketch of v times scale, in the scratch memory.
func (s *sketcher) sketch(v []float32, scale float64, scratch *sketchScratch) []uint64 {
	for i, x := range v {
		scratch.centred[i] = float32(float64(x)*scale) - s.centre[i]
	}
	into, at := scratch.sketch, 0
	clear(into)
	for _, r := range s.rotations {
		copy(scratch.rotated, scratch.centred)
		r.rotate(scratch.rotated, scratch.moved)
		for _, x := range scratch.rotated {
			into[at/64] |= uint64(math.Float32bits(x)>>31) << (at % 64)
			at++
		}
	}
	return into
}

// distances counts the bits in which each of len(into) sketches differs from that of a
// query. The sketches lie word by word: word k of sketch i is columns[k*stride+i], which
// a processor reads twice as fast as one sketch after the other.
func distances(into []int32, columns []uint64, stride int, query []uint64) {
	n := len(into)
	clear(into)
	column := func(k int) []uint64 { return columns[k*stride:][:n] }
	for ; len(query) >= 2; query = query[2:] {
		a, b, x, y := query[0], query[1], column(0), column(1)
		for i := range into {
			into[i] += int32(bits.OnesCount64(x[i]^a) + bits.OnesCount64(y[i]^b))
		}
		columns = columns[2*stride:]
	}
	if len(query) == 1 {
		for i, x := range column(0) {
			into[i] += int32(bits.OnesCount64(x ^ query[0]))
		}
	}
}
