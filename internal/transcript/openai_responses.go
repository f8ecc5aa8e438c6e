package transcript

import (
	"cmp"
	"strings"
)

// OpenAI's Responses: response objects, with or without their input, and lists of items, as
// the Agents SDK and conversations hold them. Items are messages, and calls of functions and
// of hosted tools with what came of them.
// https://platform.openai.com/docs/api-reference/responses/object

var (
	openAIResponses = &format{name: "openai-responses", title: "a log of OpenAI's Responses", fits: fitsResponses, all: readExchanges}
	openAIItems     = &format{name: "openai-responses", title: "items of OpenAI's Responses", fits: fitsItems, all: readItems}
	openAIItemLists = &format{name: "openai-responses", title: "lists of items of OpenAI's Responses", fits: fitsItemLists, each: readItemList}
)

func fitsResponses(h *head) bool {
	return h.some(func(n node) bool { return isResponse(n) || isResponse(n.get("response")) && !n.has("type") })
}

// isResponse reports whether it is a response object.
func isResponse(n node) bool {
	list := n.items("output")
	return n.get("output").isArray() && (n.str("object") == "response" || len(list) > 0 && isItem(list[0]))
}

// fitsItems: the messages of a list need not have a type, so that one of the first records
// must be an item which is none.
func fitsItems(h *head) bool {
	n := h.first()
	if !isItem(n) && !(h.array && n.has("role")) {
		return false
	}
	return h.some(isItem) && !h.some(func(n node) bool { return n.has("payload") || n.has("messages") })
}

func isItem(n node) bool {
	if n.get("raw_item").isObject() {
		return true
	}
	kind := n.str("type")
	switch kind {
	case "message":
		return n.has("role") && n.get("content").there()
	case "reasoning":
		return n.get("summary").isArray() || n.get("content").isArray()
	case "item_reference", "mcp_list_tools", "mcp_approval_request":
		return true
	}
	return strings.HasSuffix(kind, "_call") || strings.HasSuffix(kind, "_call_output")
}

func fitsItemLists(h *head) bool {
	return h.some(func(n node) bool {
		list := itemList(n)
		for _, item := range list {
			if !isItem(item) && !item.has("role") {
				return false
			}
		}
		for _, item := range list {
			if isItem(item) {
				return true
			}
		}
		return false
	})
}

// itemList is a list of items: an array, or an object with one.
func itemList(n node) []node {
	if n.isArray() {
		return n.items()
	}
	return firstOf(n, "items", "data", "input", "history").items()
}

func readItemList(n node, b *builder) error {
	i := &items{builder: b}
	for at, item := range itemList(n) {
		i.wrong(i.item(item, "items"+index(at)))
	}
	b.run.Key = cmp.Or(n.plain("conversation_id"), n.plain("session_id"), n.plain("id"))
	b.judge(n)
	b.plainFields(n, "data", "items", "input", "output", "object", "reward", "has_more", "first_id", "last_id", "created_at")
	b.seen(n.when("created_at"))
	i.end()
	b.finish()
	return nil
}

func readItems(r *records) error {
	var b *items
	at := 0
	for line, n := range r.all() {
		if b == nil {
			b = &items{builder: r.begin(line)}
		}
		b.wrong(b.item(n, "item"+index(at)))
		b.add(n)
		at++
	}
	if b != nil {
		b.end()
		b.finish()
	}
	return nil
}

// items adds items to a run.
type items struct {
	*builder
	asked map[string]node // calls for which an approval was asked
}

// end counts what was asked for and not answered.
func (i *items) end() { i.left("request for an approval", len(i.asked)) }

// item adds an item. path names it in errors.
func (i *items) item(n node, path string) error {
	if raw := n.get("raw_item"); raw.isObject() {
		n = raw // of the Agents SDK
	}
	if !n.isObject() {
		return invalid(path, "is no item")
	}
	at := firstTime(n, "created_at", "timestamp")
	i.seen(at)
	kind := n.str("type")
	switch {
	case kind == "message", kind == "" && n.has("role"):
		return i.message(n, path)
	case kind == "" && (n.has("tool_calls") || n.has("function_call")):
		return invalid(path+".role", "is missing, so its calls cannot be kept")
	case kind == "reasoning":
		i.thinks(i.texts(n.get("summary")))
		i.thinks(i.texts(n.get("content")))
		i.left("encrypted reasoning", count(n.plain("encrypted_content")))
	case kind == "mcp_approval_request":
		if i.asked == nil {
			i.asked = make(map[string]node)
		}
		i.asked[n.str("id")] = n
	case kind == "mcp_approval_response":
		return i.approval(n, path)
	case strings.HasSuffix(kind, "_output"):
		i.output(n, kind)
	case strings.HasSuffix(kind, "_call"):
		return i.hosted(n, kind, path)
	case kind == "compaction":
		i.left("encrypted summary", 1)
	default:
		i.left("item of type "+clip(cmp.Or(kind, "none"), 40), 1)
	}
	return nil
}

