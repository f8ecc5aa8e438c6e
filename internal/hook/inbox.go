package hook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/wholefile"
)

// arrival is an event that waits to become part of its session.
type arrival struct {
	clients.Event
	At   time.Time // when it came
	path string
}

const arrivalPrefix = "in-"

// putIn puts an event into a session's folder, and returns the name of its file. From then on it
// is not lost.
func putIn(folder string, a *arrival) (name string, err error) {
	b, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	// Names are in the order of time.
	name = fmt.Sprintf("%s%020d-%s", arrivalPrefix, a.At.UnixNano(), rand.Text()[:8])
	for range 3 { // the folder may just be forgotten
		if err = os.MkdirAll(folder, 0o700); err != nil {
			return "", err
		}
		if err = wholefile.Replace(filepath.Join(folder, name), b, 0o600); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return name, err
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

// lockPoll is how often it is tried to get a lock.
const lockPoll = 2 * time.Millisecond

// lockOf is the lock of a session, which some others share. Its file stays when the session is
// forgotten: whoever waits for it would have another one than those who come later.
func (r *Recorder) lockOf(folder string) *flock.Flock {
	sum := sha256.Sum256([]byte(filepath.Base(folder)))
	return flock.New(filepath.Join(r.Dir, ".lock-"+hex.EncodeToString(sum[:1])), flock.SetPermissions(0o600))
}

func (r *Recorder) lock(ctx context.Context, folder string) (*sessionLock, error) {
	f := r.lockOf(folder)
	if _, err := f.TryLockContext(ctx, lockPoll); err != nil {
		return nil, fmt.Errorf("lock session %s: %w", folder, err)
	}
	return &sessionLock{f}, nil
}

// tryLock returns nil if somebody else is at the session.
func (r *Recorder) tryLock(folder string) (*sessionLock, error) {
	f := r.lockOf(folder)
	if got, err := f.TryLock(); !got {
		return nil, err
	}
	return &sessionLock{f}, nil
}

// close gives the lock up. The system does when the process ends, whatever this says.
func (l *sessionLock) close() { _ = l.file.Close() }
