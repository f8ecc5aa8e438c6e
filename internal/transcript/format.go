package transcript

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
)

// format is a form of records. Each has a file of this package, and a line in formats.
type format struct {
	name  string // what people call it in options
	title string // what it is, for messages: "a session of Claude Code"
	// fits reports whether a file that begins so is of this format.
	fits func(h *head) bool
	// One of these reads it: each a value that is a run by itself, all the values of a file, or
	// text the whole of a file that is not JSON; follow begins to take the values of a file
	// that goes on, one by one.
	each   func(n node, b *builder) error
	all    func(in *records) error
	text   func(in *bufio.Reader, r *records) error
	follow func(r *records) follower
	// live: programs add lines to such files while people import them. A last line that is not
	// whole yet is counted, and no error.
	live bool
}

// formats are tried in this order: the first that fits is it. Those of one name are read by
// the one of them that fits.
var formats = []*format{
	doMemory,
	claudeCode,
	codex,
	codexExec,
	gemini,
	geminiCheckpoint,
	cursor,
	cursorComposer,
	openCode,
	openCodeRun,
	sweAgent,
	miniSWEAgent,
	miniSWEMessages,
	openHands,
	openHandsEvents,
	tau2,
	smolagents,
	smolagentsRun,
	toolBench,
	agentBench,
	shareGPT,
	shareGPTTurns,
	steps,
	otel,
	langSmith,
	mcpMemory,
	pydanticAI,
	pydanticAIRun,
	autoGen,
	autoGenMessages,
	langChain,
	langChainMessages,
	openAIResponses,
	openAIItems,
	openAIItemLists,
	openAILog,
	aider,
	anthropic,
	openAIMessages,
	openAI,
	own,
}

// Formats returns the names of all formats, sorted.
func Formats() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// head is how a file begins.
type head struct {
	name  string // of the file, without its folder
	array bool   // it is one JSON array, of which values are elements
	text  []byte // the first bytes
	// values are the first that can be parsed; none: it is not JSON.
	values []node
}

// first is the first value.
func (h *head) first() node {
	if len(h.values) == 0 {
		return node{}
	}
	return h.values[0]
}

// some reports whether a value is as said.
func (h *head) some(is func(n node) bool) bool { return slices.ContainsFunc(h.values, is) }

// Bounds of what of a file is looked at to tell its format.
const (
	headValues = 20
	headBytes  = 1 << 20 // of values, but for the first
	headText   = 4 << 10
)

// records are the values of a file for its format, and where it gives what it has read.
type records struct {
	Name   string // of the file, as given
	opts   *Options
	format *format
	before []value // read to tell the format
	rest   *values
	last   error // that ended the file
	line   int   // of the value that all gave last
	// size is how much of the file has been read, in bytes of values.
	size       int64
	unfinished int // lines of a live file that are not whole
	emit       func(*Run)
	tell       func(*Problem)
	open       bool // the file goes on
}

// all yields the values of the file. What cannot be read is told and left out.
func (r *records) all() iter.Seq2[int, node] {
	return func(yield func(int, node) bool) {
		for {
			v, err := r.next()
			if err != nil {
				if err != io.EOF {
					r.last = err
				}
				return
			}
			n, err := v.parsed()
			if err != nil && v.open && r.format.live {
				r.unfinished++
				continue
			}
			if err != nil {
				r.problem(err)
				continue
			}
			if r.line = v.line; !yield(v.line, n) {
				return
			}
		}
	}
}

// noEOF is an error that ended a file, or nil if that was its end.
func noEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (r *records) next() (value, error) {
	if len(r.before) > 0 {
		v := r.before[0]
		r.before[0] = value{} // it may be large
		r.before = r.before[1:]
		r.size += int64(len(v.text))
		return v, nil
	}
	v, err := r.rest.next()
	r.size += int64(len(v.text))
	return v, err
}

// begin begins a run that the file tells of from a line on.
func (r *records) begin(line int) *builder {
	return begin(r.format.name, line, r.opts, r.emit, func(p *Problem) {
		p.Line = cmp.Or(p.Line, r.line, line)
		r.tell(p)
	})
}

// end ends a run that is all of the file.
func (r *records) end(b *builder) {
	b.run.Bytes = r.size
	b.left("unfinished line", r.unfinished)
	b.finish()
}

// problem tells what is wrong with a place of the file.
func (r *records) problem(err error) {
	if p, ok := errors.AsType[*Problem](err); ok {
		r.tell(p)
	}
}

// problemAt tells what is wrong with a line.
func (r *records) problemAt(line int, err error) {
	if p, ok := errors.AsType[*Problem](err); ok {
		p.Line = line
	}
	r.problem(err)
}

// invalid is a problem of a field of a record; of the whole, if its name is empty.
func invalid(field, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if field != "" {
		text = field + ": " + text
	}
	return &Problem{Text: text}
}

// ErrUnknown says that a file is of no format that is known. Its message tells what the file
// begins with.
var ErrUnknown = errors.New("unknown format")

