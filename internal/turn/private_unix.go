//go:build unix

package turn

import (
	"io/fs"
	"os"
	"syscall"
)

// private reports whether only this user can use a folder: in the folder for temporary
// files another could have made it first.
func private(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid() && info.Mode().Perm()&0o077 == 0
}
