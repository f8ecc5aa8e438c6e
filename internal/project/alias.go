package project

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// aliases are what a user calls projects. Each line of their file is NAME = PLACE, where a place
// is one of these; "#" begins a comment, at the start of a line or behind a space:
//
//	website = github.com/me/site            a project by the name that it has otherwise, or by a remote's URL
//	website = ~/work/old-site               a folder with all that is below it
//	api = github.com/me/mono//services/api  a folder of a repository with all that is below it
//
// The place that names the most folders counts, and a path of this machine before others.
type aliases []alias

type alias struct {
	name    string
	folder  string // an absolute path; empty: it is of a project
	project string
	below   string // in the project's repository; empty: all of it
}

// readAliases reads a file of aliases. One that is not there has none.
func readAliases(path, home string) (as aliases, err error) {
	if path == "" {
		return nil, nil
	}
	text, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("aliases of projects: %w", err)
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, place, found := strings.Cut(line, "=")
		name, place = strings.TrimSpace(name), strings.TrimSpace(place)
		if !found || name == "" || place == "" {
			return nil, fmt.Errorf("%s:%d: is %.60q; an alias is NAME = PLACE", path, number, line)
		}
		as = append(as, newAlias(name, place, home))
	}
	return as, nil
}

func newAlias(name, place, home string) alias {
	if rest, ok := strings.CutPrefix(place, "~"); ok && (rest == "" || rest[0] == '/' || rest[0] == filepath.Separator) {
		place = filepath.Join(home, rest)
	}
	if filepath.IsAbs(place) {
		return alias{name: name, folder: real(place)}
	}
	scheme, rest, has := strings.Cut(place, "://")
	if !has {
		scheme, rest = "", place
	}
	rest, below, _ := strings.Cut(rest, "//")
	if has {
		rest = scheme + "://" + rest
	}
	project := rest
	if n := Normalise(rest); n != "" && !strings.HasPrefix(rest, "git:") && !strings.HasPrefix(rest, "folder:") {
		project = n
	} else if n := Normalise("https://" + rest); n != "" && !strings.Contains(rest, ":") {
		project = n // its host may be written in capitals
	}
	return alias{name: name, project: project, below: strings.Trim(below, "/")}
}

// of is what a folder is called that lies in a project's repository, below its top. Empty: it has
// no alias.
func (as aliases) of(dir, project, below string) (name string) {
	best := -1
	for _, a := range as {
		weight := -1
		switch {
		case a.folder != "" && within(dir, a.folder):
			weight = smallFile + len(a.folder)
		case a.folder == "" && a.project == project && project != "" && (a.below == "" || below == a.below || strings.HasPrefix(below, a.below+"/")):
			weight = len(a.below)
		}
		if weight > best {
			best, name = weight, a.name
		}
	}
	return name
}
