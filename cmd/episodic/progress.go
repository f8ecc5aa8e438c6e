package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how much of a file has been read, or of something else been
// done, if stderr is a terminal. A nil progress shows nothing.
type progress struct {
	bar *progressbar.ProgressBar
}

// newProgress begins to show a progress to size, in bytes or just a number. A
// negative size is unknown.
func newProgress(stderr io.Writer, name string, size int64, bytes bool) *progress {
	if !isTerminal(stderr) || size == 0 {
		return nil
	}
	return &progress{progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(stderr),
		progressbar.OptionSetDescription(cut(oneLine(name), 40)),
		progressbar.OptionShowBytes(bytes),
		progressbar.OptionSetWidth(20),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)}
}

// Write counts bytes. It never fails: a file that grows while it is read is no
// reason to stop.
func (p *progress) Write(b []byte) (int, error) {
	if p != nil {
		_ = p.bar.Add(len(b))
	}
	return len(b), nil
}

// set shows that so much is done.
func (p *progress) set(n int64) {
	if p != nil {
		_ = p.bar.Set64(n)
	}
}

// clear makes room for a line on stderr.
func (p *progress) clear() {
	if p != nil {
		_ = p.bar.Clear()
	}
}

func (p *progress) done() {
	if p != nil {
		_ = p.bar.Finish()
	}
}

// lateProgress is a progress whose size is not known before it begins.
type lateProgress struct {
	a     *app
	name  string
	bytes bool
	bar   *progress
}

func (p *lateProgress) set(done, all int64) {
	if p.bar == nil {
		p.bar = newProgress(p.a.stderr, p.name, all, p.bytes)
	}
	p.bar.set(done)
}

func (p *lateProgress) done() { p.bar.done() }
