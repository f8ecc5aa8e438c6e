package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Claim keeps a file for who is about to read it without SQLite, or to put another in its
// place, until what it returns is closed, or the file is opened and closed otherwise: who
// opens it as a database meanwhile finds it locked. Of a file that may
// only be read, and on Windows, it only sees whether it is open. Errors: KindBusy if a
// connection has it open, of this process or another one; fs.ErrNotExist.
func Claim(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	inProcess.Lock()
	ours := slices.ContainsFunc(inProcess.engines, func(e *Engine) bool { return os.SameFile(e.place.noted(), info) })
	inProcess.Unlock()
	if ours {
		return nil, &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.New("this program has the file open; close it first")}
	}
	return claim(path)
}

// FileSystem names the network file system that a file lies on; empty: none that is known.
func FileSystem(path string) string { return networkOf(filepath.Dir(realPath(path))) }
