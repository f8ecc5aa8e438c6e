package replica_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// Answers that are cut, connections that are reset and a server that is away for a while
// leave nothing out, and nobody who waits gets an older state than was asked for.
func TestPullThroughFaults(t *testing.T) {
	s, link := newServer(t)
	path := filepath.Join(t.TempDir(), "replica.db")
	rounds := testkit.Effort(3, 8, 1000)
	var writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			var ids []episodic.ID
			for k := range rounds {
				e := &episodic.Episode{Description: fmt.Sprint("task ", i, k)}
				if err := s.StartEpisode(t.Context(), e); err != nil {
					t.Error(err)
					return
				}
				ids = append(ids, e.ID)
				if _, err := s.AppendSteps(t.Context(), ids[rand.IntN(len(ids))], episodic.Step{Action: "run"}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	var faults sync.WaitGroup
	faults.Go(func() {
		for {
			select {
			case <-stop:
				link.Refuse(false)
				return
			case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
			}
			switch rand.IntN(12) {
			case 0: // seldom: what is ordered while nothing is answered comes afterwards
				link.CutAnswer(rand.IntN(2))
			case 1, 2, 3:
				link.ResetAll()
			case 4, 5:
				link.Refuse(true)
			default:
				link.Refuse(false)
			}
		}
	})
	cfg := newLocal(t, s.engine, path)
	r, other := open(t, cfg), open(t, newLocal(t, s.engine, path))
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		default:
		}
		floor := time.Now()
		st, err := r.Await(t.Context(), floor)
		if err == nil && !st.AsOf.IsZero() && st.AsOf.Before(floor) {
			t.Errorf("asked for %v, got %v", floor, st.AsOf)
		}
		if err != nil {
			time.Sleep(5 * time.Millisecond)
		}
		other.Kick()
	}
	close(stop)
	faults.Wait()
	for {
		if _, err := r.Await(t.Context(), time.Now()); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	await(t, r)
	sameAs(t, s.engine, cfg.Local)
}
