//go:build unix

package access

import (
	"fmt"
	"io/fs"
)

// private refuses a file that others may have written.
func private(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%s can be written by other users (mode %#o); chmod 600 it, after a look at what it holds", path, mode)
	}
	return nil
}
