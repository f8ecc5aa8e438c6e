package main

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// foreign counts files in folders that are no records of agents. Who imports a folder does not
// ask for every file in it.
type foreign struct {
	files  int
	names  map[string]int
	first  error // says what the first of them is
	others bool  // there were records beside them
}

func (f *foreign) add(file string, err error) {
	if f.files++; f.files == 1 {
		f.first = fmt.Errorf("%s: %w", file, err)
		f.names = make(map[string]int)
	}
	f.names[filepath.Base(file)]++
}

// toldNames is how many names of foreign files are told.
const toldNames = 5

// String tells the names that most of the files have.
func (f *foreign) String() string {
	names := slices.SortedFunc(maps.Keys(f.names), func(a, b string) int {
		return cmp.Or(cmp.Compare(f.names[b], f.names[a]), cmp.Compare(a, b))
	})
	var told []string
	for _, name := range names[:min(len(names), toldNames)] {
		if n := f.names[name]; n > 1 {
			name = fmt.Sprintf("%d x %s", n, name)
		}
		told = append(told, cut(oneLine(name), 60))
	}
	if more := len(names) - len(told); more > 0 {
		told = append(told, fmt.Sprintf("and %d more names", more))
	}
	return fmt.Sprintf("passed by, for no records of agents are in them: %s: %s", count(f.files, "file"), strings.Join(told, ", "))
}
