package transcript

import (
	"cmp"
	"regexp"
	"strings"
	"time"
)

// Training sets as ShareGPT wrote them: conversations of turns with from and value. Calls are
// turns of their own, or stand between tags, as Hermes writes them; where they are prose, a
// turn is an action.

var (
	shareGPT      = &format{name: "sharegpt", title: "a ShareGPT conversation", fits: fitsShareGPT, each: readShareGPT}
	shareGPTTurns = &format{name: "sharegpt", title: "the turns of a ShareGPT conversation", fits: fitsShareGPTTurns, all: readShareGPTTurns}
)

func fitsShareGPT(h *head) bool {
	return h.some(func(n node) bool {
		list := n.items(turnsKey(n))
		if n.isArray() {
			list = n.items()
		}
		return len(list) > 0 && (list[0].has("from") && list[0].has("value") || list[0].has("role") && n.has("conversations"))
	})
}

// turnsKey is the key of the turns.
func turnsKey(n node) string {
	for _, key := range []string{"conversations", "conversation", "items"} {
		if n.has(key) {
			return key
		}
	}
	return "conversations"
}

func fitsShareGPTTurns(h *head) bool {
	n := h.first()
	return h.array && n.get("from").isString() && n.get("value").isString()
}

func readShareGPTTurns(r *records) error {
	var b *builder
	i := 0
	for line, n := range r.all() {
		if b == nil {
			b = r.begin(line)
		}
		b.add(n)
		b.wrong(b.shareGPT(n, "turn"+index(i)))
		i++
	}
	if b != nil {
		b.finish()
	}
	return nil
}

func readShareGPT(n node, b *builder) error {
	key := turnsKey(n)
	turns := n.get(key)
	if n.isArray() {
		turns, key = n, "turn"
	}
	if !turns.isArray() {
		return invalid(key, "is no array of turns")
	}
	b.system(n.str("system"))
	for i, turn := range turns.items() {
		b.wrong(b.shareGPT(turn, key+index(i)))
	}
	b.judge(n)
	b.plainFields(n, key, "system", "reward")
	b.finish()
	return nil
}

var (
	taggedCall     = regexp.MustCompile(`(?s)<tool_call>\s*(.*?)\s*</tool_call>`)
	taggedResponse = regexp.MustCompile(`(?s)<tool_response>\s*(.*?)\s*</tool_response>`)
	taggedThought  = regexp.MustCompile(`(?s)^\s*<think>(.*?)</think>`)
)

// shareGPT adds a turn of a conversation.
func (b *builder) shareGPT(n node, path string) error {
	content := n.get("value")
	if !n.has("from") && n.has("role") {
		if content = n.get("content"); !content.isString() || n.has("tool_calls") || n.has("function_call") || n.has("tool_call_id") {
			return b.message(n, path)
		}
		b.reasoning(n)
	}
	text := b.content(content)
	switch from := strings.ToLower(cmp.Or(n.str("from"), n.str("role"))); {
	case from == "function_call" || from == "tool_call":
		return b.written(text, path+".value")
	case roles[from] == fromSystem:
		b.system(text)
	case roles[from] == fromPeople:
		b.asks(text, time.Time{})
	case roles[from] == fromTool || from == "function_response" || from == "tool_response":
		found := taggedResponse.FindAllStringSubmatch(text, -1)
		for _, f := range found {
			b.answers(answer{text: f[1]})
		}
		if len(found) == 0 {
			b.answers(answer{text: text})
		}
	case roles[from] == fromModel || from == "bing" || from == "bard" || from == "chatgpt":
		return b.tagged(text, path+".value")
	default:
		b.left("turn from "+clip(from, 40), 1)
	}
	return nil
}

// tagged is what the model said, in which thoughts and calls may stand between tags.
func (b *builder) tagged(text, path string) error {
	if found := taggedThought.FindStringSubmatch(text); found != nil {
		b.thinks(strings.TrimSpace(found[1]))
		text = text[len(found[0]):]
	}
	calls := taggedCall.FindAllStringSubmatch(text, -1)
	if len(calls) > 0 {
		text = strings.TrimSpace(taggedCall.ReplaceAllString(text, ""))
	}
	b.says(text, time.Time{})
	for _, c := range calls {
		b.wrong(b.written(c[1], path))
	}
	return nil
}

// written adds a call, or several, that stand in a text as JSON.
func (b *builder) written(text, path string) error {
	n, err := parse(strings.TrimSpace(text))
	if err != nil {
		if n, err = parsePython(text); err != nil {
			return invalid(path, "has a call that is not JSON: %s", clip(text, 60))
		}
	}
	calls := []node{n}
	if n.isArray() {
		calls = n.items()
	}
	for _, c := range calls {
		if f := c.get("function"); f.isObject() {
			c = f
		}
		if !c.get("arguments").there() && c.has("parameters") {
			if err := b.named("", c.str("name"), argumentsOf(c.get("parameters")), path, time.Time{}); err != nil {
				return err
			}
			continue
		}
		if err := b.toolCall("", c, path, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}
