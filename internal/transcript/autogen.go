package transcript

import (
	"cmp"
	"regexp"
	"strings"
	"time"
)

// What AutoGen records: the messages and events of a team since 0.4, each with a source and
// the name of its class, and chat histories of 0.2, in which roles are relative to one agent.
// https://microsoft.github.io/autogen/stable/reference/python/autogen_agentchat.messages.html

var (
	autoGen         = &format{name: "autogen", title: "a task result of AutoGen", fits: fitsAutoGen, each: readAutoGen}
	autoGenMessages = &format{name: "autogen", title: "messages of AutoGen", fits: fitsAutoGenMessages, all: readAutoGenMessages}
)

func fitsAutoGen(h *head) bool {
	return h.some(func(n node) bool {
		list, key := autoGenList(n)
		return key == "chat_history" || len(list) > 0 && isAutoGen(list[0])
	})
}

// autoGenList is the messages of a record, and where they are: those of a result, or in what is
// saved of an agent or of a team, whose agents all have what was said in the team.
func autoGenList(n node) (list []node, key string) {
	for _, key := range []string{"messages", "chat_history"} {
		if n.get(key).isArray() {
			return n.items(key), key
		}
	}
	if list := n.items("llm_context", "messages"); len(list) > 0 {
		return list, "llm_context.messages"
	}
	for _, f := range n.fields("agent_states") {
		if list := f.value.items("message_thread"); len(list) > 0 {
			return list, "message_thread"
		}
	}
	return nil, "messages"
}

// isAutoGen reports whether a message is one of 0.4.
func isAutoGen(n node) bool {
	kind := n.str("type")
	return n.has("source") && n.has("content") && (strings.Contains(kind, "Message") || strings.HasSuffix(kind, "Event"))
}

func fitsAutoGenMessages(h *head) bool {
	first := h.first()
	named := func(n node) bool {
		return n.str("role") == "user" && n.str("name") != "" && n.str("name") != first.str("name")
	}
	return isAutoGen(first) || h.array && h.some(func(n node) bool { return n.has("tool_responses") && n.has("role") }) ||
		h.array && first.str("role") == "assistant" && first.str("name") != "" && h.some(named) // relative to who asked
}

func readAutoGen(n node, b *builder) error {
	list, key := autoGenList(n)
	if len(list) == 0 {
		return invalid(key, "is no array of messages")
	}
	a := &autoGenRun{builder: b}
	for i, m := range list {
		a.wrong(a.message(m, key+index(i)))
	}
	for _, of := range n.fields("cost", "usage_including_cached_inference") {
		if of.key == "total_cost" {
			b.meta(MetaCost, of.value.plain())
			continue
		}
		b.meta(MetaModel, of.key)
		b.usage(of.value)
	}
	b.judge(n)
	b.plainFields(n, "messages", "chat_history", "task_result", "reward", "llm_context", "agent_states", "type", "version")
	b.finish()
	return nil
}

func readAutoGenMessages(r *records) error {
	var a *autoGenRun
	i := 0
	for line, n := range r.all() {
		if a == nil {
			a = &autoGenRun{builder: r.begin(line)}
		}
		a.wrong(a.message(n, "message"+index(i)))
		a.add(n)
		i++
	}
	if a != nil {
		a.finish()
	}
	return nil
}

// autoGenRun is a run of AutoGen.
type autoGenRun struct {
	*builder
	asker string // who spoke first
}

func (a *autoGenRun) message(n node, path string) error {
	switch {
	case !n.isObject():
		return invalid(path, "is no message")
	case n.has("source"), n.str("type") == "FunctionExecutionResultMessage":
		return a.event(n, path)
	}
	return a.chat(n, path)
}

