package capture

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// file is a session file.
type file struct {
	path   string
	format string // empty: told by how it begins

	now  os.FileInfo // as it was at the last look
	seen os.FileInfo // as it was when it was read; nil: never
	due  time.Time   // when it is to be looked at though it has not changed; zero: never

	session *transcript.Session // nil: it is not in memory
	behind  []byte              // what stands before session.Offset, to see that nothing was rewritten
	whole   bool                // it must be read as a whole
	again   time.Time           // not before then, for what that costs
	runs    map[episodic.ID]*run
	ended   bool // its session has

	left transcript.Left
	told map[string]bool // problems
}

func newFile(path, format string) *file {
	return &file{path: path, format: format, whole: !transcript.Grows(path), runs: make(map[episodic.ID]*run), told: make(map[string]bool)}
}

// rest leaves a file unread until it changes.
func (f *file) rest() { f.seen, f.ended = f.now, true }

// keptFor is how long a file that does not change is kept in memory; it is read again when it
// does.
const keptFor = 10 * time.Minute

// forget drops what was read of the file, but not what is known of its runs' episodes.
func (f *file) forget() {
	f.session, f.behind = nil, nil
	for _, r := range f.runs {
		r.stored = nil
	}
}

// toldProblems is how many of the problems of a file are told.
const toldProblems = 5

// fileProblem tells what is wrong with a file, unless it was told.
func (c *Capture) fileProblem(f *file, err error) {
	err = errAt(f.path, err)
	text := err.Error()
	if f.told[text] {
		return
	}
	f.told[text] = true
	switch n := len(f.told); {
	case n <= toldProblems:
		c.problem(err)
	case n == toldProblems+1:
		c.problem(fmt.Errorf("%s: and more; episodic import tells all", f.path))
	default:
		c.stats.Problems++
	}
}

// update reads what is new of a file, and stores it.
func (c *Capture) update(ctx context.Context, f *file, now time.Time) error {
	quiet := now.Sub(f.now.ModTime())
	ending := quiet >= c.o.Idle
	f.due = time.Time{}
	begun := time.Now()
	changed := f.changed(f.now)
	if changed && f.seen == nil {
		c.stats.Read++
	}
	switch {
	case !changed && f.ended:
		return nil
	case !changed && !ending && quiet >= keptFor && !f.stale():
		f.forget()
		f.due = f.now.ModTime().Add(c.o.Idle)
		return nil
	case f.whole && !ending && begun.Before(f.again):
		f.due = f.again
		return nil
	}
	runs, err := c.read(ctx, f, ending)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) { // the next look sees it
			return nil
		}
		c.fileProblem(f, err)
		f.seen, f.ended = f.now, true // until it changes
		f.forget()
		return nil
	}
	f.left = make(transcript.Left)
	for _, r := range runs {
		for what, n := range r.Left {
			f.left[what] += n
		}
	}
	if err := c.storeRuns(ctx, f, runs, ending, begun); err != nil {
		return err
	}
	f.seen, f.ended = f.now, ending
	f.again = time.Now().Add(pause(time.Since(begun)))
	switch {
	case ending:
		f.forget()
	case f.due.IsZero():
		f.due = f.now.ModTime().Add(min(keptFor, c.o.Idle))
		if quiet >= keptFor {
			f.forget()
			f.due = f.now.ModTime().Add(c.o.Idle)
		}
	}
	return nil
}

// stale reports whether the memory has less of a run than is known.
func (f *file) stale() bool {
	for _, r := range f.runs {
		if r.stale {
			return true
		}
	}
	return false
}

// read returns the runs of a file as they are now. Of one that grows by lines it reads what is
// new, unless the session is ending: then all of it, as an import does.
func (c *Capture) read(ctx context.Context, f *file, ending bool) ([]*transcript.Run, error) {
	o := c.o.Read
	o.Modified = f.now.ModTime()
	o.Format = cmp.Or(o.Format, f.format, transcript.Placed(f.path))
	r, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if !f.whole && !ending {
		runs, err := c.readNew(ctx, f, r, &o)
		if !errors.Is(err, transcript.ErrNotFollowed) {
			return runs, err
		}
		f.whole, f.session, f.behind = true, nil, nil
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	var runs []*transcript.Run
	for run, err := range transcript.Read(interruptible{ctx, r}, f.path, &o) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if p, is := errors.AsType[*transcript.Problem](err); is {
			c.fileProblem(f, p)
			continue
		}
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// behindBytes is how much before an offset must be as it was.
const behindBytes = 512

// readNew reads the lines of a file that are new: all, if what was read before is not there any
// more.
func (c *Capture) readNew(ctx context.Context, f *file, r *os.File, o *transcript.Options) ([]*transcript.Run, error) {
	if f.session != nil {
		same := os.SameFile(f.now, f.seen) && f.now.Size() >= f.session.Offset()
		if same {
			behind, err := readBehind(r, f.session.Offset())
			if err != nil && err != io.EOF {
				return nil, err
			}
			same = bytes.Equal(behind, f.behind)
		}
		if !same {
			f.session = nil
		}
	}
	if f.session == nil {
		f.session = transcript.NewSession(f.path, o)
	}
	if _, err := r.Seek(f.session.Offset(), io.SeekStart); err != nil {
		return nil, err
	}
	problems, err := f.session.Read(interruptible{ctx, r})
	for _, p := range problems {
		c.fileProblem(f, p)
	}
	if err == nil {
		f.behind, err = readBehind(r, f.session.Offset())
	}
	if err != nil && ctx.Err() == nil {
		f.session = nil
	}
	if err != nil {
		return nil, err
	}
	runs, problems := f.session.Runs()
	for _, p := range problems {
		c.fileProblem(f, p)
	}
	return runs, nil
}

// readBehind reads what stands before an offset.
func readBehind(r io.ReaderAt, offset int64) ([]byte, error) {
	b := make([]byte, min(offset, behindBytes))
	n, err := r.ReadAt(b, offset-int64(len(b)))
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

// interruptible is a reader that ends with a context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// lost ends the sessions of a file that is not there any more.
func (c *Capture) lost(ctx context.Context, f *file) error {
	for what, n := range f.left {
		c.gone[what] += n
	}
	if f.ended || f.seen == nil {
		return nil
	}
	for id, r := range f.runs {
		if !r.running {
			continue
		}
		e, err := c.store.Episode(ctx, id)
		if err == nil && e.Running() {
			e.End = f.seen.ModTime().UTC()
			if e.End.Before(e.Start) {
				e.End = e.Start
			}
			if err = c.store.PutEpisode(ctx, e); err == nil {
				c.stats.Ended++
				c.o.Stored(Update{Path: f.path, ID: id, Ended: true})
			}
		}
		if err != nil && !errors.Is(err, episodic.ErrNotFound) && !errors.Is(err, episodic.ErrConflict) {
			return err
		}
	}
	return nil
}
