// Package wholefile writes files of which everybody who reads them sees the new content or the
// old, never a part.
package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts a file with this content and these permissions at a path, in the place of what is
// there. Its folder must exist. A crash of the program leaves the old file; one of the machine may
// leave an empty one.
func Replace(path string, content []byte, mode fs.FileMode) error {
	return replace(path, content, mode, func(*os.File) error { return nil })
}

// ReplaceSynced does the same and returns when the new file is on the disk: a crash of the machine
// leaves the old file or the new one.
func ReplaceSynced(path string, content []byte, mode fs.FileMode) error {
	if err := replace(path, content, mode, (*os.File).Sync); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // not every system can do it
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}

func replace(path string, content []byte, mode fs.FileMode, sync func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // which is 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil && mode != 0o600 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
