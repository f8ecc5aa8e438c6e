package vector

import (
	"encoding/binary"
	"math"
)

// query is a vector that others are compared with.
type query struct {
	unit  []float32 // of length 1
	large []float32 // unit times 2^112: see dotFloat16
	sum   float64   // of the numbers of unit
}

func newQuery(v []float32) *query {
	q := &query{unit: make([]float32, len(v)), large: make([]float32, len(v))}
	scale := inverseLength(v)
	for i, x := range v {
		q.unit[i] = float32(float64(x) * scale)
		q.large[i] = q.unit[i] * 0x1p112
		q.sum += float64(q.unit[i])
	}
	return q
}

// cosine returns that of the angle between the query and vector i of a block.
func (q *query) cosine(b *blockRef, i int) float64 {
	numbers := b.numbers[i*b.size:][:b.size]
	var dot float64
	switch b.format {
	case Float16:
		dot = dotFloat16(q.large, numbers)
	case Float32:
		dot = dotFloat32(q.unit, numbers)
	case Int8:
		step, least := int8Scale(numbers, len(q.unit))
		dot = least*q.sum + step*dotBytes(q.unit, numbers)
	}
	return max(-1, min(1, dot*b.scales[i]))
}

// The sums are four, because each addition waits for the one before it.

// dotFloat16 returns the dot product with a vector of halves; q is multiplied by 2^112,
// because a half whose bits are moved to their places in a float32 is too small by that.
func dotFloat16(q []float32, halves []byte) float64 {
	var a, b, c, d float32
	half := func(bits []byte) float32 {
		h := int16(binary.LittleEndian.Uint16(bits))
		return math.Float32frombits(uint32(int32(h)<<13) & 0x8fffe000)
	}
	for len(q) >= 8 && len(halves) >= 16 {
		x, y := (*[8]float32)(q), (*[16]byte)(halves)
		a += x[0] * half(y[0:])
		b += x[1] * half(y[2:])
		c += x[2] * half(y[4:])
		d += x[3] * half(y[6:])
		a += x[4] * half(y[8:])
		b += x[5] * half(y[10:])
		c += x[6] * half(y[12:])
		d += x[7] * half(y[14:])
		q, halves = q[8:], halves[16:]
	}
	for i, x := range q {
		a += x * half(halves[2*i:])
	}
	return float64(a + b + c + d)
}

// dotFloat32 returns the dot product with a vector of float32.
func dotFloat32(q []float32, numbers []byte) float64 {
	var a, b, c, d float64
	at := func(i int) float64 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(numbers[4*i:])))
	}
	for len(q) >= 4 && len(numbers) >= 16 {
		a += float64(q[0]) * at(0)
		b += float64(q[1]) * at(1)
		c += float64(q[2]) * at(2)
		d += float64(q[3]) * at(3)
		q, numbers = q[4:], numbers[16:]
	}
	for i, x := range q {
		a += float64(x) * at(i)
	}
	return a + b + c + d
}

// dotBytes returns the dot product with a vector of bytes.
func dotBytes(q []float32, codes []byte) float64 {
	var a, b, c, d float32
	for len(q) >= 4 && len(codes) >= 4 {
		a += q[0] * float32(codes[0])
		b += q[1] * float32(codes[1])
		c += q[2] * float32(codes[2])
		d += q[3] * float32(codes[3])
		q, codes = q[4:], codes[4:]
	}
	for i, x := range q {
		a += x * float32(codes[i])
	}
	return float64(a + b + c + d)
}
