package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"strings"
)

const jsonSpace = " \t\r\n"

// record is one JSON document of a file.
type record struct {
	line int    // where it begins, from 1
	raw  []byte // valid until the next record is asked for
}

// records yields the documents of a JSONL file, or the elements of a file that
// is one JSON array. An error that is episodic.ErrInvalid is about one record;
// after it may come more. Any other error is the last. A line of more than
// maxLine bytes is left out.
func records(r io.Reader, maxLine int) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		if bom, _ := in.Peek(3); string(bom) == "\ufeff" {
			in.Discard(3) // cannot fail: they have been peeked
		}
		line := 1
		for {
			c, err := in.ReadByte()
			if err != nil {
				if err != io.EOF {
					yield(record{line: line}, err)
				}
				return
			}
			if c == '\n' {
				line++
			}
			if !strings.ContainsRune(jsonSpace, rune(c)) {
				in.UnreadByte() // cannot fail after ReadByte
				if c == '[' {
					arrayElements(in, line, yield)
				} else {
					lines(in, line, maxLine, yield)
				}
				return
			}
		}
	}
}

func lines(in *bufio.Reader, line, maxLine int, yield func(record, error) bool) {
	var buf []byte
	tooLong := false
	for {
		part, err := in.ReadSlice('\n')
		if len(buf)+len(part) > maxLine {
			tooLong, buf = true, buf[:0]
		}
		if !tooLong {
			buf = append(buf, part...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil && err != io.EOF {
			yield(record{line: line}, err)
			return
		}
		switch raw := bytes.Trim(buf, jsonSpace); {
		case tooLong:
			if !yield(record{line: line}, invalid("", "is longer than %d bytes", maxLine)) {
				return
			}
		case len(raw) > 0:
			if !yield(record{line: line, raw: raw}, nil) {
				return
			}
		}
		if err == io.EOF {
			return
		}
		line, tooLong, buf = line+1, false, buf[:0]
	}
}

func arrayElements(in io.Reader, line int, yield func(record, error) bool) {
	ends := &lineEnds{r: in, line: line}
	dec := json.NewDecoder(ends)
	broken := func(err error) {
		if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = invalid("", "the array cannot be read beyond here: %v", err)
		}
		yield(record{line: ends.lineAt(dec.InputOffset())}, err)
	}
	if _, err := dec.Token(); err != nil {
		broken(err)
		return
	}
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			broken(err)
			return
		}
		if !yield(record{line: ends.lineAt(dec.InputOffset() - int64(len(raw))), raw: raw}, nil) {
			return
		}
	}
	if _, err := dec.Token(); err != nil {
		broken(err)
		return
	}
	if _, err := dec.Token(); err != io.EOF {
		broken(invalid("", "something follows the end of the array"))
	}
}

// lineEnds is a reader that knows in which line an offset lies. Offsets must be
// asked for in ascending order.
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
