package transcript

import (
	"cmp"
	"strings"
	"time"
)

// What the lines of a session of Claude Code say.

// claudeUsage is what a message has used. Each line of a message repeats it, and only the last
// is right.
type claudeUsage struct{ input, output, written, read int64 }

// assistant reads a line of the model.
func (t *claudeThread) assistant(n node) {
	m, at := n.get("message"), t.b.time(n, "", "timestamp")
	model := m.str("model")
	if n.yes("isApiErrorMessage") || model == "<synthetic>" {
		t.b.left("error of the API", 1)
		return
	}
	t.model = cmp.Or(model, t.model)
	t.use(m.get("usage"), m.str("id"))
	if cost, ok := n.num("costUSD"); ok {
		t.b.cost += cost
	}
	t.b.seen(at)
	first := len(t.b.e.Steps)
	t.b.parts(m.get("content"), "message.content", at, t.b.says)
	if t.run != t.b.run {
		t.run, t.steps = t.b.run, make(map[string]int)
	}
	for _, c := range t.b.calls {
		if c.step >= first {
			t.steps[c.id] = c.step
		}
	}
	if len(t.b.e.Steps) > first {
		t.b.e.Steps[len(t.b.e.Steps)-1].Tokens += int(t.spent)
		t.spent = 0
	}
}

// use counts what a message has used beyond what was known of it.
func (t *claudeThread) use(n node, id string) {
	if !n.isObject() {
		return
	}
	u := claudeUsage{n.integer("input_tokens"), n.integer("output_tokens"), n.integer("cache_creation_input_tokens"), n.integer("cache_read_input_tokens")}
	var before claudeUsage
	if id != "" {
		before = t.usage[id]
		t.usage[id] = u
	}
	t.spent = max(0, t.spent+u.output-before.output)
	t.b.used(u.input-before.input, u.output-before.output)
	t.b.sum("cache_creation_input_tokens", u.written-before.written)
	t.b.sum("cache_read_input_tokens", u.read-before.read)
}

// user reads a line that is sent to the model: what people or the program said, and results.
func (s *claudeSession) user(t *claudeThread, n node) {
	at := t.b.time(n, "", "timestamp")
	switch {
	case n.yes("isMeta"):
		t.b.left("note of the agent program", 1)
		return
	case n.yes("isCompactSummary"):
		t.b.left("summary of a compaction", 1)
		return
	}
	content := n.get("message", "content")
	if !content.isArray() {
		s.people(t, n, []string{content.str()}, at)
		return
	}
	var texts []string
	for _, block := range content.items() {
		if block.str("type") == "tool_result" {
			t.result(block, n.get("toolUseResult"), at)
			continue
		}
		text, other := partText(block)
		t.b.left(other, count(other))
		texts = append(texts, text)
	}
	s.people(t, n, texts, at)
}

// people reads what may be said by people.
func (s *claudeSession) people(t *claudeThread, n node, texts []string, at time.Time) {
	var said []string
	typed := false
	for _, text := range texts {
		text, people := s.typed(t, text, at)
		typed = typed || people
		if text = words(text); text != "" {
			said = append(said, text)
		}
	}
	if typed {
		t.follow(n.str("parentUuid"))
	}
	if text := strings.Join(said, "\n"); text != "" {
		if t == s.main {
			s.asked[text]++
		}
		t.b.asks(text, at)
	}
}

// follow looks where in a conversation people went on. Two prompts that follow the same line
// mean that they went back to it.
func (t *claudeThread) follow(parent string) {
	if parent == "" || t.agent != "" {
		return
	}
	if m := t.marks[parent]; m != nil {
		t.b.rewind(m)
		return
	}
	t.marks[parent] = t.b.mark()
}

// typed returns what of a text is a prompt. people reports whether they wrote any of it.
func (s *claudeSession) typed(t *claudeThread, text string, at time.Time) (prompt string, people bool) {
	switch trimmed := strings.TrimSpace(text); {
	case trimmed == "":
		return "", false
	case strings.HasPrefix(trimmed, "<command-name>"), strings.HasPrefix(trimmed, "<command-message>"):
		return command(trimmed), true
	case strings.HasPrefix(trimmed, "<task-notification>"):
		t.notice(trimmed, at)
		return "", false
	case strings.HasPrefix(trimmed, "<bash-input>"):
		t.b.left("shell command of people", 1)
		return "", true
	case strings.HasPrefix(trimmed, "<bash-stdout>"), strings.HasPrefix(trimmed, "<bash-stderr>"), strings.HasPrefix(trimmed, "<local-command-"):
		t.b.left("output of people's commands", 1)
		return "", false
	case strings.HasPrefix(trimmed, "[Request interrupted by user"):
		t.b.seen(at)
		return "", false
	case strings.HasPrefix(trimmed, "Caveat:"):
		t.b.left("note of the agent program", 1)
		return "", false
	}
	return text, true
}

// settings are commands whose arguments are no task.
const settings = " add-dir agents clear color compact config context effort exit export fast ide login logout mcp memory model output-style permissions plugin rename resume rewind theme usage vim "

// command is the prompt in a slash command: its arguments, with the command if they are one
// word, which says little alone.
func command(text string) string {
	name := strings.TrimPrefix(strings.TrimSpace(inTag(text, "command-name")), "/")
	arguments := strings.TrimSpace(inTag(text, "command-args"))
	switch {
	case arguments == "" || strings.Contains(settings, " "+name+" "):
		return ""
	case !strings.ContainsAny(arguments, " \n\t"):
		return "/" + name + " " + arguments
	}
	return arguments
}

// inTag is what stands between a tag and the last one that ends it.
func inTag(text, tag string) string {
	text, _ = between(text, "<"+tag+">", "</"+tag+">")
	return text
}

// result reads what a tool answered. extra is what Claude Code knows of it beyond what the
// model saw; most of it is there twice, and large.
func (t *claudeThread) result(block, extra node, at time.Time) {
	id, failed := block.str("tool_use_id"), block.yes("is_error")
	content := block.get("content")
	text := t.b.result(content)
	if !content.there() {
		text = cmp.Or(extra.str(), join(extra.str("stdout"), extra.str("stderr")))
	}
	tool := ""
	if i, ok := t.steps[id]; ok && t.run == t.b.run && i < len(t.b.e.Steps) {
		tool = t.b.e.Steps[i].Tool
	}
	rejected := failed && (extra.str() == "User rejected tool use" || strings.HasPrefix(text, "The user doesn't want to proceed"))
	t.b.answers(answer{
		id: id, text: text, failed: failed, at: at,
		took:   time.Duration(min(extra.integer("totalDurationMs"), 1e12)) * time.Millisecond,
		untold: rejected || tool == "AskUserQuestion" || tool == "ExitPlanMode",
	})
	if agent := cmp.Or(extra.str("agentId"), extra.str("backgroundTaskId")); agent != "" {
		t.tasks[agent] = id
	}
}
