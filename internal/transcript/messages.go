package transcript

import (
	"cmp"
	"strings"
	"time"
)

// The roles of messages, of whichever writer.
const (
	fromSystem = iota + 1
	fromPeople
	fromModel
	fromTool
	fromNobody // marks of a writer, such as the end of a run
)

var roles = map[string]int{
	"system": fromSystem, "developer": fromSystem,
	"user": fromPeople, "human": fromPeople,
	"assistant": fromModel, "ai": fromModel, "agent": fromModel, "model": fromModel, "gpt": fromModel, "chatbot": fromModel,
	"bot":  fromModel,
	"tool": fromTool, "function": fromTool, "observation": fromTool, "ipython": fromTool, "environment": fromTool,
	"tool_result": fromTool, "tool_response": fromTool, "function_response": fromTool,
	"exit": fromNobody,
}

// message adds a message of OpenAI's chat completions, of Anthropic's messages, or of one of
// the many that look like them. path names it in errors.
func (b *builder) message(n node, path string) error {
	if demonstration(n) {
		b.left("demonstration", 1)
		return nil
	}
	role := strings.ToLower(n.str("role"))
	list, _, _ := strings.Cut(path, "[")
	at := b.time(n, list, "timestamp", "created_at", "time")
	b.seen(at)
	b.reasoning(n)
	content := firstOf(n, "content", "text", "value", "system_prompt")
	switch roles[role] {
	case fromSystem:
		b.system(b.content(content))
	case fromPeople:
		b.parts(content, path+".content", at, b.asks)
	case fromModel:
		b.parts(content, path+".content", at, b.says)
		b.meta(MetaModel, cmp.Or(b.e.Metadata[MetaModel], n.str("model")))
		b.says(cmp.Or(n.str("refusal"), n.str("audio", "transcript")), at)
		return b.toolCalls(n, path, at)
	case fromTool:
		id := cmp.Or(n.str("tool_call_id"), n.str("id"))
		if ids := n.items("tool_call_ids"); id == "" && len(ids) > 0 {
			id = ids[0].str()
		}
		problem := n.get("error")
		why := cmp.Or(problem.str("message"), problem.str())
		text := b.result(content)
		if !strings.Contains(text, why) {
			text = join(text, why)
		}
		b.answers(answer{
			id: id, tool: cmp.Or(n.str("name"), n.str("tool_name"), n.str("function")), text: text, at: at,
			failed: problem.yes() || problem.isObject() || !blank(why) || n.yes("is_error") || n.str("status") == "error",
		})
	case fromNobody:
		b.left("message of role "+role, 1)
	default:
		if n.has("tool_calls") || n.has("function_call") {
			return invalid(path+".role", "is %q, and calls tools; it must be assistant", clip(role, 40))
		}
		if role == "tool_call" || role == "function_call" {
			return b.written(b.content(content), path+".content")
		}
		b.left("message of role "+clip(cmp.Or(role, "none"), 40), 1)
	}
	return nil
}

// reasoning is what the model thought, by whichever name.
func (b *builder) reasoning(n node) {
	text, details := cmp.Or(n.str("reasoning_content"), n.str("reasoning"), n.str("thinking")), ""
	for _, key := range []string{"reasoning_details", "thinking_blocks"} {
		for _, d := range n.items(key) {
			if kind := d.str("type"); kind == "redacted_thinking" || strings.HasSuffix(kind, "encrypted") {
				b.left("encrypted reasoning", 1)
			}
			details = join(details, cmp.Or(d.str("thinking"), d.str("text"), d.str("summary")))
		}
	}
	b.thinks(cmp.Or(text, details))
}

