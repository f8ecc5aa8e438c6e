package redact

import "strings"

const (
	pemBegin  = "-----BEGIN "
	pemEnd    = "-----END "
	pemDashes = "-----"
	// maxLabel bounds what stands between pemBegin and pemDashes, maxPEM a key, in bytes.
	maxLabel = 48
	maxPEM   = 64 << 10
)

// privateKeys adds private keys in PEM format: from begin to end, or as far as they go where
// they were cut off. Their lines may be those of a string in code, of a quotation, or numbered.
func (sc *scanner) privateKeys() {
	s := sc.s
	for at := 0; ; {
		n := strings.Index(s[at:], pemBegin)
		if n < 0 {
			return
		}
		from := at + n
		at = from + len(pemBegin)
		label := strings.Index(s[at:min(len(s), at+maxLabel)], pemDashes)
		if label < 0 || !strings.Contains(s[at:at+label], "PRIVATE KEY") {
			continue
		}
		at += label + len(pemDashes)
		end := sc.keyEnds(at)
		if end > at {
			sc.add(from, end, PrivateKey)
			at = end
		}
	}
}

// keyEnds is where a private key ends whose first line ends at from; from itself, if there is
// nothing of it.
func (sc *scanner) keyEnds(from int) int {
	s := sc.s[:min(len(sc.s), from+maxPEM)]
	end := from
	for i := from; i < len(s); {
		switch {
		case space(s[i]) || s[i] == '>' || s[i] == '|' || s[i] == '+' && end == from:
			i++
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '\\' || s[i+1] == 'n' || s[i+1] == 'r' || s[i+1] == 't'):
			if i++; s[i] != '\\' {
				i++
			}
		case strings.HasPrefix(s[i:], pemEnd):
			i += len(pemEnd)
			if n := strings.Index(s[i:min(len(s), i+maxLabel)], pemDashes); n >= 0 {
				return i + n + len(pemDashes)
			}
			return i
		default:
			n := base64Chars.run(s[i:])
			number := n <= 6 && n > 0 && digitChars.run(s[i:i+n]) == n // of a line
			header := n > 0 && i+n < len(s) && strings.IndexByte(":-,", s[i+n]) >= 0
			switch {
			case number:
				i += n
			case header:
				if line := strings.IndexAny(s[i:], "\n\\"); line >= 0 {
					i += line
				} else {
					i = len(s)
				}
				end = i
			case n >= 16 || n > 0 && sc.endsAfter(s, i+n):
				i += n
				end = i
			default:
				return end
			}
		}
	}
	return end
}

// endsAfter reports whether the last line of a key follows at i.
func (sc *scanner) endsAfter(s string, i int) bool {
	for i < len(s) && (space(s[i]) || s[i] == '>' || s[i] == '|' || s[i] == '\\' || i > 0 && s[i-1] == '\\' && (s[i] == 'n' || s[i] == 'r' || s[i] == 't') || s[i] >= '0' && s[i] <= '9') {
		i++
	}
	return i >= len(s) || strings.HasPrefix(s[i:], pemDashes)
}
