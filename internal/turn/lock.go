// Package turn lets those who write to one database take turns, because the database
// cannot: SQLite has no queue for its writers, and sqld loses its write lock when four
// or more connections wait for it. Lock is for the processes of one machine, Slots for
// several machines. The package knows neither databases nor SQL.
package turn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/episodic-memory/episodic/internal/userdir"
)

const (
	// MaxHolders is how many files a Lock has, and so how many can hold it at once.
	MaxHolders = 3
	// A holder touches its file every pulse. One that has not done so for patience is
	// stopped, and the next file is taken.
	pulse    = 400 * time.Millisecond
	patience = 1200 * time.Millisecond
	// Whoever has just released a lock for which others wait leaves it to them for courtesy:
	// they have to wake up first.
	courtesy = 500 * time.Microsecond

	flagAge = 5 * time.Second
)

// Lock is a lock that the processes of one machine share, the Stores of one process
// too. It is held for one write. The system releases it when its holder dies.
//
// It has three files, so that up to three may hold it at once if they are content with
// that; see Acquire. A holder that is stopped (SIGSTOP, a paused container) keeps its
// file. The others see that it is no longer touched, and go on with another one. When all
// are kept so, or the files cannot be used, Acquire returns without a lock: to keep a
// program from writing for ever would be worse than a crowd.
//
// A Lock is used by one goroutine.
type Lock struct {
	// Rested says of the lock as it was last acquired that nobody on this machine had had it
	// within the hour before.
	Rested bool

	base      string // path of all files, without what it ends in
	files     []*lockFile
	held      *lockFile // nil: none
	released  time.Time
	contended bool  // see Contended
	unusable  error // why there are no files

	taken, waited, unlocked atomic.Uint64
}

// Stats counts how a Lock was acquired.
type Stats struct {
	Taken    uint64        // how often
	Waited   time.Duration // for how long in all
	Unlocked uint64        // of Taken, how often without the lock
}

// Stats may be called at any time.
func (l *Lock) Stats() Stats {
	return Stats{l.taken.Load(), time.Duration(l.waited.Load()), l.unlocked.Load()}
}

// NewLock returns the lock for a database, which a text identifies, with files in the
// folder dir, or in that of this user's programs if it is empty. It creates the folder;
// files are created when they are needed.
func NewLock(dir, database string) *Lock {
	l := &Lock{}
	if dir == "" {
		dir, l.unusable = userdir.Make()
	} else {
		l.unusable = os.MkdirAll(dir, 0o700)
	}
	if l.unusable != nil {
		return l
	}
	l.base = filepath.Join(dir, fileName(database))
	for i := range MaxHolders {
		l.files = append(l.files, newLockFile(fmt.Sprintf("%s.lock%d", l.base, i+1)))
	}
	return l
}

// Acquire waits until fewer than holders, of those who ask for as many, hold the lock: 1
// to MaxHolders. An error says why there is none, such as that ctx has ended; the caller
// may then write without it.
func (l *Lock) Acquire(ctx context.Context, holders int) error {
	start := time.Now()
	err := l.acquire(ctx, holders)
	l.Rested = err != nil || start.Sub(l.held.before).Abs() > time.Hour
	l.taken.Add(1)
	l.waited.Add(uint64(time.Since(start)))
	if err != nil {
		l.unlocked.Add(1)
	}
	return err
}

func (l *Lock) acquire(ctx context.Context, holders int) error {
	if l.unusable != nil {
		return l.unusable
	}
	if l.contended {
		time.Sleep(courtesy - time.Since(l.released))
	}
	start := time.Now()
	defer func() { l.contended = time.Since(start) > courtesy }()
	first := 0 // whose file is waited for
	if holders > 1 {
		first = rand.N(holders)
		for i := range holders {
			f := l.files[(first+i)%holders]
			got, err := f.try()
			if err != nil {
				return err
			}
			if got {
				l.held = f
				return nil
			}
		}
	}
	for i := range l.files {
		f := l.files[(first+i)%len(l.files)]
		got, err := f.acquire(ctx)
		if err != nil {
			return err
		}
		if got {
			l.held = f
			return nil
		}
	}
	return errors.New("the processes that hold it are all stopped")
}

// Flag tells the other processes that nobody can write. It counts for flagAge, and is to
// be repeated for longer. It may be called at any time, as may Unflag and Flagged. A
// failure only means that the others must find out for themselves.
func (l *Lock) Flag() {
	if l.unusable == nil {
		_ = os.WriteFile(l.flag(), nil, 0o600)
		touch(l.flag())
	}
}

func (l *Lock) flag() string { return l.base + ".stuck" }

// Unflag takes it back.
func (l *Lock) Unflag() {
	if l.unusable == nil {
		_ = os.Remove(l.flag())
	}
}

// Flagged reports whether a process has said that nobody can write.
func (l *Lock) Flagged() bool {
	info, err := os.Stat(l.flag())
	return l.unusable == nil && err == nil && time.Since(info.ModTime()).Abs() < flagAge
}

