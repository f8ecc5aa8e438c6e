package payload

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

const trainEnv = "EPISODIC_CRASH_TRAINER"

// crashTrainer writes, trains, adopts and compacts over and over until it is
// killed. It reports false in an ordinary test run.
func crashTrainer() bool {
	path := os.Getenv(trainEnv)
	if path == "" {
		return false
	}
	ctx := context.Background()
	m, err := openMemory(ctx, path, Options{})
	for i := 0; err == nil; i++ {
		var seq int64
		h, steps := task(i % 1000)
		if seq, err = m.put(ctx, h, steps); err != nil {
			break
		}
		fmt.Println(seq, i%1000)
		if i%10 != 9 {
			continue
		}
		// What is in use is tainted, so that the next one need not be better.
		if _, err = m.engine.Batch(ctx, stmt("UPDATE removals SET n = n + 1"), stmt("UPDATE trainings SET items = 0")); err != nil {
			break
		}
		if _, err = m.Train(ctx); err == nil && i%20 == 19 {
			_, err = m.Compact(ctx, nil)
		}
	}
	fmt.Println("error", err)
	return true
}

// killed runs crashTrainer in a process of its own, which is killed some time, up
// to within, after so many lines. tasks gets what it acknowledged.
func killed(t *testing.T, path string, lines int, within time.Duration, tasks map[int64]int) {
	t.Helper()
	testkit.Killed(t, trainEnv+"="+path, lines, within, func(line string) {
		var seq int64
		var number int
		if _, err := fmt.Sscan(line, &seq, &number); err != nil {
			t.Fatalf("the program says %q", line)
		}
		tasks[seq] = number
	})
}

func TestKilledTrainerLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	tasks := make(map[int64]int)
	for i, seq := range open(t, path, Options{}).putTasks(t, 0, 25) {
		tasks[seq] = i
	}
	used := make(map[uint32]bool)
	check := func() {
		m, err := openMemory(t.Context(), path, Options{})
		ok(t, err)
		m.readable(t, tasks)
		m.Ready(t.Context())
		m.putTasks(t, 0, 1)
		used[m.Stats().Kinds[Episodes].Dictionary] = true
		ok(t, m.close())
	}
	kills := testkit.Effort(3, 8, 50) // the race detector makes training ten times as slow
	for kill := range kills {
		// It trains after every tenth episode, and compacts after every twentieth.
		// It is killed while it does, or while it writes with what came of it.
		killed(t, path, 9+kill%13, 60*time.Millisecond, tasks)
		if kill%5 == 4 {
			check()
		}
	}
	check()
	trained := open(t, path, Options{}).number(t, "SELECT count(*) FROM trainings")
	t.Logf("%d episodes, %d dictionaries trained, %d seen in use", len(tasks), trained, len(used))
	if trained < 2 {
		t.Errorf("only %d dictionaries were trained", trained)
	}
}
