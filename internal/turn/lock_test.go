package turn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func newTestLock(t *testing.T, dir string) *Lock {
	t.Helper()
	l := NewLock(dir, "http://127.0.0.1:8080")
	// Holders are stopped for less long than programs are.
	for _, f := range l.files {
		f.pulse, f.patience = 20*time.Millisecond, 200*time.Millisecond
	}
	t.Cleanup(l.Close)
	return l
}

func acquire(t *testing.T, l *Lock) {
	t.Helper()
	if err := l.Acquire(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
}

func heldFile(l *Lock) string { return filepath.Ext(l.held.path) }

func TestOneHolderAtATime(t *testing.T) {
	dir := t.TempDir()
	var inside, most atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		l := newTestLock(t, dir)
		all.Go(func() {
			for range 200 {
				if err := l.Acquire(context.Background(), 1); err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				inside.Add(-1)
				l.Release()
			}
			if s := l.Stats(); s.Taken != 200 || s.Unlocked != 0 || s.Waited <= 0 {
				t.Errorf("stats are %+v", s)
			}
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d held the lock at once", most.Load())
	}
}

// Those who are content with three may hold it together with two others, never with more.
func TestSeveralHolders(t *testing.T) {
	dir := t.TempDir()
	var inside, most atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		l := newTestLock(t, dir)
		holders := MaxHolders
		if i == 0 {
			holders = 1
		}
		all.Go(func() {
			for range 100 {
				if err := l.Acquire(t.Context(), holders); err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(100 * time.Microsecond) // a write, so that they meet
				inside.Add(-1)
				l.Release()
			}
		})
	}
	all.Wait()
	if n := most.Load(); n < 2 || n > MaxHolders {
		t.Errorf("%d held the lock at once", n)
	}
}

// keep locks a file of l as a process does that is then stopped: it does not touch it.
func keep(t *testing.T, l *Lock, i int) (release func()) {
	t.Helper()
	f := flock.New(l.files[i].path)
	if got, err := f.TryLock(); !got || err != nil {
		t.Fatal(got, err)
	}
	return func() { _ = f.Unlock() } // closes the file
}

func TestStoppedHolderIsPassedOver(t *testing.T) {
	l := newTestLock(t, t.TempDir())
	acquire(t, l)
	l.Release()
	release := keep(t, l, 0)

	start := time.Now()
	acquire(t, l)
	if took := time.Since(start); heldFile(l) != ".lock2" || took < 200*time.Millisecond {
		t.Errorf("took %s after %v", heldFile(l), took)
	}
	l.Release()

	start = time.Now()
	acquire(t, l)
	if took := time.Since(start); heldFile(l) != ".lock2" || took > 100*time.Millisecond {
		t.Errorf("took %s after %v; it was known to be stopped", heldFile(l), took)
	}
	l.Release()

	// Its wait for the first file goes on; what it gets, and does not want, it gives back.
	release()
	other := newTestLock(t, filepath.Dir(l.files[0].path))
	acquire(t, other)
	if heldFile(other) != ".lock1" {
		t.Errorf("took %s after it was released", heldFile(other))
	}
	other.Release()
	acquire(t, l)
	if heldFile(l) != ".lock1" {
		t.Errorf("took %s after it was released", heldFile(l))
	}
}

func TestAllHoldersStopped(t *testing.T) {
	l := newTestLock(t, t.TempDir())
	for i := range l.files {
		defer keep(t, l, i)()
	}
	if err := l.Acquire(context.Background(), 1); err == nil || l.Stats().Unlocked != 1 {
		t.Errorf("acquired with %v, %+v", err, l.Stats())
	}
	l.Release()
}

func TestSlowHolderIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	holder, waiter := newTestLock(t, dir), newTestLock(t, dir)
	acquire(t, holder)
	released := make(chan struct{})
	defer func() { <-released }()
	time.AfterFunc(600*time.Millisecond, func() { // three times as long as a stopped one is waited for
		holder.Release()
		close(released)
	})
	start := time.Now()
	acquire(t, waiter)
	if took := time.Since(start); heldFile(waiter) != ".lock1" || took < 500*time.Millisecond {
		t.Errorf("took %s after %v", heldFile(waiter), took)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	holder, waiter := newTestLock(t, dir), newTestLock(t, dir)
	acquire(t, holder)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := waiter.Acquire(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	holder.Release()
	other := newTestLock(t, dir) // what waiter gets now it gives back
	acquire(t, other)
	other.Release()
	acquire(t, waiter)
}

func TestDeletedFile(t *testing.T) {
	dir := t.TempDir()
	first, second := newTestLock(t, dir), newTestLock(t, dir)
	acquire(t, first)
	if err := os.Remove(first.held.path); err != nil {
		t.Fatal(err)
	}
	acquire(t, second) // beside the first one, this once
	first.Release()
	got := make(chan error, 1)
	go func() { got <- first.Acquire(context.Background(), 1) }()
	select {
	case err := <-got:
		t.Fatalf("acquired beside another: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	second.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestUnusableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := newTestLock(t, file)
	if err := l.Acquire(context.Background(), 1); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("acquired with %v", err)
	}
	if n, err := l.Machine(); n <= 0 || err == nil || l.Stats().Unlocked != 1 || l.Flagged() {
		t.Errorf("machine %d, %v, %+v", n, err, l.Stats())
	}
	l.Flag()
	l.Release()
}

func TestMachine(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	numbers := make([]int64, 8)
	for i := range numbers {
		all.Go(func() {
			var err error
			if numbers[i], err = NewLock(dir, "a").Machine(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, n := range numbers {
		if n != numbers[0] || n <= 0 {
			t.Fatalf("processes of one machine are %v", numbers)
		}
	}
	if n, err := NewLock(t.TempDir(), "a").Machine(); n == numbers[0] || err != nil {
		t.Errorf("another machine is %d too, %v", n, err)
	}
	path := filepath.Join(dir, fileName("a")+".machine")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := NewLock(dir, "a").Machine(); n <= 0 || err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("damaged file: %d, %v", n, err)
	}
}

func TestRested(t *testing.T) {
	dir := t.TempDir()
	first, second := newTestLock(t, dir), newTestLock(t, dir)
	acquire(t, first)
	first.Release()
	acquire(t, second)
	second.Release()
	if !first.Rested || second.Rested {
		t.Errorf("rested: %v, %v; the first one made the file", first.Rested, second.Rested)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(first.files[0].path, old, old); err != nil {
		t.Fatal(err)
	}
	acquire(t, first)
	first.Release()
	acquire(t, second)
	if !first.Rested || second.Rested {
		t.Errorf("rested: %v, %v; the first one comes after two hours", first.Rested, second.Rested)
	}
}

func TestFlag(t *testing.T) {
	dir := t.TempDir()
	one, other := newTestLock(t, dir), newTestLock(t, dir)
	if other.Flagged() {
		t.Error("flagged by nobody")
	}
	one.Flag()
	if !other.Flagged() {
		t.Error("not flagged")
	}
	old := time.Now().Add(-flagAge)
	if err := os.Chtimes(one.flag(), old, old); err != nil {
		t.Fatal(err)
	}
	if other.Flagged() {
		t.Error("flagged by a process that is gone")
	}
	one.Flag()
	other.Unflag()
	if one.Flagged() {
		t.Error("flagged after Unflag")
	}
}
