//go:build unix

package userdir

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Path returns the folder to use if none is chosen. It is in the folder for temporary
// files and not in XDG_RUNTIME_DIR, which services and sudo do not know, and which goes
// when the user logs out.
func Path() (string, error) {
	return filepath.Join(os.TempDir(), fmt.Sprintf("episodic-%d", os.Geteuid())), nil
}

func checkOwner(dir string, info fs.FileInfo) error {
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (uid %d, this is %d); run this as that user, or choose another folder", dir, owner.Uid, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %#o); chmod 700 it, or choose another folder", dir, mode)
	}
	return nil
}
