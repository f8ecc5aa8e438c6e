package hook

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keptFor is how long a session is kept, so that one that goes on is not begun again.
const keptFor = 30 * 24 * time.Hour

// Sweep stores what waits of sessions whose hooks have not come again, ends those that rest, and
// forgets those that nothing was heard of for 30 days. It looks at so many of them, chosen by
// chance; 0 means all, and that the memory is tried even if it could not be reached a moment ago.
// It returns what has gone wrong with any of them, and stops where the memory cannot be opened.
func (r *Recorder) Sweep(ctx context.Context, most int) (err error) {
	entries, err := os.ReadDir(r.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !e.IsDir() || strings.HasPrefix(e.Name(), ".") })
	w := &work{Recorder: r, patient: most == 0}
	defer func() { err = errors.Join(err, w.close()) }()
	from := 0
	if most > 0 && len(entries) > most {
		from = rand.IntN(len(entries))
	} else {
		most = len(entries)
	}
	for i := range most {
		name := entries[(from+i)%len(entries)].Name()
		failed := w.sweep(ctx, filepath.Join(r.Dir, name))
		if errors.Is(failed, errAway) {
			break
		}
		if err = errors.Join(err, failed); ctx.Err() != nil || failed != nil && w.store == nil {
			break
		}
	}
	return err
}

func (w *work) sweep(ctx context.Context, folder string) error {
	idle := w.Idle
	if idle == 0 {
		idle = defaultIdle
	}
	if !waiting(folder) {
		s, err := loadSession(folder)
		if err != nil && !errors.Is(err, errDamaged) {
			return err
		}
		if err == nil && !s.dirty() && (s.Closed || !w.rested(s, folder, idle)) && !w.rested(s, folder, keptFor) {
			return nil
		}
	}
	lock, err := w.tryLock(folder)
	if lock == nil || err != nil {
		return err // somebody else is at it
	}
	defer lock.close()
	s, _, problem := w.arrive(folder, "")
	if s == nil {
		return problem
	}
	if !s.Closed && w.rested(s, folder, idle) {
		s.Ending = true
	}
	if s.dirty() {
		return errors.Join(problem, w.settle(ctx, s), s.save(folder))
	}
	if w.rested(s, folder, keptFor) {
		return errors.Join(problem, forget(folder))
	}
	return problem
}

// rested reports whether nothing was heard of a session for so long.
func (w *work) rested(s *session, folder string, long time.Duration) bool {
	last := s.Last
	if last.IsZero() { // no event has arrived, or one is just arriving
		info, err := os.Stat(folder)
		if err != nil {
			return false
		}
		last = info.ModTime()
	}
	return w.time().Sub(last) > long
}

// forget removes a session's folder, unless an event arrives in it.
func forget(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), arrivalPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(folder, entry.Name())))
		}
	}
	if waiting(folder) {
		return err
	}
	return errors.Join(err, os.Remove(folder))
}
