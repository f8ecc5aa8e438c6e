package hook

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/clients"
)

// Current returns the key of the session of a client that goes on in a folder: of several that
// in which something has happened last. dir is that of Recorder. Hooks tell of sessions; without
// them, and where they have told of the end, there is none.
func Current(dir string, client clients.Client, folder string) (key string, ok bool) {
	type candidate struct {
		path    string
		changed time.Time
	}
	var candidates []candidate
	paths, _ := filepath.Glob(filepath.Join(dir, string(client)+"-*", sessionFile)) // no name of a client has signs of patterns
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			candidates = append(candidates, candidate{path, info.ModTime()})
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int { return b.changed.Compare(a.changed) })
	for _, c := range candidates {
		var s session
		b, err := os.ReadFile(c.path)
		if err == nil && json.Unmarshal(b, &s) == nil && s.Client == client && s.Parent == "" && s.Folder == folder && !s.Ending && !s.Closed {
			return s.Key, true
		}
	}
	return "", false
}
