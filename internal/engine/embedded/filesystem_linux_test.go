package embedded

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// The file system of this test is taken for a network's.
func TestNetworkFileSystem(t *testing.T) {
	dir := t.TempDir()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	networked[uint32(s.Type)] = "a net"
	t.Cleanup(func() { delete(networked, uint32(s.Type)) })
	path := filepath.Join(dir, "m.db")
	_, err := Open(t.Context(), Config{Path: path})
	if refused, ok := errors.AsType[*NetworkError](err); !ok || refused.FileSystem != "a net" {
		t.Errorf("%v", err)
	}
	e, err := Open(t.Context(), Config{Path: path, NetworkFile: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
