//go:build !linux

package remote

import (
	"syscall"
	"time"
)

// setUserTimeout does nothing: a connection that died silently is noticed by the timeout
// of the request, or by a ping.
func setUserTimeout(syscall.RawConn, time.Duration) error { return nil }
