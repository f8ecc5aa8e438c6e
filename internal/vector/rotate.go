package vector

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// rotation is a fixed random orthogonal map of vectors of some numbers: two rounds of
// random signs, a random permutation, and Walsh-Hadamard transforms of blocks whose
// sizes are the powers of two that dim is the sum of. It spreads what a vector holds
// over all numbers, in dim·log(dim) operations, so that their signs tell about equally
// much of it.
type rotation [2]round

// round is one of them: number i becomes the one from[i] times scales[i], which is the
// sign and what makes the transform of its block keep lengths.
type round struct {
	from   []int32
	scales []float32
}

func newRotation(dim int, seed uint64) *rotation {
	r := rand.New(rand.NewPCG(seed, uint64(dim)))
	var rot rotation
	for i := range rot {
		from, scales := make([]int32, dim), make([]float32, 0, dim)
		for k, p := range r.Perm(dim) {
			from[k] = int32(p)
		}
		for rest := dim; rest > 0; rest -= firstBlock(rest) {
			scale := float32(1 / math.Sqrt(float64(firstBlock(rest))))
			for range firstBlock(rest) {
				scales = append(scales, scale*float32(1-2*int(r.Uint64()&1)))
			}
		}
		rot[i] = round{from, scales}
	}
	return &rot
}

// firstBlock returns the size of the first block of n numbers, the largest power of two
// that is not greater.
func firstBlock(n int) int { return 1 << (bits.Len(uint(n)) - 1) }

// rotate rotates v in place; scratch is as long.
func (r *rotation) rotate(v, scratch []float32) {
	for _, round := range r {
		copy(scratch, v)
		for i, from := range round.from {
			v[i] = scratch[from] * round.scales[i]
		}
		for rest := v; len(rest) > 0; rest = rest[firstBlock(len(rest)):] {
			hadamard(rest[:firstBlock(len(rest))])
		}
	}
}

// hadamard is the Walsh-Hadamard transform, in place; the length is a power of two. It
// does two of the transform's levels at a time, with half as many loads and stores.
func hadamard(v []float32) {
	half := 1
	if len(v) >= 4 {
		for rest := v; len(rest) >= 4; rest = rest[4:] {
			butterfly(&rest[0], &rest[1], &rest[2], &rest[3])
		}
		half = 4
	}
	for ; 4*half <= len(v); half *= 4 {
		for rest := v; len(rest) > 0; rest = rest[4*half:] {
			p, q, r, s := rest[:half], rest[half:][:half], rest[2*half:][:half], rest[3*half:][:half]
			for i := range p {
				butterfly(&p[i], &q[i], &r[i], &s[i])
			}
		}
	}
	if half < len(v) { // one level is left
		low, high := v[:half], v[half:][:half]
		for i, x := range low {
			y := high[i]
			low[i], high[i] = x+y, x-y
		}
	}
}

// butterfly is the transform of four numbers.
func butterfly(p, q, r, s *float32) {
	a, b, c, d := *p+*q, *p-*q, *r+*s, *r-*s
	*p, *q, *r, *s = a+c, b+d, a-c, b-d
}
