package redact

import "strings"

// charset is a set of bytes.
type charset [256]bool

func chars(list string) *charset {
	var c charset
	for i := range len(list) {
		c[list[i]] = true
	}
	return &c
}

const (
	digits  = "0123456789"
	lowers  = "abcdefghijklmnopqrstuvwxyz"
	uppers  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	letters = lowers + uppers
)

var (
	digitChars  = chars(digits)
	alnum       = chars(letters + digits)
	word        = chars(letters + digits + "_")
	wordDash    = chars(letters + digits + "_-")
	hexDigits   = chars(digits + "abcdef")
	upperNum    = chars(uppers + digits)
	base64Chars = chars(letters + digits + "+/=")
	token68     = chars(letters + digits + "-._~+/=")
)

// run returns how many bytes of s, from its begin, are in the set.
func (c *charset) run(s string) int {
	for i := range len(s) {
		if !c[s[i]] {
			return i
		}
	}
	return len(s)
}

// traits are what a text is made of.
type traits struct {
	lower, upper, digit, symbol bool // symbol: none of those that join words
	different                   int  // bytes
}

func traitsOf(s string) (t traits) {
	var seen [256]bool
	for i := range len(s) {
		b := s[i]
		if !seen[b] {
			seen[b] = true
			t.different++
		}
		switch {
		case b >= 'a' && b <= 'z':
			t.lower = true
		case b >= 'A' && b <= 'Z':
			t.upper = true
		case b >= '0' && b <= '9':
			t.digit = true
		case b >= 0x80: // a letter of another script
			t.lower = true
		case strings.IndexByte(`-_./:\`, b) < 0:
			t.symbol = true
		}
	}
	return t
}

func (t traits) letter() bool { return t.lower || t.upper }

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}
