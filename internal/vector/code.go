package vector

import (
	"math"
	"math/bits"
	"sync"
)

// CodeDim is how many numbers a vector has that a Code is made of.
const CodeDim = 256

// Code is the signs of the numbers of a vector after a fixed random rotation, 32 bytes in
// which the angle to another vector is kept well enough to rank by. The zero Code stands
// for no vector.
type Code = [CodeDim / 64]uint64

// codeRotation never changes: codes are stored.
var codeRotation = sync.OnceValue(func() *rotation { return newRotation(CodeDim, 1) })

// CodeOf returns the code of a vector of CodeDim numbers; the zero Code of one that is all
// zeros.
func CodeOf(v []float32) (c Code) {
	if !rotated(v, func(i int, x float32) { c[i/64] |= uint64(math.Float32bits(x)>>31) << (i % 64) }) {
		return Code{}
	}
	if c == (Code{}) {
		c[0] = 1
	}
	return c
}

// rotated hands the numbers of v after the rotation to do; false if all are zero.
func rotated(v []float32, do func(i int, x float32)) (some bool) {
	var turned, scratch [CodeDim]float32
	copy(turned[:], v[:CodeDim])
	codeRotation().rotate(turned[:], scratch[:])
	for i, x := range turned {
		some = some || x != 0
		do(i, x)
	}
	return some
}

// CodeQuery compares a vector with codes.
type CodeQuery struct {
	code Code
	sums [CodeDim / 8][256]float32 // of the numbers whose signs are a byte of a code
}

// NewCodeQuery returns nil for a vector that is all zeros, which is near to nothing.
func NewCodeQuery(v []float32) *CodeQuery {
	var numbers [CodeDim]float32
	q := &CodeQuery{code: CodeOf(v)}
	if !rotated(v, func(i int, x float32) { numbers[i] = x }) {
		return nil
	}
	var squares float64
	for _, x := range numbers {
		squares += float64(x) * float64(x)
	}
	// A unit vector and its signs, divided by the root of their number, have a cosine of
	// sqrt(2/pi) on average after a random rotation (Gao and Long 2024).
	scale := float32(math.Sqrt(math.Pi / (2 * CodeDim * squares)))
	for k := range q.sums {
		for b := range q.sums[k] {
			var sum float32
			for j := range 8 {
				if b>>j&1 != 0 {
					sum -= numbers[8*k+j]
				} else {
					sum += numbers[8*k+j]
				}
			}
			q.sums[k][b] = sum * scale
		}
	}
	return q
}

// Differing returns in how many bits a code differs from that of the query: fewer are
// nearer.
func (q *CodeQuery) Differing(c *Code) int {
	return bits.OnesCount64(c[0]^q.code[0]) + bits.OnesCount64(c[1]^q.code[1]) +
		bits.OnesCount64(c[2]^q.code[2]) + bits.OnesCount64(c[3]^q.code[3])
}

// Cosine estimates the cosine of the angle between the query and the vector of a code,
// with a standard error of about 0.04.
func (q *CodeQuery) Cosine(c *Code) float64 {
	var sum float32
	for k := range q.sums {
		sum += q.sums[k][byte(c[k/8]>>(8*(k%8)))]
	}
	return float64(sum)
}
