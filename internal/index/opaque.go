package index

import (
	"slices"
	"unicode/utf8"
)

// opaque returns the end of the letters and digits that begin at lo if they look as
// if they were made at random, so that their parts say nothing; otherwise lo.
func (s *scanner) opaque(lo, hi int) int {
	i := lo
	changes, hex := 0, 0
	for ; i < hi && s.chars[i].class.isWord(); i++ {
		c := s.chars[i].class
		if i > lo && c != s.chars[i-1].class {
			changes++
		}
		if isHexDigit(s.folded[s.chars[i].at]) {
			hex++
		}
	}
	n := i - lo
	if n >= minHash && hex == n && changes >= 2 || n >= 16 && changes*5 > n*2 {
		return i
	}
	return lo
}

// isHex tells whether lo to hi is a number such as 0x1f.
func (s *scanner) isHex(lo, hi int) bool {
	if first := s.chars[lo]; hi-lo < 3 || first.class != digit || s.folded[first.at] != '0' || s.folded[s.chars[lo+1].at] != 'x' {
		return false
	}
	for i := lo; i < hi; i++ {
		if !s.chars[i].class.isWord() {
			return false
		}
	}
	word := s.folded[s.chars[lo].at:s.chars[hi].at]
	return allHex(word[2:])
}

// minHash is how many digits of a hash are enough to ask for it: git shows seven.
const minHash = 7

// isHash tells identifiers that may be asked for by their first digits, such as the
// hash of a commit. There is a digit from 0 to 9 among them, and a number has eight.
func isHash(word []byte) bool {
	return len(word) >= minHash && allHex(word) && isDigit(slices.Min(word)) && (len(word) > minHash || !isDigit(slices.Max(word)))
}

func allHex(word []byte) bool {
	for _, c := range word {
		if !isHexDigit(c) {
			return false
		}
	}
	return true
}

func isHexDigit(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }

// uuid returns the end of the UUID that begins at lo, or of the first characters of
// one if they are more than the first group and hold a letter; otherwise lo.
func (s *scanner) uuid(lo int) int {
	if lo+8 >= len(s.chars) || s.chars[lo+8].class != dash {
		return lo
	}
	i, letters := lo, false
	for n := 0; n < 36; n++ {
		c := s.chars[i]
		if n == 8 || n == 13 || n == 18 || n == 23 {
			if c.class != dash || !s.hexAt(i+1) {
				break
			}
		} else if !s.hexAt(i) {
			break
		} else if c.class != digit {
			letters = true
		}
		i++
	}
	if i-lo <= 9 || !letters || s.chars[i].class.isWord() || s.chars[i].class == mark {
		return lo
	}
	if c := s.chars[i].class; (c == dash || c == underscore) && s.chars[i+1].class.isWord() {
		return lo
	}
	return i
}

func (s *scanner) hexAt(i int) bool {
	c := s.chars[i]
	return c.class.isWord() && isHexDigit(s.folded[c.at])
}

// blobLength is from where on random-looking text of the alphabets of base64 is left
// out, in bytes: a line of a PEM file.
const blobLength = 64

// blob returns the end of the encoded bytes at s.at, or s.at if there are none. They
// are told from paths and the like by their large letters, and by how often large
// letters, small letters and digits change: in base64 in about 60 of 100 places, in camel case in 30.
func (s *scanner) blob() int {
	if s.at < s.notBlob {
		return s.at
	}
	i, lowers, uppers, changes := s.at, 0, 0, 0
	before := separator
	for ; i < len(s.text) && s.text[i] < utf8.RuneSelf; i++ {
		c := s.text[i]
		k := ascii[c]
		switch {
		case k == lower:
			lowers++
		case k == upper:
			uppers++
		case k == digit, k == dash, k == underscore, c == '+', c == '/', c == '=':
		default:
			goto end
		}
		if k != before {
			changes++
		}
		before = k
	}
end:
	n := i - s.at
	if n < blobLength || lowers < n/6 || uppers < n/6 || changes < n*45/100 {
		s.notBlob = i
		return s.at
	}
	return i
}
