package transcript

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// otelMessages adds the messages that a span has in its attributes.
func (t *trace) otelMessages(s *span, a attrs) (size int) {
	if parts := a.value("gen_ai.system_instructions"); parts.there() {
		of := &turn{role: fromSystem}
		of.content(parts, false)
		size += t.add(&s.asked, []*turn{of})
	}
	for _, side := range []struct {
		to           *[]*turn
		list, older  string
		flat, traced string
		role         string
	}{
		{&s.asked, "gen_ai.input.messages", "gen_ai.prompt", "gen_ai.prompt.", "llm.input_messages.", "user"},
		{&s.answered, "gen_ai.output.messages", "gen_ai.completion", "gen_ai.completion.", "llm.output_messages.", "assistant"},
	} {
		for _, name := range []string{side.list, side.older} {
			of := a.value(name)
			for _, m := range of.items() {
				size += t.add(side.to, []*turn{turnOf(m)})
			}
			if text := of.str(); text != "" {
				size += t.add(side.to, []*turn{turnOf(said(side.role, text))})
			}
		}
		size += t.add(side.to, a.flat(side.flat, "", side.role))
		size += t.add(side.to, a.flat(side.traced, "message.", side.role))
	}
	return size
}

// flat are messages of which each field is an attribute of its own: gen_ai.prompt.0.role, or
// llm.input_messages.0.message.role.
func (a attrs) flat(prefix, inner, role string) []*turn {
	messages := make(map[int]map[string]string)
	for name := range a {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		number, key, ok := strings.Cut(rest, ".")
		i, err := strconv.Atoi(number)
		if !ok || err != nil || i < 0 {
			continue
		}
		if messages[i] == nil {
			messages[i] = make(map[string]string)
		}
		messages[i][strings.TrimPrefix(key, inner)] = a.text(name)
	}
	var turns []*turn
	for _, i := range numbers(messages) {
		turns = append(turns, flatTurn(messages[i], role))
	}
	return turns
}

func numbers[V any](m map[int]V) []int {
	var list []int
	for i := range m {
		list = append(list, i)
	}
	slices.Sort(list)
	return list
}

// flatTurn is a message of flat attributes.
func flatTurn(m map[string]string, role string) *turn {
	t := &turn{role: roles[strings.ToLower(cmp.Or(m["role"], role))]}
	texts := []string{m["content"]}
	// A content may itself be parts in JSON.
	if parts, err := parse(m["content"]); err == nil && parts.isArray() && len(parts.items()) > 0 && parts.items()[0].has("type") {
		t.content(parts, true)
		texts = nil
	}
	contents, calls := make(map[int]string), make(map[int]*part)
	for key, text := range m {
		list, rest, _ := strings.Cut(key, ".")
		number, field, _ := strings.Cut(rest, ".")
		i, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		switch list {
		case "contents":
			if strings.HasSuffix(field, "message_content.text") {
				contents[i] = text
			}
		case "tool_calls":
			if calls[i] == nil {
				calls[i] = &part{kind: partCall}
			}
			switch strings.TrimPrefix(strings.TrimPrefix(field, "tool_call."), "function.") {
			case "id":
				calls[i].id = text
			case "name":
				calls[i].name = text
			case "arguments":
				calls[i].arguments = arguments(text)
			}
		}
	}
	for _, i := range numbers(contents) {
		texts = append(texts, contents[i])
	}
	text := strings.Join(slices.DeleteFunc(texts, blank), "\n")
	switch {
	case t.role == fromTool:
		t.parts = append(t.parts, part{kind: partAnswer, id: cmp.Or(m["tool_call_id"], m["id"]), name: m["name"], text: text})
	case text != "":
		t.said(text)
	}
	for _, i := range numbers(calls) {
		t.parts = append(t.parts, *calls[i])
	}
	return t
}

// otelEvent adds the messages of an event, in which older writers have them.
func (t *trace) otelEvent(s *span, name string, a attrs, body node) (size int) {
	size = t.otelMessages(s, a)
	kind, ok := strings.CutPrefix(name, "gen_ai.")
	if !ok || !body.isObject() && len(a) == 0 {
		return size
	}
	if !body.isObject() { // its fields are attributes
		body = a.object()
	}
	role, ok := strings.CutSuffix(kind, ".message")
	switch {
	case kind == "choice":
		m := body
		if of := body.get("message"); of.isObject() {
			m = of
		} else if text := body.str("message"); text != "" {
			if m, _ = parse(text); !m.isObject() {
				m = said("assistant", text)
			}
		}
		of := turnOf(m)
		if of.role == 0 {
			of = roleTurn(m, "assistant")
		}
		return size + t.add(&s.answered, []*turn{of})
	case ok:
		return size + t.add(&s.asked, []*turn{roleTurn(body, role)})
	}
	return size
}

// roleTurn is a message that does not have its role.
func roleTurn(n node, role string) *turn {
	b := []byte(`{"role":` + quoted(role))
	for _, f := range n.fields() {
		if f.key != "role" {
			of := f.value
			if of.isString() && f.key == "tool_calls" {
				of, _ = parse(of.str())
			}
			if of.v != nil {
				b = append(append(append(b, ','), quoted(f.key)...), ':')
				b = appendJSON(b, of.v, false)
			}
		}
	}
	m, _ := parse(string(append(b, '}'))) // it is JSON
	return turnOf(m)
}

// object is attributes as an object.
func (a attrs) object() node {
	b := []byte{'{'}
	for name := range a {
		if of := typed(a[name]); of.v != nil {
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(append(b, quoted(name)...), ':')
			b = appendJSON(b, of.v, false)
		}
	}
	n, _ := parse(string(append(b, '}'))) // it is JSON
	return n
}

// otelLog adds an event that is a record of a log.
func (ts *traces) otelLog(n node, line int) {
	a := attributes(n)
	name := cmp.Or(n.str("eventName"), a.text("event.name"))
	id := otelID(n.str("traceId"))
	if !strings.HasPrefix(name, "gen_ai.") || id == "" {
		return
	}
	t := ts.of(id, line)
	if t == nil {
		return
	}
	ts.grow(t, t.otelEvent(t.span(otelID(n.str("spanId"))), name, a, typed(n.get("body"))))
}
