package index

import (
	"hash/maphash"
	"sync/atomic"

	porterstemmer "github.com/blevesearch/go-porterstemmer"
)

// stems remembers stems, because finding one takes ten times as long as looking it
// up here. Each word has one place, and the last word that came to it stays.
var stems [1 << 13]atomic.Pointer[stem]

type stem struct{ word, stem string }

var stemSeed = maphash.MakeSeed()

// appendStem appends the Porter stem of word, which holds only the letters a to z.
func appendStem(dst, word []byte) []byte {
	if len(word) < 3 {
		return append(dst, word...)
	}
	place := &stems[maphash.Bytes(stemSeed, word)%uint64(len(stems))]
	known := place.Load()
	if known == nil || known.word != string(word) {
		known = newStem(string(word))
		place.Store(known)
	}
	return append(dst, known.stem...)
}

func newStem(word string) *stem {
	s := string(porterstemmer.StemWithoutLowerCasing([]rune(word)))
	if s == word {
		s = word // one copy
	}
	return &stem{word, s}
}