// toolCalls adds the calls of a message: nested in function, or flat. Some data sets keep
// them as text.
func (b *builder) toolCalls(n node, path string, at time.Time) error {
	if f := n.get("function_call"); f.isObject() {
		b.wrong(b.toolCall("", f, path+".function_call", at))
	}
	calls := n.get("tool_calls")
	if text := calls.str(); text != "" {
		calls, _ = parse(text)
	}
	list := calls.items()
	if calls.isObject() && callName(calls) != "" {
		list = []node{calls}
	} else if calls.there() && !calls.isArray() {
		return invalid(path+".tool_calls", "is no array")
	}
	for i, c := range list {
		f := c
		for _, kind := range []string{"function", "custom"} {
			if c.get(kind).isObject() {
				f = c.get(kind)
			}
		}
		b.wrong(b.toolCall(cmp.Or(c.str("id"), c.str("call_id"), c.str("tool_call_id")), f, path+".tool_calls"+index(i), at))
	}
	return nil
}

// callName is the tool that a call names.
func callName(f node) string {
	for _, key := range []string{"name", "tool_name", "function_name", "function", "tool"} {
		of := f.get(key)
		if name := cmp.Or(of.str(), of.str("name")); name != "" {
			return name
		}
	}
	return ""
}

// toolCall adds a call {name, arguments}, whose arguments are JSON in a string, or an object.
func (b *builder) toolCall(id string, f node, path string, at time.Time) error {
	name := callName(f)
	if name == "" {
		return invalid(path+".name", "is missing, so this call cannot be kept")
	}
	b.call(id, name, argumentsOf(f.get("arguments"), f.get("args"), f.get("input"), f.get("parameters")), at)
	return nil
}

// argumentsOf are the first arguments that are there, as JSON.
func argumentsOf(of ...node) string {
	for _, n := range of {
		switch {
		case n.isString():
			return arguments(n.str())
		case n.there():
			return n.json()
		}
	}
	return ""
}

// content is the text of a content, in which calls do not matter: a string, or parts. What
// is no text is counted.
func (b *builder) content(n node) string {
	switch {
	case n.isString():
		return n.str()
	case n.isObject():
		text, other := partText(n)
		b.left(other, count(other))
		return text
	}
	if !n.isArray() {
		return n.plain()
	}
	var texts []string
	for _, part := range n.items() {
		text, other := partText(part)
		b.left(other, count(other))
		if text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "\n")
}

func count(what string) int {
	if what == "" {
		return 0
	}
	return 1
}

// partText is the text of a part, or what it is if it has none.
func partText(part node) (text, other string) {
	if part.isString() {
		return part.str(), ""
	}
	kind := part.str("type")
	switch kind {
	case "image", "image_url", "input_image", "output_image", "computer_screenshot":
		return "", "image"
	case "document", "file", "input_file":
		if text := cmp.Or(part.str("source", "data"), part.str("text")); part.str("source", "type") == "text" && text != "" {
			return text, ""
		}
		return "", "document"
	case "input_audio", "audio", "output_audio":
		return cmp.Or(part.str("transcript"), part.str("audio", "transcript")), "audio"
	case "video", "video_url":
		return "", "video"
	case "redacted_thinking":
		return "", "encrypted reasoning"
	}
	if text := cmp.Or(part.str("text"), part.str("refusal"), part.str("content")); text != "" {
		return text, ""
	}
	switch {
	case part.has("image"), part.has("inlineData"), part.has("inline_data"), part.has("blob"):
		return "", "image"
	case kind == "text", kind == "input_text", kind == "output_text", kind == "" && len(part.fields()) == 0:
		return "", ""
	case part.isObject():
		return "", "content of type " + clip(cmp.Or(kind, "none"), 40)
	}
	return part.plain(), ""
}

// parts adds a content whose parts may be calls, answers and thoughts. say gets its text.
func (b *builder) parts(n node, path string, at time.Time, say func(string, time.Time)) {
	if !n.isArray() {
		say(b.content(n), at)
		return
	}
	var texts []string
	flush := func() {
		say(strings.Join(texts, "\n"), at)
		texts = texts[:0]
	}
	for i, part := range n.items() {
		taken, err := b.block(part, path+index(i), at, flush)
		b.wrong(err)
		if taken {
			continue
		}
		text, other := partText(part)
		b.left(other, count(other))
		if text != "" {
			texts = append(texts, text)
		}
	}
	flush()
}

