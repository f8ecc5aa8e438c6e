//go:build !unix

package live

import (
	"errors"
	"syscall"
)

// isRefused asks for WSAECONNREFUSED, which syscall.ECONNREFUSED is not.
func isRefused(err error) bool { return errors.Is(err, syscall.Errno(10061)) }
