package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// server is a commit function that takes its time and keeps what it was given.
type server struct {
	groups [][]string // the SQL of the units of each group
	took   time.Duration
	err    error
}

func (s *server) commit(units []*Unit) {
	var group []string
	for _, u := range units {
		group = append(group, u.Stmts[0].SQL)
	}
	s.groups = append(s.groups, group)
	time.Sleep(s.took)
	for _, u := range units {
		u.Err = s.err
		if s.err == nil {
			u.Results = []Result{{Affected: 1}}
		}
	}
}

// noTurn lets its lane commit at any time.
type noTurn struct{}

func (noTurn) Acquire()   {}
func (noTurn) Keep() bool { return false }
func (noTurn) Release()   {}
func (noTurn) Close()     {}

func batch(sql string) []Stmt { return []Stmt{{SQL: sql}} }

// do calls Lane.Do in a goroutine and reports how it ended.
func do(ctx context.Context, l *Lane, sql string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := l.Do(ctx, batch(sql), false)
		ended <- err
	}()
	synctest.Wait() // so that calls arrive in order
	return ended
}

func TestIdleLaneSendsAtOnceAndBusyLaneGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{took: time.Second}
		l := NewLane(s.commit, noTurn{})
		start := time.Now()
		first := do(t.Context(), l, "0")
		var rest []<-chan error
		for i := range 5 {
			rest = append(rest, do(t.Context(), l, fmt.Sprint(i+1)))
		}
		if err := <-first; err != nil || time.Since(start) != time.Second {
			t.Errorf("the first call took %v, %v", time.Since(start), err)
		}
		for _, r := range rest {
			if err := <-r; err != nil || time.Since(start) != 2*time.Second+maxGather {
				t.Errorf("a later call ended after %v, %v", time.Since(start), err)
			}
		}
		l.Close()
		if got := fmt.Sprint(s.groups); got != "[[0] [1 2 3 4 5]]" {
			t.Errorf("groups %s", got)
		}
		if l.queue != nil {
			t.Error("an idle lane keeps its last units alive")
		}
	})
}

func TestGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{took: time.Second}
		l := NewLane(s.commit, noTurn{})
		large := strings.Repeat("x", maxGroupBytes/2)
		calls := []<-chan error{do(t.Context(), l, "first")}
		for range maxGroupUnits + 1 {
			calls = append(calls, do(t.Context(), l, "small"))
		}
		for range 3 {
			calls = append(calls, do(t.Context(), l, large))
		}
		calls = append(calls, do(t.Context(), l, large+large+large), do(t.Context(), l, "last"))
		for _, c := range calls {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		l.Close()
		var sizes []int
		for _, g := range s.groups {
			sizes = append(sizes, len(g))
		}
		// The large ones: the small one left over and one; two; one over the bound, alone; the last.
		if got := fmt.Sprint(sizes); got != fmt.Sprint([]int{1, maxGroupUnits, 2, 2, 1, 1}) {
			t.Errorf("group sizes %s", got)
		}
	})
}

func TestCancelledBeforeItsGroupIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{took: time.Second}
		l := NewLane(s.commit, noTurn{})
		ctx, cancel := context.WithCancel(t.Context())
		first := do(t.Context(), l, "first")
		second, third, fourth := do(t.Context(), l, "second"), do(ctx, l, "third"), do(t.Context(), l, "fourth")
		cancel()
		if err := <-third; !errors.Is(err, context.Canceled) || KindOf(err) == KindUnknownOutcome {
			t.Errorf("error %v", err)
		}
		for _, c := range []<-chan error{first, second, fourth} {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		if _, err := l.Do(ctx, batch("fifth"), false); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		l.Close()
		if got := fmt.Sprint(s.groups); got != "[[first] [second fourth]]" {
			t.Errorf("groups %s", got)
		}
	})
}

func TestCancelledUnderWayHasAnUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{took: time.Second}
		l := NewLane(s.commit, noTurn{})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := <-do(ctx, l, "x")
		if KindOf(err) != KindUnknownOutcome || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 300*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if err := <-do(t.Context(), l, "y"); err != nil {
			t.Errorf("the next call: %v", err)
		}
		l.Close()
	})
}

func TestCloseSettlesWhatWasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{took: time.Second, err: errors.New("disk full")}
		l := NewLane(s.commit, noTurn{})
		a, b := do(t.Context(), l, "a"), do(t.Context(), l, "b")
		start := time.Now()
		l.Close()
		if time.Since(start) != 2*time.Second {
			t.Errorf("Close took %v", time.Since(start))
		}
		for _, c := range []<-chan error{a, b} {
			if err := <-c; !errors.Is(err, s.err) {
				t.Errorf("error %v", err)
			}
		}
		if _, err := l.Do(t.Context(), batch("c"), false); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		l.Close()
	})
}

func TestBisect(t *testing.T) {
	var group []*Unit
	for i := range 6 {
		group = append(group, &Unit{size: i})
	}
	for _, tt := range []struct {
		n, bad int
		want   string
	}{{1, 0, "[[0]]"}, {2, 0, "[[1] [0]]"}, {2, 1, "[[0] [1]]"}, {6, 2, "[[0 1] [3 4 5] [2]]"}} {
		var got [][]int
		for _, part := range Bisect(group[:tt.n], tt.bad) {
			var sizes []int
			for _, u := range part {
				sizes = append(sizes, u.size)
			}
			got = append(got, sizes)
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%d without %d: %v, want %s", tt.n, tt.bad, got, tt.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("UNIQUE constraint failed: a.k")
	err := fmt.Errorf("put: %w", &Error{Kind: KindUnique, Stmt: 2, Err: cause})
	if err.Error() != "put: statement 2: UNIQUE constraint failed: a.k" || KindOf(err) != KindUnique || !errors.Is(err, cause) {
		t.Error(err)
	}
	if KindOf(errors.New("x")) != KindOther || KindOf(nil) != KindOther {
		t.Error("a kind was made up")
	}
	if got := (&Error{Stmt: -1, Err: cause}).Error(); got != cause.Error() {
		t.Error(got)
	}
}

// callers call the lane over and over, each after a pause, and tell how long the
// calls took. They begin one after the other: who is first must not be a matter of luck.
func callers(t *testing.T, l *Lane, n, times int, pause time.Duration) (took []time.Duration) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			time.Sleep(time.Duration(i) * time.Microsecond)
			for range times {
				begin := time.Now()
				if _, err := l.Do(t.Context(), batch("x"), false); err != nil {
					t.Error(err)
				}
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
	return took
}

func TestLaneGathersWhoWasJustAnswered(t *testing.T) {
	const commit = 20 * time.Millisecond
	for _, tt := range []struct {
		name     string
		commit   time.Duration
		callers  int
		pause    time.Duration
		together bool          // all go together from the third group on
		slowest  time.Duration // of the calls of one alone
	}{
		{"one", commit, 1, time.Millisecond, true, commit},
		{"two", commit, 2, time.Millisecond, true, 0},
		{"eight", commit, 8, time.Millisecond, true, 0},
		{"two who think longer", commit, 2, 30 * time.Millisecond, false, 0},
		{"a fast server", minCommit - 1, 2, time.Millisecond, false, 0},
		{"a slow server", time.Second, 2, maxGather + 1, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{took: tt.commit}
				l := NewLane(s.commit, noTurn{})
				defer l.Close()
				took := callers(t, l, tt.callers, 10, tt.pause)
				for i, group := range s.groups[2:] {
					if tt.together != (len(group) == tt.callers) && i < len(s.groups)-4 {
						t.Errorf("group %d has %d units", i+2, len(group))
					}
				}
				if tt.slowest > 0 && slices.Max(took) > tt.slowest {
					t.Errorf("a call took %v", slices.Max(took))
				}
			})
		})
	}
}

// Whoever is left alone waits once, and for a part of a commit only.
func TestLaneWaitsOnceForWhoIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const commit = 20 * time.Millisecond
		s := &server{took: commit}
		l := NewLane(s.commit, noTurn{})
		defer l.Close()
		callers(t, l, 4, 3, 0)
		took := callers(t, l, 1, 3, 0)
		if want := []time.Duration{commit + commit/gatherShare, commit, commit}; !slices.Equal(took, want) {
			t.Errorf("the calls took %v, want %v", took, want)
		}
	})
}