// Read reads the runs of a file. name is what the file is called; its last part tells formats
// apart, and is what some runs are known by. An error that is a *Problem is about one place,
// and more may follow; any other is the last: ErrUnknown, or what r returned.
func Read(r io.Reader, name string, o *Options) iter.Seq2[*Run, error] {
	if o == nil {
		o = &Options{}
	}
	return func(yield func(*Run, error) bool) {
		in, close, err := plain(r)
		if err != nil {
			yield(nil, err)
			return
		}
		defer close()
		stopped := false
		give := func(run *Run, err error) {
			if !stopped {
				stopped = !yield(run, err)
			}
		}
		if err := read(in, name, o, &stopped, give); err != nil && !stopped {
			give(nil, err)
		}
	}
}

func read(in *bufio.Reader, name string, o *Options, stopped *bool, give func(*Run, error)) error {
	h := &head{name: base(name)}
	if _, err := in.Peek(1); err != nil && err != io.EOF {
		return err
	}
	text, _ := in.Peek(min(in.Buffered(), headText)) // that much is there
	h.text = slices.Clone(text)
	in, lists := listsInLines(in, !o.Pipe)
	recs := &records{
		Name: name, opts: o, rest: newValues(in),
		emit: func(run *Run) { give(run, nil) },
		tell: func(p *Problem) { give(nil, p) },
	}
	recs.rest.begun = lists
	if isText(h.text) {
		return readText(in, recs, h)
	}
	err := recs.look(h)
	if err != nil || len(recs.before) == 0 {
		return err
	}
	if recs.format, err = choose(h, o); recs.format == nil || !recs.format.fits(h) {
		if of := recs.opened(h); of != nil {
			recs.format, err = of, nil
		}
	}
	if err != nil {
		return err
	}
	if recs.format.text != nil {
		return fmt.Errorf("%w: it is JSON, which %s is not", ErrUnknown, recs.format.title)
	}
	switch {
	case recs.format.follow != nil:
		recs.follow()
	case recs.format.all != nil:
		err = recs.format.all(recs)
	default:
		err = recs.each(stopped)
	}
	if err == nil {
		err = recs.last
	}
	return err
}

// isText reports whether a file cannot be JSON.
func isText(begin []byte) bool {
	begin = bytes.TrimLeft(bytes.TrimPrefix(begin, []byte(byteOrderMark)), " \t\r\n\x1e")
	return len(begin) > 0 && begin[0] != '{' && begin[0] != '['
}

func readText(in *bufio.Reader, recs *records, h *head) (err error) {
	if recs.format, err = choose(h, recs.opts); err != nil {
		return err
	}
	if recs.format.text == nil {
		return fmt.Errorf("%w: it is not JSON, as %s is", ErrUnknown, recs.format.title)
	}
	return recs.format.text(in, recs)
}

// look reads the first values of the file.
func (r *records) look(h *head) error {
	size := 0
	for len(r.before) < headValues && (size < headBytes || len(r.before) == 0) {
		if r.opts.Pipe && len(r.before) > 0 && r.rest.in.Buffered() == 0 {
			break
		}
		v, err := r.rest.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if n, err := v.parsed(); err == nil {
			v.node = n
			h.values = append(h.values, n)
		}
		r.before = append(r.before, v)
		size += len(v.text)
	}
	h.array = r.rest.array
	return nil
}

// choose returns the format that is asked for, or the one that fits.
func choose(h *head, o *Options) (*format, error) {
	if o.Format != "" {
		var named *format
		for _, f := range formats {
			if f.name != o.Format {
				continue
			}
			if f.fits(h) || f.live && len(h.values) == 0 { // a session that has just begun
				return f, nil
			}
			named = f // the last is the plainest
		}
		if named == nil {
			return nil, fmt.Errorf("%w %q; known are %s", ErrUnknown, o.Format, strings.Join(Formats(), ", "))
		}
		return named, nil
	}
	for _, f := range formats {
		if f.fits(h) {
			return f, nil
		}
	}
	if len(h.values) == 0 && !isText(h.text) && !o.Found {
		return own, nil // it tells what is wrong with each
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknown, h.describe())
}

// describe says what a file begins with.
func (h *head) describe() string {
	switch n := h.first(); {
	case bytes.HasPrefix(h.text, []byte("SQLite format 3\x00")):
		return "it is an SQLite database; export what is in it with the program that made it"
	case bytes.HasPrefix(h.text, []byte("redb\x1a\n")):
		return "it is a database of redb, which do-memory-storage-redb keeps as a cache; import the libSQL database beside it, or what do-memory-cli backup writes"
	case len(h.text) == 0:
		return "it is empty"
	case len(h.values) == 0:
		return fmt.Sprintf("it begins with %q", clip(string(h.text), 40))
	case n.isObject():
		var keys []string
		for _, f := range n.fields() {
			if keys = append(keys, f.key); len(keys) == 8 {
				break
			}
		}
		return "its first object has the keys " + strings.Join(keys, ", ")
	}
	return "its first value is " + clip(h.first().json(), 40)
}
