package redact

import (
	"bytes"
	encoding "encoding/json"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep values of JSON lie in one another, and JSON in its strings.
const (
	maxDepth   = 200
	maxStrings = 4
)

// looksLikeJSON reports whether a text may be JSON in which there are strings.
func looksLikeJSON(s string) bool {
	for i := range len(s) {
		if !space(s[i]) {
			return s[i] == '{' || s[i] == '[' || s[i] == '"'
		}
	}
	return false
}

// json redacts one or more values of JSON. It is not ok if the text is none; then nothing was
// counted.
func (p *Pass) json(s string) (clean string, ok bool) {
	if p.depth >= maxStrings {
		return s, false
	}
	w := walker{p: &Pass{by: p.by, depth: p.depth + 1}, s: s}
	for {
		if w.space(); w.i == len(s) {
			break
		}
		if !w.value("") {
			return s, false
		}
	}
	for k, n := range w.p.Found {
		for range n {
			p.add(k)
		}
	}
	if w.out == nil {
		return s, true
	}
	return string(append(w.out, s[w.copied:]...)), true
}

// walker reads values of JSON, and copies them once a string in them has changed. It takes
// more for JSON than what is, but what it changes of JSON is JSON again.
type walker struct {
	p      *Pass
	s      string
	i      int
	depth  int
	out    []byte // nil: nothing has changed
	copied int    // of s
}

func (w *walker) space() {
	for w.i < len(w.s) && space(w.s[w.i]) {
		w.i++
	}
}

// is reads a byte behind spaces, if it is the next.
func (w *walker) is(b byte) bool {
	w.space()
	if w.i < len(w.s) && w.s[w.i] == b {
		w.i++
		return true
	}
	return false
}

// value reads a value, which has a name if it is that of a field.
func (w *walker) value(name string) bool {
	w.space()
	if w.i == len(w.s) {
		return false
	}
	switch w.s[w.i] {
	case '{', '[':
		if w.depth++; w.depth > maxDepth {
			return false
		}
		defer func() { w.depth-- }()
		if w.i++; w.s[w.i-1] == '{' {
			return w.object()
		}
		return w.array(name)
	case '"':
		_, ok := w.text(name, true)
		return ok
	}
	n := scalar.run(w.s[w.i:])
	w.i += n
	return n > 0
}

var scalar = chars(letters + digits + "+-.")

// object reads the fields of an object. One called value is that of the name that another one
// tells before it.
func (w *walker) object() bool {
	if w.is('}') {
		return true
	}
	told := ""
	for {
		w.space()
		name, ok := w.text("", false)
		if !ok || !w.is(':') {
			return false
		}
		w.space()
		switch {
		case w.i < len(w.s) && w.s[w.i] == '"' && (name == "name" || name == "key" || name == "Name" || name == "Key"):
			if told, ok = w.text(name, true); !ok {
				return false
			}
		case told != "" && (name == "value" || name == "Value"):
			if !w.value(told) {
				return false
			}
		default:
			if !w.value(name) {
				return false
			}
		}
		if w.is('}') {
			return true
		}
		if !w.is(',') {
			return false
		}
	}
}

// array reads the elements of an array, which are those of a name. The one behind a flag is
// its value.
func (w *walker) array(name string) bool {
	if w.is(']') {
		return true
	}
	flag := ""
	for {
		w.space()
		if w.i < len(w.s) && w.s[w.i] == '"' {
			of := name
			if strings.HasPrefix(flag, "-") {
				of = flag
			}
			var ok bool
			if flag, ok = w.text(of, true); !ok {
				return false
			}
		} else if flag = ""; !w.value(name) {
			return false
		}
		if w.is(']') {
			return true
		}
		if !w.is(',') {
			return false
		}
	}
}

// text reads a string, and redacts it. It returns what the string was.
func (w *walker) text(name string, isValue bool) (string, bool) {
	from := w.i
	if from >= len(w.s) || w.s[from] != '"' {
		return "", false
	}
	end, escapes := from+1, false
	for {
		n := strings.IndexByte(w.s[end:], '"')
		if n < 0 {
			return "", false
		}
		if k := strings.IndexByte(w.s[end:end+n], '\\'); k >= 0 {
			if escapes, end = true, end+k+2; end > len(w.s) {
				return "", false
			}
			continue
		}
		end += n
		break
	}
	content := w.s[from+1 : end]
	if escapes {
		var ok bool
		if content, ok = unescaped(content); !ok {
			return "", false
		}
	}
	w.i = end + 1
	clean := content
	if isValue {
		clean = w.p.Named(name, content)
	} else {
		clean = w.p.plain(content)
	}
	if clean != content {
		w.out = append(w.out, w.s[w.copied:from]...)
		w.out = append(w.out, quoted(clean)...)
		w.copied = w.i
	}
	return content, true
}

// quoted is a text as a string of JSON.
func quoted(s string) []byte {
	var b bytes.Buffer
	enc := encoding.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string can always be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// unescaped is what the content of a string of JSON stands for.
func unescaped(s string) (string, bool) {
	var b strings.Builder
	b.Grow(len(s))
	for {
		n := strings.IndexByte(s, '\\')
		if n < 0 {
			b.WriteString(s)
			return b.String(), true
		}
		b.WriteString(s[:n])
		if s = s[n+1:]; s == "" {
			return "", false
		}
		c := s[0]
		s = s[1:]
		switch c {
		case '"', '\\', '/':
			b.WriteByte(c)
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, ok := hex4(s)
			if !ok {
				return "", false
			}
			s = s[4:]
			if utf16.IsSurrogate(r) {
				second := rune(utf8.RuneError)
				if strings.HasPrefix(s, `\u`) {
					if low, ok := hex4(s[2:]); ok {
						second = low
					}
				}
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					s = s[6:]
				}
			}
			b.WriteRune(r)
		default:
			return "", false
		}
	}
}

func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for i := range 4 {
		b := lower(s[i])
		switch {
		case b >= '0' && b <= '9':
			r = r<<4 | rune(b-'0')
		case b >= 'a' && b <= 'f':
			r = r<<4 | rune(b-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
