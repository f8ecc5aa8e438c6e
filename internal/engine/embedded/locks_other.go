//go:build !linux

package embedded

import (
	"errors"
	"io/fs"
	"os"
)

// inUse reports whether a process has a file open as a database, or may have: here that
// is not known.
func inUse(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// holder is not known here.
func holder(string) string { return "" }
