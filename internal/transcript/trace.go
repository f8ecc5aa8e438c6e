package transcript

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"time"
)

// traces are the traces of a file whose records are spans: of OpenTelemetry, of LangSmith.
// The spans of a trace lie apart and in no order, a parent often behind its children, so that
// traces are held until the file ends, or those that were touched last take too much memory.
type traces struct {
	in   *records
	open *list.List // of *trace, the latest last
	byID map[string]*list.Element
	size int
	most int // of size
	// Traces that were given before the file ended, and how many spans of each came too late.
	given map[string]int
}

func newTraces(r *records) *traces {
	return &traces{in: r, open: list.New(), byID: make(map[string]*list.Element), most: openText, given: make(map[string]int)}
}

// trace is what of a trace has been read.
type trace struct {
	id    string
	line  int
	size  int
	spans []*span
	byID  map[string]*span
	turns map[[sha256.Size]byte]*turn // each is held once, however often spans repeat it
	hash  [sha256.Size]byte
}

type spanKind uint8

const (
	spanOther spanKind = iota // none of ours, but it may be between two that are
	spanAgent
	spanChat
	spanTool
	spanInner // of ours, but nothing that is told
)

// span is what is kept of a span.
type span struct {
	id, parent string
	kind       spanKind
	name       string // of the agent or the tool
	start, end time.Time
	order      string // among those of one start
	failed     bool
	problem    string // what is wrong, in words

	// Of a tool:
	call, arguments string
	result          *string // nil: none was recorded

	// Of a chat or an agent:
	asked, answered []*turn
	input, final    string // in place of those, where messages are not told apart
	requested, used string // the model
	tokens          [2]int64
	cost            float64
	conversation    string
	domain          string
	labels          []label
	tags            []string
	verdict         string // JSON at Options.OutcomeField
}

// label is metadata of the run.
type label struct{ key, value string }

// of returns the trace of an id, to add a span to it; nil if that was given already.
func (ts *traces) of(id string, line int) *trace {
	if n, ok := ts.given[id]; ok {
		ts.given[id] = n + 1
		return nil
	}
	el := ts.byID[id]
	if el == nil {
		el = ts.open.PushBack(&trace{id: id, line: line, byID: make(map[string]*span), turns: make(map[[sha256.Size]byte]*turn)})
		ts.byID[id] = el
	}
	ts.open.MoveToBack(el)
	return el.Value.(*trace)
}

// span returns the span of an id.
func (t *trace) span(id string) *span {
	s := t.byID[id]
	if s == nil || id == "" {
		s = &span{id: id}
		t.byID[id] = s
		t.spans = append(t.spans, s)
	}
	return s
}

// fresh returns the span of an id, which may have been sent before.
func (t *trace) fresh(id string) *span {
	s := t.span(id)
	if s.kind != spanOther {
		*s = span{id: id}
	}
	return s
}

// grow notes that a trace needs size bytes more, and gives others if all need too many.
func (ts *traces) grow(t *trace, size int) {
	t.size += size
	ts.size += size
	for ts.size > ts.most && ts.open.Len() > 1 {
		el := ts.open.Front()
		first := el.Value.(*trace)
		ts.remove(el)
		if slices.ContainsFunc(first.spans, func(s *span) bool { return s.kind != spanOther }) {
			ts.given[first.id] = 0
			ts.tell([]*trace{first}, true)
		}
	}
}

func (ts *traces) remove(el *list.Element) {
	t := ts.open.Remove(el).(*trace)
	delete(ts.byID, t.id)
	ts.size -= t.size
}

// finish gives all traces, and tells which of those given before are not whole.
func (ts *traces) finish() {
	var all []*trace
	for el := ts.open.Front(); el != nil; el = el.Next() {
		all = append(all, el.Value.(*trace))
	}
	slices.SortStableFunc(all, func(a, b *trace) int { return a.line - b.line })
	ts.tell(all, false)
	for id, n := range ts.given {
		if n > 0 {
			ts.in.problem(invalid("trace "+clip(id, 40), "has %d spans too far from its others, and they were left out; sort the file by trace", n))
		}
	}
}

