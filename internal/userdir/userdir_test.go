package userdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFolderIsPrivate(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	dir, err := Make()
	if err != nil || filepath.Dir(dir) != temp {
		t.Fatalf("dir %q, %v", dir, err)
	}
	if again, err := Make(); again != dir || err != nil {
		t.Errorf("dir %q, %v", again, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder that others can read: %v", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(temp, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(); err == nil || !strings.Contains(err.Error(), "no folder") {
		t.Errorf("a link that another may have made: %v", err)
	}
}