// block adds a part that is more than text, and reports whether it was one.
func (b *builder) block(part node, path string, at time.Time, flush func()) (taken bool, err error) {
	kind := part.str("type")
	switch {
	case kind == "thinking" || kind == "reasoning":
		b.thinks(cmp.Or(part.str("thinking"), part.str("text"), part.str("reasoning")))
		return true, nil
	case kind == "tool_use", kind == "server_tool_use", kind == "mcp_tool_use", kind == "tool_call", kind == "tool-call":
		flush()
		id := cmp.Or(part.str("id"), part.str("toolCallId"), part.str("call_id"))
		return true, b.named(id, cmp.Or(part.str("name"), part.str("toolName")), argumentsOf(part.get("input"), part.get("args"), part.get("arguments")), path, at)
	case part.get("toolUse").isObject():
		flush()
		u := part.get("toolUse")
		return true, b.named(u.str("toolUseId"), u.str("name"), argumentsOf(u.get("input")), path+".toolUse", at)
	case kind == "tool_result", kind == "tool-result", strings.HasSuffix(kind, "_tool_result"):
		content := part.get("content")
		if !content.there() {
			content = part.get("result")
		}
		text, failed := b.served(content)
		failed = failed || part.yes("is_error") || part.yes("isError")
		b.answers(answer{id: cmp.Or(part.str("tool_use_id"), part.str("toolCallId")), text: text, failed: failed, at: at})
		return true, nil
	case part.get("toolResult").isObject():
		r := part.get("toolResult")
		b.answers(answer{id: r.str("toolUseId"), text: b.result(r.get("content")), failed: r.str("status") == "error", at: at})
		return true, nil
	}
	return false, nil
}

// served is the result of a tool, which Anthropic's own servers write in a form of each tool.
func (b *builder) served(content node) (text string, failed bool) {
	if list := content.items(); len(list) > 0 && list[0].str("type") == "web_search_result" {
		var texts []string
		for _, r := range list {
			texts = append(texts, join(r.str("title"), r.str("url")))
			b.left("encrypted content", count(r.str("encrypted_content")))
		}
		return strings.Join(texts, "\n"), false
	}
	if content.has("return_code") {
		code, _ := content.num("return_code")
		return join(content.str("stdout"), content.str("stderr")), code != 0
	}
	return b.result(content), strings.HasSuffix(content.str("type"), "_error")
}

func (b *builder) named(id, name, parameters, path string, at time.Time) error {
	if name == "" {
		return invalid(path+".name", "is missing, so this call cannot be kept")
	}
	b.call(id, name, parameters, at)
	return nil
}

// result is the text of an answer: a string, parts, or any other value as JSON.
func (b *builder) result(n node) string {
	switch {
	case n.isArray():
		whole := true
		for _, part := range n.items() {
			if text, other := partText(part); text != "" || other == "image" || other == "document" {
				whole = false
			}
		}
		if whole && len(n.items()) > 0 {
			return n.json()
		}
		return b.content(n)
	case n.isString() || !n.there():
		return n.str()
	}
	return n.json()
}

// signed is the judgement that the record of a run holds beside its messages.
var signed = [][]string{{"outcome"}, {"reward"}, {"reward", "total"}, {"score"}, {"success"}, {"resolved"}, {"is_correct"}, {"info", "reward_info", "reward"}, {"reward_info", "reward"}}

// judge looks where a record says what came of it.
func (b *builder) judge(n node) {
	paths := signed
	if b.opts.OutcomeField != "" {
		paths = [][]string{strings.Split(b.opts.OutcomeField, ".")}
	}
	for _, path := range paths {
		if at := n.get(path...); at.there() && !at.isObject() && !at.isArray() {
			b.judged(strings.Join(path, "."), at)
		}
	}
}

// usage adds the tokens that a record says were used, by whichever names.
func (b *builder) usage(n node) {
	first := func(keys ...string) int64 {
		for _, key := range keys {
			if i := n.integer(key); i > 0 {
				return i
			}
		}
		return 0
	}
	for _, key := range []string{"cache_read_input_tokens", "cache_creation_input_tokens"} {
		b.sum(key, n.integer(key))
	}
	b.used(first("input_tokens", "prompt_tokens", "inputTokens"), first("output_tokens", "completion_tokens", "outputTokens"))
}
