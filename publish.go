package episodic

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/live"
	"github.com/episodic-memory/episodic/internal/userdir"
)

// LiveStore is what [LiveStores] found out about an open Store.
type LiveStore struct {
	// PID is the process's number as it knows itself; in a container that is another
	// one than outside.
	PID     int       `json:"pid"`
	Program string    `json:"program,omitempty"` // its file name; empty if the system does not tell
	Target  string    `json:"target,omitempty"`  // the path, or the URL without token
	Opened  time.Time `json:"opened,omitzero"`
	Stats   *Stats    `json:"stats,omitempty"`
	// Error says why there is nothing but a PID: the process was killed, is stopped, or
	// its answer cannot be read.
	Error string `json:"error,omitempty"`
}

// publisher answers those who look at a Store from outside. A Store shares it with
// those that Scoped made of it.
type publisher struct {
	target string // as others are told
	opened time.Time

	mu     sync.Mutex
	closed bool
	server *live.Server // nil: not published
}

// absolute is String with a path that others find, wherever they are.
func (t target) absolute() string {
	if t.path != "" {
		if path, err := filepath.Abs(t.path); err == nil {
			return path
		}
	}
	return t.String()
}

// PublishStats lets other processes of the same user see, from now on until Close, what
// Stats returns, by [LiveStores] or by episodic stats --live. The Store then listens on a
// Unix socket in the folder dir; that costs nothing while nobody asks. No token and nothing
// stored is told. An empty dir means episodic-UID in os.TempDir, or on Windows
// episodic/run in os.UserCacheDir. A folder that is not there is made; one that other
// users can enter is refused. Publishing again is harmless, and does not change the folder.
// A narrowed Store publishes the statistics of the one that it was made of.
// Errors: ErrClosed, and those of the file system.
func (s *Store) PublishStats(dir string) error {
	if s == nil || s.engine == nil {
		return fmt.Errorf("publish statistics: %w: the Store was not returned by Open", ErrClosed)
	}
	dir, err := liveDir(dir)
	if err != nil {
		return fmt.Errorf("publish statistics: %w", err)
	}
	p := s.publisher
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("publish statistics: %w", ErrClosed)
	}
	if p.server != nil {
		return nil
	}
	server, err := live.Serve(dir, func() []byte { return p.document(s.Stats()) })
	if err != nil {
		return fmt.Errorf("publish statistics: %w", err)
	}
	p.server = server
	return nil
}

func (p *publisher) document(stats Stats) []byte {
	l := LiveStore{PID: os.Getpid(), Target: p.target, Opened: p.opened, Stats: &stats}
	if program, err := os.Executable(); err == nil {
		l.Program = filepath.Base(program)
	}
	text, err := json.Marshal(l)
	if err != nil { // a float that is no number
		text, _ = json.Marshal(LiveStore{PID: l.PID, Error: err.Error()})
	}
	return text
}

func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.server != nil {
		p.server.Close()
		p.server = nil
	}
}

// LiveStores returns the open Stores whose PublishStats was called with the same dir, by
// processes of the same user on the same machine, in the order of their PID. It waits
// 2 s at most. A process that was killed is told once: that removes its socket. Errors:
// of the file system, such as for a folder of another user, and those of ctx.
func LiveStores(ctx context.Context, dir string) ([]LiveStore, error) {
	dir, err := liveDir(dir)
	if err != nil {
		return nil, fmt.Errorf("live stores: %w", err)
	}
	answers, err := live.Look(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("live stores: %w", err)
	}
	stores := make([]LiveStore, len(answers))
	for i, a := range answers {
		l := LiveStore{}
		err := a.Err
		if err == nil {
			err = json.Unmarshal(a.Document, &l)
		}
		if err != nil {
			l = LiveStore{Error: err.Error()}
		}
		l.PID = a.PID
		stores[i] = l
	}
	slices.SortFunc(stores, func(a, b LiveStore) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), a.Opened.Compare(b.Opened))
	})
	return stores, nil
}

func liveDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	return userdir.Path()
}
