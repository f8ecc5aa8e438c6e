package replica

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// asOfFile tells all processes of a machine how new the replica is, for the price of one
// stat: its time is when the last pull began after which nothing was missing, and it has
// one byte while pages are missing.
type asOfFile string

// read returns the time, zero if there was none yet, and whether pages are missing. A time in the
// future, which a clock that was set back leaves, is none.
func (f asOfFile) read() (at time.Time, behind bool, err error) {
	info, err := os.Stat(string(f))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, err
	}
	if at = info.ModTime(); at.After(time.Now()) || at.Unix() == 0 {
		at = time.Time{}
	}
	return at, info.Size() > 0, nil
}

// write replaces the file, so that nobody reads a time and a size of different writes.
func (f asOfFile) write(at time.Time, behind bool) error {
	var content []byte
	if behind {
		content = []byte{'-'}
	}
	temp, err := os.CreateTemp(filepath.Dir(string(f)), ".asof-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Close())
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	if err == nil {
		err = os.Chtimes(temp.Name(), at, at)
	}
	if err == nil {
		err = os.Rename(temp.Name(), string(f))
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}
