package transcript

import (
	"cmp"
	"crypto/sha256"
	"strings"
	"time"
)

// turn is a message of a chat, of whichever writer: OpenAI's, LangChain's, OpenTelemetry's.
// Formats that repeat messages keep turns, and tell them the builder once.
type turn struct {
	role  int
	parts []part
}

// part is one thing of a turn.
type part struct {
	kind      partKind
	text      string // what was said, thought or answered, or is left out
	id        string // of the call
	name      string // of the tool
	arguments string // JSON
	failed    bool
}

type partKind uint8

const (
	partSaid partKind = iota
	partThought
	partCall
	partAnswer
	partLeft
)

// turnOf reads a message.
func turnOf(n node) *turn {
	n, role := unwrapped(n)
	t := &turn{role: roles[role]}
	if t.role == 0 {
		t.left("message of role " + clip(cmp.Or(role, "none"), 40))
	}
	extra := n.get("additional_kwargs")
	if text := cmp.Or(n.str("reasoning_content"), n.str("reasoning"), extra.str("reasoning_content")); !blank(text) {
		t.parts = append(t.parts, part{kind: partThought, text: text})
	}
	if t.role == fromTool && !n.has("parts") {
		t.answer(n)
		return t
	}
	content := n.get("content")
	if parts := n.get("parts"); parts.isArray() {
		content = parts
	}
	t.content(content, n.has("tool_calls") && len(n.items("tool_calls")) > 0)
	if text := n.str("refusal"); text != "" {
		t.said(text)
	}
	t.calls(n)
	if len(n.items("tool_calls")) == 0 {
		t.calls(extra) // as the model's server wrote it
	}
	return t
}

// unwrapped is a message without LangChain's wrappers, and its role.
func unwrapped(n node) (_ node, role string) {
	role = cmp.Or(n.str("role"), n.str("type"))
	if kwargs := n.get("kwargs"); n.has("lc") && kwargs.isObject() {
		ids := n.items("id")
		if len(ids) > 0 {
			role = ids[len(ids)-1].str()
		}
		n, role = kwargs, cmp.Or(kwargs.str("type"), role)
	}
	if data := n.get("data"); data.isObject() && !n.has("content") {
		n = data
	}
	role = strings.ToLower(role)
	for _, end := range []string{"chunk", "message"} {
		if short := strings.TrimSuffix(role, end); short != "" {
			role = short
		}
	}
	if role == "chat" || role == "generic" {
		role = strings.ToLower(n.str("role"))
	}
	return n, role
}

func (t *turn) left(what string) { t.parts = append(t.parts, part{kind: partLeft, text: what}) }

func (t *turn) said(text string) {
	if last := len(t.parts) - 1; last >= 0 && t.parts[last].kind == partSaid {
		t.parts[last].text = join(t.parts[last].text, text)
		return
	}
	t.parts = append(t.parts, part{text: text})
}

// content adds a content: a string, or parts. Calls among them count unless they are in a
// list of their own.
func (t *turn) content(n node, callsElsewhere bool) {
	if !n.isArray() {
		if n.isObject() {
			t.part(n, callsElsewhere)
		} else if text := n.plain(); !blank(text) {
			t.said(text)
		}
		return
	}
	for _, p := range n.items() {
		t.part(p, callsElsewhere)
	}
}

func (t *turn) part(p node, callsElsewhere bool) {
	switch kind := p.str("type"); kind {
	case "thinking", "reasoning":
		text := cmp.Or(p.str("thinking"), p.str("reasoning"), p.str("text"), p.str("content"))
		if !blank(text) {
			t.parts = append(t.parts, part{kind: partThought, text: text})
		}
	case "tool_use", "tool_call", "server_tool_use", "server_tool_call":
		if !callsElsewhere {
			t.parts = append(t.parts, part{
				kind: partCall, id: p.str("id"), name: p.str("name"),
				arguments: argumentsOf(p.get("arguments"), p.get("input"), p.get("args"), p.get("server_tool_call")),
			})
		}
	case "input_json_delta": // of a call that was streamed
	case "tool_result", "tool_call_response", "server_tool_call_response":
		of := firstOf(p, "response", "result", "content", "server_tool_call_response")
		a := part{kind: partAnswer, id: cmp.Or(p.str("id"), p.str("tool_use_id"), p.str("tool_call_id")), failed: p.yes("is_error") || p.str("status") == "error"}
		a.text = t.text(of)
		t.parts = append(t.parts, a)
	case "blob", "uri":
		t.left(cmp.Or(p.str("modality"), "document"))
	default:
		text, other := partText(p)
		if other != "" {
			t.left(other)
		}
		if text != "" {
			t.said(text)
		}
	}
}