// Release gives the lock back. Without one it does nothing.
func (l *Lock) Release() {
	if l.held != nil {
		l.held.release()
		l.held, l.released = nil, time.Now()
	}
}

// Contended reports whether the lock was waited for when it was last acquired, so that
// others probably wait now.
func (l *Lock) Contended() bool { return l.contended }

// Close gives the lock back and ends what waits for one. The system cannot be asked to
// end a wait for a file that a stopped process keeps: that goroutine ends when it gets it.
func (l *Lock) Close() {
	l.Release()
	for _, f := range l.files {
		f.close()
	}
}

// lockFile is one file of a Lock.
type lockFile struct {
	path string
	file *flock.Flock
	beat *time.Timer // touches the file while it is held

	before time.Time // the file's time before it was taken; zero: it was new

	pulse, patience time.Duration

	got chan error // of wait; what it says is for the goroutine that uses the Lock

	mu      sync.Mutex
	held    bool
	waiting bool      // wait runs
	wanted  bool      // what wait gets is to be kept
	skipped time.Time // the file's time when its holder was found to be stopped
}

func newLockFile(path string) *lockFile {
	f := &lockFile{path: path, file: flock.New(path, flock.SetPermissions(0o600)), got: make(chan error, 1), pulse: pulse, patience: patience}
	f.beat = time.AfterFunc(time.Hour, f.touchHeld)
	f.beat.Stop()
	return f
}

// try takes the file if nobody holds it.
func (f *lockFile) try() (bool, error) {
	f.mu.Lock()
	waits := f.waiting
	f.mu.Unlock()
	if waits { // for a holder that was stopped
		return false, nil
	}
	f.before = f.touched()
	got, err := f.file.TryLock()
	return got && f.take(), err
}

// acquire waits for the file; false means that its holder is stopped.
func (f *lockFile) acquire(ctx context.Context) (bool, error) {
	for {
		got, err := f.lock(ctx)
		if err != nil || !got {
			return false, err
		}
		if f.take() {
			return true, nil
		}
	}
}

// take begins to hold the file, which is locked. It reports false if the file was deleted:
// others lock a new one.
func (f *lockFile) take() bool {
	if !f.current() {
		_ = f.file.Unlock()
		return false
	}
	f.mu.Lock()
	f.held = true
	f.mu.Unlock()
	touch(f.path)
	f.beat.Reset(f.pulse)
	return true
}

// lock locks the file that had the path when it was opened.
func (f *lockFile) lock(ctx context.Context) (bool, error) {
	f.mu.Lock()
	waits := f.waiting
	if waits && !f.skipped.IsZero() && f.touched().Equal(f.skipped) {
		f.mu.Unlock()
		return false, nil // still stopped
	}
	f.skipped = time.Time{}
	f.wanted = true
	f.mu.Unlock()
	if f.before = f.touched(); !waits {
		if got, err := f.file.TryLock(); err != nil || got {
			return got, err
		}
		f.mu.Lock()
		f.waiting = true
		f.mu.Unlock()
		go f.wait()
	}
	last, since := f.touched(), time.Now()
	look := time.NewTicker(f.patience / 3)
	defer look.Stop()
	for {
		select {
		case err := <-f.got:
			f.before = f.touched()
			return err == nil, err
		case <-ctx.Done():
			if f.giveUp(time.Time{}) {
				return false, ctx.Err()
			}
			continue
		case <-look.C:
		}
		if now := f.touched(); !now.Equal(last) {
			last, since = now, time.Now()
		} else if time.Since(since) >= f.patience && f.giveUp(last) {
			return false, nil
		}
	}
}

// giveUp ends the wait for the file, because its holder is stopped and touched it last at
// that time, or for another reason. It reports false if wait has just got it.
func (f *lockFile) giveUp(stopped time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.waiting {
		return false
	}
	f.wanted, f.skipped = false, stopped
	return true
}

// wait waits as long as the system lets it.
func (f *lockFile) wait() {
	err := f.file.Lock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = false
	switch {
	case f.wanted:
		f.got <- err
	case err == nil:
		_ = f.file.Unlock()
	}
}

func (f *lockFile) release() {
	f.beat.Stop()
	f.mu.Lock()
	f.held = false
	f.mu.Unlock()
	_ = f.file.Unlock() // closes the file, which unlocks it in any case
}

func (f *lockFile) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted = false
}

// current reports whether the locked file still has its path.
func (f *lockFile) current() bool {
	locked, err := f.file.Stat()
	if err != nil {
		return true
	}
	now, err := os.Stat(f.path)
	return err == nil && os.SameFile(locked, now)
}

// touched is when a holder last touched the file. Only changes of it count, so that a
// clock that is set does no harm.
func (f *lockFile) touched() time.Time {
	info, err := os.Stat(f.path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// touch sets a file's time. If it cannot, others take this process for stopped.
func touch(path string) { _ = os.Chtimes(path, time.Time{}, time.Now()) }

func (f *lockFile) touchHeld() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held {
		touch(f.path)
		f.beat.Reset(f.pulse)
	}
}
