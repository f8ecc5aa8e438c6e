//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/episodic-memory/episodic/internal/engine"
)

// The bytes of a file by which its connections lock it: PENDING_BYTE and those that follow,
// in SQLite's os.h.
const (
	lockBytes = 0x40000000
	lockSize  = 512
)

// claim takes the lock that excludes all connections. To close the file ends it.
func claim(path string) (*os.File, error) {
	request := syscall.F_SETLK
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		request = syscall.F_GETLK // which may ask on behalf of what it may not do
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: lockBytes, Len: lockSize}
	err = syscall.FcntlFlock(f.Fd(), request, &lock)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES), err == nil && request == syscall.F_GETLK && lock.Type != syscall.F_UNLCK:
		who := holder(realPath(path))
		if who == "" {
			who = "another process"
		}
		err = &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: fmt.Errorf("%s has the file open; close all programs that use it", who)}
	case err != nil:
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// KeepOwner gives a file the owner of another one, as far as this user may.
func KeepOwner(path string, of os.FileInfo) error {
	if stat, ok := of.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return os.Chown(path, int(stat.Uid), int(stat.Gid))
	}
	return nil
}
