package transcript

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errPython = errors.New("is no value as Python prints it")

// parsePython reads a value as Python's repr prints it.
// https://docs.python.org/3/reference/lexical_analysis.html#string-and-bytes-literals
func parsePython(text string) (node, error) {
	n, torn, err := parseTorn(text)
	if err == nil && torn {
		err = errPython
	}
	return n, err
}

// parseTorn reads one whose end may be cut off, and reports whether it is.
func parseTorn(text string) (n node, torn bool, err error) {
	p := python{in: strings.TrimSpace(text)}
	if !p.value(0) || p.at < len(p.in) {
		return node{}, false, errPython
	}
	n, err = parse(string(p.out))
	return n, p.torn, err
}

// python writes JSON of what Python printed.
type python struct {
	in   string
	at   int
	out  []byte
	torn bool // in ended within the value
}

// deepest bounds how deep values may lie in others.
const deepest = 100

func (p *python) space() {
	for p.at < len(p.in) && strings.IndexByte(" \t\r\n", p.in[p.at]) >= 0 {
		p.at++
	}
}

// next is the next byte; 0 at the end.
func (p *python) next() byte {
	if p.at < len(p.in) {
		return p.in[p.at]
	}
	return 0
}

// value writes the value that begins here, and reports whether there is one.
func (p *python) value(depth int) bool {
	p.space()
	switch c := p.next(); {
	case depth > deepest:
		return false
	case c == 0:
		p.torn = true
		p.out = append(p.out, "null"...)
		return true
	case c == '{':
		return p.dict(depth)
	case c == '[':
		return p.list(depth, ']')
	case c == '(':
		return p.list(depth, ')')
	case c == '\'' || c == '"':
		p.out = appendQuoted(p.out, valid(p.text()))
		return true
	}
	return p.word()
}

func (p *python) list(depth int, end byte) bool {
	p.at++
	p.out = append(p.out, '[')
	for first := true; ; first = false {
		p.space()
		switch c := p.next(); {
		case c == 0 || c == end:
			p.torn = p.torn || c == 0
			p.at = min(p.at+1, len(p.in))
			p.out = append(p.out, ']')
			return true
		case !first && c != ',':
			return false
		case !first:
			p.at++
			if p.space(); p.next() == end || p.next() == 0 {
				continue
			}
			p.out = append(p.out, ',')
		}
		if !p.value(depth + 1) {
			return false
		}
	}
}

func (p *python) dict(depth int) bool {
	p.at++
	p.out = append(p.out, '{')
	for first := true; ; first = false {
		p.space()
		switch c := p.next(); {
		case c == 0 || c == '}':
			p.torn = p.torn || c == 0
			p.at = min(p.at+1, len(p.in))
			p.out = append(p.out, '}')
			return true
		case !first && c != ',':
			return false
		case !first:
			p.at++
			if p.space(); p.next() == '}' || p.next() == 0 {
				continue
			}
			p.out = append(p.out, ',')
		}
		if c := p.next(); c == '\'' || c == '"' {
			p.out = appendQuoted(p.out, valid(p.text()))
		} else {
			from := len(p.out)
			if !p.word() {
				return false
			}
			if key := string(p.out[from:]); key[0] != '"' {
				p.out = appendQuoted(p.out[:from], key)
			}
		}
		if p.space(); p.next() != ':' && p.next() != 0 {
			return false
		}
		p.out = append(p.out, ':')
		p.at = min(p.at+1, len(p.in))
		if !p.value(depth + 1) {
			return false
		}
	}
}

// word writes a number, or one of Python's constants or JSON's.
func (p *python) word() bool {
	from := p.at
	for p.at < len(p.in) && strings.IndexByte(" \t\r\n,:]})", p.in[p.at]) < 0 {
		p.at++
	}
	switch word := p.in[from:p.at]; {
	case word == "None" || word == "null":
		p.out = append(p.out, "null"...)
	case word == "True" || word == "true":
		p.out = append(p.out, "true"...)
	case word == "False" || word == "false":
		p.out = append(p.out, "false"...)
	case word == "":
		return false
	case word[0] >= '0' && word[0] <= '9' || word[0] == '-':
		switch {
		case json.Valid([]byte(word)):
			p.out = append(p.out, word...)
		case p.at == len(p.in):
			p.torn = true
			p.out = append(p.out, "null"...)
		default:
			return false
		}
	case p.at == len(p.in) && (strings.HasPrefix("None", word) || strings.HasPrefix("True", word) || strings.HasPrefix("False", word)):
		p.torn = true
		p.out = append(p.out, "null"...)
	default:
		return false
	}
	return true
}

// text reads the string that begins here.
func (p *python) text() string {
	quote := p.in[p.at]
	p.at++
	var b strings.Builder
	for p.at < len(p.in) {
		c := p.in[p.at]
		p.at++
		switch {
		case c == quote:
			return b.String()
		case c != '\\':
			b.WriteByte(c)
		default:
			p.escape(&b)
		}
	}
	p.torn = true
	return b.String()
}

var pythonEscapes = map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '\\': '\\', '\'': '\'', '"': '"', 'a': '\a', 'b': '\b', 'f': '\f', 'v': '\v', '0': 0}

// escape reads what follows a backslash.
func (p *python) escape(b *strings.Builder) {
	c := p.next()
	if c == 0 {
		return
	}
	p.at++
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	if digits == 0 {
		if to, ok := pythonEscapes[c]; ok {
			c = to
		} else {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
		return
	}
	end := min(p.at+digits, len(p.in))
	r, err := strconv.ParseUint(p.in[p.at:end], 16, 32)
	if err != nil || r > utf8.MaxRune {
		b.WriteByte('\\')
		b.WriteByte(c)
		return
	}
	p.at = end
	b.WriteRune(rune(r))
}
