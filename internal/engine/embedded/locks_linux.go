package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lock is one line of /proc/locks.
type lock struct {
	pid   int // 0 or less: of another namespace
	write bool
	first int64 // byte
}

// locks returns the locks on a file that processes of this machine hold, those of this
// process included. It opens nothing: to close a file ends the locks of its process.
func locks(path string) ([]lock, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	// The device is not compared: some file systems show another number there.
	inode := ":" + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	f, err := os.Open("/proc/locks")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []lock
	in := bufio.NewScanner(f)
	for in.Scan() {
		// 1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 120 120; "1: ->" is one who waits
		l := strings.Fields(in.Text())
		if len(l) != 8 || !strings.HasSuffix(l[5], inode) {
			continue
		}
		pid, _ := strconv.Atoi(l[4])
		first, _ := strconv.ParseInt(l[6], 10, 64)
		list = append(list, lock{pid, l[3] == "WRITE", first})
	}
	return list, in.Err()
}

// inUse reports whether a process has a file open as a database, or may have.
func inUse(path string) bool {
	list, err := locks(path)
	return !errors.Is(err, fs.ErrNotExist) && (err != nil || len(list) > 0)
}

// writeLockByte is where the index of a log is locked by who writes: WAL_WRITE_LOCK in
// SQLite's wal.c.
const writeLockByte = 120

// holder names the process that holds the write lock of a file in WAL mode, or is empty.
func holder(path string) string {
	list, _ := locks(path + indexSuffix)
	for _, l := range list {
		if !l.write || l.first != writeLockByte || l.pid <= 0 {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", l.pid))
		if err != nil {
			return fmt.Sprintf("process %d", l.pid)
		}
		return fmt.Sprintf("process %d (%s)", l.pid, strings.TrimSpace(string(name)))
	}
	return ""
}
