package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/episodic-memory/episodic/internal/confedit"
)

// record is what was done with a file, for undoing it. It holds no more of the file than was
// replaced, which is an older entry of ours.
type record struct {
	Clients []string          `json:"clients"`           // that it was done for
	Created bool              `json:"created,omitempty"` // it was not there
	Sum     string            `json:"sum"`               // SHA-256 of what was written
	Splices []confedit.Splice `json:"splices,omitempty"`
	Lost    bool              `json:"lost,omitempty"` // what was there before is not known: an earlier setup was edited
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// back returns the splices that take back what was done. intact says whether they take back all
// of it.
func (r *record) back(text string) (back []confedit.Splice, intact bool) {
	if r.Lost {
		return nil, false
	}
	if sum(text) == r.Sum {
		return confedit.Back(r.Splices), true
	}
	return confedit.BackEdited(text, r.Splices)
}

// records are those of all files.
type records struct {
	Files   map[string]*record `json:"files"`             // by their paths
	Folders []string           `json:"folders,omitempty"` // that were made
}

func readRecords(path string) (*records, error) {
	r := new(records)
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what earlier set-ups have done: %s: %w", path, err)
	}
	maps.DeleteFunc(r.Files, func(_ string, rec *record) bool { return rec == nil })
	if r.Files == nil {
		r.Files = map[string]*record{}
	}
	return r, nil
}

// paths are those of the files, in order.
func (r *records) paths() []string { return slices.Sorted(maps.Keys(r.Files)) }

// clear removes the folders that were made and are empty now. Others may have put something into
// the rest.
func (r *records) clear() {
	slices.SortFunc(r.Folders, func(a, b string) int { return len(b) - len(a) }) // those within first
	r.Folders = slices.DeleteFunc(r.Folders, func(folder string) bool {
		return os.Remove(folder) == nil
	})
}

// write replaces the file of records, or removes it when no file has one.
func (r *records) write(path string) error {
	if len(r.Files) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, string(b)+"\n", 0o600)
}
