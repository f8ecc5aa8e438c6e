package transcript

import (
	"cmp"
	"strconv"
	"time"
)

// conversation is a run of which the exchanges are those that do not repeat others.
type conversation struct {
	parts []held
	size  int
	key   string
	// Of all its exchanges, also of those that have been repeated since:
	start, end                             time.Time
	input, output, cached, reasoning, cost float64
	times                                  map[int]time.Time // of answers, by their place among the turns
}

func (c *conversation) last() held { return c.parts[len(c.parts)-1] }

// whole reports whether one exchange has all of it, so that a longer one may be in its place.
func (c *conversation) whole() bool { return len(c.parts) == 1 }

// take adds an exchange.
func (c *conversation) take(e *exchange) {
	at := 0
	for _, p := range c.parts {
		at += p.turns
	}
	for i := range e.answered {
		if !e.at.IsZero() {
			c.times[at+len(e.asked)+i] = e.at
		}
	}
	c.parts = append(c.parts, held{e.value, e.id, e.chain, len(e.asked) + len(e.answered)})
	c.size += len(e.text)
	for _, t := range []time.Time{e.begun, e.at, e.response.when("created_at"), e.response.when("created")} {
		if t.IsZero() {
			continue
		}
		if c.start.IsZero() || t.Before(c.start) {
			c.start = t
		}
		if t.After(c.end) {
			c.end = t
		}
	}
	u := firstOf(e.response, "usage")
	if !u.there() {
		u = e.n.get("usage")
	}
	c.input += float64(max(u.integer("prompt_tokens"), u.integer("input_tokens")))
	c.output += float64(max(u.integer("completion_tokens"), u.integer("output_tokens")))
	c.cached += float64(max(u.integer("prompt_tokens_details", "cached_tokens"), u.integer("input_tokens_details", "cached_tokens")))
	c.reasoning += float64(max(u.integer("completion_tokens_details", "reasoning_tokens"), u.integer("output_tokens_details", "reasoning_tokens")))
	for _, n := range []node{u.get("cost"), e.n.get("cost"), e.n.get("response_cost"), e.n.get("total_cost")} {
		if f, ok := n.num(); ok {
			c.cost += f
			break
		}
	}
}

// conversation gives the run that a conversation is.
func (r *records) conversation(c *conversation) error {
	b := r.begin(c.parts[0].line)
	b.run.Key, b.run.Bytes = c.key, int64(c.size)
	b.seen(c.start)
	b.seen(c.end)
	i := &items{builder: b}
	place := 0
	var e *exchange
	for _, part := range c.parts {
		n, _ := part.parsed() // it has been before
		e = newExchange(n, part.value)
		r.line = e.line
		b.add(e.n)
		path := "messages"
		for at, n := range append(e.asked[:len(e.asked):len(e.asked)], e.answered...) {
			if at >= len(e.asked) {
				path, at = "response", at-len(e.asked)
			}
			steps := len(b.e.Steps)
			b.wrong(i.item(n, path+index(at)))
			b.date(steps, c.times[place])
			place++
		}
		b.left("further choice", max(len(e.response.items("choices"))-1, 0))
		if len(e.answered) == 0 && len(e.response.items("choices")) > 0 {
			b.left("answer in pieces", 1)
		}
	}
	i.end()
	b.system(b.content(e.request.get("system")))
	b.system(cmp.Or(e.response.str("instructions"), e.request.str("instructions")))
	for _, m := range []struct {
		name string
		n    float64
	}{{MetaInput, c.input}, {MetaOutput, c.output}, {"cached_input_tokens", c.cached}, {"reasoning_tokens", c.reasoning}, {MetaCost, c.cost}} {
		if m.n > 0 {
			b.meta(m.name, strconv.FormatFloat(m.n, 'f', -1, 64))
		}
	}
	b.about(e)
	b.finish()
	return nil
}

// about adds what a record tells beside what was said.
func (b *builder) about(e *exchange) {
	b.judge(e.n)
	for _, f := range e.response.fields("metadata") {
		b.meta(f.key, f.value.plain())
	}
	b.plainFields(e.n, "messages", "choices", "usage", "object", "status", "cost", "instructions", "input", "prompt", "output", "system", "request", "response", "request_body", "response_body", "body", "params", "result", "completion", "preferred_output",
		"timestamp", "start_time", "end_time", "startTime", "endTime", "request_time", "created", "created_at", "completed_at", "reward")
	b.meta("id", e.id)
	b.meta(MetaModel, cmp.Or(e.response.str("model"), e.request.str("model"), e.n.str("model")))
	if status := e.response.str("status"); status != "completed" {
		b.meta("status", status)
	}
	if choices := e.response.items("choices"); len(choices) > 0 {
		b.meta("finish_reason", choices[0].str("finish_reason"))
	}
	b.meta("error", cmp.Or(e.response.str("error", "message"), e.response.str("error", "error", "message"), e.response.plain("error"), e.n.str("error", "message")))
	b.meta("incomplete", e.response.str("incomplete_details", "reason"))
}

// date gives the steps from one on their time, and what was said last, if they have none.
func (b *builder) date(from int, at time.Time) {
	if at.IsZero() {
		return
	}
	for i := from; i < len(b.e.Steps); i++ {
		if s := &b.e.Steps[i]; s.Time.IsZero() && s.Result == nil {
			s.Time = at
		}
	}
	if b.said != "" && b.saidAt.IsZero() {
		b.saidAt = at
	}
}
