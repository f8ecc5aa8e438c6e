package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plain makes stored text safe for a terminal: characters that steer one, or
// that reorder what it shows, become visible marks. Line feeds and tabs stay.
func plain(s string) string {
	if !strings.ContainsFunc(s, steers) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case !steers(r), r == '\r' && strings.HasPrefix(s[i+1:], "\n"):
			b.WriteRune(r)
		case r < ' ':
			b.WriteRune('␀' + r)
		case r == 0x7f:
			b.WriteRune('␡')
		case r == utf8.RuneError:
			b.WriteRune(r) // a byte that is no UTF-8 is one, too
		default:
			fmt.Fprintf(&b, "<U+%04X>", r)
		}
	}
	return b.String()
}

func steers(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' || r == utf8.RuneError ||
		r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}

// steerless writes JSON without what steers a terminal: such characters become escapes,
// which mean the same.
type steerless struct{ w io.Writer }

func (s steerless) Write(p []byte) (int, error) {
	isRaw := func(r rune) bool { return r != '\n' && steers(r) } // a line feed divides values
	out := p
	if bytes.ContainsFunc(p, isRaw) {
		out = nil
		for rest := p; len(rest) > 0; {
			i := bytes.IndexFunc(rest, isRaw)
			if i < 0 {
				out = append(out, rest...)
				break
			}
			r, size := utf8.DecodeRune(rest[i:])
			out = fmt.Appendf(append(out, rest[:i]...), `\u%04x`, r)
			rest = rest[i+size:]
		}
	}
	if _, err := s.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// jsonEncoder encodes values for w, a line each.
func jsonEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(steerless{w})
	enc.SetEscapeHTML(false)
	return enc
}

// oneLine is s on one line, safe for a terminal.
func oneLine(s string) string { return plain(strings.Join(strings.Fields(s), " ")) }

// cut shortens a line to the given number of terminal columns.
func cut(s string, columns int) string {
	used, end := 0, 0
	for i, r := range s {
		if used < columns {
			end = i // the ellipsis fits here
		}
		if used += columnsOf(r); used > columns {
			return s[:end] + "…"
		}
	}
	return s
}

// columnsOf is how wide a terminal shows r, or more: a line that is cut too
// short looks better than one that wraps.
func columnsOf(r rune) int {
	switch {
	case unicode.Is(unicode.Mn, r):
		return 0
	case r >= 0x1100 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.So), r >= 0xff00:
		return 2
	}
	return 1
}

// indent puts prefix before each line of s.
func indent(s, prefix string) string {
	return prefix + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n"+prefix)
}

// count is "1 step" or "2 steps".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
