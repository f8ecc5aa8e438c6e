package index

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// load reads a chunk.
func (s *scanner) load() {
	s.chars, s.folded, s.next, s.separate = s.chars[:0], s.folded[:0], 0, 0
	end, foreign := s.at, false
	for end < len(s.text) && end-s.at <= maxChunk {
		c := s.text[end]
		if c >= utf8.RuneSelf {
			foreign = true
		} else if ascii[c] == separator {
			break
		}
		end++
	}
	if end-s.at > maxChunk {
		end = s.at + breakBefore(s.text[s.at:end])
	}
	chunk := s.text[s.at:end]
	if foreign {
		s.normalize(chunk)
	} else {
		for i := range len(chunk) {
			s.addASCII(chunk[i], s.at+i, s.at+i+1)
		}
	}
	s.at += len(chunk)
	s.chars = append(s.chars, char{separator, len(s.folded), s.at, s.at})
}

// breakBefore returns where to break text, which is longer than maxChunk: behind a
// character that stands between words, if there is one in its second half.
func breakBefore(text string) int {
	for i := maxChunk; i > maxChunk/2; {
		r, n := utf8.DecodeLastRuneInString(text[:i])
		if n > 1 && (unicode.IsPunct(r) || unicode.IsSpace(r)) {
			return i
		}
		i -= n
	}
	if i := norm.NFKC.LastBoundary([]byte(text[:maxChunk])); i > maxChunk/2 {
		return i
	}
	return maxChunk
}

// normalize adds chunk in NFKC.
func (s *scanner) normalize(chunk string) {
	for i := 0; i < len(chunk); {
		for end := i + norm.NFKC.QuickSpanString(chunk[i:]); i < end; {
			r, n := utf8.DecodeRuneInString(chunk[i:])
			s.add(r, s.at+i, s.at+i+n)
			i += n
		}
		if i == len(chunk) {
			return
		}
		n := norm.NFKC.NextBoundaryInString(chunk[i:], true)
		from, to := s.at+i, s.at+i+n
		// A symbol that stands for letters or digits, as ™ or ½, is a word of its own.
		symbol, _ := utf8.DecodeRuneInString(chunk[i:])
		if '！' <= symbol && symbol <= '～' && n == len("！") { // ASCII in full width
			s.addASCII(byte(symbol-'！'+'!'), from, to)
			i += n
			continue
		}
		apart := unicode.Is(unicode.So, symbol) || isFraction(symbol)
		if apart {
			s.add(' ', from, from)
		}
		s.normal = norm.NFKC.AppendString(s.normal[:0], chunk[i:i+n])
		for segment := s.normal; len(segment) > 0; {
			r, n := utf8.DecodeRune(segment)
			s.add(r, from, to)
			segment = segment[n:]
		}
		if apart {
			s.add(' ', to, to)
		}
		i += n
	}
}

// isFraction tells fractions such as ½ and ⅔.
func isFraction(r rune) bool {
	return 0xbc <= r && r <= 0xbe || 0x2150 <= r && r <= 0x215f || r == 0x2189
}

// addASCII adds the character c, which comes from the bytes from to to of the text.
func (s *scanner) addASCII(c byte, from, to int) {
	k := ascii[c]
	s.chars = append(s.chars, char{k, len(s.folded), from, to})
	if k == upper {
		c |= 0x20
	}
	if k.isWord() || k == dot {
		s.folded = append(s.folded, c)
	}
}

// add adds the character r.
func (s *scanner) add(r rune, from, to int) {
	if r < utf8.RuneSelf {
		s.addASCII(byte(r), from, to)
		return
	}
	c := lookUp(r)
	if c.class == ignored {
		return
	}
	s.chars = append(s.chars, char{c.class, len(s.folded), from, to})
	switch c.class {
	case lower, upper:
		s.folded = append(s.folded, c.folded...)
	case digit, mark, pairing:
		s.folded = utf8.AppendRune(s.folded, r)
	}
}
