package transcript

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/episodic-memory/episodic"
)

// The transcripts of OpenAI's chat completions, as data sets, dumps and evaluations have
// them: objects with a list of messages, lists of them, or one such list, as an array or a
// message a line.
// https://platform.openai.com/docs/api-reference/chat

var (
	openAI         = &format{name: "openai", title: "an OpenAI chat transcript", fits: fitsOpenAI, each: readOpenAI}
	openAIMessages = &format{name: "openai", title: "an array of chat messages", fits: fitsMessages, all: readMessages}
)

func fitsOpenAI(h *head) bool {
	// Among documents of ours, the others are read as what they are.
	ours := func(n node) bool { return n.has("description") && !n.has("messages") && !n.has("traj") }
	return !h.some(ours) && h.some(func(n node) bool {
		list, _ := messageList(n)
		messages := list.items()
		return list.isArray() && (len(messages) == 0 || slices.ContainsFunc(messages, func(m node) bool { return m.has("role") }))
	})
}

// messageKeys are the names that a list of messages has.
var messageKeys = []string{"messages", "traj", "trajectory", "conversation", "history", "dialogue", "chat"}

// messageList is the list of messages of a record, and its key. Some data sets keep it as text.
func messageList(n node) (list node, key string) {
	if n.isArray() {
		return n, "message"
	}
	for _, key := range messageKeys {
		list := n.get(key)
		if text := list.str(); strings.HasPrefix(text, "[") {
			list, _ = parse(text)
		}
		if list.isArray() || list.there() && key == "messages" {
			return list, key
		}
	}
	return node{}, messageKeys[0]
}

// fitsMessages: one array of messages is one transcript, and so are messages in lines.
func fitsMessages(h *head) bool {
	if !h.first().has("role") || h.some(func(n node) bool { return n.has("messages") || n.has("traj") || !n.has("role") }) {
		return false
	}
	return h.array || h.some(func(n node) bool { return roles[n.str("role")] == fromPeople && n.has("content") })
}

func readOpenAI(n node, b *builder) error {
	list, key := messageList(n)
	if !list.isArray() {
		return invalid(key, "is no array of messages")
	}
	b.system(b.content(n.get("system")))
	b.task(cmp.Or(n.str("info", "task", "instruction"), n.str("task"), n.str("description")))
	for i, m := range list.items() {
		b.wrong(b.message(m, key+index(i)))
	}
	b.seen(b.time(n, "", "created", "created_at", "timestamp"))
	if b.usage(n.get("usage")); !n.has("usage") { // some have it with each message
		for _, m := range list.items() {
			b.usage(m.get("usage"))
		}
	}
	b.judge(n)
	b.plainFields(n, key, "system", "task", "description", "reward", "reward_info", "usage", "created", "created_at", "timestamp", "task_type")
	b.e.TaskType = episodic.TaskType(n.str("task_type"))
	b.finish()
	return nil
}

func readMessages(r *records) error {
	var b *builder
	i := 0
	for line, n := range r.all() {
		if b == nil {
			b = r.begin(line)
		}
		b.wrong(b.message(n, "message"+index(i)))
		b.add(n)
		i++
	}
	if b != nil {
		b.finish()
	}
	return nil
}

// index is the place of an element in an array, as paths have it.
func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// plainFields keeps the fields of a record as metadata, but for some: strings, numbers,
// booleans, and lists of these. What holds more is counted.
func (b *builder) plainFields(n node, but ...string) {
	for _, f := range n.fields() {
		switch {
		case slices.Contains(but, f.key):
		case f.key == "metadata" && f.value.isObject():
			b.plainFields(f.value)
		case f.value.isObject() && len(f.value.fields()) > 0:
			b.left("field "+clip(f.key, 40), 1)
		case f.value.isArray():
			list := f.value.items()
			if slices.ContainsFunc(list, func(n node) bool { return n.isObject() || n.isArray() }) {
				b.left("field "+clip(f.key, 40), 1)
			} else if len(list) > 0 {
				b.meta(f.key, f.value.json())
			}
		default:
			b.meta(f.key, f.value.plain())
		}
	}
}
