package transcript

import (
	"cmp"
	"strings"
	"time"
)

// The messages of Pydantic AI, as ModelMessagesTypeAdapter writes them: requests and
// responses of a model, whose parts are prompts, calls, what tools returned, texts.
// https://ai.pydantic.dev/message-history/

var (
	pydanticAI    = &format{name: "pydantic-ai", title: "messages of Pydantic AI", fits: fitsPydanticAI, all: readPydanticAI}
	pydanticAIRun = &format{name: "pydantic-ai", title: "runs of Pydantic AI", fits: fitsPydanticAIRun, each: readPydanticAIRun}
)

func fitsPydanticAI(h *head) bool { return isPydanticAI(h.first()) }

func isPydanticAI(n node) bool {
	kind := n.str("kind")
	return (kind == "request" || kind == "response") && n.get("parts").isArray()
}

func fitsPydanticAIRun(h *head) bool {
	return h.some(func(n node) bool {
		list := pydanticAIList(n)
		return len(list) > 0 && isPydanticAI(list[0])
	})
}

func pydanticAIList(n node) []node {
	return firstOf(n, "messages", "all_messages", "message_history").items()
}

func readPydanticAI(r *records) error {
	var m *pydanticRun
	i := 0
	for line, n := range r.all() {
		if m == nil {
			m = &pydanticRun{builder: r.begin(line)}
		}
		m.wrong(m.message(n, "message"+index(i)))
		m.add(n)
		i++
	}
	if m != nil {
		m.end()
	}
	return nil
}

func readPydanticAIRun(n node, b *builder) error {
	m := &pydanticRun{builder: b}
	list := pydanticAIList(n)
	if len(list) == 0 {
		return invalid("messages", "is no array of messages")
	}
	b.run.Key = cmp.Or(n.str("run_id"), n.str("id"))
	for i, one := range list {
		m.wrong(m.message(one, "messages"+index(i)))
	}
	b.judge(n)
	b.plainFields(n, "messages", "usage", "reward")
	m.end()
	return nil
}

// pydanticRun is a run of Pydantic AI.
type pydanticRun struct {
	*builder
	system string // the instructions of the requests before
	result string // the arguments of the call that ends a run with a value
}

func (m *pydanticRun) end() {
	if m.said == "" && m.spoke == "" {
		m.spoke = m.result
	}
	m.finish()
}

func (m *pydanticRun) message(n node, path string) error {
	at := m.time(n, "messages", "timestamp")
	m.seen(at)
	m.run.Key = cmp.Or(m.run.Key, n.str("run_id"))
	if text := n.str("instructions"); text != "" && text != m.system {
		m.builder.system(text)
		m.system = text
	}
	for i, p := range n.items("parts") {
		m.wrong(m.part(p, path+".parts"+index(i), at))
	}
	m.meta(MetaModel, n.str("model_name"))
	if u := n.get("usage"); u.isObject() {
		m.used(max(u.integer("input_tokens"), u.integer("request_tokens")), max(u.integer("output_tokens"), u.integer("response_tokens")))
	}
	return nil
}

func (m *pydanticRun) part(p node, path string, at time.Time) error {
	if own := p.when("timestamp"); !own.IsZero() {
		at = own
	}
	name, id := p.str("tool_name"), p.str("tool_call_id")
	switch kind := p.str("part_kind"); kind {
	case "system-prompt":
		m.builder.system(m.content(p.get("content")))
	case "user-prompt":
		m.asks(m.prompt(p.get("content")), at)
	case "text":
		m.says(p.str("content"), at)
	case "thinking":
		m.thinks(p.str("content"))
		if p.str("content") == "" {
			m.left("encrypted reasoning", count(p.str("signature")))
		}
	case "tool-call", "builtin-tool-call":
		parameters := argumentsOf(p.get("args"))
		if err := m.named(id, name, parameters, path, at); err != nil {
			return err
		}
		if strings.HasPrefix(name, "final_result") {
			m.result = parameters
		}
	case "tool-return", "builtin-tool-return":
		m.answers(answer{id: id, tool: name, text: m.builder.result(p.get("content")), at: at, failed: p.str("outcome") == "failed" || p.str("outcome") == "denied"})
	case "retry-prompt": // what is wrong with a call, or with what the run is to end with
		m.answers(answer{id: id, tool: cmp.Or(name, "output"), text: m.builder.result(p.get("content")), at: at, failed: true})
	case "file":
		m.left("file", 1)
	default:
		if name != "" {
			return invalid(path+".part_kind", "is %q, and names a tool; this call cannot be kept", clip(kind, 40))
		}
		m.left("part of kind "+clip(cmp.Or(kind, "none"), 40), 1)
	}
	return nil
}

// prompt is the text of what people said, which may have files in it.
func (m *pydanticRun) prompt(n node) string {
	if !n.isArray() {
		return m.content(n)
	}
	var texts []string
	for _, part := range n.items() {
		kind := part.str("kind")
		switch {
		case kind == "binary" && strings.HasPrefix(part.str("media_type"), "image/"):
			m.left("image", 1)
		case kind == "binary":
			m.left("document", 1)
		case strings.HasSuffix(kind, "-url"):
			m.left(strings.TrimSuffix(kind, "-url"), 1)
		case kind == "cache-point":
		default:
			texts = append(texts, m.content(part))
		}
	}
	return strings.Join(texts, "\n")
}
