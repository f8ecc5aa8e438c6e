package transcript

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// telling is a run that is made of spans.
type telling struct {
	*builder
	u          *unit
	tools      []*span         // not told yet
	late       map[string]late // by the id of the call, whose answer is in a message if anywhere
	done       map[string]bool // ids of calls that are answered
	knows      map[told]bool
	inMessages map[string]bool // ids of calls, and names of tools, that are in messages
}

// told is a turn that was told: which of several that are equal.
type told struct {
	t *turn
	n int
}

type late struct {
	span *span
	step int
}

// run gives the run of a unit. Its chats are told in their order, each message once. What a
// chat calls is told with the time and the result that the tool's own span has.
func (ts *traces) run(u *unit) {
	ts.in.line = u.t.line
	byTime := func(a, b *span) int {
		return cmp.Or(a.start.Compare(b.start), strings.Compare(a.order, b.order))
	}
	slices.SortStableFunc(u.spans, byTime)
	x := &telling{builder: ts.in.begin(u.t.line), u: u, late: make(map[string]late), done: make(map[string]bool), knows: make(map[told]bool)}
	x.run.Key, x.run.Hash, x.run.Bytes = u.key, u.t.hash, int64(u.t.size)
	var chats []*span
	for _, s := range u.spans {
		switch s.kind {
		case spanTool:
			x.tools = append(x.tools, s)
		case spanChat:
			chats = append(chats, s)
		}
	}
	x.about()
	x.ask()
	if !slices.ContainsFunc(chats, func(s *span) bool { return len(s.asked)+len(s.answered) > 0 }) && u.root != nil && u.root.kind == spanAgent {
		chats = append(chats, u.root)
	}
	x.inMessages = called(chats)
	for _, s := range chats {
		x.toolsBefore(s.start)
		x.chat(s)
	}
	x.toolsBefore(time.Time{})
	x.rest()
	if root := u.root; root != nil && root.kind == spanAgent {
		x.speaker = ""
		if text := root.answer(); text != "" && text != strings.TrimSpace(x.said) && text != strings.TrimSpace(x.spoke) {
			x.says(text, root.end)
		}
	}
	x.finish()
}

// answer is what an agent answered in the end.
func (s *span) answer() string {
	text := s.final
	for _, t := range s.answered {
		for i := range t.parts {
			if p := &t.parts[i]; p.kind == partSaid && t.role == fromModel {
				text = p.text
			}
		}
	}
	return strings.TrimSpace(text)
}

// about adds what the spans tell beside what was said. The tokens of an agent are those of
// its chats again.
func (x *telling) about() {
	var chats [2]int64
	var cost float64
	var model, asked string
	for _, s := range x.u.spans {
		x.seen(s.start)
		x.seen(s.end)
		if s.kind == spanChat {
			chats[0] += s.tokens[0]
			chats[1] += s.tokens[1]
			cost += s.cost
		}
		model, asked = cmp.Or(s.used, model), cmp.Or(s.requested, asked)
	}
	x.meta(MetaModel, cmp.Or(model, asked))
	x.meta("conversation_id", x.u.conversation())
	of := x.u.root
	if of == nil {
		of = x.u.spans[0]
	}
	x.seen(of.start)
	x.seen(of.end)
	if chats == [2]int64{} {
		chats = of.tokens
	}
	if cost == 0 {
		cost = of.cost
	}
	x.used(chats[0], chats[1])
	if cost > 0 {
		x.meta(MetaCost, strconv.FormatFloat(cost, 'f', -1, 64))
	}
	for _, f := range of.labels {
		x.meta(f.key, f.value)
	}
	if of.kind == spanAgent {
		x.meta(MetaAgent, of.name)
	}
	if of.failed {
		x.meta("error", cmp.Or(of.problem, "failed"))
	}
	x.e.Context.Tags = of.tags
	x.e.Context.Domain = of.domain
	if of.verdict != "" {
		n, _ := parse(of.verdict) // it was JSON
		x.judged(x.opts.OutcomeField, n)
	}
}

// ask sets the task, where the root has it: the last that people said. What stands before it
// are other turns of the same thread, which have traces of their own.
func (x *telling) ask() {
	root := x.u.root
	if root == nil {
		return
	}
	x.task(root.input)
	last := -1
	for i, t := range root.asked {
		if t.role == fromPeople {
			last = i
		}
	}
	if last < 0 || root.kind == spanChat {
		return
	}
	x.task(root.asked[last].words())
	counts := make(map[*turn]int)
	for _, t := range root.asked[:last] {
		counts[t]++
		x.knows[told{t, counts[t]}] = true
		if t.role != fromSystem {
			x.left("earlier message of the thread", 1)
		}
	}
}

