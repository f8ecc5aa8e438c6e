//go:build !unix

package live

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Dir returns the folder to use if none is chosen. It is in the user's profile, which
// other users of Windows cannot enter.
func Dir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "episodic", "live"), nil
}

// checkOwner knows nothing of access lists: the mode of a folder of Windows is made up.
func checkOwner(string, fs.FileInfo) error { return nil }

// isRefused asks for WSAECONNREFUSED, which syscall.ECONNREFUSED is not.
func isRefused(err error) bool { return errors.Is(err, syscall.Errno(10061)) }
