package index

import "unicode/utf8"

// A scanner cuts a text into words, and each word into the pieces that become
// tokens. It reads the text in chunks, which end at a separator.
type scanner struct {
	text string
	at   int // the byte of text to read next

	// The chunk: its characters, and what they are folded to. The last character is a
	// separator that stands for the chunk's end.
	chars    []char
	folded   []byte
	next     int // the character to read next
	separate int // up to here the parts of an identifier are words
	notBlob  int // up to here text was looked at and holds no encoded bytes

	// The word that scan found: its place in text, and its pieces.
	from, to int
	pieces   []piece // the word; its whole and then its parts; or pairs of letters
	paired   bool    // pieces are pairs of letters, and then the last letter

	// The word before it that a full stop or a slash follows: its whole, and its place.
	before struct {
		name     []byte
		from, to int
	}

	normal []byte         // scratch of normalize
	runes  [maxToken]rune // scratch of stem
}

// char is a character of a chunk, in NFKC.
type char struct {
	class    class
	at       int // of what it is folded to, in folded; that ends where the next one's begins
	from, to int // the bytes of text it comes from
}

// piece is what becomes a token.
type piece struct {
	lo, hi   int // in folded
	from, to int // in text
}

const (
	// maxChunk is the most of a text without separators that is read at once, in bytes.
	maxChunk = 4096
	// maxToken is the most of a word that is in its token, in bytes.
	maxToken = 64
)

func (s *scanner) reset(text string) {
	s.text, s.at, s.next, s.notBlob, s.before.to = text, 0, 0, 0, 0
	s.chars, s.folded, s.pieces = s.chars[:0], s.folded[:0], s.pieces[:0]
}

// scan finds the next word. It returns false at the end of the text.
func (s *scanner) scan() bool {
	for {
		if s.next < len(s.chars) {
			if s.cut() {
				s.join()
				return true
			}
			continue
		}
		for s.at < len(s.text) && s.text[s.at] < utf8.RuneSelf && !ascii[s.text[s.at]].isWord() {
			s.at++
		}
		if s.at == len(s.text) {
			return false
		}
		if s.scanPlain() {
			s.join()
			return true
		}
		if end := s.blob(); end > s.at {
			s.at = end
			continue
		}
		s.load()
	}
}

// scanPlain finds a word as most are: letters of ASCII in one case, or with the
// first one large, or a few digits, between separators. It is what cut would find,
// only faster.
func (s *scanner) scanPlain() bool {
	text, i := s.text, s.at
	end := min(len(text), s.at+maxToken+1) // what is longer is cut, and each part would look at all that follows
	for i < end && isUpper(text[i]) {
		i++
	}
	if i-s.at <= 1 {
		for i < end && isLower(text[i]) {
			i++
		}
	}
	number := i == s.at
	for number && i < end && isDigit(text[i]) {
		i++
	}
	if n := i - s.at; n == 0 || n > maxToken || number && n >= minHash {
		return false
	}
	if i < len(text) {
		c := text[i]
		if number && c == '.' {
			return false
		}
		if c >= utf8.RuneSelf || ascii[c].isWord() {
			return false
		}
		if (c == '-' || c == '_') && i+1 < len(text) && (text[i+1] >= utf8.RuneSelf || ascii[text[i+1]].isWord()) {
			return false
		}
	}
	s.folded = append(s.folded[:0], text[s.at:i]...)
	if isUpper(text[s.at]) {
		for i, c := range s.folded {
			s.folded[i] = c | 0x20
		}
	}
	s.from, s.to, s.paired = s.at, i, false
	s.pieces = append(s.pieces[:0], piece{0, len(s.folded), s.at, i})
	s.at = i
	return true
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
