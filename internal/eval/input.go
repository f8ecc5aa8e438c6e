package eval

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// input is a file of JSON documents, one behind the other or in one array.
type input struct {
	name   string // as errors call it
	dec    *json.Decoder
	lines  *lineEnds
	array  bool
	opened bool // the array's [ has been read
	n      int  // documents read
}

// newInput begins to read r, which may be compressed by gzip.
func newInput(name string, r io.Reader) (*input, error) {
	in := bufio.NewReader(r)
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, &Error{File: name, Problem: "cannot be unzipped: " + err.Error()}
		}
		in = bufio.NewReader(unzipped)
	}
	if bom, _ := in.Peek(3); string(bom) == "\ufeff" {
		in.Discard(3) // cannot fail: they have been peeked
	}
	i := &input{name: name, array: firstByte(in) == '[', lines: &lineEnds{r: in, line: 1}}
	i.dec = json.NewDecoder(i.lines)
	return i, nil
}

// firstByte returns the first byte of in that is no space, if it is among the first
// few thousand; otherwise 0. Nothing is taken from in.
func firstByte(in *bufio.Reader) byte {
	for n := 1; ; n++ {
		b, err := in.Peek(n)
		if err != nil {
			return 0
		}
		if c := b[n-1]; !strings.ContainsRune(" \t\r\n", rune(c)) {
			return c
		}
	}
}

// element is one JSON document of a file.
type element struct {
	file string
	line int // where it begins, from 1
	raw  []byte
}

// next returns the next document, or io.EOF behind the last. Other errors are *Error or the
// context's.
func (in *input) next(ctx context.Context) (element, error) {
	if err := ctx.Err(); err != nil {
		return element{}, err
	}
	if in.array && !in.opened {
		in.opened = true
		if _, err := in.dec.Token(); err != nil {
			return element{}, in.broken(err)
		}
	}
	if in.array && !in.dec.More() {
		if _, err := in.dec.Token(); err != nil {
			return element{}, in.broken(err)
		}
		if _, err := in.dec.Token(); err != io.EOF {
			return element{}, &Error{File: in.name, Line: in.lines.lineAt(in.dec.InputOffset()), Problem: "something follows the end of the array"}
		}
		return element{}, io.EOF
	}
	var raw json.RawMessage
	if err := in.dec.Decode(&raw); err == io.EOF && !in.array {
		return element{}, io.EOF
	} else if err != nil {
		return element{}, in.broken(err)
	}
	e := element{file: in.name, line: in.lines.lineAt(in.dec.InputOffset() - int64(len(raw))), raw: raw}
	in.n++
	if !utf8.Valid(raw) {
		return element{}, e.fail("", "is not valid UTF-8")
	}
	return e, nil
}

// broken is the error for what the decoder says.
func (in *input) broken(err error) error {
	at, problem := in.dec.InputOffset(), "cannot be read: "+err.Error()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset := syntax.Offset - 1
		if in.array {
			offset += int64(1 + in.n) // the decoder does not count the bracket and the commas
		}
		at, problem = max(at, offset), "is not JSON: "+err.Error()
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		at, problem = in.lines.read, "ends within a JSON document"
	}
	return &Error{File: in.name, Line: in.lines.lineAt(at), Problem: problem}
}

// fail is an error about a field of the document.
func (e *element) fail(field, format string, args ...any) error {
	return &Error{File: e.file, Line: e.line, Field: field, Problem: fmt.Sprintf(format, args...)}
}

// decode reads the document, or raw, which is a field of it, into v. Fields that v has
// not are ignored unless strict is set.
func (e *element) decode(field string, raw []byte, v any, strict bool) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if strict {
		dec.DisallowUnknownFields()
	}
	err := dec.Decode(v)
	if err == nil {
		return nil
	}
	at := *e
	mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return at.fail(field, "cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	// raw is a part of the document, byte for byte.
	if before := bytes.Index(e.raw, raw) + int(mismatch.Offset); before <= len(e.raw) {
		at.line += bytes.Count(e.raw[:before], []byte("\n"))
	}
	path := strings.Trim(field+"."+mismatch.Field, ".")
	return at.fail(path, "holds a JSON %s, want %s", mismatch.Value, wanted(mismatch.Type))
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "an array"
	case reflect.Int:
		return "a whole number"
	}
	return "an object"
}

// lineEnds is a reader that knows in which line an offset lies. Offsets must be asked
// for in ascending order.
type lineEnds struct {
	r    io.Reader
	read int64
	line int     // of the last offset asked for
	ends []int64 // offsets of the line ends behind it
}

func (l *lineEnds) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for i, c := range p[:n] {
		if c == '\n' {
			l.ends = append(l.ends, l.read+int64(i))
		}
	}
	l.read += int64(n)
	return n, err
}

func (l *lineEnds) lineAt(offset int64) int {
	n := 0
	for n < len(l.ends) && l.ends[n] < offset {
		n++
	}
	l.line += n
	l.ends = append(l.ends[:0], l.ends[n:]...)
	return l.line
}
