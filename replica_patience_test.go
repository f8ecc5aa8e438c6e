package episodic

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/replica"
)

// A read waits for a pull for leastPatience, or four times what the last one took; one that
// nothing else can answer, as long as its caller does.
func TestPatience(t *testing.T) {
	t.Parallel()
	callers := 5 * time.Second
	for _, tt := range []struct {
		name                   string
		took                   time.Duration // of the last pull
		fresh, steps, unfilled bool
		want                   time.Duration
		late                   bool
	}{
		{name: "no pull yet", want: leastPatience, late: true},
		{name: "a fast one", took: 75 * time.Millisecond, want: leastPatience, late: true},
		{name: "a slow one", took: 76 * time.Millisecond, want: 304 * time.Millisecond, late: true},
		{name: "fresh", fresh: true, want: callers},
		{name: "steps", steps: true, want: leastPatience, late: true},
		{name: "steps, of nothing", steps: true, unfilled: true, want: callers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakePull{status: replica.Status{Took: tt.took}}
				f.await = func(ctx context.Context, _ time.Time) error {
					<-ctx.Done()
					return ctx.Err()
				}
				r := &localReplica{pull: f}
				ctx, cancel := context.WithTimeout(t.Context(), callers)
				defer cancel()
				begun := time.Now()
				late, err := r.await(ctx, freshness{begun, tt.fresh}, &reading{kind: readBest, steps: tt.steps}, &replicaView{unfilled: tt.unfilled})
				if took := time.Since(begun); took != tt.want || late != tt.late || Retryable(err) != tt.late || !tt.late && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("after %v: late %v, %v; want %v", took, late, err, tt.want)
				}
				if got := r.late(begun.Add(-1)); (got != nil) != tt.late {
					t.Errorf("the next read is told %v", got)
				}
				if got := r.late(begun); got != nil {
					t.Errorf("after a pull the next read is told %v", got)
				}
			})
		})
	}
}

// Writes and reads that the server has carried out tell the replica that it is there.
func TestAnswersAreTold(t *testing.T) {
	t.Parallel()
	f := &fakePull{}
	r := &localReplica{path: filepath.Join(t.TempDir(), "replica.db"), pull: f, mine: make(map[ID]time.Time)}
	for _, tt := range []struct {
		err  error
		told int
	}{{nil, 1}, {&engine.Error{Kind: engine.KindUnavailable}, 0}, {&engine.Error{Kind: engine.KindUnknownOutcome}, 0}, {ErrInvalid, 0}} {
		f.told = 0
		if r.noteWrite(tt.err, nil); f.told != tt.told {
			t.Errorf("a write with %v: told %d times", tt.err, f.told)
		}
	}
	f.told = 0
	server := answering{onFile(t).engine, r}
	_, err := server.Query(t.Context(), engine.Stmt{SQL: "SELECT 1"})
	if ok(t, err); f.told != 1 {
		t.Errorf("a read: told %d times", f.told)
	}
	if _, err := server.Query(t.Context(), engine.Stmt{SQL: "SELECT nothing"}); err == nil || f.told != 1 {
		t.Errorf("%v: told %d times", err, f.told)
	}
}