// event adds a message or an event of 0.4.
func (a *autoGenRun) event(n node, path string) error {
	at := a.time(n, "messages", "created_at")
	a.seen(at)
	a.usage(n.get("models_usage"))
	source := n.str("source")
	if a.asker == "" {
		a.asker = source
		if id := n.str("id"); len(id) >= 32 { // a UUID; older ones count
			a.run.Key = id
		}
	}
	people := source == a.asker || source == "user"
	if !people && source != "" {
		a.speaker = source
	}
	content := n.get("content")
	switch kind := n.str("type"); kind {
	case "ToolCallRequestEvent", "ToolCallRequestMessage":
		for i, c := range content.items() {
			a.wrong(a.toolCall(c.str("id"), c, path+".content"+index(i), at))
		}
	case "AssistantMessage": // of what is saved of an agent
		a.thinks(n.str("thought"))
		if !content.isArray() {
			a.says(a.content(content), at)
			break
		}
		for i, c := range content.items() {
			a.wrong(a.toolCall(c.str("id"), c, path+".content"+index(i), at))
		}
	case "SystemMessage":
		a.system(a.content(content))
	case "ToolCallExecutionEvent", "ToolCallExecutionMessage", "ToolCallResultMessage", "FunctionExecutionResultMessage":
		for _, r := range content.items() {
			a.answers(answer{id: r.str("call_id"), tool: r.str("name"), text: a.result(r.get("content")), failed: r.yes("is_error"), at: at})
		}
	case "ToolCallSummaryMessage": // what the tools answered, again: it is what the agent says in the end
		a.speak()
		a.spoke = cmp.Or(a.content(content), a.spoke)
	case "ThoughtEvent":
		a.thinks(a.content(content))
	case "CodeGenerationEvent":
		a.says(a.content(content), at)
		a.call("", "execute_code", `{"code_blocks":`+cmp.Or(n.json("code_blocks"), "[]")+`}`, at)
	case "CodeExecutionEvent":
		code, _ := n.num("result", "exit_code")
		a.answers(answer{tool: "execute_code", text: n.str("result", "output"), failed: code != 0, at: at})
	case "MemoryQueryEvent":
		a.call("", "memory", "", at)
		a.answers(answer{tool: "memory", text: a.result(content), untold: true})
	case "ModelClientStreamingChunkEvent", "UserInputRequestedEvent": // pieces of messages; questions for them
	case "SelectSpeakerEvent", "SelectorEvent":
		a.left("choice of a speaker", 1)
	default:
		if strings.HasSuffix(kind, "Event") {
			a.left("event of type "+clip(kind, 40), 1)
			return nil
		}
		text := a.result(content)
		if people {
			a.asks(text, at)
		} else {
			a.says(text, at)
		}
	}
	return nil
}

// ran is how a user proxy of 0.2 answers a message with code in it.
var ran = regexp.MustCompile(`^exitcode: (-?\d+) \([^)\n]*\)\s*\nCode output: ?\n?`)

// chat adds a message of 0.2. Who speaks first is who asks; what it says later on may be
// what tools answered.
func (a *autoGenRun) chat(n node, path string) error {
	name := cmp.Or(n.str("name"), n.str("role"))
	if a.asker == "" && n.str("role") != "system" {
		a.asker = name
	}
	if name != a.asker {
		a.speaker = name
	}
	if list := n.items("tool_responses"); len(list) > 0 {
		for _, r := range list {
			a.answers(answer{id: r.str("tool_call_id"), text: a.result(r.get("content"))})
		}
		return nil
	}
	text := a.content(n.get("content"))
	switch {
	case n.str("role") == "system", n.str("role") == "tool", n.str("role") == "function":
		return a.builder.message(n, path)
	case n.has("tool_calls") || n.has("function_call"):
		a.says(text, time.Time{})
		return a.toolCalls(n, path, time.Time{})
	case name != a.asker:
		a.says(text, time.Time{})
	default:
		if m := ran.FindStringSubmatch(text); m != nil {
			a.call("", "execute_code", "", time.Time{})
			a.answers(answer{tool: "execute_code", text: text[len(m[0]):], failed: m[1] != "0"})
			return nil
		}
		a.asks(text, time.Time{})
	}
	return nil
}
