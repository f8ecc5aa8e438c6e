package episodic

import "unsafe"

// Sizes are the memory that decoded values take, in bytes, with what the
// allocator rounds up. TestSizes compares them with the heap.

const interfaceSlice = 24 // a slice's header in an interface is allocated

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

func (h Hit) size() int { return h.Episode.size() + stringSize(h.Snippet) }

func (p *Page[T]) size(item func(T) int) int {
	return pointedSize(p) + sliceSize(p.Items) + sizeOfAll(p.Items, item) + stringSize(p.Next)
}
