package payload

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Writer is implemented by values that write their own JSON, byte for byte as
// encoding/json does without escapes for HTML. ok is false for what they leave to it.
type Writer interface {
	AppendJSON(b []byte) (_ []byte, ok bool)
}

// Reader is implemented by values that read the JSON which their Writer writes. ok is
// false for any other text, which is left to encoding/json; the value is as it was
// then.
type Reader interface {
	ReadJSON(s *Scanner) (ok bool)
}

// AppendString appends s as a JSON string.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + n
			case r == '\u2028' || r == '\u2029': // JavaScript once took them for line ends
				b = append(append(b, s[start:i]...), `\u202`...)
				b = append(b, hex[r&0xf])
				start = i + n
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

// AppendFloat appends f, which must be finite, as a JSON number.
func AppendFloat(b []byte, f float64) []byte {
	if abs := math.Abs(f); abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	// e-09 becomes e-9.
	if n := len(b); n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b = append(b[:n-2], b[n-1])
	}
	return b
}

// AppendMap appends m with its keys in order.
func AppendMap[V any](b []byte, m map[string]V, value func([]byte, V) []byte) []byte {
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendString(b, k), ':')
		b = value(b, m[k])
	}
	return append(b, '}')
}

// AppendList appends list as an array.
func AppendList[V any](b []byte, list []V, value func([]byte, V) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = value(b, v)
	}
	return append(b, ']')
}

// AppendTime appends a time in UTC; ok is false for any other, and for one outside of
// the years 0 to 9999.
func AppendTime(b []byte, t time.Time) (_ []byte, ok bool) {
	if t.Location() != time.UTC || t.Year() < 0 || t.Year() > 9999 {
		return b, false
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"'), true
}

// Scanner reads JSON without spaces from the left. After the first thing that is not
// what was asked for, it reads nothing more and Done is false.
type Scanner struct {
	text   []byte
	failed bool
}

// NewScanner returns a Scanner of text, which must not change while it is read.
func NewScanner(text []byte) *Scanner { return &Scanner{text: text} }

// Done reports whether all of the text has been read as asked for.
func (s *Scanner) Done() bool { return !s.failed && len(s.text) == 0 }

// Fail ends the reading: what was read is not what a Writer writes.
func (s *Scanner) Fail() { s.failed, s.text = true, nil }

// Is reads the text t if it is next.
func (s *Scanner) Is(t string) bool {
	if len(s.text) < len(t) || string(s.text[:len(t)]) != t {
		return false
	}
	s.text = s.text[len(t):]
	return true
}

// Must reads the text t, which must be next.
func (s *Scanner) Must(t string) {
	if !s.Is(t) {
		s.Fail()
	}
}

// Key reads the name of an object's next member if it is name, with the comma before
// it unless *first.
func (s *Scanner) Key(first *bool, name string) bool {
	t := s.text
	if !*first {
		if len(t) == 0 || t[0] != ',' {
			return false
		}
		t = t[1:]
	}
	n := len(name)
	if len(t) < n+3 || t[0] != '"' || string(t[1:n+1]) != name || t[n+1] != '"' || t[n+2] != ':' {
		return false
	}
	s.text, *first = t[n+3:], false
	return true
}

// raw returns the inside of the next string, and whether it has escapes.
func (s *Scanner) raw() (inside []byte, escaped bool) {
	if len(s.text) == 0 || s.text[0] != '"' {
		s.Fail()
		return nil, false
	}
	text, high := s.text[1:], false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			if s.text = text[i+1:]; high && !utf8.Valid(text[:i]) {
				s.Fail()
			}
			return text[:i], escaped
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			s.Fail()
			return nil, false
		case c >= utf8.RuneSelf:
			high = true
		}
	}
	s.Fail()
	return nil, false
}

// String reads a string.
func (s *Scanner) String() string { return s.StringLike("") }

// Skip passes an object without reading what is in it.
func (s *Scanner) Skip() {
	depth := 0
	for i := 0; i < len(s.text); i++ {
		switch s.text[i] {
		case '"':
			for i++; ; i++ {
				n := bytes.IndexByte(s.text[i:], '"')
				if n < 0 {
					s.Fail()
					return
				}
				i += n
				escapes := 0
				for s.text[i-1-escapes] == '\\' {
					escapes++
				}
				if escapes%2 == 0 {
					break
				}
			}
		case '{':
			depth++
		case '}':
			if depth--; depth <= 0 {
				s.text = s.text[i+1:]
				return
			}
		}
	}
	s.Fail()
}

