package capture

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/episodic-memory/episodic"
)

// run is what is known of a run's episode.
type run struct {
	stored  *episodic.Episode // as it was stored from here; nil: not known
	running bool              // stored as such
	stale   bool              // the memory has less than was read
	dead    bool              // it was deleted, or is refused: growth makes no difference
	at      time.Time         // when all of it was stored
	cost    time.Duration     // that took, with reading it
	counted bool              // among the sessions of Stats
}

// What is to be done with a run.
type todo uint8

const (
	nothing    todo = iota
	storeSteps      // add those that are new and have come to an end
	storeAll
	wait // until enough time has passed
)

// Storing all of a run costs in proportion to its size, adding steps does not. While the run
// goes on, storing all takes one part of the time in so many, but happens at least so often.
const (
	paceFactor = 20
	paceMost   = 2 * time.Minute
	cheap      = 250 * time.Millisecond // what costs less is never put off for longer than
	cheapMost  = time.Second
)

// pause is how long to wait after something that has cost so much.
func pause(cost time.Duration) time.Duration {
	if cost <= cheap {
		return min(paceFactor*cost, cheapMost)
	}
	return min(paceFactor*cost, paceMost)
}

// next decides what is to be done with a run that is now e. steps are those to be added, and
// later is when to look again; zero: when the file has changed. An ending file is looked at
// no more.
func (r *run) next(e *episodic.Episode, running, ending bool, now time.Time) (what todo, steps []episodic.Step, later time.Time) {
	if r.stored == nil || r.running != running || ending {
		return storeAll, nil, time.Time{}
	}
	same := commonSteps(r.stored.Steps, e.Steps)
	headSame := sameHead(r.stored, e)
	if same == len(e.Steps) && same == len(r.stored.Steps) && headSame && !r.stale {
		return nothing, nil, time.Time{}
	}
	if later = r.at.Add(pause(r.cost)); !now.Before(later) {
		return storeAll, nil, time.Time{}
	}
	if running && same == len(r.stored.Steps) {
		if steps = finished(e.Steps, same); len(steps) > 0 {
			return storeSteps, steps, later
		}
	}
	return wait, nil, later
}

// settled are the steps of a run that goes on but for the last calls that still wait for their
// results: they are steps once they have them. Where no call has a result, as in the records of
// some programs, none waits.
func settled(steps []episodic.Step) []episodic.Step {
	if !slices.ContainsFunc(steps, func(s episodic.Step) bool { return s.Result != nil }) {
		return steps
	}
	to := len(steps)
	for to > 0 && waits(&steps[to-1]) {
		to--
	}
	return steps[:to:to]
}

// waits reports whether a step is a call without a result.
func waits(s *episodic.Step) bool { return s.Tool != "" && s.Result == nil }

// finished are the steps from one on that can be added by themselves: up to the first that
// waits for its result while others behind it do not, or has no time, as it would get one.
func finished(steps []episodic.Step, from int) []episodic.Step {
	answers := slices.ContainsFunc(steps, func(s episodic.Step) bool { return s.Result != nil })
	to := from
	for to < len(steps) && !steps[to].Time.IsZero() && !(answers && waits(&steps[to])) {
		to++
	}
	return slices.Clone(steps[from:to])
}

// commonSteps is how many of the first steps are the same.
func commonSteps(a, b []episodic.Step) int {
	n := 0
	for n < len(a) && n < len(b) && sameStep(&a[n], &b[n]) {
		n++
	}
	return n
}

// sameStep compares steps of which nearly all share their memory, which makes it fast.
func sameStep(a, b *episodic.Step) bool {
	return a.Tool == b.Tool && a.Action == b.Action && a.Parameters == b.Parameters && a.Time.Equal(b.Time) &&
		a.Latency == b.Latency && a.Tokens == b.Tokens &&
		(a.Result == b.Result || a.Result != nil && b.Result != nil && *a.Result == *b.Result) &&
		maps.Equal(a.Metadata, b.Metadata)
}

// sameHead compares what an episode has beside steps and times, which change with those.
func sameHead(a, b *episodic.Episode) bool {
	return a.Description == b.Description && maps.Equal(a.Metadata, b.Metadata) &&
		reflect.DeepEqual(a.Outcome, b.Outcome) && reflect.DeepEqual(a.Reward, b.Reward) &&
		a.Context.Domain == b.Context.Domain && slices.Equal(a.Context.Tags, b.Context.Tags)
}
