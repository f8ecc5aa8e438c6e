package episodic

import (
	"slices"

	"github.com/episodic-memory/episodic/internal/outbox"
)

// batch is queued operations that one transaction of the server carries out: the first of
// those that wait, so that a number tells how far it has got.
type batch struct {
	ops    []outbox.Op
	groups []*group // in an order that has the same effect
	tags   bool     // some change tags
}

// group is some operations of one item, carried out as one.
type group struct {
	op    operation
	first *outbox.Op
	size  int // of the bodies, bytes
}

// newBatch makes a batch of as many operations as can be in one. ended is what completions,
// by their numbers, make of their episodes, as far as that is known. An error is about the
// first operation.
func newBatch(ops []outbox.Op, ended map[int64]*Episode) (*batch, error) {
	b := &batch{}
	last := make(map[[16]byte]*group) // of each item
	for i := range ops {
		op := &ops[i]
		o, err := operationFrom(op)
		if err != nil {
			if i == 0 {
				return nil, err
			}
			break // those before it first
		}
		forServer(o)
		before := last[op.Item]
		if before == nil || !before.absorb(o, len(op.Body)) {
			if done, is := o.(*completeEpisode); is {
				if done.ended = ended[op.N]; done.ended == nil && before != nil {
					break // what it reads is stored by then
				}
			}
			before = &group{op: o, first: op, size: len(op.Body)}
			last[op.Item] = before
			b.groups = append(b.groups, before)
		}
		if _, tags := o.(*changeTags); tags {
			b.tags = true
		}
		b.ops = ops[:i+1]
	}
	return b, nil
}

// forServer makes of an operation what the server is to carry out. Steps get the next
// numbers there, whatever they got here: others may have added to the episode.
func forServer(o operation) {
	switch o := o.(type) {
	case *appendSteps:
		for i := range o.Steps {
			o.Steps[i].Number = 0
			if o.Steps[i].Time.IsZero() {
				o.Steps[i].Time = o.Now
			}
		}
	case *completeEpisode:
		o.unfolded = true
	}
}

// A run must not become too large by what is added to it, nor an episode.
const maxAbsorbed = 512 << 10

// randomKey is how long the keys are of appends that nobody repeats but the Store itself.
const randomKey = 8

// absorb adds an operation to those of the group, if together they are one.
func (g *group) absorb(o operation, size int) bool {
	if g.size+size > maxAbsorbed {
		return false
	}
	ok := false
	switch before := g.op.(type) {
	case *putEpisode:
		ok = before.absorb(o)
	case *appendSteps:
		if more, is := o.(*appendSteps); is && len(before.Key) == randomKey && len(more.Key) == randomKey {
			before.Steps, before.Key, before.Rev, ok = append(before.Steps, more.Steps...), more.Key, chained(before.Rev, more.Rev), true
		}
	}
	if ok {
		g.size += size
	}
	return ok
}

// absorb makes what is done to a new episode part of how it is stored.
func (o *putEpisode) absorb(next operation) bool {
	if !o.New || !o.Episode.Running() {
		return false
	}
	switch next := next.(type) {
	case *appendSteps:
		if len(next.Key) != randomKey { // it must be known later
			return false
		}
		o.Episode.Steps, o.Rev = append(o.Episode.Steps, next.Steps...), chained(o.Rev, next.Rev)
		o.Episode.StepCount = len(o.Episode.Steps)
		return true
	case *completeEpisode:
		e := *o.Episode
		e.Metadata, e.AppliedPatterns = nil, slices.Clone(e.AppliedPatterns)
		for k, v := range o.Episode.Metadata {
			if e.Metadata == nil {
				e.Metadata = make(map[string]string)
			}
			e.Metadata[k] = v
		}
		next.Completion.applyTo(&e)
		if e.prepare(next.Now) != nil {
			return false
		}
		o.Episode, o.Rev = &e, chained(o.Rev, next.Rev)
		return true
	}
	return false
}
