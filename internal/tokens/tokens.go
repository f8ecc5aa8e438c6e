package tokens

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// Count estimates the tokens of a text, from above for nearly all texts: a word of up to six
// Latin letters is one, as are three digits, two signs of punctuation, and a line break; other
// letters are one less than their bytes in UTF-8.
func Count(text string) (tokens int) {
	for i := 0; i < len(text); {
		class := tokenClass(text[i])
		from := i
		for i < len(text) && tokenClass(text[i]) == class && class != otherChar {
			i++
		}
		n := i - from
		switch class {
		case letterChar:
			tokens += (n + 5) / 6
		case digitChar:
			tokens += (n + 2) / 3
		case signChar:
			tokens += (n + 1) / 2
		case spaceChar:
			tokens += min(1, n-1) // a single one belongs to the word behind it
		case lineChar:
			tokens += n
		case otherChar:
			_, size := utf8.DecodeRuneInString(text[i:])
			i += size
			tokens += max(1, size-1)
		}
	}
	return tokens
}

type charClass int

const (
	letterChar charClass = iota
	digitChar
	signChar
	spaceChar
	lineChar
	otherChar
)

func tokenClass(b byte) charClass {
	switch {
	case b >= utf8.RuneSelf:
		return otherChar
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
		return letterChar
	case b >= '0' && b <= '9':
		return digitChar
	case b == ' ' || b == '\t':
		return spaceChar
	case b < ' ' || b == 0x7f:
		return lineChar
	}
	return signChar
}

// Cut returns a text that has at most so many tokens: text itself, or its beginning with an
// ellipsis behind it. It is empty where there is
// no room for the ellipsis.
func Cut(text string, most int) string {
	if Count(text) <= most {
		return text
	}
	cut := func(n int) string {
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		return strings.TrimRight(text[:n], " \t\r\n") + ellipsis
	}
	n := sort.Search(len(text), func(n int) bool { return Count(cut(n)) > most })
	if n == 0 {
		return ""
	}
	return cut(n - 1)
}

const ellipsis = "…"
