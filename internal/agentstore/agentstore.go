package agentstore

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Kind is what is kept at a path.
type Kind uint8

// Kinds of paths.
const (
	Other        Kind = iota // nothing of this package's
	Sessions                 // several, which say when they have changed
	Conversation             // one, which changes with its folder
	Copies                   // a folder that repeats what a Conversation beside it has
)

// magic begins an SQLite database.
const magic = "SQLite format 3\x00"

// event is how OpenHands names the file of an event.
var event = regexp.MustCompile(`^(event-)?\d+(-[0-9a-fA-F-]{8,})?\.json$`)

// Folder returns what a folder is: the storage of OpenCode, the events of a conversation of
// OpenHands, or the pages in which OpenHands keeps them once more.
func Folder(path string) Kind {
	switch filepath.Base(path) {
	case "storage":
		if isFolder(filepath.Join(path, "session")) && isFolder(filepath.Join(path, "message")) {
			return Sessions
		}
	case "events":
		if len(events(path)) > 0 {
			return Conversation
		}
	case "event_cache":
		if isFolder(filepath.Join(filepath.Dir(path), "events")) {
			return Copies
		}
	}
	return Other
}

// Database returns what a file is: Sessions if it is an SQLite database. Whether there are any in
// it is known when it is opened.
func Database(path string) Kind {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return Other
	}
	f, err := os.Open(path)
	if err != nil {
		return Other
	}
	defer f.Close()
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(f, begin); err != nil || string(begin) != magic {
		return Other
	}
	return Sessions
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// events are the files of a conversation of OpenHands, in their order.
func events(folder string) (paths []string) {
	entries, _ := os.ReadDir(folder) // one that cannot be read holds none
	var names []string
	for _, e := range entries {
		if event.MatchString(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		x, y := number(a), number(b)
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		return strings.Compare(x, y)
	})
	for _, name := range names {
		paths = append(paths, filepath.Join(folder, name))
	}
	return paths
}

// number is the number in the name of an event's file, without zeros before it.
func number(name string) string {
	digits := strings.TrimPrefix(name, "event-")
	digits = digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789"))]
	return strings.TrimLeft(digits, "0")
}

// Open reads what is kept at a path of the kind Sessions or Conversation: sessions, each a line of
// JSON, of which those are left out that have not changed since a time; or the events of one
// conversation. ErrUnknown says that there are none in a database.
func Open(ctx context.Context, path string, since time.Time) (io.ReadCloser, error) {
	switch {
	case !isFolder(path):
		return database(ctx, path, since)
	case filepath.Base(path) == "events":
		return stream(func(yield func([]byte, error) bool) {
			for _, file := range events(path) {
				if !yield(os.ReadFile(file)) {
					return
				}
			}
		}), nil
	}
	return stream(storage(path, since)), nil
}

// stream is a reader of values, a line each. The first error ends it.
func stream(values iter.Seq2[[]byte, error]) io.ReadCloser {
	next, stop := iter.Pull2(values)
	return &lines{next: next, stop: stop}
}

type lines struct {
	next func() ([]byte, error, bool)
	stop func()
	rest []byte // of the line that is being read
}

// Read implements io.Reader.
func (l *lines) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		value, err, ok := l.next()
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, io.EOF
		}
		l.rest = append(value, '\n')
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (l *lines) Close() error {
	l.stop()
	return nil
}

// session is a session of OpenCode as its export has it.
type session struct {
	Info     json.RawMessage `json:"info"`
	Messages []message       `json:"messages"`
	Damaged  []string        `json:"damaged,omitempty"` // pieces that are no JSON
}

type message struct {
	Info  json.RawMessage   `json:"info"`
	Parts []json.RawMessage `json:"parts"`
}

// piece is text as JSON in one line. What is none is named among the damaged, and nil.
func (s *session) piece(name string, text []byte) json.RawMessage {
	if json.Valid(text) {
		return text
	}
	s.Damaged = append(s.Damaged, name)
	return nil
}
