package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// place is where the file and its sidecars were when they were opened. SQLite goes on
// with open files whatever happens to their names, and by their names other processes
// find them: what is written to a file that has lost its name is lost, and two logs or
// two indexes of a log beside one file damage it.
type place struct {
	path string // of the file, as its user named it: where a symbolic link leads may change
	real string // of the file when it was opened, beside which its log and the index of that lie

	mu         sync.Mutex
	file       os.FileInfo // nil: not noted yet
	log, index os.FileInfo // nil: there was none, before the file is in WAL mode

	looked atomic.Int64 // when a read has looked last, in nanoseconds since 1970
}

// lookEvery is how often reads look whether the file is in its place. Every write looks.
const lookEvery = 100 * time.Millisecond

// Suffixes of the sidecars that a file in WAL mode has.
const (
	logSuffix   = "-wal"
	indexSuffix = "-shm"
)

// Errors of place.look, and of Engine.reopen: errNewLog and errTwice beside errSidecars.
var (
	// errSidecars: the file is in its place, and its log or the index of that is not.
	errSidecars = errors.New("its log (-wal) or the index of that (-shm) was removed or replaced while it was open")
	errNewLog   = errors.New("another program has made a new log: what was written last is perhaps not in the file; close the memory, open it anew, and compare")
	errTwice    = errors.New("this program has opened it several times: close all of them, and open it anew")
	errRemoved  = errors.New("the file was removed or moved while it was open; move it back, or close the memory and open it anew")
	errOther    = errors.New("another file has taken the place of the file that is open; close the memory and open it anew to use that one")
)

func newPlace(path string) *place { return &place{path: path, real: realPath(path)} }

// realPath is the same for all names of a file that is there, as far as symbolic links go.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}

// note notes the file and the sidecars that are there now.
func (p *place) note() error {
	file, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	log, err := ifThere(p.real + logSuffix)
	if err != nil {
		return err
	}
	index, err := ifThere(p.real + indexSuffix)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file, p.log, p.index = file, log, index
	return nil
}

func ifThere(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return info, err
}

// look compares what is there now with what was noted. Errors: errRemoved, errOther and
// errSidecars, in this order, as KindReplaced; those of the file system.
func (p *place) look() (err error) {
	defer func() {
		if err != nil {
			p.looked.Store(0) // until it is in its place again, every read looks
		}
	}()
	p.mu.Lock()
	file, log, index := p.file, p.log, p.index
	p.mu.Unlock()
	switch now, err := ifThere(p.path); {
	case err != nil:
		return err
	case now == nil:
		return replaced(errRemoved)
	case !os.SameFile(now, file):
		return replaced(errOther)
	}
	for _, sidecar := range []struct {
		suffix string
		noted  os.FileInfo
	}{{logSuffix, log}, {indexSuffix, index}} {
		if sidecar.noted == nil {
			continue
		}
		now, err := ifThere(p.real + sidecar.suffix)
		if err != nil {
			return err
		}
		if now == nil || !os.SameFile(now, sidecar.noted) {
			return replaced(errSidecars)
		}
	}
	return nil
}

// due reports, at most once every lookEvery, that a read is to look.
func (p *place) due() bool {
	now, last := time.Now().UnixNano(), p.looked.Load()
	return now-last >= int64(lookEvery) && p.looked.CompareAndSwap(last, now)
}

// ours reports whether a sidecar that is there is the one that was noted.
func (p *place) ours(suffix string) bool {
	p.mu.Lock()
	noted := p.log
	if suffix == indexSuffix {
		noted = p.index
	}
	p.mu.Unlock()
	now, err := os.Stat(p.real + suffix)
	return err == nil && noted != nil && os.SameFile(now, noted)
}

// noted returns the file that is open.
func (p *place) noted() os.FileInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file
}

// gone reports whether the file has no name here, by the error of look.
func gone(err error) bool { return errors.Is(err, errRemoved) || errors.Is(err, errOther) }

func replaced(err error) error {
	return &engine.Error{Kind: engine.KindReplaced, Stmt: -1, Err: err}
}

// afterwards is the error of a write that was committed before it was seen that the file
// is not in its place.
func afterwards(err error) error {
	return replaced(fmt.Errorf("while this was written: it is in the file that was open, and perhaps nowhere else: %w", err))
}
