// Package userdir knows the folder of what the running programs of one user share, and
// whether others can get at it. Nothing in it outlives a restart of the machine.
package userdir

import (
	"fmt"
	"os"
)

// Make returns the folder to use if none is chosen, and makes it. It fails if the folder
// is one that Check refuses.
func Make() (string, error) {
	dir, err := Path()
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = Check(dir)
	}
	return dir, err
}

// Check refuses a folder in which somebody else could have put a file: what is read there
// would be theirs, and what is shown theirs to see.
func Check(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", dir)
	}
	return checkOwner(dir, info)
}
