package wholefile_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/wholefile"
)

var writers = map[string]func(string, []byte, fs.FileMode) error{
	"Replace":       wholefile.Replace,
	"ReplaceSynced": wholefile.ReplaceSynced,
}

func TestReplace(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			for _, next := range []struct {
				content string
				mode    fs.FileMode
			}{{"first", 0o600}, {"", 0o644}, {"the third, which is longer", 0o600}} {
				if err := write(path, []byte(next.content), next.mode); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				info, statErr := os.Stat(path)
				if err != nil || statErr != nil || string(got) != next.content || info.Mode().Perm() != next.mode {
					t.Errorf("%q with %v, not %q with %v; %v, %v", got, info.Mode(), next.content, next.mode, err, statErr)
				}
			}
			only(t, filepath.Dir(path), "file")
		})
	}
}

// A write that fails leaves what was there, and nothing else.
func TestReplaceFails(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			taken := filepath.Join(dir, "folder")
			if err := os.MkdirAll(filepath.Join(taken, "full"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := write(taken, []byte("new"), 0o600); err == nil {
				t.Error("a folder was replaced")
			}
			if err := write(filepath.Join(dir, "absent", "file"), []byte("new"), 0o600); err == nil {
				t.Error("a folder was made")
			}
			only(t, dir, "folder")
		})
	}
}

// Those who read while others write see one content or the other.
func TestReplaceAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	contents := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
	if err := wholefile.Replace(path, contents[0], 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, c := range contents {
		wg.Go(func() {
			for range 100 {
				if err := wholefile.Replace(path, c, 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
			t.Errorf("read %d bytes: %v", len(got), err)
		}
	}
	wg.Wait()
	only(t, filepath.Dir(path), "file")
}

// only fails if a folder holds anything else.
func only(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the folder holds %v: %v", entries, err)
	}
}
