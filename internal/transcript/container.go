package transcript

import (
	"bufio"
	"bytes"
)

// Files whose runs do not stand by themselves: an object that holds a list of them, or has
// them under their names, and lists of messages, one a line.

// opened takes the runs out of the object that is all of the file, if there are runs in it. It
// returns their format; nil: there are none.
func (r *records) opened(h *head) *format {
	n := h.first()
	if len(r.before) != 1 || !n.isObject() {
		return nil
	}
	fields := n.fields()
	for i, f := range fields {
		if of := r.runsIn(h, f.value); of != nil {
			r.beside(append(fields[:i:i], fields[i+1:]...))
			return of
		}
	}
	return r.runsIn(h, n)
}

// runsIn makes the elements of a list, or the members of an object, the records of the file, if
// they are runs.
func (r *records) runsIn(h *head, n node) *format {
	list := n.items()
	for _, f := range n.fields() {
		if !f.value.isObject() {
			return nil
		}
		list = append(list, f.value)
	}
	if len(list) == 0 || !list[0].isObject() {
		return nil
	}
	inner := &head{name: h.name, array: true, text: h.text, values: list[:min(len(list), headValues)]}
	for _, f := range formats {
		if f.each == nil && f != openAILog || f == own || r.opts.Format != "" && f.name != r.opts.Format || !f.fits(inner) {
			continue
		}
		line := r.before[0].line
		r.before = r.before[:0]
		for _, run := range list {
			r.before = append(r.before, value{line: line, text: run.json()})
		}
		return f
	}
	return nil
}

// beside counts what stands beside the list of runs.
func (r *records) beside(fields []field) {
	left := make(Left)
	for _, f := range fields {
		if f.value.there() {
			left["field "+clip(f.key, 40)]++
		}
	}
	if len(left) > 0 {
		r.emit(&Run{Line: 1, Left: left})
	}
}

// longestList bounds how long the first list of a file may be of which it is looked at whether
// another one follows it, in bytes.
const longestList = 16 << 20

// listsInLines reports whether a file has an array in each line. wait allows to wait for more
// of the file than has come. It returns a reader of the same file.
func listsInLines(in *bufio.Reader, wait bool) (*bufio.Reader, bool) {
	peek := func() []byte {
		text, _ := in.Peek(in.Buffered()) // it is there
		return bytes.TrimLeft(bytes.TrimPrefix(text, []byte(byteOrderMark)), " \t\r\n")
	}
	text := peek()
	if len(text) == 0 || text[0] != '[' {
		return in, false
	}
	if wait && bytes.IndexByte(text, '\n') < 0 && in.Buffered() == in.Size() {
		in = bufio.NewReaderSize(in, longestList)
		_, _ = in.Peek(longestList) // an error comes again when it is read
		text = peek()
	}
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	line, rest = bytes.TrimRight(line, " \t\r"), bytes.TrimLeft(rest, " \t\r\n")
	return in, len(line) > 1 && line[len(line)-1] == ']' && len(rest) > 0 && rest[0] == '['
}
