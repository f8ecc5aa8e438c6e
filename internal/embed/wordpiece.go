package embed

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxPiece bounds the bytes of a token.
const maxPiece = 128

// wordPiece is BERT's tokenizer: a text is cleaned, cut into words, and each
// word into the longest tokens that are in the vocabulary.
type wordPiece struct {
	vocab        *vocabulary
	prefix       string // of a token that continues a word, as ##
	prefixHash   uint32
	unknown      uint32 // token of a word that has a piece outside the vocabulary
	maxWord      int    // characters; a longer word is unknown
	lowercase    bool
	stripAccents bool
	splitCJK     bool
	cleanText    bool
}

// newWordPiece is the tokenizer of BERT's uncased models.
func newWordPiece(v *vocabulary, unknown uint32) *wordPiece {
	w := &wordPiece{vocab: v, unknown: unknown, maxWord: 100, lowercase: true, stripAccents: true, splitCJK: true, cleanText: true}
	w.setPrefix("##")
	return w
}

func (w *wordPiece) setPrefix(prefix string) {
	w.prefix, w.prefixHash = prefix, hashStart
	for i := range len(prefix) {
		w.prefixHash = hashByte(w.prefixHash, prefix[i])
	}
}

// appendTokens appends the tokens of a text to dst. It does not allocate if
// dst is large enough.
func (w *wordPiece) appendTokens(dst []uint32, text string) []uint32 {
	var room [256]byte
	word := room[:0] // the word so far
	runes := 0       // in it
	var scratch [maxPiece]uint32
	flush := func() {
		if runes > 0 {
			dst = w.appendWord(dst, word, runes, &scratch)
			word, runes = word[:0], 0
		}
	}
	for i := 0; i < len(text); {
		// Nearly all text is ASCII.
		if c := text[i]; c < utf8.RuneSelf {
			i++
			switch class := ascii[c]; class {
			case letter:
				if runes <= w.maxWord {
					if w.lowercase && 'A' <= c && c <= 'Z' {
						c += 'a' - 'A'
					}
					word = append(word, c)
				}
				runes++
			case space:
				flush()
			case punctuation:
				flush()
				word, runes = append(word, c), 1
				flush()
			case control:
				if !w.cleanText {
					word, runes = append(word, c), runes+1
				}
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		c := text[i : i+size]
		i += size
		if w.cleanText && (r == utf8.RuneError || isControl(r)) {
			continue
		}
		if unicode.IsSpace(r) {
			flush()
			continue
		}
		alone := w.splitCJK && isCJK(r)
		if alone {
			flush()
		}
		var decomposed [32]byte
		parts := decomposed[:0]
		if w.stripAccents {
			parts = norm.NFD.AppendString(parts, c)
		} else {
			parts = append(parts, c...)
		}
		for len(parts) > 0 {
			p, n := utf8.DecodeRune(parts)
			parts = parts[n:]
			if w.stripAccents && unicode.Is(unicode.Mn, p) {
				continue
			}
			if w.lowercase {
				p = unicode.ToLower(p)
			}
			if isPunctuation(p) {
				flush()
				word, runes = utf8.AppendRune(word, p), 1
				flush()
				continue
			}
			if runes <= w.maxWord {
				word = utf8.AppendRune(word, p)
			}
			runes++
		}
		if alone {
			flush()
		}
	}
	flush()
	return dst
}

// appendWord appends the tokens of one word. It leaves in hashes what is of no more use.
func (w *wordPiece) appendWord(dst []uint32, word []byte, runes int, hashes *[maxPiece]uint32) []uint32 {
	if runes > w.maxWord {
		return append(dst, w.unknown)
	}
	start := len(dst)
	prefix, seed := "", uint32(hashStart)
	for len(word) > 0 {
		// The hashes of all starts of the rest, to be looked up longest first.
		n := min(len(word), w.vocab.longest)
		h := seed
		for i, c := range word[:n] {
			h = hashByte(h, c)
			hashes[i] = h
		}
		found := false
		for ; n > 0; n-- {
			if n < len(word) && !utf8.RuneStart(word[n]) {
				continue
			}
			var id uint32
			if id, found = w.vocab.find(hashes[n-1], prefix, word[:n]); found {
				dst = append(dst, id)
				break
			}
		}
		if !found {
			return append(dst[:start], w.unknown)
		}
		word, prefix, seed = word[n:], w.prefix, w.prefixHash
	}
	return dst
}

// The classes of ASCII in BERT's tokenizer.
const (
	letter = iota // digits too
	space
	punctuation
	control
)

var ascii = func() (class [utf8.RuneSelf]byte) {
	for c := range byte(utf8.RuneSelf) {
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			class[c] = space
		case c < ' ' || c == 0x7f:
			class[c] = control
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			class[c] = letter
		default:
			class[c] = punctuation
		}
	}
	return class
}()

func isControl(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) || unicode.Is(unicode.Cs, r)
}

// isPunctuation takes ASCII's symbols for punctuation too, as $ and +.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return ascii[r] == punctuation
	}
	return unicode.Is(unicode.P, r)
}

// isCJK tells the characters that are words of their own. Kana and Hangul are not.
func isCJK(r rune) bool {
	switch {
	case 0x4E00 <= r && r <= 0x9FFF, 0x3400 <= r && r <= 0x4DBF, 0x20000 <= r && r <= 0x2A6DF, 0x2A700 <= r && r <= 0x2B73F,
		0x2B740 <= r && r <= 0x2B81F, 0x2B920 <= r && r <= 0x2CEAF, 0xF900 <= r && r <= 0xFAFF, 0x2F800 <= r && r <= 0x2FA1F:
		return true
	}
	return false
}