// texts is the text of the parts of a reasoning.
func (i *items) texts(n node) string {
	var texts []string
	for _, part := range n.items() {
		if text := part.str("text"); text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "\n")
}

// approval is what people answered. A call that they refuse is not made, and so is not there
// otherwise.
func (i *items) approval(n node, path string) error {
	id := n.str("approval_request_id")
	asked := i.asked[id]
	delete(i.asked, id)
	if n.yes("approve") || !asked.there() {
		i.left("approval", 1)
		return nil
	}
	if err := i.named(id, asked.str("name"), argumentsOf(asked.get("arguments")), path, n.when("created_at")); err != nil {
		return err
	}
	i.answers(answer{id: id, text: cmp.Or(n.str("reason"), "refused"), failed: true, untold: true})
	return nil
}

// hosted adds a call: of a function, or of a tool that has a type of its own, with what came
// of it, which stands in the same item for most of those.
func (i *items) hosted(n node, kind, path string) error {
	at := firstTime(n, "created_at", "timestamp")
	tool := strings.TrimSuffix(kind, "_call")
	id := cmp.Or(n.str("call_id"), n.str("id"))
	switch tool {
	case "function", "custom_tool", "mcp":
		parameters := argumentsOf(n.get("arguments"))
		if tool == "custom_tool" {
			parameters = quoted(n.str("input"))
		}
		if err := i.named(id, n.str("name"), parameters, path, at); err != nil {
			return err
		}
	case "code_interpreter":
		i.call(id, tool, `{"code":`+quoted(n.str("code"))+`}`, at)
	case "file_search":
		i.call(id, tool, `{"queries":`+cmp.Or(n.json("queries"), "[]")+`}`, at)
	case "image_generation":
		i.call(id, tool, `{"prompt":`+quoted(n.str("revised_prompt"))+`}`, at)
		i.left("image", count(n.str("result")))
	default:
		i.call(id, tool, argumentsOf(firstOf(n, "action", "actions", "operation", "arguments", "input")), at)
	}
	text, done := i.outcome(n)
	failed := n.get("error").there() || n.str("status") == "failed"
	if failed {
		text, done = cmp.Or(text, n.str("error"), n.str("error", "message"), n.json("error"), "failed"), true
	}
	if done {
		i.answers(answer{id: id, text: text, failed: failed, untold: true})
	}
	return nil
}

// outcome is what came of a call, where its own item has it.
func (i *items) outcome(n node) (text string, ok bool) {
	of := firstOf(n, "output", "outputs", "results")
	if !of.there() {
		return "", false
	}
	var logs []string
	for _, o := range of.items() {
		if o.str("type") != "logs" && o.str("type") != "image" {
			return i.result(of), true
		}
		if text := o.str("logs"); text != "" {
			logs = append(logs, text)
		}
		i.left("image", count(strings.TrimPrefix(o.str("type"), "logs")))
	}
	if of.isArray() {
		return strings.Join(logs, "\n"), len(of.items()) > 0
	}
	return i.result(of), true
}

// output adds what came of a call that is an item of its own.
func (i *items) output(n node, kind string) {
	tool := strings.TrimSuffix(strings.TrimSuffix(kind, "_output"), "_call")
	a := answer{id: n.str("call_id"), tool: tool, at: firstTime(n, "created_at", "timestamp"), failed: n.str("status") == "failed"}
	if tool == "function" || tool == "custom_tool" {
		a.tool = n.str("name")
	}
	out := firstOf(n, "output", "tools", "results")
	if tool == "shell" {
		a.text, a.failed = shellOutput(out, a.failed)
	} else {
		a.text = i.result(out)
	}
	i.answers(a)
}

// shellOutput is what commands wrote, one after the other, and whether one of them failed.
func shellOutput(of node, failed bool) (string, bool) {
	if !of.isArray() {
		return of.plain(), failed
	}
	var texts []string
	for _, o := range of.items() {
		for _, key := range []string{"stdout", "stderr"} {
			if text := o.str(key); text != "" {
				texts = append(texts, text)
			}
		}
		code, _ := o.num("outcome", "exit_code")
		failed = failed || code != 0 || o.str("outcome", "type") == "timeout"
	}
	return strings.Join(texts, "\n"), failed
}
