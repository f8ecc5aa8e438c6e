package index

import (
	"sync/atomic"

	porterstemmer "github.com/blevesearch/go-porterstemmer"
)

// stems remembers the stems of short words, because finding one takes twenty times
// as long as looking it up. Each word has one place, and the last one that came to it
// stays. A word of at most 12 letters, 5 bits each, is a number of 60 bits; times an
// odd number, modulo 2^60, it is another such number, and no other word's. Its high
// bits are the place, where the other bits are kept with the stem:
//
//	bits 17 to 63  the word
//	bits 8 to 16   how many letters of the word begin the stem, plus 1
//	bits 0 to 7    the letter that follows them in the stem, or 0
var stems [1 << stemPlaces]atomic.Uint64

const (
	stemPlaces = 14
	stemBits   = 60
	stemRest   = stemBits - stemPlaces
	stemFactor = 0x9e3779b97f4a7c15 // 2^64 by the golden ratio: similar words lie far apart
)

// appendStem appends the Porter stem of word, which holds only the letters a to z,
// at most maxToken.
func (s *scanner) appendStem(dst, word []byte) []byte {
	if len(word) < 3 {
		return append(dst, word...)
	}
	if 5*len(word) > stemBits {
		kept, last := s.stem(word)
		return joinStem(dst, word, kept, last)
	}
	number := uint64(0)
	for _, c := range word {
		number = number<<5 | uint64(c&0x1f)
	}
	number = number * stemFactor % (1 << stemBits)
	place := &stems[number>>stemRest]
	number = number % (1 << stemRest) << 17
	known := place.Load()
	if known>>17<<17 != number || known == number { // 0 is no stem
		kept, last := s.stem(word)
		known = number | uint64(kept+1)<<8 | uint64(last)
		place.Store(known)
	}
	return joinStem(dst, word, int(known>>8&0x1ff)-1, byte(known))
}

// joinStem appends a stem: so many letters of word, and one more, unless it is 0.
func joinStem(dst, word []byte, kept int, last byte) []byte {
	dst = append(dst, word[:kept]...)
	if last != 0 {
		dst = append(dst, last)
	}
	return dst
}

// stem returns the stem of word. It differs from how word begins in its last letter
// at most: happi, of happy.
func (s *scanner) stem(word []byte) (kept int, last byte) {
	for i, c := range word {
		s.runes[i] = rune(c)
	}
	stem := porterstemmer.StemWithoutLowerCasing(s.runes[:len(word)])
	kept = len(stem) - 1
	if byte(stem[kept]) == word[kept] {
		return kept + 1, 0
	}
	return kept, byte(stem[kept])
}