// firstOf is the first of the values at some keys that is there.
func firstOf(n node, keys ...string) node {
	for _, key := range keys {
		if n.has(key) {
			return n.get(key)
		}
	}
	return node{}
}

// text is the text of an answer.
func (t *turn) text(n node) string {
	b := &builder{run: &Run{Left: make(Left)}} // to read it as all formats do
	text := b.result(n)
	for what, times := range b.run.Left {
		for range times {
			t.left(what)
		}
	}
	return text
}

// answer adds the message of a tool.
func (t *turn) answer(n node) {
	if n.has("artifact") {
		t.left("artifact of a tool")
	}
	t.parts = append(t.parts, part{
		kind: partAnswer, id: cmp.Or(n.str("tool_call_id"), n.str("id")), name: n.str("name"),
		text: t.text(n.get("content")), failed: n.str("status") == "error" || n.yes("is_error"),
	})
}

// calls adds the calls that a message has in a list of their own.
func (t *turn) calls(n node) {
	if f := n.get("function_call"); f.isObject() {
		t.parts = append(t.parts, part{kind: partCall, name: f.str("name"), arguments: argumentsOf(f.get("arguments"))})
	}
	for _, c := range n.items("tool_calls") {
		f := c
		if c.get("function").isObject() {
			f = c.get("function")
		}
		t.parts = append(t.parts, part{kind: partCall, id: c.str("id"), name: f.str("name"), arguments: argumentsOf(f.get("arguments"), f.get("args"), f.get("input"))})
	}
	for _, c := range n.items("invalid_tool_calls") { // which LangChain could not read, and nobody carried out
		t.parts = append(t.parts,
			part{kind: partCall, id: c.str("id"), name: cmp.Or(c.str("name"), "unknown"), arguments: argumentsOf(c.get("args"))},
			part{kind: partAnswer, id: c.str("id"), text: cmp.Or(c.str("error"), "the call could not be read"), failed: true})
	}
}

// turn adds a message. path names it in errors.
func (b *builder) turn(t *turn, path string, at time.Time) {
	b.seen(at)
	for i := range t.parts {
		b.wrong(b.part(t.role, &t.parts[i], path, at))
	}
}

func (b *builder) part(role int, p *part, path string, at time.Time) error {
	switch p.kind {
	case partThought:
		b.thinks(p.text)
	case partCall:
		if p.name == "" {
			return invalid(path, "calls a tool without a name, so this call cannot be kept")
		}
		b.call(p.id, p.name, p.arguments, at)
	case partAnswer:
		b.answers(answer{id: p.id, tool: p.name, text: p.text, failed: p.failed, at: at})
	case partLeft:
		b.left(p.text, 1)
	default:
		switch role {
		case fromSystem:
			b.system(p.text)
		case fromPeople:
			b.asks(p.text, at)
		case fromModel, fromTool:
			b.says(p.text, at)
		default:
			// The turn begins with what it is that is left out.
		}
	}
	return nil
}

// hash is of what makes a turn the same one where a record repeats it. It is of the content
// alone: writers add fields, such as why the model stopped, at one place and not at another.
func (t *turn) hash() [sha256.Size]byte {
	h := sha256.New()
	field := func(s string) {
		h.Write(appendQuoted(nil, strings.TrimSpace(s)))
		h.Write([]byte{','})
	}
	h.Write([]byte{byte(t.role)})
	for i := range t.parts {
		p := &t.parts[i]
		if p.kind == partThought {
			continue // not all writers send it back
		}
		h.Write([]byte{byte(p.kind)})
		field(p.text)
		field(p.id)
		if p.kind == partCall {
			field(p.name)
			field(spelling(p.arguments))
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// spelling is JSON as it is hashed.
func spelling(text string) string {
	if n, err := parse(text); err == nil && text != "" {
		return string(appendJSON(nil, n.v, true))
	}
	return text
}
