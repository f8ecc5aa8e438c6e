package capture

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/transcript"
)

// Files are found by looking: a folder tells by its time that its entries have changed, a file
// by its size and time. It works on every system and on folders of other machines, and costs
// some microseconds for each: those that have rested for long are looked at in turn, a thousand
// files and four hundred folders within two seconds.
const (
	recently   = 24 * time.Hour  // what has changed since is looked at each time
	oldFiles   = 250             // of the others, each time
	oldDirs    = 100             // as well
	coarse     = 2 * time.Second // the least precise times of file systems
	maxNesting = 16              // of folders below one that is followed
)

// round says whose turn it is of those that have rested: some each time, all in the end.
type round struct{ from, n, most int }

// next reports whether it is the turn of the next one.
func (r *round) next() bool {
	r.n++
	return r.n > r.from && r.n <= r.from+r.most
}

// end ends a time.
func (r *round) end() {
	if r.from += r.most; r.from >= r.n {
		r.from = 0
	}
	r.n = 0
}

// tree is what there is in some folders.
type tree struct {
	folders []Folder
	dirs    map[string]*dir
	files   map[string]*file
	// The same, in the order in which they were found:
	dirOrder  []*dir
	fileOrder []*file
	oldDirs   round
	oldFiles  round
	looks     int
	failed    map[string]bool // paths that cannot be read, which was told
}

// dir is a folder, as it was when its entries were read.
type dir struct {
	path   string
	folder *Folder
	depth  int
	read   time.Time // when; zero: never
	time   time.Time // its own
	lost   bool
}

func newTree(folders []Folder) *tree {
	return &tree{
		folders: folders, dirs: make(map[string]*dir), files: make(map[string]*file), failed: make(map[string]bool),
		oldDirs: round{most: oldDirs}, oldFiles: round{most: oldFiles},
	}
}

// look returns the files that have changed or are due, in the order in which they changed, and
// those that are not there any more.
func (t *tree) look(now time.Time) (changed, lost []*file, problems []error) {
	t.looks++
	t.lookAtDirs(now, func(path string, err error) {
		if !t.failed[path] && !errors.Is(err, fs.ErrNotExist) {
			t.failed[path] = true
			problems = append(problems, err)
		}
	})
	order := t.fileOrder[:0]
	for _, f := range t.fileOrder {
		if f.old(now) && f.due.IsZero() && !t.oldFiles.next() {
			order = append(order, f)
			continue
		}
		info, err := os.Stat(f.path)
		if err != nil || !info.Mode().IsRegular() {
			delete(t.files, f.path)
			lost = append(lost, f)
			continue
		}
		order = append(order, f)
		if f.changed(info) || !f.due.IsZero() && !now.Before(f.due) {
			f.now = info
			changed = append(changed, f)
		}
	}
	t.oldFiles.end()
	t.fileOrder = order
	slices.SortStableFunc(changed, func(a, b *file) int {
		return cmp.Or(a.now.ModTime().Compare(b.now.ModTime()), cmp.Compare(a.path, b.path))
	})
	return changed, lost, problems
}

// lookAtDirs reads the entries of folders that have changed.
func (t *tree) lookAtDirs(now time.Time, failed func(path string, err error)) {
	for i := range t.folders {
		t.addDir(t.folders[i].Path, &t.folders[i], 0)
	}
	for i := 0; i < len(t.dirOrder); i++ { // more are found on the way
		d := t.dirOrder[i]
		if now.Sub(d.time) > recently && !d.read.IsZero() && !t.oldDirs.next() {
			continue
		}
		if err := t.lookAtDir(d, now); err != nil {
			d.lost = true
			delete(t.dirs, d.path) // its files are looked at by themselves
			failed(d.path, err)
		}
	}
	t.oldDirs.end()
	t.dirOrder = slices.DeleteFunc(t.dirOrder, func(d *dir) bool { return d.lost })
}

func (t *tree) lookAtDir(d *dir, now time.Time) error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if d.depth == 0 { // a file that is named
			t.addFile(d.path, d.folder)
		}
		return nil
	}
	// What changed within the precision of a folder's time may not be seen in it.
	if info.ModTime().Equal(d.time) && d.read.Sub(d.time) > coarse {
		return nil
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	d.read, d.time = now, info.ModTime()
	for _, e := range entries {
		path := filepath.Join(d.path, e.Name())
		switch {
		case e.IsDir():
			t.addDir(path, d.folder, d.depth+1)
		case wanted(d.folder, path):
			t.addFile(path, d.folder)
		}
	}
	return nil
}

func (t *tree) addDir(path string, folder *Folder, depth int) {
	if t.dirs[path] == nil && depth <= maxNesting {
		d := &dir{path: path, folder: folder, depth: depth}
		t.dirs[path], t.dirOrder = d, append(t.dirOrder, d)
	}
}

func (t *tree) addFile(path string, folder *Folder) {
	if t.files[path] == nil {
		f := newFile(path, folder.Format)
		t.files[path], t.fileOrder = f, append(t.fileOrder, f)
	}
}

// suffixes end the names of files that may hold sessions of any format.
var suffixes = []string{".jsonl", ".json", ".ndjson", ".traj", ".chat.history.md"}

// databases end the names of those that agents keep sessions in, which are not followed.
var databases = []string{".db", ".vscdb"}

func wanted(folder *Folder, path string) bool {
	name := strings.ToLower(path)
	if folder.Format != "" {
		return transcript.Wanted(folder.Format, path) && !slices.Contains(databases, filepath.Ext(name))
	}
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

// changed reports whether a file is another one than when it was last read.
func (f *file) changed(info os.FileInfo) bool {
	return f.seen == nil || info.Size() != f.seen.Size() || !info.ModTime().Equal(f.seen.ModTime()) || !os.SameFile(info, f.seen)
}

// old reports whether a file has rested for long.
func (f *file) old(now time.Time) bool {
	return f.seen != nil && now.Sub(f.seen.ModTime()) > recently
}

// errAt says what is wrong with a file.
func errAt(path string, err error) error {
	if _, is := errors.AsType[*fs.PathError](err); is {
		return err
	}
	if p, is := errors.AsType[*transcript.Problem](err); is && p.Line > 0 {
		return fmt.Errorf("%s:%d: %w", path, p.Line, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
