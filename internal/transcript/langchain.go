package transcript

import (
	"cmp"
	"strings"
	"time"
)

// The messages of LangChain and LangGraph: with a type instead of a role, as model_dump,
// messages_to_dict ({type, data}) or dumps ({lc, kwargs}) write them.
// https://python.langchain.com/api_reference/core/messages.html

var (
	langChain         = &format{name: "langchain", title: "messages of LangChain", fits: fitsLangChain, each: readLangChain}
	langChainMessages = &format{name: "langchain", title: "an array of LangChain messages", fits: fitsLangChainMessages, all: readLangChainMessages}
)

func fitsLangChain(h *head) bool {
	return h.some(func(n node) bool {
		list, _ := langChainList(n)
		return len(list) > 0 && isLangChain(list[0]) || len(n.items("intermediate_steps")) > 0 && n.items("intermediate_steps")[0].isArray()
	})
}

func fitsLangChainMessages(h *head) bool { return isLangChain(h.first()) }

// langChainList is the messages of a record, and where they are.
func langChainList(n node) (list []node, path string) {
	for _, path := range [][]string{{"messages"}, {"values", "messages"}, {"channel_values", "messages"}, {"output", "messages"}, {"outputs", "messages"}} {
		if at := n.get(path...); at.isArray() && len(at.items()) > 0 {
			return at.items(), path[len(path)-1]
		}
	}
	return nil, ""
}

// isLangChain reports whether a message is LangChain's.
func isLangChain(n node) bool {
	if n.has("role") || n.has("sessionId") { // Claude Code's lines have a type as well
		return false
	}
	if n.has("lc") {
		return n.get("kwargs").isObject() && len(n.items("id")) > 0
	}
	if !n.has("content") && !n.get("data").has("content") {
		return false
	}
	switch n.str("type") {
	case "human", "ai", "system", "tool", "function", "chat", "HumanMessage", "AIMessage", "SystemMessage", "ToolMessage", "HumanMessageChunk", "AIMessageChunk", "ToolMessageChunk":
		return true
	}
	return false
}

func readLangChain(n node, b *builder) error {
	list, path := langChainList(n)
	actions := n.items("intermediate_steps")
	if len(list) == 0 && len(actions) == 0 {
		return invalid("messages", "is no array of messages")
	}
	ids := []string{"thread_id", "session_id", "conversation_id", "run_id", "id"}
	for _, key := range ids {
		b.run.Key = cmp.Or(b.run.Key, n.plain(key))
	}
	b.run.Key = cmp.Or(b.run.Key, n.str("config", "configurable", "thread_id"))
	seen := make(map[string]bool)
	for i, m := range list {
		b.wrong(b.langChainMessage(m, path+index(i), seen))
	}
	if len(actions) > 0 {
		b.task(unquoted(n.get("input")))
	}
	for i, pair := range actions {
		b.wrong(b.langChainAction(pair.items(), "intermediate_steps"+index(i)))
	}
	if len(list) == 0 {
		b.says(strings.TrimSpace(unquoted(n.get("output"))), time.Time{})
	}
	b.seen(firstTime(n, "created_at", "timestamp", "ts"))
	b.judge(n)
	b.plainFields(n, "messages", "values", "input", "output", "intermediate_steps", "reward", "created_at", "timestamp", "ts")
	b.finish()
	return nil
}

func readLangChainMessages(r *records) error {
	var b *builder
	i := 0
	seen := make(map[string]bool)
	for line, n := range r.all() {
		if b == nil {
			b = r.begin(line)
		}
		b.wrong(b.langChainMessage(n, "message"+index(i), seen))
		b.add(n)
		i++
	}
	if b != nil {
		b.finish()
	}
	return nil
}

// langChainAction adds a step of an AgentExecutor: what it did, and what that came to.
func (b *builder) langChainAction(pair []node, path string) error {
	if len(pair) == 0 || pair[0].str("tool") == "" {
		return invalid(path, "calls a tool without a name, so this call cannot be kept")
	}
	b.thinks(strings.TrimSpace(pair[0].str("log")))
	b.call(path, pair[0].str("tool"), argumentsOf(pair[0].get("tool_input")), time.Time{})
	if len(pair) > 1 {
		b.answers(answer{id: path, text: b.result(pair[1])})
	}
	return nil
}

// langChainMessage adds a message. seen are the ids of those whose tokens have been counted.
func (b *builder) langChainMessage(n node, path string, seen map[string]bool) error {
	if !n.isObject() {
		return invalid(path, "is no message")
	}
	m, _ := unwrapped(n)
	if m.yes("example") {
		b.left("message of a demonstration", 1)
		return nil
	}
	about := m.get("response_metadata")
	at := firstTime(m, "timestamp", "created_at")
	if at.IsZero() {
		at = firstTime(about, "created_at", "timestamp")
	}
	b.turn(turnOf(n), path, at)
	b.meta(MetaModel, cmp.Or(about.str("model_name"), about.str("model"), about.str("model_id")))
	id := m.str("id")
	if id != "" && seen[id] {
		return nil
	}
	seen[id] = true
	b.usage(firstOf(m, "usage_metadata"))
	if !m.has("usage_metadata") {
		b.usage(firstOf(about, "token_usage", "usage"))
	}
	return nil
}
