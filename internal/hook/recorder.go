package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	// Remote says that the memory is reached by a network: then no call of a tool waits for it.
	Remote bool
	// Scope is whom a session belongs to, which is of a format of internal/transcript, known by a
	// key, and works in a folder. It is asked once for each session. Required.
	Scope func(ctx context.Context, store *episodic.Store, format, key, folder string) (episodic.Scope, error)
	// Hash is that of a session that has ended, as import takes it. Required.
	Hash func(run *transcript.Run) []byte
	// Redact makes of a text what may be kept of it, before anything is written. Default: all.
	Redact func(text string) string
	// Idle is how long a session must rest to have ended without having said so. Default: 2 h.
	Idle time.Duration
	// Silent keeps Record from looking for anything to tell.
	Silent bool

	now     func() time.Time // of tests
	rest    time.Duration    // of tests, for callRest; negative: none
	stopped func(at string)  // of tests: called where a process may be killed
}

const (
	defaultIdle = 2 * time.Hour
	// callRest is for how long calls of tools are only put down after a session was stored. The
	// next event stores them together.
	callRest = 10 * time.Second
	// awayRest is for how long nobody tries again to store in a memory that could not be reached.
	awayRest = 30 * time.Second
)

func (r *Recorder) time() time.Time {
	if r.now != nil {
		return r.now().UTC()
	}
	return time.Now().UTC()
}

// at marks a place where the work may end at any time.
func (r *Recorder) at(place string) {
	if r.stopped != nil {
		r.stopped(place)
	}
}

// Record records an event, and returns what is worth telling the model about it: framed text, or
// nothing. With an error nothing is lost unless it says so: what could not be stored is when
// the session's next event comes, or Sweep is called. It takes as long as ctx allows at most, and
// a moment.
//
// A tool call is mostly only put down, because the agent may wait for this, and stored with what
// comes next: a prompt, the end of a turn, or a call ten seconds later.
func (r *Recorder) Record(ctx context.Context, e *clients.Event) (text string, err error) {
	if e.Kind == clients.Other || e.Kind == clients.Tool && transcript.IsMemoryTool(e.Tool) {
		return "", nil
	}
	folder := filepath.Join(r.Dir, name(e.Client, key(e)))
	mine, err := putIn(folder, &arrival{Event: r.kept(e), At: r.time()})
	if err != nil {
		return "", fmt.Errorf("the event is lost: %w", err)
	}
	r.at("put down")
	if r.rests(e, folder) {
		return "", nil
	}
	lock, err := r.lock(ctx, folder)
	if err != nil {
		return "", fmt.Errorf("the event waits: %w", err)
	}
	defer lock.close()
	w := &work{Recorder: r}
	defer func() { err = errors.Join(err, w.close()) }()
	s, fresh, problem := w.arrive(folder, mine)
	if s == nil {
		return "", problem
	}
	tells := fresh && r.mayTell(e)
	if s.dirty() || tells {
		err = w.settle(ctx, s)
	}
	if err == nil && tells {
		text, err = w.tell(ctx, s, e)
	}
	if errors.Is(err, errAway) {
		err = nil // whoever found it away has told
	}
	return text, errors.Join(problem, err, s.save(folder))
}

// mayTell reports whether the model can hear something about an event that there may be to tell.
func (r *Recorder) mayTell(e *clients.Event) bool {
	return e.Hears() && !r.Silent && (e.Kind != clients.Tool || e.Failed)
}

// rests reports whether an event is left for the next one to store.
func (r *Recorder) rests(e *clients.Event, folder string) bool {
	if e.Kind != clients.Tool {
		return false
	}
	if r.Remote {
		return true
	}
	rest := callRest
	if r.rest != 0 {
		rest = r.rest
	}
	return !r.mayTell(e) && younger(filepath.Join(folder, sessionFile), rest)
}

// younger reports whether a file is there, and was changed within the last so long.
func younger(path string, than time.Duration) bool {
	info, err := os.Stat(path)
	return err == nil && time.Since(info.ModTime()) < than
}

// kept is an event as it may be kept: without secrets, and with what the memory has room for.
func (r *Recorder) kept(e *clients.Event) clients.Event {
	k := *e
	for _, text := range []*string{&k.Text, &k.Result, &k.Input} {
		if r.Redact != nil {
			*text = r.Redact(*text)
		}
		if len(*text) > textBytes {
			*text = strings.ToValidUTF8((*text)[:textBytes], "") + "…"
		}
	}
	if k.Input != "" && !json.Valid([]byte(k.Input)) {
		b, _ := json.Marshal(k.Input) // of a string it cannot fail
		k.Input = string(b)
	}
	return k
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
// the one in the file mine is new to it, also if another process has taken it. Without a session
// nothing was done; otherwise the error tells what was lost.
func (w *work) arrive(folder, mine string) (s *session, fresh bool, problem error) {
	s, problem = beginAnew(folder)
	if s == nil {
		return nil, false, problem
	}
	arrivals, err := arrived(folder)
	problem = errors.Join(problem, err)
	before := s.Taken
	s.Taken = nil
	for _, a := range arrivals {
		name := filepath.Base(a.path)
		s.Taken = append(s.Taken, name)
		if slices.Contains(before, name) || !s.take(a) {
			continue
		}
		if name == mine {
			fresh = true
		} else if w.mayTell(&a.Event) {
			s.Untold = bounded(append(s.Untold, name), untoldEvents)
		}
	}
	if i := slices.Index(s.Untold, mine); i >= 0 {
		fresh = true
		s.Untold = slices.Delete(s.Untold, i, i+1)
	}
	if len(arrivals) > 0 {
		w.at("taken")
		if err := s.save(folder); err != nil {
			return nil, false, errors.Join(problem, err)
		}
		for _, a := range arrivals {
			w.at("saved")
			problem = errors.Join(problem, os.Remove(a.path))
		}
	}
	s.folder = folder
	return s, fresh, problem
}

// errAway says that the memory could not be reached a moment ago.
var errAway = errors.New("the memory could not be reached a moment ago")

// work is one call that may need the memory, which is opened when it does.
type work struct {
	*Recorder
	patient bool // it tries, however short ago the memory could not be reached
	store   *episodic.Store
	shut    func() error
}

// awayFile is as old as the last time at which the memory could not be reached.
const awayFile = ".away"

func (w *work) open(ctx context.Context) (err error) {
	if w.store != nil {
		return nil
	}
	if !w.patient && younger(filepath.Join(w.Dir, awayFile), awayRest) {
		return errAway
	}
	w.store, w.shut, err = w.Open(ctx)
	w.reached(err)
	return err
}

// reached notes whether the memory was reached, by the error of what was done there.
func (w *work) reached(err error) {
	if path := filepath.Join(w.Dir, awayFile); err == nil {
		_ = os.Remove(path) // it is mostly not there
	} else if episodic.Retryable(err) || errors.Is(err, context.DeadlineExceeded) {
		_ = os.WriteFile(path, nil, 0o600) // otherwise the next one tries again
	}
}

func (w *work) close() error {
	if w.store == nil {
		return nil
	}
	return w.shut()
}
