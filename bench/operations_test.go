package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic"
)

func TestLoadEndsWhenAllIsUsedUp(t *testing.T) {
	tests := []struct {
		name    string
		stocked int
		calls   int
		window  time.Duration
	}{
		{"nothing", 0, 0, 0},
		{"in the middle", 6, 6, 3 * time.Second},
		{"not before the end", 100, 20, 10 * time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			s := &stock{ids: make([]episodic.ID, tt.stocked)}
			got := load(t.Context(), 10*time.Second, 2, func(context.Context, int) error {
				if _, err := s.take(); err != nil {
					return err
				}
				time.Sleep(time.Second)
				return nil
			})
			if len(got.latencies) != tt.calls || got.window != tt.window || len(got.errs) != 0 {
				t.Errorf("%s: %d calls in %v, want %d in %v; errors %v", tt.name, len(got.latencies), got.window, tt.calls, tt.window, got.errs)
			}
		})
	}
}

func TestEnough(t *testing.T) {
	for _, tt := range []struct {
		callers int
		rtt     time.Duration
		want    int
	}{{1, 0, 2001}, {32, 0, 2032}, {1, 100 * time.Millisecond, 21}, {32, 20 * time.Millisecond, 2032}} {
		if got := enough(2*time.Second, tt.callers, tt.rtt); got != tt.want {
			t.Errorf("%d callers at %v: %d, want %d", tt.callers, tt.rtt, got, tt.want)
		}
	}
}

// What the operations are said to add is what they do add, and a memory that has lost
// something is told from one that has not.
func TestOperationsAddWhatTheySay(t *testing.T) {
	b := &bench{report: &report{}, dir: t.TempDir(), corpus: newCorpus()}
	episodes := b.corpus.episodes(0, 100)
	b.short = true
	f, err := b.fill(t.Context(), place{}, episodes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	store, err := f.client.openUncached(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	u, err := newUser(t.Context(), store, b.corpus, f.known)
	if err != nil {
		t.Fatal(err)
	}
	for i := range operations {
		o := &operations[i]
		if err := u.prepare(t.Context(), o, 2); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := o.do(u, t.Context(), 0); err != nil {
				t.Fatalf("%s: %v", o.name, err)
			}
		}
		f.held.add(o.adds, 2)
		if o.uses != nil {
			if err := o.do(u, t.Context(), 0); !errors.Is(err, errUsedUp) {
				t.Errorf("%s of what is not there: %v", o.name, err)
			}
		}
	}
	f.held.add(u.prepared, 1)
	if err := f.check(t.Context()); err != nil {
		t.Error(err)
	}
	for _, lost := range []held{{Episodes: -1}, {Steps: -1}, {Running: -1}} {
		f.held.add(lost, 1)
		if f.check(t.Context()) == nil {
			t.Errorf("a memory that holds more than it should by %+v passes", lost)
		}
		f.held.add(lost, -1)
	}
}
