package embed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A table has a vector for each token of a vocabulary, in 4 bits a number. Its
// rows are decoded when they are added, so that it needs no memory besides the
// file's own pages. The file, little-endian:
//
//	8 bytes         "epstatic"
//	uint32          dim, a multiple of 16
//	uint32          n, the number of tokens
//	uint32          size of the vocabulary in bytes
//	the vocabulary  each token with a line feed after it; the first is for unknown words
//	n × uint16      the scale of each row: a half-precision number from 0 to 1/16
//	n × dim/2       rows: byte i has number i in its lower bits and number dim/2 + i in its
//	                upper ones; 8 stands for 0
type table struct {
	dim    int
	words  *wordPiece
	scales string
	rows   string
}

const tableMagic = "epstatic"

func parseTable(file string) (*table, error) {
	const header = len(tableMagic) + 3*4
	if len(file) < header || file[:len(tableMagic)] != tableMagic {
		return nil, errors.New("not a table")
	}
	var field [3]int
	for i := range field {
		field[i] = int(binary.LittleEndian.Uint32([]byte(file[len(tableMagic)+4*i:][:4])))
	}
	dim, n, size := field[0], field[1], field[2]
	if dim == 0 || dim%16 != 0 || dim > 1024 {
		return nil, fmt.Errorf("dimension %d; it must be a multiple of 16 and 1024 at most", dim)
	}
	if n == 0 || n > 1<<17 || size > len(file) {
		return nil, fmt.Errorf("%d tokens in %d bytes; 1 to 131072 are possible", n, size)
	}
	if want := header + size + n*2 + n*dim/2; len(file) != want {
		return nil, fmt.Errorf("%d bytes; the header says %d", len(file), want)
	}
	rest := file[header:]
	tokens := make([]string, 0, n)
	for text := rest[:size]; text != ""; {
		var token string
		token, text, _ = strings.Cut(text, "\n")
		tokens = append(tokens, token)
	}
	if len(tokens) != n {
		return nil, fmt.Errorf("%d tokens in the vocabulary; the header says %d", len(tokens), n)
	}
	scales := rest[size : size+2*n]
	for id := range n {
		if f := half(uint16(scales[2*id]) | uint16(scales[2*id+1])<<8); !(f >= 0 && f <= maxScale) {
			return nil, fmt.Errorf("scale %v of token %d; 0 to %v are possible", f, id, maxScale)
		}
	}
	vocab := newVocabulary(tokens)
	if vocab.longest > maxPiece {
		return nil, fmt.Errorf("token of %d bytes; %d are possible", vocab.longest, maxPiece)
	}
	return &table{dim: dim, words: newWordPiece(vocab, 0), scales: scales, rows: rest[size+2*n:]}, nil
}

// append appends the vector of text to dst.
func (t *table) append(dst []float32, text string) []float32 {
	var room [256]uint32
	tokens := t.words.appendTokens(room[:0], text)
	start := len(dst)
	dst = slices.Grow(dst, t.dim)[:start+t.dim]
	v := dst[start:]
	clear(v)
	for len(tokens) > 0 {
		n := min(len(tokens), addAtOnce)
		t.add(v, tokens[:n])
		tokens = tokens[n:]
	}
	normalize(v)
	return dst
}

// Bounds by which sums of rows fit into 32 bits: all scales are multiples of the smallest half,
// 1/oneScale, so that 15 * addAtOnce * maxScale * oneScale is less than 1<<32.
const (
	oneScale  = 1 << 24
	maxScale  = 1.0 / 16
	addAtOnce = 256
)

// add adds the rows of tokens to v, times oneScale.
func (t *table) add(v []float32, tokens []uint32) {
	var (
		places            [addAtOnce]uint16 // in ids, of what was last there, by its lower bits
		ids               [addAtOnce]uint32
		scales, low, high [addAtOnce]uint64
		different         int
		all               uint64
	)
	for _, id := range tokens {
		scale := uint64(half(uint16(t.scales[2*id])|uint16(t.scales[2*id+1])<<8) * oneScale)
		all += scale
		place := &places[id%addAtOnce]
		if ids[*place] != id || *place >= uint16(different) {
			*place = uint16(different)
			ids[different] = id
			different++
		}
		scales[*place] += scale
	}
	n := t.dim / 2
	for at := 0; at < n; at += 8 {
		for i, id := range ids[:different] {
			row := t.rows[int(id)*n+at:][:8]
			x := uint64(row[0]) | uint64(row[1])<<8 | uint64(row[2])<<16 | uint64(row[3])<<24 |
				uint64(row[4])<<32 | uint64(row[5])<<40 | uint64(row[6])<<48 | uint64(row[7])<<56
			low[i], high[i] = x, x>>4
		}
		addLanes(v[at:][:8], low[:different], scales[:different], all)
		addLanes(v[n+at:][:8], high[:different], scales[:different], all)
	}
}

// addLanes adds to v the lower nibbles of the bytes in xs, less 8, times scales, whose sum is
// all. Two sums in one integer, four integers at a time, take half of the time of floats.
func addLanes(v []float32, xs, scales []uint64, all uint64) {
	const two = 0xf<<32 | 0xf // of a byte, and of the fourth after it
	scales = scales[:len(xs)]
	var a, b, c, d uint64
	for i, x := range xs {
		scale := scales[i]
		a += x & two * scale
		b += x >> 8 & two * scale
		c += x >> 16 & two * scale
		d += x >> 24 & two * scale
	}
	v = v[:8]
	for i, sum := range [4]uint64{a, b, c, d} {
		v[i] += float32(int64(sum&math.MaxUint32) - 8*int64(all))
		v[i+4] += float32(int64(sum>>32) - 8*int64(all))
	}
}

// half decodes a half-precision number (IEEE 754 binary16).
func half(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exp {
	case 0: // zero and subnormal
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31: // infinity and not a number
		return math.Float32frombits(sign | 255<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}
