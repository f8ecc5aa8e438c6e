package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTree: files are found wherever they appear below a folder, and whenever they change.
func TestTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "later", "sessions")
	now := time.Now()
	tr := newTree([]Folder{{Path: root}, {Path: filepath.Join(dir, "one.jsonl")}})
	check := func(want ...string) {
		t.Helper()
		now = now.Add(every)
		changed, _, problems := tr.look(now)
		var got []string
		for _, f := range changed {
			got = append(got, strings.TrimPrefix(filepath.ToSlash(f.path), filepath.ToSlash(dir)+"/"))
			f.seen = f.now
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || len(problems) > 0 {
			t.Errorf("changed %q, want %q; %v", got, want, problems)
		}
	}
	put := func(name, text string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
		ok(t, os.WriteFile(path, []byte(text), 0o600))
	}
	check()
	put("later/sessions/a.jsonl", "1")
	check("later/sessions/a.jsonl")
	check()
	put("later/sessions/p/q/b.json", "1")
	put("later/sessions/p/q/notes.txt", "1")
	put("one.jsonl", "1")
	check("later/sessions/p/q/b.json", "one.jsonl")
	put("later/sessions/a.jsonl", "12")
	check("later/sessions/a.jsonl")
	put("later/sessions/p/q/c.jsonl", "1")
	check("later/sessions/p/q/c.jsonl")
	ok(t, os.RemoveAll(filepath.Join(root, "p")))
	check()
	put("later/sessions/p/q/c.jsonl", "again")
	check("later/sessions/p/q/c.jsonl")
	if len(tr.files) != 3 {
		t.Errorf("%d files", len(tr.files))
	}
}

// TestManyOld: of many files that have rested for long all are looked at within two seconds,
// if they are not more than a thousand.
func TestManyOld(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	old := now.Add(-48 * time.Hour)
	var paths []string
	for i := range 1000 {
		path := filepath.Join(dir, fmt.Sprint("p", i%40), fmt.Sprint(i, ".jsonl"))
		ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
		ok(t, os.WriteFile(path, nil, 0o600))
		ok(t, os.Chtimes(path, old, old))
		paths = append(paths, path)
	}
	tr := newTree([]Folder{{Path: dir}})
	changed, _, _ := tr.look(now)
	if len(changed) != len(paths) {
		t.Fatalf("%d files", len(changed))
	}
	for _, f := range changed {
		f.seen = f.now
	}
	for _, path := range []string{paths[0], paths[500], paths[999]} {
		ok(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	found := 0
	for range int(2 * time.Second / every) {
		now = now.Add(every)
		changed, _, _ := tr.look(now)
		for _, f := range changed {
			f.seen = f.now
		}
		found += len(changed)
	}
	if found != 3 {
		t.Errorf("%d of 3 were found", found)
	}
}

func TestDatabasesAreNotFollowed(t *testing.T) {
	for _, tt := range []struct {
		format, path string
		want         bool
	}{
		{"cursor", "/h/.config/Cursor/User/globalStorage/state.vscdb", false},
		{"cursor", "/h/.cursor/projects/p/agent-transcripts/a.jsonl", true},
		{"opencode", "/h/.local/share/opencode/opencode.db", false},
		{"", "/h/opencode.db", false},
		{"", "/h/a.jsonl", true},
	} {
		if got := wanted(&Folder{Format: tt.format}, tt.path); got != tt.want {
			t.Errorf("%s: %v", tt.path, got)
		}
	}
}
