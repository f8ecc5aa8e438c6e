package project

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Finder finds the projects of folders. The zero value is useful.
type Finder struct {
	// Home is the user's home folder: neither it nor a repository that it is itself makes a
	// project of the folders below it. Empty: the system's.
	Home string
	// Aliases is a file of names, as Alias describes; one that is not there holds none. Empty:
	// there are none.
	Aliases string
	// Cache is a folder in which root commits are kept, so that git is run once for each
	// repository. Empty: git is run each time.
	Cache string
}

// ErrNone says that a folder belongs to no project: it is the root of a file system, the home
// folder, or not a folder.
var ErrNone = errors.New("belongs to no project")

// Of returns the name of the project that a folder belongs to, which need not be there any
// more. Of these the first that there is:
//
//   - an alias;
//   - HOST/PATH of the repository's remote, as in github.com/owner/name: that is origin, or the
//     only one;
//   - git:COMMIT, the first 16 digits of its root commit; of several the least;
//   - folder:NAME-HASH, of the repository's or else the folder's absolute path.
//
// Folders of a repository and its worktrees are one project, a submodule is its own. Errors:
// ErrNone, and that the file of aliases cannot be read.
func (f Finder) Of(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("folder %.80q %w: its path is not absolute", dir, ErrNone)
	}
	dir = real(dir)
	home := f.Home
	if home == "" {
		home, _ = os.UserHomeDir() // without one there is none to except
	}
	if home != "" {
		home = real(home)
	}
	aliases, err := readAliases(f.Aliases, home)
	if err != nil {
		return "", err
	}
	repo, found := findRepository(dir, home)
	name, where := "", dir
	if found {
		where = repo.top
		name = repo.remote()
		if name == "" {
			name = f.rootCommit(repo)
		}
	}
	below := ""
	if rel, err := filepath.Rel(where, dir); found && err == nil && rel != "." {
		below = filepath.ToSlash(rel)
	}
	if alias := aliases.of(dir, name, below); alias != "" {
		return alias, nil
	}
	if name != "" {
		return name, nil
	}
	if where = repo.main(where); where == home || where == filepath.Dir(where) {
		return "", fmt.Errorf("folder %s %w; EPISODIC_PROJECT or --project names one", where, ErrNone)
	}
	sum := sha256.Sum256([]byte(where))
	return byPath + filepath.Base(where) + "-" + hex.EncodeToString(sum[:4]), nil
}

// byPath begins the names that are made of a folder's path.
const byPath = "folder:"

// ByPath reports whether a name was made of a folder's path, for want of anything else: then it
// is that of a folder of this machine only.
func ByPath(name string) bool { return strings.HasPrefix(name, byPath) }

// real is a path without links, as far as it is there.
func real(path string) string {
	path = filepath.Clean(path)
	if r, err := filepath.EvalSymlinks(path); err == nil {
		return r
	} else if parent := filepath.Dir(path); parent != path && errors.Is(err, fs.ErrNotExist) {
		return filepath.Join(real(parent), filepath.Base(path))
	}
	return path
}

// within reports whether a path is a folder or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
