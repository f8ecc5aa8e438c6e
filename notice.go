package episodic

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/userdir"
)

// Notices are what Open did or found that the user of the memory should know, a sentence each:
// that the file was upgraded, and where a copy of it from before is; that its end is missing; that
// others can read it, which is told once. Options.Logger is told them too.
func (s *Store) Notices() []string { return s.notices }

func (s *Store) notice(log *slog.Logger, texts ...string) {
	for _, text := range texts {
		if text == "" {
			continue
		}
		s.notices = append(s.notices, text)
		if log != nil {
			log.Warn(text)
		}
	}
}

// cutOff says that the end of a file is missing; empty: it is not.
func cutOff(e engine.Engine, t target) string {
	if file, ok := e.(*embedded.Engine); ok && file.Cut() != nil {
		return fmt.Sprintf("%s: %v; the others are read, and nothing is written: episodic doctor %[1]s --into NEW saves what they hold", t.absolute(), file.Cut())
	}
	return ""
}

// readByOthers says that other users can read a file, and how to end that. It does so once for each
// file and mode, until the machine is started anew.
func readByOthers(path string) string {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o044 == 0 {
		return ""
	}
	if dir, err := userdir.Make(); err == nil {
		sum := sha256.Sum256(fmt.Append(nil, path, info.Mode()))
		told, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("told-%x", sum[:8])), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return ""
		}
		_ = told.Close()
	}
	names := path
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); err == nil {
			names += " " + path + suffix
		}
	}
	return fmt.Sprintf("other users of this machine can read %s (mode %#o); chmod 600 %s ends that", path, info.Mode().Perm(), names)
}
