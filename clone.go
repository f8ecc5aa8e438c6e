package episodic

import (
	"maps"
	"slices"
)

// Clones share with their original what cannot be changed, its strings, and
// nothing else. What is nil or empty stays so. Any number of clones may be made
// at once.

func (e *Episode) clone() *Episode {
	c := *e
	c.Context.Tags = slices.Clone(e.Context.Tags)
	c.Steps = cloneSteps(e.Steps)
	c.Outcome.Artifacts = slices.Clone(e.Outcome.Artifacts)
	c.Outcome.Completed = slices.Clone(e.Outcome.Completed)
	c.Outcome.Failed = slices.Clone(e.Outcome.Failed)
	c.Outcome.Signals = slices.Clone(e.Outcome.Signals)
	if c.Reward = clonePointer(e.Reward); c.Reward != nil {
		c.Reward.Components = maps.Clone(e.Reward.Components)
	}
	c.Reflection.Successes = slices.Clone(e.Reflection.Successes)
	c.Reflection.Improvements = slices.Clone(e.Reflection.Improvements)
	c.Reflection.Insights = slices.Clone(e.Reflection.Insights)
	c.AppliedPatterns = slices.Clone(e.AppliedPatterns)
	c.Metadata = maps.Clone(e.Metadata)
	return &c
}

// cloneSteps puts all results into one allocation: they are asked for together.
func cloneSteps(steps []Step) []Step {
	n := 0
	for i := range steps {
		if steps[i].Result != nil {
			n++
		}
	}
	results := make([]Result, 0, n)
	steps = slices.Clone(steps)
	for i := range steps {
		s := &steps[i]
		s.Metadata = maps.Clone(s.Metadata)
		if s.Result != nil {
			results = append(results, *s.Result)
			s.Result = &results[len(results)-1]
		}
	}
	return steps
}

func (p *Pattern) clone() *Pattern {
	c := *p
	c.Context.Tags = slices.Clone(p.Context.Tags)
	c.Evidence = slices.Clone(p.Evidence)
	if c.ToolSequence = clonePointer(p.ToolSequence); c.ToolSequence != nil {
		c.ToolSequence.Tools = slices.Clone(p.ToolSequence.Tools)
	}
	c.DecisionPoint = clonePointer(p.DecisionPoint)
	if c.ErrorRecovery = clonePointer(p.ErrorRecovery); c.ErrorRecovery != nil {
		c.ErrorRecovery.Steps = slices.Clone(p.ErrorRecovery.Steps)
	}
	if c.ContextPattern = clonePointer(p.ContextPattern); c.ContextPattern != nil {
		c.ContextPattern.Features = slices.Clone(p.ContextPattern.Features)
	}
	c.Metadata = maps.Clone(p.Metadata)
	return &c
}

func (h *Heuristic) clone() *Heuristic {
	c := *h
	c.Evidence.Episodes = slices.Clone(h.Evidence.Episodes)
	c.Metadata = maps.Clone(h.Metadata)
	return &c
}

func (h Hit) clone() Hit {
	h.Episode = h.Episode.clone()
	return h
}

func (p *Page[T]) clone(item func(T) T) *Page[T] {
	return &Page[T]{Items: cloneAll(p.Items, item), Next: p.Next}
}

func cloneAll[T any](list []T, item func(T) T) []T {
	list = slices.Clone(list)
	for i, v := range list {
		list[i] = item(v)
	}
	return list
}

// clonePointer copies what p points to, but not what that points to.
func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
