package redact

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/security.md has every kind of secret, and no other.
func TestSecurityPageHasEveryKind(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, f := range forms {
		known[string(f.kind)] = true
	}
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		for _, m := range regexp.MustCompile(`(?m)^\t\w+ +Kind = "([a-z0-9-]+)"`).FindAllStringSubmatch(read(path), -1) {
			known[m[1]] = true
		}
	}
	_, table, _ := strings.Cut(read("../../docs/security.md"), "\n| kind | what |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for row := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
			documented = append(documented, m[1])
		}
	}
	slices.Sort(documented)
	if kinds := slices.Sorted(maps.Keys(known)); len(kinds) < 40 || !slices.Equal(documented, kinds) {
		t.Errorf("docs/security.md has the kinds\n%q\nthere are\n%q", documented, kinds)
	}
}
