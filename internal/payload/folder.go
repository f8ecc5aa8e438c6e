package payload

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
)

// keepFor is how long a copy is used, so that programs which only read do not read for
// ever with a dictionary that was deleted.
const keepFor = 7 * 24 * time.Hour

// folder keeps copies of the dictionaries of one database between programs, so that
// each of them need not fetch 100 KB before it can read. A copy is named by its id,
// and is not proof of what the database holds: ids are random, but the database may be
// another one by now. The nil folder keeps nothing.
type folder struct{ dir string }

func newFolder(dir string) *folder {
	if dir == "" {
		return nil
	}
	return &folder{dir}
}

func (f *folder) path(id uint32) string {
	return filepath.Join(f.dir, strconv.FormatUint(uint64(id), 10)+".dict")
}

// read returns the copy of a dictionary; nil if there is none that can be used.
func (f *folder) read(id uint32) *codec.Dictionary {
	if f == nil {
		return nil
	}
	info, err := os.Stat(f.path(id))
	if err != nil || time.Since(info.ModTime()) > keepFor {
		return nil
	}
	content, err := os.ReadFile(f.path(id))
	if err != nil {
		return nil
	}
	d, err := codec.NewDictionary(id, content)
	if err != nil {
		return nil
	}
	return d
}

// readSum is read, if the copy has the SHA-256.
func (f *folder) readSum(id uint32, sum []byte) *codec.Dictionary {
	d := f.read(id)
	if d == nil {
		return nil
	}
	if got := sha256.Sum256(d.Bytes()); string(got[:]) != string(sum) {
		return nil
	}
	return d
}

// write keeps a copy, which only its owner can read, since it holds text of items.
func (f *folder) write(d *codec.Dictionary) error {
	if f == nil {
		return nil
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("keep dictionary: %w", err)
	}
	temp, err := os.CreateTemp(f.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("keep dictionary: %w", err)
	}
	_, err = temp.Write(d.Bytes())
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), f.path(d.ID()))
	}
	if err != nil {
		return fmt.Errorf("keep dictionary: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

// retain deletes all copies but some: of dictionaries that are not in use any more,
// because they may hold text of what was deleted.
func (f *folder) retain(ids ...uint32) error {
	if f == nil {
		return nil
	}
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kept dictionaries: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(f.dir, e.Name())
		if slices.ContainsFunc(ids, func(id uint32) bool { return path == f.path(id) }) {
			continue
		}
		if info, err := e.Info(); err == nil && filepath.Ext(path) != ".dict" && time.Since(info.ModTime()) < time.Minute {
			continue // somebody is writing it
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("kept dictionaries: %w", err))
		}
	}
	return errors.Join(errs...)
}
