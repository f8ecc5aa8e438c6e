package replica

import (
	"errors"
	"io/fs"
	"os"
)

// Remove deletes the file of a replica, and what belongs to it. Nothing is lost that the
// server does not have. The file must not be open in this process; another one that has it
// open goes on with what is deleted until it ends.
func Remove(path string) error {
	var errs []error
	// How new the file is goes first: it must not be told of another file.
	for _, name := range []string{path + ".asof", path + ".wrote", path + "-wal", path + "-shm", path} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
