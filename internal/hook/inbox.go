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

	"github.com/gofrs/flock"

	"github.com/episodic-memory/episodic/internal/clients"
)

// arrival is an event that waits to become part of its session.
type arrival struct {
	clients.Event
	At   time.Time // when it came
	path string
}

const arrivalPrefix = "in-"

// putIn puts an event into a session's folder. From then on it is not lost.
func putIn(folder string, a *arrival) error {
	b, err := json.Marshal(a)
	if err == nil {
		err = os.MkdirAll(folder, 0o700)
	}
	if err == nil {
		// Names are in the order of time.
		err = replace(filepath.Join(folder, fmt.Sprintf("%s%020d-%d", arrivalPrefix, a.At.UnixNano(), os.Getpid())), b)
	}
	return err
}

// waiting reports whether events wait in a folder.
func waiting(folder string) bool {
	paths, _ := filepath.Glob(filepath.Join(folder, arrivalPrefix+"*")) // the pattern is right
	return len(paths) > 0
}

// arrived returns the events that wait in a folder, the first first. One that cannot be read is
// removed, which the error tells.
func arrived(folder string) (list []*arrival, err error) {
	entries, err := os.ReadDir(folder)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), arrivalPrefix) {
			continue
		}
		a := &arrival{path: filepath.Join(folder, entry.Name())}
		b, readErr := os.ReadFile(a.path)
		if readErr == nil {
			readErr = json.Unmarshal(b, a)
		}
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("event %s is lost: %w", a.path, readErr), os.Remove(a.path))
			continue
		}
		list = append(list, a)
	}
	slices.SortStableFunc(list, func(a, b *arrival) int { return a.At.Compare(b.At) })
	return list, err
}

// sessionLock is held by whoever is at a session.
type sessionLock struct{ file *flock.Flock }

const (
	lockFile = ".lock"
	lockPoll = 2 * time.Millisecond
)

func lockSession(ctx context.Context, folder string) (sessionLock, error) {
	f := flock.New(filepath.Join(folder, lockFile), flock.SetPermissions(0o600))
	if _, err := f.TryLockContext(ctx, lockPoll); err != nil {
		return sessionLock{}, fmt.Errorf("lock session %s: %w", folder, err)
	}
	return sessionLock{f}, nil
}

// tryLock returns nil if somebody else is at the session.
func tryLock(folder string) (*sessionLock, error) {
	f := flock.New(filepath.Join(folder, lockFile), flock.SetPermissions(0o600))
	if got, err := f.TryLock(); !got {
		return nil, err
	}
	return &sessionLock{f}, nil
}

// close gives the lock up. The system does when the process ends, whatever this says.
func (l *sessionLock) close() { _ = l.file.Close() }
