package index

import (
	"sync"
	"unicode/utf8"
)

// AppendTokens appends the tokens of text to dst, each followed by a space, in the
// order of the text and with repetitions, and returns the extended slice. The time
// is linear in the length of text; any bytes are a text.
//
//   - Letters are in NFKC and without case, and lose diacritics that do not make them
//     another letter: café is cafe, й stays.
//   - A word of the letters a to z is its Porter stem.
//   - An identifier is a token as a whole, without what joins it, and then one for
//     each of its parts: getUserName, get_user_name and get-user-name are all
//     "getusernam get user name". Parts of one letter or digit have no token.
//   - A path or dotted name is its names, and each two neighbours as one identifier:
//     src/main.go is "src srcmain main maingo go".
//   - A number with full stops is a token with each of its beginnings: 3.11.2 is
//     "3.11.2 3.11". So is a date: 2026-11-27 is "20261127 2026 202611".
//   - A UUID is one token, and so are hexadecimal digits, seven or more.
//   - In Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese, where words are
//     not between spaces, each pair of neighbouring letters is a token, and so is the
//     last letter of a run.
//   - A word is cut to its first 64 bytes. Encoded bytes (64 and more characters of
//     base64) have no token.
func AppendTokens(dst []byte, text string) []byte {
	s := newScanner(text)
	defer s.release()
	for s.scan() {
		for _, p := range s.pieces {
			dst = append(s.appendToken(dst, p), ' ')
		}
	}
	return dst
}

// appendToken appends the token of a piece.
func (s *scanner) appendToken(dst []byte, p piece) []byte {
	word := s.folded[p.lo:p.hi]
	if len(word) > maxToken {
		n := maxToken
		for !utf8.RuneStart(word[n]) {
			n--
		}
		word = word[:n]
	}
	for _, c := range word {
		if c < 'a' || c > 'z' {
			return append(dst, word...)
		}
	}
	return s.appendStem(dst, word)
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}

func newScanner(text string) *scanner {
	s := scanners.Get().(*scanner)
	s.reset(text)
	return s
}

func (s *scanner) release() {
	s.reset("")
	scanners.Put(s)
}
