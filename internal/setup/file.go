package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/episodic-memory/episodic/internal/wholefile"
)

// file is a file of a client.
type file struct {
	real     string // its path without symbolic links
	exists   bool
	readOnly bool
	text     string
	mode     fs.FileMode
}

// mostBytes bounds the files that are edited.
const mostBytes = 64 << 20

var errReadOnly = errors.New("the file is read-only, and stays as it is")

func readFile(path string) (*file, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, errors.New("the symbolic link points to nothing")
		}
		return &file{real: path}, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("this is no regular file")
	case info.Size() > mostBytes:
		return nil, fmt.Errorf("the file has more than %d bytes", mostBytes)
	}
	b, err := os.ReadFile(real)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, errors.New("the file is no UTF-8 text")
	}
	return &file{real: real, exists: true, readOnly: info.Mode()&0o200 == 0, text: string(b), mode: info.Mode().Perm()}, nil
}

// Carry carries out a change. It fails if the file is not as it was when the change was planned.
func (s *Setup) Carry(c *Change) error {
	now, err := readFile(c.Path)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	if now.exists != c.exists || now.text != c.text || now.real != c.real {
		return fmt.Errorf("%s was changed meanwhile; run it again", c.Path)
	}
	all, err := readRecords(s.Records)
	if err != nil {
		return err
	}
	mode := c.file.mode
	if !c.exists {
		mode = fs.FileMode(c.mode)
	}
	if c.record != nil { // the record comes first: a file without one could not be restored
		all.Folders = append(all.Folders, missingFolders(filepath.Dir(c.real))...)
		all.Files[c.Path] = c.record
		if err := all.write(s.Records); err != nil {
			return err
		}
		if c.after == c.text && c.exists {
			return nil // it is noted for other clients
		}
		return replaceFile(c.real, c.after, mode)
	}
	switch {
	case c.Delete && c.exists:
		err = os.Remove(c.real)
	case c.after != c.text:
		err = replaceFile(c.real, c.after, mode)
	}
	if err != nil {
		return err
	}
	delete(all.Files, c.Path)
	all.clear()
	return all.write(s.Records)
}

// missingFolders are those of a path that are not there.
func missingFolders(path string) (list []string) {
	for {
		if _, err := os.Lstat(path); err == nil || path == filepath.Dir(path) {
			return list
		}
		list = append(list, path)
		path = filepath.Dir(path)
	}
}

// replaceFile writes a file that is there as a whole or not at all. Folders that it makes are
// open to those who may read the file.
func replaceFile(path, text string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700|mode&0o044|mode&0o044>>2); err != nil {
		return err
	}
	return wholefile.ReplaceSynced(path, []byte(text), mode)
}
