package transcript

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errRust = errors.New("is no value as Rust prints it")

// parseRust reads a value as Rust's {:?} prints it. A struct becomes an object, with its name at
// the key rustName if it is the outermost; what a name holds in parentheses is at "0", "1" and
// so on. A name by itself, an identifier and a time become strings, None is null, and Some is
// what it holds.
// https://doc.rust-lang.org/std/fmt/trait.Debug.html
func parseRust(text string) (node, error) {
	r := rust{in: strings.TrimSpace(text)}
	if !r.value(0) || r.at < len(r.in) {
		return node{}, errRust
	}
	return parse(string(r.out))
}

// rustName is the key of the name of the outermost struct.
const rustName = "$name"

// rust writes JSON of what Rust printed.
type rust struct {
	in  string
	at  int
	out []byte
}

func (r *rust) space() {
	for r.at < len(r.in) && strings.IndexByte(" \t\r\n", r.in[r.at]) >= 0 {
		r.at++
	}
}

// is reports whether a byte comes next, and passes over it.
func (r *rust) is(c byte) bool {
	r.space()
	if r.at < len(r.in) && r.in[r.at] == c {
		r.at++
		return true
	}
	return false
}

// value writes the value that begins here, and reports whether there is one.
func (r *rust) value(depth int) bool {
	if depth > deepest {
		return false
	}
	switch {
	case r.is('"'):
		text, ok := r.text('"')
		r.out = appendQuoted(r.out, text)
		return ok
	case r.is('\''):
		text, ok := r.text('\'')
		r.out = appendQuoted(r.out, text)
		return ok
	case r.is('['):
		return r.list(']', depth)
	case r.is('('):
		return r.list(')', depth)
	case r.is('{'):
		return r.braces("", depth)
	}
	word := r.word()
	name := word
	if depth > 0 {
		name = ""
	}
	switch {
	case word == "":
		return false
	case word == "None":
		r.out = append(r.out, "null"...)
	case word == "Some" && r.is('('):
		return r.value(depth+1) && (r.is(')') || r.is(',') && r.is(')'))
	case r.is('{'):
		return r.braces(name, depth)
	case r.is('('):
		return r.tuple(name, depth)
	case word == "true" || word == "false" || numberInJSON(word):
		r.out = append(r.out, word...)
	default:
		r.out = appendQuoted(r.out, word)
	}
	return true
}

// numberInJSON reports whether a word is a number in JSON. NaN and inf are none.
func numberInJSON(word string) bool {
	return (word[0] == '-' || word[0] >= '0' && word[0] <= '9') && json.Valid([]byte(word))
}

// word reads a name, a number, an identifier or a time.
func (r *rust) word() string {
	r.space()
	from := r.at
	for r.at < len(r.in) && strings.IndexByte(" \t\r\n,(){}[]\"'", r.in[r.at]) < 0 {
		r.at++
	}
	return valid(r.in[from:r.at])
}

// list writes what stands between brackets.
func (r *rust) list(end byte, depth int) bool {
	r.out = append(r.out, '[')
	for n := 0; !r.is(end); n++ {
		if n > 0 {
			if !r.is(',') {
				return false
			}
			if r.is(end) {
				break
			}
			r.out = append(r.out, ',')
		}
		if !r.value(depth + 1) {
			return false
		}
	}
	r.out = append(r.out, ']')
	return true
}

// tuple writes what a name holds in parentheses.
func (r *rust) tuple(name string, depth int) bool {
	return r.members(name, ')', func(n int) (string, bool) { return strconv.Itoa(n), true }, depth)
}

// braces writes the members of a struct or a map. The keys of a map may be strings.
func (r *rust) braces(name string, depth int) bool {
	return r.members(name, '}', func(int) (string, bool) {
		if r.is('"') {
			key, ok := r.text('"')
			return key, ok && r.is(':')
		}
		return strings.CutSuffix(r.word(), ":")
	}, depth)
}

// members writes an object. key reads the key of a member.
func (r *rust) members(name string, end byte, key func(n int) (string, bool), depth int) bool {
	r.out = append(r.out, '{')
	if name != "" {
		r.out = appendQuoted(append(r.out, `"`+rustName+`":`...), name)
	}
	for n := 0; !r.is(end); n++ {
		if n > 0 {
			if !r.is(',') {
				return false
			}
			if r.is(end) {
				break
			}
		}
		if n > 0 || name != "" {
			r.out = append(r.out, ',')
		}
		k, ok := key(n)
		if !ok {
			return false
		}
		r.out = append(appendQuoted(r.out, k), ':')
		if !r.value(depth + 1) {
			return false
		}
	}
	r.out = append(r.out, '}')
	return true
}

// text reads the rest of a string or a character, up to the quote that ends it.
func (r *rust) text(quote byte) (string, bool) {
	var b strings.Builder
	for r.at < len(r.in) {
		c := r.in[r.at]
		r.at++
		if c == quote {
			return valid(b.String()), true
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if r.at == len(r.in) {
			break
		}
		c = r.in[r.at]
		r.at++
		switch c {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\', '"', '\'':
			b.WriteByte(c)
		case 'u':
			digits, rest, found := strings.Cut(strings.TrimPrefix(r.in[r.at:], "{"), "}")
			code, err := strconv.ParseUint(digits, 16, 32)
			if !found || err != nil || code > utf8.MaxRune {
				return "", false
			}
			b.WriteRune(rune(code))
			r.at = len(r.in) - len(rest)
		default:
			return "", false
		}
	}
	return "", false
}
