//go:build !unix

package remote

import "syscall"

// hungUp is not known here; the connection notices by itself a moment later.
func hungUp(syscall.RawConn) bool { return false }