// turnOf reads a message, and holds it once. It returns how many bytes that takes.
func (t *trace) turn(of *turn) (*turn, int) {
	if len(of.parts) == 0 {
		return nil, 0
	}
	sum := of.hash()
	if known := t.turns[sum]; known != nil {
		return known, 8
	}
	t.turns[sum] = of
	size := 128
	for i := range of.parts {
		p := &of.parts[i]
		size += 96 + len(p.text) + len(p.arguments) + len(p.id) + len(p.name)
	}
	return of, size
}

// add adds messages to a span's.
func (t *trace) add(to *[]*turn, messages []*turn) (size int) {
	for _, m := range messages {
		known, n := t.turn(m)
		if known != nil {
			*to = append(*to, known)
		}
		size += n
	}
	return size
}

// unit is the spans that are one run.
type unit struct {
	key    string
	t      *trace
	root   *span // nil: none
	spans  []*span
	agents map[*span]string // the agent in whose span another lies, if that is not the root
}

// tell gives the runs of some traces: one for each agent that was not started by another, and
// for what lies outside of agents. Where a trace is no more than one request, those of a
// conversation are one run, unless it is too early to say that these are all.
func (ts *traces) tell(all []*trace, early bool) {
	var units []*unit
	talks := make(map[string]*unit)
	for _, t := range all {
		for _, u := range t.units() {
			id := u.conversation()
			if u.root != nil && u.root.kind != spanChat || id == "" || early {
				units = append(units, u)
				continue
			}
			if talk := talks[id]; talk != nil {
				talk.take(u.spans)
				talk.t.hash = sha256.Sum256(append(talk.t.hash[:], t.hash[:]...))
				continue
			}
			u.key, u.root = "conversation/"+id, nil
			talks[id] = u
			units = append(units, u)
		}
	}
	for _, u := range units {
		ts.run(u)
	}
}

// take adds spans of another trace, whose turns may be ones that are known here.
func (u *unit) take(spans []*span) {
	u.spans = append(u.spans, spans...)
	for _, s := range spans {
		for _, turns := range [][]*turn{s.asked, s.answered} {
			for i := range turns {
				turns[i], _ = u.t.turn(turns[i])
			}
		}
	}
}

func (u *unit) conversation() string {
	for _, s := range u.spans {
		if s.conversation != "" {
			return s.conversation
		}
	}
	return ""
}

// units divides a trace.
func (t *trace) units() []*unit {
	var units []*unit
	byRoot := make(map[*span]*unit)
	for _, s := range t.spans {
		if s.kind == spanOther {
			continue
		}
		agent, inner, top := t.above(s)
		u := byRoot[agent]
		if u == nil {
			u = &unit{t: t, root: agent, key: t.id, agents: make(map[*span]string)}
			if agent != nil && agent.id != t.id { // LangSmith calls a trace by its root
				u.key += "/" + agent.id
			}
			if agent == nil {
				u.root = top
			}
			byRoot[agent] = u
			units = append(units, u)
		}
		u.spans = append(u.spans, s)
		if inner != nil && inner != agent {
			u.agents[s] = inner.name
		}
	}
	return units
}

// above is the outermost agent in which a span lies, the innermost, and the outermost span of
// any kind that is there. A span that names itself among those above it ends the search.
func (t *trace) above(s *span) (agent, inner, top *span) {
	for range len(t.spans) + 1 {
		top = s
		if s.kind == spanAgent {
			agent = s
			if inner == nil {
				inner = s
			}
		}
		next := t.byID[s.parent]
		if next == nil || s.parent == "" || next == s {
			break
		}
		s = next
	}
	return agent, inner, top
}
