package index

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold returns s in the form in which names are equal: without case, and in
// compatibility composition (NFKC), so that full-width letters equal narrow ones and
// a letter with a combining accent equals the letter that has it. It is the
// compatibility caseless matching of the Unicode Standard, definition D146. Accents are kept. Invalid
// UTF-8 becomes U+FFFD.
func Fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	fold := cases.Fold()
	s = fold.String(norm.NFD.String(strings.ToValidUTF8(s, "\ufffd")))
	return norm.NFKC.String(fold.String(norm.NFKC.String(s)))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// foldLetter returns the letter r without case, and without diacritics where they
// do not make it another letter: those of Latin and Greek; of Cyrillic only the
// stress marks and the dots of ё, which are mostly not written.
func foldLetter(r rune) string {
	folded := norm.NFD.String(cases.Fold().String(string(r)))
	var b strings.Builder
	var base rune
	for _, r := range folded {
		switch {
		case !unicode.IsMark(r):
			base = r
			b.WriteRune(bare(r))
		case unicode.In(base, unicode.Latin, unicode.Greek):
		case unicode.Is(unicode.Cyrillic, base) && (r == 0x300 || r == 0x301 || base == 'е' && r == 0x308):
		default:
			b.WriteRune(r)
		}
	}
	return norm.NFC.String(b.String())
}

// bare is r without a stroke, or the dotless i, which Unicode does not decompose.
func bare(r rune) rune {
	switch r {
	case 'ı':
		return 'i'
	case 'ł':
		return 'l'
	case 'ø':
		return 'o'
	case 'đ':
		return 'd'
	}
	return r
}
