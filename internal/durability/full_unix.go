//go:build unix

package durability

import (
	"os"
	"os/signal"
	"syscall"
)

// canFill says that fillUp works on this system.
const canFill = true

// fillUp lets no file of this process grow beyond the smallest of some files that is not empty, so that
// what is written to them fails as on a full disk.
func fillUp(files []string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	size := int64(0)
	for _, name := range files {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 && (size == 0 || info.Size() < size) {
			size = info.Size()
		}
	}
	limit.Cur = min(uint64(size), limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

// makeRoom takes back what fillUp has done.
func makeRoom() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}
