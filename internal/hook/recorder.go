package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// Recorder records what hooks say. Its methods may be called by several processes at once.
type Recorder struct {
	// Dir is the folder in which sessions are kept; it is made if it is not there. Required.
	Dir string
	// Open opens the memory, narrowed to what the user has chosen for all projects. A method calls
	// it at most once, and then what it returns to close it. Required.
	Open func(ctx context.Context) (store *episodic.Store, close func() error, err error)
	// Scope is whom a session belongs to, which is of a format of internal/transcript, known by a
	// key, and works in a folder. Required.
	Scope func(ctx context.Context, store *episodic.Store, format, key, folder string) (episodic.Scope, error)
	// Hash is that of a session that has ended, as import takes it. Required.
	Hash func(run *transcript.Run) []byte
	// Idle is how long a session must rest to have ended without having said so. Default: 2 h.
	Idle time.Duration
	// Silent keeps Record from looking for anything to tell.
	Silent bool

	now func() time.Time // of tests
}

const defaultIdle = 2 * time.Hour

func (r *Recorder) time() time.Time {
	if r.now != nil {
		return r.now().UTC()
	}
	return time.Now().UTC()
}

// Record records an event, and returns what is worth telling the model about it: framed text, or
// nothing. With an error nothing is lost unless it says so: what could not be stored is when
// the session's next event comes, or Sweep is called. It takes as long as ctx allows at most, and
// a moment.
func (r *Recorder) Record(ctx context.Context, e *clients.Event) (text string, err error) {
	if e.Kind == clients.Other {
		return "", nil
	}
	folder := filepath.Join(r.Dir, name(e.Client, key(e)))
	if err := putIn(folder, &arrival{Event: *e, At: r.time()}); err != nil {
		return "", fmt.Errorf("the event is lost: %w", err)
	}
	lock, err := lockSession(ctx, folder)
	if err != nil {
		return "", fmt.Errorf("the event waits: %w", err)
	}
	defer lock.close()
	w := &work{Recorder: r}
	defer func() { err = errors.Join(err, w.close()) }()
	s, fresh, err := r.arrive(folder, e.Key)
	if err != nil {
		return "", err
	}
	if s.dirty() || fresh && e.Hears() && !r.Silent {
		err = w.settle(ctx, s)
	}
	if err == nil && fresh && !r.Silent && e.Hears() {
		text, err = w.tell(ctx, s, e)
	}
	return text, errors.Join(err, s.save(folder))
}

// key is what a session is known by, as internal/transcript has it: that of a sub-agent is its
// own.
func key(e *clients.Event) string {
	if e.Agent != "" {
		return e.Session + "/" + e.Agent
	}
	return e.Session
}

// arrive takes the events that have arrived for a session, and saves it. fresh reports whether
// the one of that key is new to it.
func (r *Recorder) arrive(folder, key string) (s *session, fresh bool, err error) {
	s, err = loadSession(folder)
	if err != nil {
		return nil, false, err
	}
	arrivals, problem := arrived(folder)
	for _, a := range arrivals {
		if s.take(a) && a.Key == key {
			fresh = true
		}
	}
	if len(arrivals) > 0 {
		if err := s.save(folder); err != nil {
			return nil, false, err
		}
		for _, a := range arrivals {
			problem = errors.Join(problem, os.Remove(a.path))
		}
	}
	return s, fresh, problem
}

// Sweep stores what waits of sessions whose hooks have not come again, ends those that rest, and
// forgets those that have ended long ago. It tries all, and returns what has gone wrong.
func (r *Recorder) Sweep(ctx context.Context) (err error) {
	entries, err := os.ReadDir(r.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	w := &work{Recorder: r}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, entry := range entries {
		if ctx.Err() != nil {
			break
		}
		if entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
			err = errors.Join(err, w.sweep(ctx, filepath.Join(r.Dir, entry.Name())))
		}
	}
	return err
}

// keptFor is how long an ended session is kept, so that one that goes on is not begun again.
const keptFor = 30 * 24 * time.Hour

func (w *work) sweep(ctx context.Context, folder string) error {
	info, err := os.Stat(filepath.Join(folder, sessionFile))
	idle := w.Idle
	if idle == 0 {
		idle = defaultIdle
	}
	if err == nil && w.time().Sub(info.ModTime()) <= idle && !waiting(folder) {
		if s, err := loadSession(folder); err == nil && !s.dirty() {
			return nil // its hooks are at it
		}
	}
	lock, err := tryLock(folder)
	if lock == nil || err != nil {
		return err // somebody else is at it
	}
	defer lock.close()
	s, _, err := w.arrive(folder, "")
	if err != nil {
		return err
	}
	if now := w.time(); now.Sub(s.Last) > idle && !s.Closed {
		s.Ending = true
	} else if s.Closed && !s.dirty() && now.Sub(s.Last) > keptFor {
		return os.RemoveAll(folder)
	}
	if !s.dirty() {
		return nil
	}
	return errors.Join(w.settle(ctx, s), s.save(folder))
}

// work is one call that may need the memory, which is opened when it does.
type work struct {
	*Recorder
	store *episodic.Store
	shut  func() error
}

func (w *work) open(ctx context.Context) (err error) {
	if w.store == nil {
		w.store, w.shut, err = w.Open(ctx)
	}
	return err
}

func (w *work) close() error {
	if w.store == nil {
		return nil
	}
	return w.shut()
}
