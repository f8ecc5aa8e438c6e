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
//	uint32          dim, an even number
//	uint32          n, the number of tokens
//	uint32          size of the vocabulary in bytes
//	the vocabulary  each token with a line feed after it; the first is for unknown words
//	n × uint16      the scale of each row: a half-precision number
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
	if dim == 0 || dim%2 != 0 || dim > 1024 {
		return nil, fmt.Errorf("dimension %d; it must be even and 1024 at most", dim)
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
	vocab := newVocabulary(tokens)
	if vocab.longest > maxPiece {
		return nil, fmt.Errorf("token of %d bytes; %d are possible", vocab.longest, maxPiece)
	}
	return &table{
		dim:    dim,
		words:  newWordPiece(vocab, 0),
		scales: rest[size : size+2*n],
		rows:   rest[size+2*n:],
	}, nil
}

// append appends the vector of text to dst.
func (t *table) append(dst []float32, text string) []float32 {
	var room [256]uint32
	tokens := t.words.appendTokens(room[:0], text)
	start := len(dst)
	dst = slices.Grow(dst, t.dim)[:start+t.dim]
	v := dst[start:]
	clear(v)
	for _, id := range tokens {
		t.add(v, id)
	}
	normalize(v)
	return dst
}

// add adds the row of a token to v.
func (t *table) add(v []float32, id uint32) {
	scale := half(uint16(t.scales[2*id]) | uint16(t.scales[2*id+1])<<8)
	var value [16]float32 // of each nibble
	for i := range value {
		value[i] = float32(i-8) * scale
	}
	n := t.dim / 2
	row := t.rows[int(id)*n:][:n]
	// Halves apart, and of the row's length, let the compiler drop its checks.
	low, high := v[:len(row)], v[n:][:len(row)]
	for i := range len(row) {
		b := row[i]
		low[i] += value[b&15]
		high[i] += value[b>>4]
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
