package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// mostHookLog bounds the log of hooks, in bytes: when it is full its older half goes.
const mostHookLog = 256 << 10

func (a *app) hookLog() string { return filepath.Join(a.hookDir(), "hook.log") }

// logHook notes what went wrong in a hook, which nobody would see otherwise. What keeps it from
// that there is no place to tell.
func (a *app) logHook(err error) {
	line := fmt.Sprintf("%s %s\n", time.Now().UTC().Format(time.RFC3339), short(err.Error()))
	path := a.hookLog()
	if os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	if info, err := os.Stat(path); err == nil && info.Size() > mostHookLog {
		if b, err := os.ReadFile(path); err == nil {
			b = b[len(b)/2:]
			b = b[bytes.IndexByte(b, '\n')+1:]
			_ = os.WriteFile(path, b, 0o600)
		}
	}
	f, openErr := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if openErr != nil {
		return
	}
	_, _ = f.WriteString(line)
	_ = f.Close()
}

// hookLogger is where a hook complains: what it says on stderr some clients show.
type hookLogger struct{ *app }

// Write implements io.Writer.
func (l hookLogger) Write(p []byte) (int, error) {
	l.logHook(errors.New(strings.TrimSpace(string(p))))
	return len(p), nil
}
