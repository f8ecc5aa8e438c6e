package payload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

func TestMain(m *testing.M) {
	if crashTrainer() {
		return
	}
	goleak.VerifyTestMain(m)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stmt(sql string, args ...any) engine.Stmt { return engine.Stmt{SQL: sql, Args: args} }

// memory is a Codec with its database.
type memory struct {
	*Codec
	engine engine.Engine
}

func openMemory(ctx context.Context, path string, o Options) (*memory, error) {
	e, err := embedded.Open(ctx, embedded.Config{Path: path})
	if err != nil {
		return nil, err
	}
	if err := schema.Migrate(ctx, e, true); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &memory{New(e, true, o), e}, nil
}

func (m *memory) close() error {
	m.Close()
	return m.engine.Close()
}

func open(t testing.TB, path string, o Options) *memory {
	t.Helper()
	m, err := openMemory(t.Context(), path, o)
	ok(t, err)
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func onFile(t testing.TB) *memory { return open(t, filepath.Join(t.TempDir(), "m.db"), Options{}) }

func (m *memory) exec(t testing.TB, sql string, args ...any) int64 {
	t.Helper()
	r, err := m.engine.Batch(t.Context(), stmt(sql, args...))
	ok(t, err)
	return r[0].Affected
}

// number runs a SELECT that gives one integer.
func (m *memory) number(t testing.TB, sql string, args ...any) int64 {
	t.Helper()
	r, err := m.engine.Query(t.Context(), stmt(sql, args...))
	ok(t, err)
	return r[0].Rows[0][0].(int64)
}

// head and step are what tests store of an episode.
type head struct {
	Description string `json:"description"`
	Verdict     string `json:"verdict"`
}

type step struct {
	Tool, Action, Parameters, Result string
}

// task makes episodes of different tasks that have text in common.
func task(i int) (h head, steps []step) {
	r := rand.New(rand.NewPCG(1, uint64(i)))
	h = head{
		Description: fmt.Sprintf("task %d: find reservation %x of %x", i, r.Uint64(), r.Uint64()),
		Verdict:     "the passenger was told about the fee for changes",
	}
	for n := range 5 {
		steps = append(steps, step{
			Tool: "search_direct_flight", Action: "look for a flight that the customer has not seen yet",
			Parameters: fmt.Sprintf(`{"origin":"JFK","destination":"SEA","date":"2024-05-%d","cabin":"basic_economy"}`, 10+n),
			Result: fmt.Sprintf(`{"flight_number":"HAT%03d","scheduled_departure_time_est":"%02d:00:00","status":"available","available_seats":{"basic_economy":%d,"economy":%d,"business":%d},"prices":{"basic_economy":%d}}`,
				r.IntN(1000), r.IntN(24), r.IntN(20), r.IntN(20), r.IntN(20), r.IntN(300)),
		})
	}
	return h, steps
}

// put stores an episode with its steps under the number seq, or under the next
// one if that is 0.
func (m *memory) put(ctx context.Context, h head, steps []step) (seq int64, err error) {
	defer m.Maintain()
	m.Ready(ctx)
	payload, err := m.Encode(Episodes, 0, h)
	if err != nil {
		return 0, err
	}
	run, err := m.Encode(Episodes, 0, steps)
	if err != nil {
		return 0, err
	}
	r, err := m.engine.Batch(ctx,
		stmt("INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(randomblob(16), '', '', '', '', 0, ?, 0, ?) RETURNING seq", int64(len(steps)), payload),
		stmt("INSERT INTO runs(place, count, payload) SELECT (max(seq) << 24) + 1, ?, ? FROM episodes", int64(len(steps)), run))
	if err != nil {
		return 0, err
	}
	return r[0].Rows[0][0].(int64), nil
}

func (m *memory) putTasks(t testing.TB, from, to int) (seqs []int64) {
	t.Helper()
	for i := from; i < to; i++ {
		h, steps := task(i)
		seq, err := m.put(t.Context(), h, steps)
		ok(t, err)
		seqs = append(seqs, seq)
	}
	return seqs
}

// read reads an episode put by put.
func (m *memory) read(ctx context.Context, seq int64) (h head, steps []step, err error) {
	r, err := m.engine.Query(ctx, stmt("SELECT episodes.payload, runs.payload FROM episodes JOIN runs ON episode = seq WHERE seq = ?", seq))
	if err != nil {
		return h, nil, err
	}
	if len(r[0].Rows) != 1 {
		return h, nil, fmt.Errorf("episode %d is not there", seq)
	}
	return h, steps, errors.Join(m.Decode(ctx, r[0].Rows[0][0], 0, &h), m.Decode(ctx, r[0].Rows[0][1], 0, &steps))
}

// readable fails if an episode is not what task made of its number.
func (m *memory) readable(t testing.TB, tasks map[int64]int) {
	t.Helper()
	for seq, i := range tasks {
		h, steps, err := m.read(t.Context(), seq)
		ok(t, err)
		if want, wantSteps := task(i); h != want || len(steps) != 5 || steps[4] != wantSteps[4] {
			t.Fatalf("episode %d reads %+v %+v", seq, h, steps)
		}
	}
}