// StringLike is String, and returns like itself if the string is the same.
func (s *Scanner) StringLike(like string) string {
	inside, escaped := s.raw()
	switch {
	case escaped:
		return s.unescape(inside)
	case string(inside) == like:
		return like
	}
	return string(inside)
}

// unescape returns what the inside of a string with escapes stands for.
func (s *Scanner) unescape(inside []byte) string {
	out := make([]byte, 0, len(inside))
	for len(inside) > 0 {
		n := bytes.IndexByte(inside, '\\')
		if n < 0 {
			out = append(out, inside...)
			break
		}
		out = append(out, inside[:n]...)
		c := inside[n+1] // raw has seen it
		inside = inside[n+2:]
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := hex4(inside)
			if !ok || r >= 0xd800 && r < 0xe000 { // half of a pair, which no Writer writes
				s.Fail()
				return ""
			}
			out = utf8.AppendRune(out, r)
			inside = inside[4:]
		default:
			s.Fail()
			return ""
		}
	}
	return string(out)
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// Int reads an integer of at most 18 digits.
func (s *Scanner) Int() int64 {
	negative := s.Is("-")
	var n int64
	i := 0
	for ; i < len(s.text) && i < 19 && s.text[i] >= '0' && s.text[i] <= '9'; i++ {
		n = n*10 + int64(s.text[i]-'0')
	}
	if i == 0 || i == 19 || i > 1 && s.text[0] == '0' {
		s.Fail()
		return 0
	}
	s.text = s.text[i:]
	if negative {
		return -n
	}
	return n
}

// Float reads a number.
func (s *Scanner) Float() float64 {
	i := 0
	for ; i < len(s.text) && (s.text[i] >= '0' && s.text[i] <= '9' || bytes.IndexByte([]byte("+-.eE"), s.text[i]) >= 0); i++ {
	}
	number := s.text[:i]
	f, err := strconv.ParseFloat(string(number), 64)
	// Only what AppendFloat writes: ParseFloat takes more than JSON does.
	if err != nil || !bytes.Equal(AppendFloat(nil, f), number) {
		s.Fail()
		return 0
	}
	s.text = s.text[i:]
	return f
}

// Time reads a time in UTC.
func (s *Scanner) Time() time.Time {
	inside, escaped := s.raw()
	if escaped || len(inside) < len("2006-01-02T15:04:05Z") || inside[len(inside)-1] != 'Z' || inside[4] != '-' || inside[7] != '-' || inside[10] != 'T' || inside[13] != ':' || inside[16] != ':' {
		s.Fail()
		return time.Time{}
	}
	year, ok := digits(inside[:4])
	month, ok1 := digits(inside[5:7])
	day, ok2 := digits(inside[8:10])
	hour, ok3 := digits(inside[11:13])
	minute, ok4 := digits(inside[14:16])
	second, ok5 := digits(inside[17:19])
	nano, ok6 := 0, true
	if fraction := inside[19 : len(inside)-1]; len(fraction) > 0 {
		nano, ok6 = digits(fraction[1:])
		ok6 = ok6 && fraction[0] == '.' && len(fraction) > 1 && len(fraction) <= 10
		for n := len(fraction); ok6 && n < 10; n++ {
			nano *= 10
		}
	}
	if !(ok && ok1 && ok2 && ok3 && ok4 && ok5 && ok6) {
		s.Fail()
		return time.Time{}
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	if t.Day() != day || t.Month() != time.Month(month) || t.Hour() != hour || t.Minute() != minute || t.Second() != second {
		s.Fail() // February 30
	}
	return t
}

func digits(b []byte) (n int, ok bool) {
	if len(b) > 9 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// ReadList reads an array of at least one value. one sets the value that it is given,
// which is zero.
func ReadList[V any](s *Scanner, hint int, one func(*V)) []V {
	s.Must("[")
	list := make([]V, 0, max(1, min(hint, len(s.text)/8)))
	for {
		list = append(list, *new(V))
		one(&list[len(list)-1])
		switch {
		case s.Is("]"):
			return list
		case !s.Is(","):
			s.Fail()
			return nil
		}
	}
}

// ReadMap reads an object of at least one member.
func ReadMap[V any](s *Scanner, value func() V) map[string]V {
	s.Must("{")
	m := make(map[string]V)
	for {
		k := s.String()
		s.Must(":")
		m[k] = value()
		switch {
		case s.Is("}"):
			return m
		case !s.Is(","):
			s.Fail()
			return nil
		}
	}
}
