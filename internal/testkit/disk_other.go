//go:build !linux

package testkit

import "testing"

// SmallDisk skips the test: file systems of a chosen size are mounted on Linux only.
func SmallDisk(t *testing.T, _ string) string {
	t.Helper()
	t.Skip("no file system can be mounted here")
	return ""
}

// ForbidWriting is for what SmallDisk has returned.
func ForbidWriting(*testing.T, string) {}

// FillUp is for what SmallDisk has returned.
func FillUp(*testing.T, string, int64) {}
