package replica

import (
	"fmt"
	"hash/crc32"
)

// stepRun is steps of an episode, in one row or in several that follow one another. How steps
// are cut into rows may differ between a replica and its server: queued steps travel together.
type stepRun struct {
	first, count int64
	content
}

// String describes the steps, not the rows.
func (r stepRun) String() string {
	return fmt.Sprintf("%d steps from %d, %v", r.count, r.first, r.content)
}

// join adds the steps of the next row, and reports whether that is possible.
func (r *stepRun) join(next stepRun) bool {
	if r.first+r.count != next.first || r.damage != "" || next.damage != "" || next.size < 2 {
		return false
	}
	r.sum = joinedArrays(r.sum, next.sum, next.size)
	r.size += next.size - 1
	r.count += next.count
	return true
}

// joinedArrays returns the CRC of the JSON array of the elements of two arrays, neither of
// them empty, from their CRCs, and the size of the second. The CRC of A and then B is
// that of A, taken through as many zero bytes as B has, XOR that of B. So the array that ends with a
// comma differs from the first one by what the change of its last byte makes, and the second one
// without its bracket by what that byte made.
func joinedArrays(a, b uint32, size int64) uint32 {
	comma := castagnoli[']'^',']
	bracket := crc32.Checksum([]byte{'['}, castagnoli)
	return throughZeros(a^comma^bracket, size-1) ^ b
}

// throughZeros takes a CRC through zero bytes, as crc32_combine of zlib does.
func throughZeros(crc uint32, bytes int64) uint32 {
	var zero [32]uint32 // one zero bit, as a matrix over GF(2)
	zero[0] = crc32.Castagnoli
	for i := 1; i < len(zero); i++ {
		zero[i] = 1 << (i - 1)
	}
	for range 3 { // a byte
		zero = squared(&zero)
	}
	for ; bytes > 0; bytes >>= 1 {
		if bytes&1 != 0 {
			crc = times(&zero, crc)
		}
		zero = squared(&zero)
	}
	return crc
}

func times(m *[32]uint32, v uint32) (out uint32) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			out ^= m[i]
		}
	}
	return out
}

func squared(m *[32]uint32) (out [32]uint32) {
	for i := range m {
		out[i] = times(m, m[i])
	}
	return out
}
