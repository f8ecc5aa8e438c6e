package testkit

import (
	"bytes"
	"log/slog"
	"sync"
)

// Log collects the records of a logger as text.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Logger returns a logger of all levels whose records the Log collects.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write adds to what is collected.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Take returns what was collected since the last time.
func (l *Log) Take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}
