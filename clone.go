package episodic

import (
	"maps"
	"slices"
	"unsafe"
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

func (r *SearchResults) clone() *SearchResults {
	c := *r
	c.Hits, c.Damaged = cloneAll(r.Hits, Hit.clone), cloneAll(r.Damaged, clonePointer)
	return &c
}

func (h Hit) clone() Hit {
	h.Episode = h.Episode.clone()
	h.Steps = slices.Clone(h.Steps)
	h.Alike = slices.Clone(h.Alike)
	for i := range h.Alike {
		h.Alike[i].Reward = clonePointer(h.Alike[i].Reward)
	}
	if h.Why != nil {
		why := *h.Why
		why.Words = slices.Clone(why.Words)
		h.Why = &why
	}
	return h
}

func (p *Page[T]) clone(item func(T) T) *Page[T] {
	return &Page[T]{Items: cloneAll(p.Items, item), Next: p.Next, Damaged: cloneAll(p.Damaged, clonePointer)}
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

// Sizes are the memory that decoded values take, in bytes, with what the
// allocator rounds up. TestSizes compares them with the heap.

// allocated returns what the allocator takes for n bytes: its size classes lie 16
// bytes apart, and from 256 bytes on about an eighth.
func allocated(n int) int {
	switch {
	case n <= 0:
		return 0
	case n <= 8:
		return 8
	case n <= 256:
		return (n + 15) &^ 15
	}
	return n + n/16
}

func stringSize[S ~string](s S) int { return allocated(len(s)) }

func stringsSize(list []string) int { return sliceSize(list) + sizeOfAll(list, stringSize) }

// sliceSize is that of a slice without what its elements point to.
func sliceSize[T any](list []T) int {
	var element T
	return allocated(cap(list) * int(unsafe.Sizeof(element)))
}

// pointedSize is that of what p points to, without what that points to.
func pointedSize[T any](p *T) int {
	if p == nil {
		return 0
	}
	return allocated(int(unsafe.Sizeof(*p)))
}

func sizeOfAll[T any](list []T, size func(T) int) (n int) {
	for i := range list {
		n += size(list[i])
	}
	return n
}

// mapSize is that of a map without its strings: a header, and groups of 8 slots
// with 8 bytes beside them. Up to 8 elements are one group; more fill at most 7/8
// of a table, whose size is a power of 2.
func mapSize[K comparable, V any](m map[K]V) int {
	var slot struct {
		key   K
		value V
	}
	const header, table, slots = 48, 64, 8
	group := 8 + slots*int(unsafe.Sizeof(slot))
	switch n := len(m); {
	case m == nil:
		return 0
	case n == 0:
		return header
	case n <= slots:
		return header + allocated(group)
	default:
		capacity := 2 * slots
		for capacity*7/8 < n {
			capacity *= 2
		}
		return header + table + allocated(capacity/slots*group)
	}
}

func metadataSize(m map[string]string) int {
	n := mapSize(m)
	for k, v := range m {
		n += stringSize(k) + stringSize(v)
	}
	return n
}

func (c *Context) size() int {
	return stringSize(c.Domain) + stringSize(c.Language) + stringSize(c.Framework) + stringSize(c.Complexity) + stringsSize(c.Tags)
}

func (e *Episode) size() int {
	n := pointedSize(e) + stringSize(e.TaskType) + stringSize(e.Description) + e.Context.size() +
		sliceSize(e.Steps) + sizeOfAll(e.Steps, Step.size)
	o := &e.Outcome
	n += stringSize(o.Kind) + stringSize(o.Verdict) + stringSize(o.Reason) + stringSize(o.Details) +
		stringsSize(o.Artifacts) + stringsSize(o.Completed) + stringsSize(o.Failed) + stringsSize(o.Signals)
	if r := e.Reward; r != nil {
		n += pointedSize(r) + mapSize(r.Components)
		for name := range r.Components {
			n += stringSize(name)
		}
	}
	r := &e.Reflection
	n += stringsSize(r.Successes) + stringsSize(r.Improvements) + stringsSize(r.Insights)
	n += sliceSize(e.AppliedPatterns)
	for i := range e.AppliedPatterns {
		n += stringSize(e.AppliedPatterns[i].Effect) + stringSize(e.AppliedPatterns[i].Note)
	}
	return n + metadataSize(e.Metadata) + e.Scope.size()
}

func (sc Scope) size() int {
	return stringSize(sc.Project) + stringSize(sc.User) + stringSize(sc.Agent)
}

func (s Step) size() int {
	n := stringSize(s.Tool) + stringSize(s.Action) + stringSize(s.Parameters) + metadataSize(s.Metadata)
	if r := s.Result; r != nil {
		n += pointedSize(r) + stringSize(r.Kind) + stringSize(r.Text)
	}
	return n
}

func (p *Pattern) size() int {
	n := pointedSize(p) + stringSize(p.Description) + p.Context.size() + sliceSize(p.Evidence) + metadataSize(p.Metadata) + p.Scope.size()
	if x := p.ToolSequence; x != nil {
		n += pointedSize(x) + stringsSize(x.Tools)
	}
	if x := p.DecisionPoint; x != nil {
		n += pointedSize(x) + stringSize(x.Condition) + stringSize(x.Action)
	}
	if x := p.ErrorRecovery; x != nil {
		n += pointedSize(x) + stringSize(x.Error) + stringsSize(x.Steps)
	}
	if x := p.ContextPattern; x != nil {
		n += pointedSize(x) + stringsSize(x.Features) + stringSize(x.Approach)
	}
	return n
}

func (h *Heuristic) size() int {
	return pointedSize(h) + stringSize(h.Condition) + stringSize(h.Action) + sliceSize(h.Evidence.Episodes) + metadataSize(h.Metadata) + h.Scope.size()
}

func (r *SearchResults) size() int {
	return pointedSize(r) + sliceSize(r.Hits) + sizeOfAll(r.Hits, Hit.size) + stringSize(r.Next) + stringSize(r.Model) +
		sliceSize(r.Damaged) + sizeOfAll(r.Damaged, (*DamagedError).size)
}

func (h Hit) size() int {
	n := h.Episode.size() + stringSize(h.Snippet) + sliceSize(h.Steps) + sliceSize(h.Alike)
	for i := range h.Steps {
		n += stringSize(h.Steps[i].Tool) + stringSize(h.Steps[i].Result) + stringSize(h.Steps[i].Snippet)
	}
	for i := range h.Alike {
		n += stringSize(h.Alike[i].Outcome)
		if h.Alike[i].Reward != nil {
			n += allocated(8)
		}
	}
	if h.Why != nil {
		n += pointedSize(h.Why) + sliceSize(h.Why.Words)
		for i := range h.Why.Words {
			n += stringSize(h.Why.Words[i].Word)
		}
	}
	return n
}

func (e *DamagedError) size() int { return pointedSize(e) + stringSize(e.Kind) + stringSize(e.Problem) }

func (p *Page[T]) size(item func(T) int) int {
	return pointedSize(p) + sliceSize(p.Items) + sizeOfAll(p.Items, item) + stringSize(p.Next) + sliceSize(p.Damaged) + sizeOfAll(p.Damaged, (*DamagedError).size)
}
