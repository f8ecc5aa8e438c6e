package transcript

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/valyala/fastjson"
)

// maxValue bounds a value, in bytes. It is as large as the largest episode that can be stored.
const maxValue = 64 << 20

// value is a JSON value of a file, not parsed yet.
type value struct {
	line int // where it begins, from 1
	text string
	err  error // a *Problem: there is none here that can be read, but there may be more
	// open: the file ends before the line does, as while it is being written.
	open bool
	node node // what text is, if that has been parsed
}

// values splits a file into its JSON values: one a line, several in a row, or printed over
// many lines; of a file that is one array its elements.
type values struct {
	in    *bufio.Reader
	line  int  // of the next byte
	array bool // the file is an array
	begun bool
	ended bool // the array is
	// A value is held in pieces until all of it is there: to let one piece grow would hold it
	// twice, and more.
	pieces []string
	buf    []byte // the last piece
	size   int    // of all
}

// pieceSize is the size from which on a piece does not grow, in bytes.
const pieceSize = 1 << 20

// take adds to the value.
func (v *values) take(part []byte) {
	if len(v.buf)+len(part) > pieceSize && len(v.buf) > 0 {
		v.pieces = append(v.pieces, string(v.buf))
		v.buf = v.buf[:0]
	}
	v.buf = append(v.buf, part...)
	v.size += len(part)
}

// text is what was taken, which is nothing then.
func (v *values) text() (text string) {
	if len(v.pieces) == 0 {
		text = string(v.buf)
	} else {
		text = strings.Join(append(v.pieces, string(v.buf)), "")
	}
	v.pieces, v.buf, v.size = nil, v.buf[:0], 0
	return text
}

func newValues(in *bufio.Reader) *values { return &values{in: in, line: 1} }

const byteOrderMark = "\ufeff"

// next returns the next value; io.EOF at the end. Other errors are about the file.
func (v *values) next() (value, error) {
	c, err := v.space()
	if !v.begun && err == nil {
		v.begun = true
		if c == '[' {
			v.array = true
			v.skip()
			c, err = v.space()
		}
	}
	switch {
	case err == io.EOF && v.array && !v.ended:
		v.ended = true
		return value{line: v.line, err: &Problem{Line: v.line, Text: "the file ends within its array; it was cut off"}}, nil
	case err != nil:
		return value{}, err
	case v.array && v.ended:
		line := v.line
		if _, err := io.Copy(io.Discard, v.in); err != nil {
			return value{}, err
		}
		return value{line: line, err: &Problem{Line: line, Text: "something follows the end of the array"}}, nil
	case v.array && c == ',':
		v.skip()
		return v.next()
	case v.array && c == ']':
		v.skip()
		v.ended = true
		return v.next()
	}
	return v.one()
}

// space passes over what separates values, and returns the byte after it.
func (v *values) space() (byte, error) {
	for {
		b, err := v.in.Peek(1)
		if err != nil {
			return 0, err
		}
		switch b[0] {
		case '\n':
			v.line++
		case ' ', '\t', '\r', 0x1e: // RFC 7464 separates by 0x1e
		case byteOrderMark[0]:
			if mark, _ := v.in.Peek(3); string(mark) == byteOrderMark {
				v.in.Discard(2) // it has been peeked
				break
			}
			return b[0], nil
		default:
			return b[0], nil
		}
		v.skip()
	}
}

// skip passes over a byte that has been peeked.
func (v *values) skip() { v.in.Discard(1) }

// scan is how far a value has been read.
type scan struct {
	depth    int
	inString bool
	escaped  bool
}

// end returns where in part the value ends; -1: it goes on. A value that is no object and no
// array ends with its line, or in an array before a comma.
func (s *scan) end(part []byte, array bool) int {
	for i := 0; i < len(part); i++ {
		c := part[i]
		switch {
		case s.escaped:
			s.escaped = false
		case s.inString:
			for part[i] != '"' && part[i] != '\\' {
				if i++; i == len(part) {
					return -1
				}
			}
			s.escaped, s.inString = part[i] == '\\', part[i] == '\\'
		case c == '"':
			s.inString = true
		case c == '{' || c == '[':
			s.depth++
		case c == '}' || c == ']':
			if s.depth--; s.depth == 0 {
				return i + 1
			}
			if s.depth < 0 { // the end of an array around a plain value
				return i
			}
		case s.depth == 0 && (c == '\n' || array && c == ','):
			return i
		}
	}
	return -1
}

// one reads the value that begins at the next byte.
func (v *values) one() (value, error) {
	at, s, tooLong := v.line, &scan{}, false
	for {
		switch _, err := v.in.Peek(1); {
		case err == io.EOF:
			return v.cut(at, tooLong), nil
		case err != nil:
			return value{}, err
		}
		part, _ := v.in.Peek(v.in.Buffered())
		if nl := bytes.IndexByte(part, '\n'); nl >= 0 {
			part = part[:nl+1]
		}
		end := s.end(part, v.array)
		if end == 0 && v.size == 0 && !tooLong {
			end = 1 // it begins with what ends another; go on behind it
		}
		taken := end
		if end < 0 {
			taken = len(part)
		}
		if v.size+taken > maxValue {
			tooLong = true
			v.pieces, v.buf, v.size = nil, v.buf[:0], 0
		}
		if !tooLong {
			v.take(part[:taken])
		}
		line := end < 0 && part[len(part)-1] == '\n'
		v.in.Discard(taken) // it has been peeked
		if line {
			v.line++
		}
		switch {
		case end >= 0 && tooLong:
			return v.tooLong(at), nil
		case end >= 0:
			return value{line: at, text: v.text()}, nil
		case line && !v.array && (s.inString || at == v.line-1 && !goesOn(v.buf, tooLong)):
			// A line that was cut off, or is no JSON: the next one is another value.
			if tooLong {
				return v.tooLong(at), nil
			}
			return value{line: at, text: strings.TrimSpace(v.text())}, nil
		}
	}
}

// goesOn reports whether a value whose first line has ended goes on in the next.
func goesOn(line []byte, tooLong bool) bool {
	line = bytes.TrimSpace(line)
	return !tooLong && len(line) > 0 && bytes.IndexByte([]byte("{[,:"), line[len(line)-1]) >= 0
}

func (v *values) tooLong(at int) value {
	return value{line: at, err: &Problem{Line: at, Text: fmt.Sprintf("is longer than %d MiB, and was not read", maxValue>>20)}}
}

// cut is the value at which the file ends.
func (v *values) cut(at int, tooLong bool) value {
	if tooLong {
		return v.tooLong(at)
	}
	return value{line: at, text: strings.TrimSpace(v.text()), open: true}
}

// parsed parses a value. Its error is a *Problem.
func (v value) parsed() (node, error) { return v.parsedWith(new(fastjson.Parser)) }

// parsedWith is parsed with the memory of a parser, whose last value ends with it.
func (v value) parsedWith(p *fastjson.Parser) (node, error) {
	if v.err != nil || v.node.v != nil {
		return v.node, v.err
	}
	n, err := parseWith(p, v.text)
	if err != nil {
		// The parser tells where it was, and quotes what it had not read, which may be secret.
		why, _, _ := strings.Cut(err.Error(), "; unparsed tail")
		return node{}, &Problem{Line: v.line, Text: "is not JSON: " + clip(parserPath.ReplaceAllString(why, ""), 100)}
	}
	return n, nil
}

var parserPath = regexp.MustCompile(`^(cannot parse [A-Za-z ]+: )+`)
