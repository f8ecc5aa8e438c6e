package transcript

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// The conversations in Cursor's database, each put together as one value: the composer, which
// tells the order of its bubbles, and the bubbles by their ids. A bubble is what people or the
// model said, what the model thought, or a call with what came of it. The times of bubbles are
// not to be trusted; those of the composer are.

var cursorComposer = &format{name: "cursor", title: "a conversation of Cursor's database", fits: fitsCursorComposer, each: readCursorComposer}

func fitsCursorComposer(h *head) bool {
	return h.some(func(n node) bool { return n.get("composer").isObject() && n.get("bubbles").isObject() })
}

func readCursorComposer(n node, b *builder) error {
	c := n.get("composer")
	b.run.Key = cmp.Or(c.str("composerId"), c.str("id"))
	b.meta(MetaAgent, "cursor")
	b.meta(MetaSession, b.run.Key)
	b.meta(MetaTitle, c.str("name"))
	b.meta(MetaBranch, c.str("createdOnBranch"))
	b.meta("status", c.str("status"))
	if model := c.str("modelConfig", "modelName"); model != "default" {
		b.meta(MetaModel, model)
	}
	b.damaged(n)
	for _, f := range c.fields("usageData") {
		cents, _ := f.value.num("costInCents")
		b.cost += max(cents, 0) / 100
	}
	b.seen(b.time(c, "composer", "createdAt"))
	b.seen(b.time(c, "composer", "lastUpdatedAt"))
	told := make(map[string]bool)
	for _, of := range c.items("fullConversationHeadersOnly") {
		id := of.str("bubbleId")
		told[id] = true
		bubble := n.get("bubbles", id)
		if !bubble.there() {
			b.left("bubble that is not there", 1)
			continue
		}
		b.wrong(b.cursorBubble(bubble, "bubbles."+clip(id, 40)))
	}
	if len(told) == 0 { // older conversations have all in one
		for i, bubble := range c.items("conversation") {
			b.wrong(b.cursorBubble(bubble, "conversation"+index(i)))
		}
	}
	for _, f := range n.fields("bubbles") {
		if !told[f.key] {
			b.left("bubble that was taken back", 1)
		}
	}
	b.finish()
	return nil
}

// damaged tells which pieces of a session could not be put together.
func (b *builder) damaged(n node) {
	for _, name := range n.items("damaged") {
		b.wrong(invalid("", "%s is damaged, and was left out", clip(name.str(), 200)))
	}
}

// Types of bubbles.
const (
	bubbleOfPeople = 1
	bubbleOfModel  = 2
)

func (b *builder) cursorBubble(n node, path string) error {
	b.left("image", len(n.items("images")))
	b.used(n.integer("tokenCount", "inputTokens"), n.integer("tokenCount", "outputTokens"))
	text := n.str("text")
	switch n.integer("type") {
	case bubbleOfPeople:
		b.asks(text, time.Time{})
		return nil
	case bubbleOfModel:
	default:
		b.left("bubble of an unknown type", 1)
		return nil
	}
	thought := cmp.Or(n.str("thinking", "text"), n.str("thinking"))
	for _, t := range n.items("allThinkingBlocks") {
		if more := cmp.Or(t.str("thinking"), t.str("text")); thought == "" {
			thought = more
		}
	}
	b.thinks(thought)
	b.says(text, time.Time{})
	call := n.get("toolFormerData")
	if !slices.ContainsFunc([]string{"name", "toolCallId", "rawArgs", "params"}, call.has) {
		return nil
	}
	if call.str("name") == "" {
		return invalid(path+".toolFormerData.name", "is missing, so this call cannot be kept")
	}
	arguments := firstOf(call, "rawArgs", "params")
	if blank(arguments.plain()) && arguments.isString() {
		arguments = call.get("params")
	}
	i := b.call("", call.str("name"), argumentsOf(arguments), time.Time{})
	b.calls = b.calls[:len(b.calls)-1] // its answer is here, or there is none
	status, problem := strings.ToLower(call.str("status")), cmp.Or(call.str("error"), call.str("error", "message"))
	failed := status == "error" || status == "cancelled" || status == "rejected" || call.str("userDecision") == "rejected"
	if text := cmp.Or(unquoted(call.get("result")), problem); text != "" || failed {
		b.e.Steps[i].Result = &episodic.Result{Kind: kindOf(failed), Text: text}
	}
	return nil
}
