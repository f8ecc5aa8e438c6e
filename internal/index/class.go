package index

import (
	"sync/atomic"
	"unicode"
)

// class is what a character does in a word.
type class uint8

const (
	separator  class = iota
	dash             // joins two words to an identifier, but not two numbers
	underscore       // joins two words to an identifier
	dot              // joins numbers
	lower            // a letter, small or of a script without case
	upper
	digit
	mark    // belongs to the letter before it
	pairing // a letter of a script without spaces between words
	ignored // is not there, such as a soft hyphen
)

// isWord tells letters and digits of scripts with spaces between words.
func (c class) isWord() bool { return c >= lower && c <= digit }

// ascii holds the classes of ASCII.
var ascii = func() (t [128]class) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z':
			t[c] = lower
		case 'A' <= c && c <= 'Z':
			t[c] = upper
		case '0' <= c && c <= '9':
			t[c] = digit
		}
	}
	t['-'], t['_'], t['.'] = dash, underscore, dot
	return t
}()

// character is what a character is in an index.
type character struct {
	class  class
	folded string // of letters: without case and diacritics
}

// common holds the characters up to U+2000, all alphabets in wide use, which would be
// slow to look up in Unicode's tables. A block of them is made when one is needed.
var common [0x2000 / blockSize]atomic.Pointer[[blockSize]character]

const blockSize = 128

// lookUp returns what r is. The text that holds it must be in NFKC.
func lookUp(r rune) character {
	if r >= blockSize*rune(len(common)) {
		return describe(r)
	}
	block := common[r/blockSize].Load()
	if block == nil {
		block = new([blockSize]character)
		for i := range block {
			block[i] = describe(r/blockSize*blockSize + rune(i))
		}
		common[r/blockSize].Store(block) // another one at the same time makes the same
	}
	return block[r%blockSize]
}

func describe(r rune) character {
	c := character{class: classOf(r)}
	if c.class == lower || c.class == upper {
		c.folded = foldLetter(r)
	}
	return c
}

func classOf(r rune) class {
	switch {
	case r < 0x80:
		return ascii[r]
	case 0x4e00 <= r && r <= 0x9fff, 0xac00 <= r && r <= 0xd7a3: // most of Han, Hangul: a short cut
		return pairing
	case r == 0x2010 || r == 0x2011: // hyphen, non-breaking hyphen
		return dash
	case unicode.IsMark(r):
		if optional(r) {
			return ignored
		}
		return mark
	case r == 0x0640, r != 0x200b && unicode.Is(unicode.Cf, r): // tatweel; U+200B is a space that takes none
		return ignored
	case isPairing(r):
		return pairing
	case unicode.IsUpper(r), unicode.IsTitle(r):
		return upper
	case unicode.IsLetter(r):
		return lower
	case unicode.IsNumber(r):
		return digit
	}
	return separator
}

// unspaced are the scripts without spaces between words, and Hangul, where
// particles follow a word without a space.
var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo, unicode.Hangul,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
}

func isPairing(r rune) bool {
	switch {
	case r < 0x0e00:
		return false
	case r == 0x30fc, 0x3031 <= r && r <= 0x3035, r == 0x3006: // prolonged sound mark, vertical repeat marks, 〆: of no script
		return true
	}
	return (unicode.IsLetter(r) || unicode.Is(unicode.Nl, r)) && unicode.In(r, unspaced...)
}

// optional tells marks that writers leave out: accents that NFKC could not compose
// with a letter, vowel points of Hebrew, Arabic and Syriac, variation selectors.
// Vowel signs of Indic scripts, of Thai and the like are no such marks.
func optional(r rune) bool {
	return unicode.In(r, unicode.Variation_Selector, unicode.Hebrew, unicode.Arabic, unicode.Syriac) ||
		unicode.Is(unicode.Inherited, r) && r != 0x3099 && r != 0x309a // the voiced sound marks of kana
}
