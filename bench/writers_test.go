package main

import (
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/bench/agent"
)

func TestOverlaps(t *testing.T) {
	const ms = time.Millisecond
	five := []turn{{1, 10, 12}, {2, 11, 14}, {3, 12, 13}, {4, 12, 12}, {1, 12, 13}}
	stall := turn{9, 0, 41}
	tests := []struct {
		name       string
		turns      []turn
		all, quiet overlap
	}{
		{"none", nil, overlap{}, overlap{}},
		{"one of no length", []turn{{1, 5, 5}}, overlap{1, 0}, overlap{1, 0}},
		{"one after the other", []turn{{1, 5, 6}, {2, 7, 8}}, overlap{1, 0}, overlap{1, 0}},
		{"within the same millisecond", []turn{{1, 5, 6}, {2, 6, 8}}, overlap{2, 0}, overlap{2, 0}},
		{"twice the same machine", []turn{{1, 5, 9}, {1, 6, 8}}, overlap{1, 0}, overlap{1, 0}},
		{"four at once", five, overlap{4, ms / 2}, overlap{4, ms / 2}},
		{"in a stall", append(five, stall), overlap{5, 3 * ms / 2}, overlap{}},
		{"before a stall", append(five, turn{9, 13, 60}), overlap{4, ms}, overlap{4, ms / 2}},
	}
	for _, tt := range tests {
		if all, quiet := overlaps(tt.turns); all != tt.all || quiet != tt.quiet {
			t.Errorf("%s: %v, without stalls %v; want %v and %v", tt.name, all, quiet, tt.all, tt.quiet)
		}
	}
}

func TestReadBack(t *testing.T) {
	id := episodic.NewID()
	told := func(events ...agent.Event) []agent.Event {
		for i := range events {
			events[i].Episode = id
		}
		return events
	}
	start, step := agent.Event{Kind: agent.Started}, agent.Event{Kind: agent.Appended}
	failed := agent.Event{Kind: agent.Appended, Error: "no"}
	unknown := agent.Event{Kind: agent.Appended, Error: "no answer", Unknown: true}
	unknownStart := agent.Event{Kind: agent.Started, Error: "no answer", Unknown: true}
	failedStart := agent.Event{Kind: agent.Started, Error: "no"}
	tests := []struct {
		name    string
		told    []agent.Event
		killed  bool
		stored  []int // numbers of the steps
		lost    int
		doubled int
		unacked int
	}{
		{"all is there", told(start, step, step), false, []int{0, 1}, 0, 0, 0},
		{"a step is lost", told(start, step, step), false, []int{0}, 1, 0, 0},
		{"a step is there twice", told(start, step, step), false, []int{0, 1, 1}, 0, 1, 0},
		{"in another order", told(start, step, step), false, []int{1, 0}, 0, 1, 0},
		{"a failed step is there", told(start, step, failed), false, []int{0, 1}, 0, 1, 0},
		{"a step of unknown outcome is there", told(start, step, unknown), false, []int{0, 1}, 0, 0, 1},
		{"a step of unknown outcome is not there", told(start, step, unknown), false, []int{0}, 0, 0, 0},
		{"a step of unknown outcome is there twice", told(start, step, unknown), false, []int{0, 1, 2}, 0, 1, 1},
		{"an episode of unknown outcome is there", told(unknownStart), false, nil, 0, 0, 1},
		{"an episode that failed is there", told(failedStart), false, nil, 0, 1, 0},
		{"killed amid a step", told(start, step), true, []int{0, 1}, 0, 0, 1},
	}
	for _, tt := range tests {
		w := &writing{told: tt.told, killed: tt.killed}
		e := &episodic.Episode{ID: id}
		for _, n := range tt.stored {
			e.Steps = append(e.Steps, agent.NewStep(0, 0, n))
		}
		r := &crowdResult{}
		for _, x := range w.written() {
			r.compare(x, e)
		}
		if r.lost != tt.lost || r.doubled != tt.doubled || r.unknownStored != tt.unacked {
			t.Errorf("%s: %d lost, %d doubled, %d stored without acknowledgement; want %d, %d and %d",
				tt.name, r.lost, r.doubled, r.unknownStored, tt.lost, tt.doubled, tt.unacked)
		}
	}
}

func TestSilence(t *testing.T) {
	begin := time.Now()
	at := func(seconds ...int) (list []time.Time) {
		for _, s := range seconds {
			list = append(list, begin.Add(time.Duration(s)*time.Second))
		}
		return list
	}
	tests := []struct {
		ends []time.Time
		want time.Duration
	}{
		{nil, 10 * time.Second},
		{at(6, 2, 3), 4 * time.Second},
		{at(1, 8), 7 * time.Second},
		{at(1, 15), 9 * time.Second},
	}
	for _, tt := range tests {
		if got := silence(tt.ends, begin, begin.Add(10*time.Second)); got != tt.want {
			t.Errorf("silence(%v) = %v, want %v", tt.ends, got, tt.want)
		}
	}
}
