package project

import (
	"os"
	"path/filepath"
	"strings"
)

// repository is where git keeps what a folder belongs to.
type repository struct {
	top    string // the folder that has .git
	common string // the folder of what its worktrees share; empty: there is no repository
}

// findRepository looks for the repository that a folder belongs to. One that is the home folder
// itself, as of people who keep their settings so, has no other folders.
func findRepository(dir, home string) (repository, bool) {
	for at := dir; ; at = filepath.Dir(at) {
		if common := gitFolder(filepath.Join(at, ".git")); common != "" && (at != home || dir == home) {
			return repository{at, common}, true
		}
		if at == filepath.Dir(at) {
			return repository{}, false
		}
	}
}

// gitFolder is the folder that .git stands for: it is that itself, or a file that names it, and
// that of a worktree names the one that it shares. Empty: it is none of them.
func gitFolder(dot string) string {
	if text, err := readSmall(dot); err == nil {
		to, is := strings.CutPrefix(text, "gitdir:")
		if !is {
			return ""
		}
		dot = joined(filepath.Dir(dot), to)
	}
	if text, err := readSmall(filepath.Join(dot, "commondir")); err == nil {
		dot = joined(dot, text)
	}
	if _, err := os.Stat(filepath.Join(dot, "HEAD")); err != nil {
		return ""
	}
	return real(dot)
}

// joined is a path that a file in a folder names.
func joined(dir, path string) string {
	if path = filepath.FromSlash(strings.TrimSpace(path)); filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// main is the folder of the repository's main worktree, where that is told by its name, or else
// the folder that was found.
func (r repository) main(found string) string {
	if filepath.Base(r.common) == ".git" {
		return filepath.Dir(r.common)
	}
	return found
}

// remote is the name by the URL of the remote origin, or of the only one; empty if there is
// none that other machines know.
func (r repository) remote() string {
	text, err := readSmall(filepath.Join(r.common, "config"))
	if err != nil {
		return ""
	}
	urls := remoteURLs(text)
	if url, ok := urls["origin"]; ok {
		return Normalise(url)
	}
	if len(urls) == 1 {
		for _, url := range urls {
			return Normalise(url)
		}
	}
	return ""
}

// remoteURLs reads the first URL of each remote out of git's configuration.
func remoteURLs(config string) map[string]string {
	urls, name := make(map[string]string), ""
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section, of, _ := strings.Cut(strings.Trim(line, "[]"), " ")
			if name = ""; strings.EqualFold(section, "remote") {
				name = strings.Trim(strings.TrimSpace(of), `"`)
			}
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if name != "" && found && strings.EqualFold(strings.TrimSpace(key), "url") && urls[name] == "" {
			urls[name] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return urls
}

// smallFile bounds what is read of a file of git's or of the user's.
const smallFile = 1 << 20

func readSmall(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > smallFile {
		return "", &os.PathError{Op: "read", Path: path, Err: os.ErrInvalid}
	}
	b, err := os.ReadFile(path)
	return string(b), err
}
