package transcript

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// The messages of Gemini CLI, and the contents of Gemini's API.

func (b *builder) geminiMessage(n node, path string) error {
	at := b.time(n, "messages", "timestamp")
	kind := n.str("type")
	switch kind {
	case "user":
		var said []string
		for _, part := range geminiParts(n.get("content")) {
			if part.get("functionResponse").isObject() {
				b.geminiAnswer(part, at)
				continue
			}
			text := b.geminiText(part)
			if isGeminiContext(text) {
				b.left("note of the agent program", 1)
				continue
			}
			said = append(said, text)
		}
		b.asks(strings.Join(said, "\n"), at)
		return nil
	case "gemini":
	case "":
		if n.has("content") || n.has("toolCalls") {
			b.left("message of type none", 1)
		}
		return nil
	default: // info, warning, error: what the program told people
		b.seen(at)
		b.left("notice of the agent program", 1)
		return nil
	}
	for _, t := range n.items("thoughts") {
		b.thinks(strings.Trim(t.str("subject")+": "+t.str("description"), ": "))
	}
	b.meta(MetaModel, n.str("model"))
	b.seen(at)
	b.says(b.geminiText(n.get("content")), at)
	before := len(b.e.Steps)
	for i, c := range n.items("toolCalls") {
		if c.str("name") == "" {
			return invalid(path+".toolCalls"+index(i)+".name", "is missing, so this call cannot be kept")
		}
		b.geminiCall(c, at)
	}
	t := n.get("tokens")
	b.used(t.integer("input"), t.integer("output"))
	b.sum("cached_tokens", t.integer("cached"))
	b.sum("thoughts_tokens", t.integer("thoughts"))
	if len(b.e.Steps) > before {
		b.e.Steps[before].Tokens = int(min(t.integer("output"), 1<<31-1))
	}
	return nil
}

// geminiCall adds a call with its answer, which stands in it. Its time is that of the answer.
func (b *builder) geminiCall(c node, at time.Time) {
	when := c.when("timestamp")
	if when.IsZero() {
		when = at
	}
	i := b.call(c.str("id"), c.str("name"), argumentsOf(c.get("args")), when)
	status := c.str("status")
	var texts []string
	failed := status == "error" || status == "cancelled"
	result := c.get("result")
	for _, part := range geminiParts(result) {
		text, bad := b.geminiResponse(part)
		failed = failed || bad
		if text != "" {
			texts = append(texts, text)
		}
	}
	text := strings.Join(texts, "\n")
	if text == "" {
		text = c.str("resultDisplay")
	}
	failed = failed || geminiFailed(c.str("name"), text)
	if !result.there() && text == "" && !failed {
		return // it was under way, or its answer comes in a message
	}
	b.calls = b.calls[:len(b.calls)-1]
	b.e.Steps[i].Result = &episodic.Result{Kind: kindOf(failed), Text: text}
}

// geminiFailed reports whether an answer, which the program calls a success, tells of a command
// that failed.
func geminiFailed(tool, text string) bool {
	return tool == "run_shell_command" && geminiExit.MatchString(text)
}

// geminiExit is how the model is told of an exit code, below the command's output.
var geminiExit = regexp.MustCompile(`\nExit Code: -?[1-9][0-9]*(?:\n(?:Signal|Background PIDs|Process Group PGID): .*)*(?:\n</untrusted_context>)?\s*$`)

// geminiAnswer adds an answer that stands in a message, unless it stood with its call.
func (b *builder) geminiAnswer(part node, at time.Time) {
	id := part.str("functionResponse", "id")
	if slices.ContainsFunc(b.calls, func(c openCall) bool { return c.id == id }) {
		text, failed := b.geminiResponse(part)
		tool := part.str("functionResponse", "name")
		b.answers(answer{id: id, tool: tool, text: text, failed: failed || geminiFailed(tool, text), at: at, untold: true})
	}
}

// isGeminiContext reports whether a prompt is what Gemini CLI tells the model before the first.
func isGeminiContext(text string) bool {
	text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), "<session_context>"))
	return strings.HasPrefix(text, "This is the Gemini CLI.")
}

// geminiParts are the parts of a content: one, or several.
func geminiParts(n node) []node {
	if n.isArray() {
		return n.items()
	}
	if n.there() {
		return []node{n}
	}
	return nil
}

// geminiResponse is the text of a part of an answer.
func (b *builder) geminiResponse(part node) (text string, failed bool) {
	f := part.get("functionResponse")
	if !f.isObject() {
		return b.geminiText(part), false
	}
	r := f.get("response")
	for _, p := range f.items("parts") {
		b.geminiText(p) // images, which are counted
	}
	switch {
	case r.has("error"):
		return cmp.Or(r.str("error"), r.json("error")), true
	case r.has("output"):
		return cmp.Or(r.str("output"), unquoted(r.get("output"))), false
	}
	return unquoted(r), false
}

// unquoted is a value as JSON, or a string as it is.
func unquoted(n node) string {
	if n.isString() {
		return n.str()
	}
	return n.json()
}

// geminiText is the text of a content, whose parts have no type.
func (b *builder) geminiText(n node) string {
	var texts []string
	for _, part := range geminiParts(n) {
		switch {
		case part.yes("thought"):
			b.thinks(part.str("text"))
			continue
		case part.has("inlineData"), part.has("fileData"):
			b.left(mimeKind(cmp.Or(part.str("inlineData", "mimeType"), part.str("fileData", "mimeType"))), 1)
			continue
		}
		text, other := partText(part)
		b.left(other, count(other))
		if text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "\n")
}

func readGeminiCheckpoint(r *records) error {
	var b *builder
	i := 0
	for line, n := range r.all() {
		if b == nil {
			b = r.begin(line)
			b.meta(MetaAgent, "gemini-cli")
			b.meta(MetaTitle, strings.TrimPrefix(strings.TrimPrefix(stem(r.Name), "checkpoint-"), "checkpoint"))
		}
		list := []node{n}
		if of := firstOf(n, "history", "contents"); of.isArray() {
			list = of.items()
			b.system(b.geminiText(firstOf(n, "systemInstruction", "system_instruction").get("parts")))
		}
		for _, m := range list {
			b.add(m)
			if err := b.geminiContent(m, "content"+index(i)); err != nil {
				r.problemAt(line, err)
			}
			i++
		}
	}
	if b != nil {
		r.end(b)
	}
	return nil
}

// geminiContent adds a content of Gemini's API.
func (b *builder) geminiContent(n node, path string) error {
	say := b.asks
	if roles[n.str("role")] == fromModel {
		say = b.says
	}
	for i, part := range n.items("parts") {
		switch call, answered := part.get("functionCall"), part.get("functionResponse"); {
		case call.isObject():
			if call.str("name") == "" {
				return invalid(path+".parts"+index(i)+".functionCall.name", "is missing, so this call cannot be kept")
			}
			b.call(call.str("id"), call.str("name"), argumentsOf(call.get("args")), time.Time{})
		case answered.isObject():
			text, failed := b.geminiResponse(part)
			b.answers(answer{id: answered.str("id"), tool: answered.str("name"), text: text, failed: failed})
		default:
			if text := b.geminiText(part); !isGeminiContext(text) {
				say(text, time.Time{})
			} else {
				b.left("note of the agent program", 1)
			}
		}
	}
	return nil
}
