package transcript

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// follower takes the values of a file that goes on.
type follower interface {
	// take takes the value that begins at a line. What is wrong with it is told.
	take(line int, n node)
	// end gives the runs. Nothing is taken after it.
	end()
	// fork is a copy to be ended as it is now, which gives its runs and tells its problems by
	// r. At least one value was taken.
	fork(r *records) follower
}

// follow reads all of a file.
func (r *records) follow() {
	f, any := r.format.follow(r), false
	for line, n := range r.all() {
		any = true
		f.take(line, n)
	}
	if any || r.unfinished > 0 {
		f.end()
	}
}

// ErrNotFollowed says that files of a format do not grow by whole lines, so that they must be
// read anew when they have changed.
var ErrNotFollowed = errors.New("this format is not one that grows by lines")

// Grows reports whether a file so named, if it is a session, grows by lines, so that a Session
// can follow it.
func Grows(name string) bool { return strings.HasSuffix(name, ".jsonl") }

// Session reads the file of a session while that goes on: each line once, as it comes.
type Session struct {
	r      *records
	f      follower // nil: the format is not known yet
	any    bool     // it has taken something
	offset int64
	line   int // lines read
	runs   []*Run
	found  []error
	told   map[string]bool // problems of runs, which are found again with every look
}

// NewSession returns a Session of a file of which nothing has been read. name is as of Read;
// of the options Split must be BySession.
func NewSession(name string, o *Options) *Session {
	s := &Session{told: make(map[string]bool)}
	s.r = &records{Name: name, opts: o}
	s.r.emit = func(run *Run) { s.runs = append(s.runs, run) }
	s.r.tell = func(p *Problem) { s.found = append(s.found, p) }
	return s
}

// Offset is where the first line begins that has not been read, in bytes.
func (s *Session) Offset() int64 { return s.offset }

// Read reads lines that have been added, from Offset on, and returns what is wrong with some
// of them. A last line without an end is left for the next call. Errors: that of r;
// ErrNotFollowed and ErrUnknown, after which the Session is of no use.
func (s *Session) Read(r io.Reader) (problems []error, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	h := &head{name: base(s.r.Name)}
	var first []value // to tell the format by
	for {
		v, size, err := s.next(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.problems(), err
		}
		s.offset += size
		s.line++
		if v.text == "" && v.err == nil {
			continue
		}
		if s.f != nil {
			s.take(v)
			continue
		}
		first = append(first, v)
		if n, err := v.parsed(); err == nil {
			h.values = append(h.values, n)
		}
		if len(first) == headValues {
			if err := s.begin(h, first); err != nil {
				return s.problems(), err
			}
			first = nil
		}
	}
	if len(first) > 0 {
		err = s.begin(h, first)
	}
	return s.problems(), err
}

// begin tells the format by the first values, and takes them.
func (s *Session) begin(h *head, first []value) (err error) {
	h.text = []byte(first[0].text)[:min(len(first[0].text), headText)]
	if s.r.format, err = choose(h, s.r.opts); err != nil {
		return err
	}
	if s.r.format.follow == nil {
		return ErrNotFollowed
	}
	s.f = s.r.format.follow(s.r)
	for _, v := range first {
		s.take(v)
	}
	return nil
}

func (s *Session) take(v value) {
	s.r.size += int64(len(v.text))
	n, err := v.parsed()
	if err != nil {
		s.r.problem(err)
		return
	}
	s.any = true
	s.f.take(v.line, n)
}

// next reads a line. Of one that is too long only the problem is kept.
func (s *Session) next(in *bufio.Reader) (v value, size int64, err error) {
	v.line = s.line + 1
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		size += int64(len(part))
		if len(text)+len(part) > maxValue {
			v.err, text, part = (&values{}).tooLong(v.line).err, nil, nil
		}
		if v.err == nil {
			text = append(text, part...)
		}
		if err == nil {
			break
		}
		if err != bufio.ErrBufferFull {
			return value{}, 0, err
		}
	}
	v.text = string(bytes.Trim(bytes.TrimPrefix(text, []byte(byteOrderMark)), " \t\r\n\x00\x1e"))
	return v, size, nil
}

// problems are those found since the last time.
func (s *Session) problems() []error {
	found := s.found
	s.found = nil
	return found
}

// Runs returns the runs of the file as they are now, and problems that were not found before.
// What a run still waits for is not in it: thoughts of which nothing has come yet. The runs
// share memory with later ones: they must not be changed below their Episode's fields.
func (s *Session) Runs() (runs []*Run, problems []error) {
	if !s.any {
		return nil, nil
	}
	r := *s.r
	r.open = true
	r.emit = func(run *Run) { runs = append(runs, run) }
	r.tell = func(p *Problem) {
		if !s.told[p.Text] {
			s.told[p.Text] = true
			problems = append(problems, p)
		}
	}
	s.f.fork(&r).end()
	return runs, problems
}