// words is what was said in a turn.
func (t *turn) words() string {
	text := ""
	for i := range t.parts {
		if t.parts[i].kind == partSaid {
			text = join(text, t.parts[i].text)
		}
	}
	return text
}

// chat tells the messages of a chat that have not been told.
func (x *telling) chat(s *span) {
	x.speaker = x.u.agents[s]
	counts := make(map[*turn]int)
	for i, t := range append(s.asked[:len(s.asked):len(s.asked)], s.answered...) {
		counts[t]++
		if key := (told{t, counts[t]}); x.knows[key] {
			continue
		} else {
			x.knows[key] = true
		}
		at := s.start
		if i >= len(s.asked) {
			at = s.end
		}
		for j := range t.parts {
			x.wrong(x.tell(t, &t.parts[j], at))
		}
	}
	if len(s.asked)+len(s.answered) == 0 && s.kind == spanChat {
		x.left("chat of which the content was not recorded", 1)
	}
	if s.failed && s.kind == spanChat {
		x.meta("error", cmp.Or(s.problem, "a request to the model failed"))
	}
}

func (x *telling) tell(t *turn, p *part, at time.Time) error {
	switch p.kind {
	case partCall:
		if s := x.tool(p); s != nil {
			x.carried(s, p)
			return nil
		}
	case partAnswer:
		if p.id != "" && x.done[p.id] {
			return nil
		}
		x.done[p.id] = p.id != ""
		if l, ok := x.late[p.id]; ok {
			delete(x.late, p.id)
			x.answers(answer{id: p.id, text: p.text, failed: p.failed || l.span.failed, took: l.span.end.Sub(l.span.start)})
			return nil
		}
	}
	if p.kind == partSaid && t.role == fromPeople {
		x.rest() // a run that is split at prompts ends here
	}
	return x.part(t.role, p, "message", at)
}

// tool takes the span of a call: by its id, or the first of its name.
func (x *telling) tool(p *part) *span {
	find := func(is func(s *span) bool) *span {
		i := slices.IndexFunc(x.tools, is)
		if i < 0 {
			return nil
		}
		s := x.tools[i]
		x.tools = slices.Delete(x.tools, i, i+1)
		return s
	}
	if p.id != "" {
		if s := find(func(s *span) bool { return s.call == p.id }); s != nil {
			return s
		}
	}
	return find(func(s *span) bool { return s.name == p.name && (s.call == "" || p.id == "") })
}

// toolsBefore tells the tools that began before a time and that no message calls; at the end,
// with a zero time, all that are left.
func (x *telling) toolsBefore(at time.Time) {
	x.tools = slices.DeleteFunc(x.tools, func(s *span) bool {
		if !at.IsZero() && (!s.start.Before(at) || x.inMessages[s.call] || x.inMessages[s.name]) {
			return false
		}
		x.carried(s, &part{id: s.call, name: s.name})
		return true
	})
}

// called are the ids of the calls in messages of some spans, and the names of the tools.
func called(spans []*span) map[string]bool {
	called := make(map[string]bool)
	for _, s := range spans {
		for _, t := range append(s.asked[:len(s.asked):len(s.asked)], s.answered...) {
			for i := range t.parts {
				if p := &t.parts[i]; p.kind == partCall {
					called[p.id], called[p.name] = p.id != "", true
				}
			}
		}
	}
	return called
}

// carried tells a call and the span in which it was carried out.
func (x *telling) carried(s *span, p *part) {
	if by := x.u.agents[s]; by != "" {
		x.speaker = by
	}
	arguments := s.arguments
	if p.arguments != "" && (arguments == "" || arguments[0] == '"') {
		arguments = p.arguments
	}
	id := cmp.Or(p.id, s.call)
	at := x.call(id, cmp.Or(s.name, p.name, "unknown"), arguments, s.start)
	x.seen(s.end)
	took := s.end.Sub(s.start)
	switch {
	case s.result != nil:
		x.answers(answer{id: id, tool: s.name, text: *s.result, failed: s.failed, took: took})
		x.done[id] = id != ""
	case id != "":
		if before, ok := x.late[id]; ok {
			x.unanswered(before.span, before.step)
		}
		x.late[id] = late{s, at}
	default:
		x.unanswered(s, at)
	}
}

// unanswered is a call of which no result was recorded, only how long it took and whether it
// failed.
func (x *telling) unanswered(s *span, at int) {
	step := &x.e.Steps[at]
	step.Latency = max(s.end.Sub(s.start), 0)
	if s.failed {
		step.Result = &episodic.Result{Kind: episodic.ResultError, Text: s.problem}
	}
}

// rest are the calls that no message answered.
func (x *telling) rest() {
	for _, l := range x.late {
		x.unanswered(l.span, l.step)
	}
	clear(x.late)
}
