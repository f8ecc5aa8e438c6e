package embedded

import (
	"context"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/turn"
)

// turns is when this engine may write: SQLite has no queue for those who wait for its
// lock, so that a process that has just written would get it again and again. It
// implements engine.Turn.
type turns struct {
	lock  *turn.Lock
	since time.Time // when it was acquired
}

// maxTurn bounds a turn while others wait.
const maxTurn = 10 * time.Millisecond

// newTurns takes the real path of a file, which names it to all processes in the same way.
func newTurns(lockDir, real string) *turns { return &turns{lock: turn.NewLock(lockDir, real)} }

// Stats may be called at any time.
func (t *turns) Stats() engine.TurnStats {
	s := t.lock.Stats()
	return engine.TurnStats{Taken: s.Taken, Waited: s.Waited, Unlocked: s.Unlocked}
}

// Keep implements engine.Turn. Who writes several times in a row has the pages that the
// next write needs.
func (t *turns) Keep() bool { return t.lock.Contended() && time.Since(t.since) < maxTurn }

// Acquire implements engine.Turn. Without the lock writers are still right, only unfair.
func (t *turns) Acquire() {
	_ = t.lock.Acquire(context.Background(), 1)
	t.since = time.Now()
}

// Release implements engine.Turn.
func (t *turns) Release() { t.lock.Release() }

// Close implements engine.Turn.
func (t *turns) Close() { t.lock.Close() }
