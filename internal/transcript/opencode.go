package transcript

import (
	"cmp"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// What `opencode export` writes: a session with its messages, each with its parts. And what
// `opencode run --format json` prints: a line for each part.

var (
	openCode    = &format{name: "opencode", title: "an export of OpenCode", fits: fitsOpenCode, each: readOpenCode}
	openCodeRun = &format{name: "opencode", title: "the output of opencode run --format json", fits: fitsOpenCodeRun, all: readOpenCodeRun, live: true}
)

func fitsOpenCode(h *head) bool {
	return h.some(func(n node) bool {
		if !n.get("info").isObject() || !n.get("messages").isArray() {
			return false
		}
		list := n.items("messages")
		return strings.HasPrefix(n.str("info", "id"), "ses_") || len(list) > 0 && list[0].get("info").isObject() && list[0].has("parts")
	})
}

func fitsOpenCodeRun(h *head) bool {
	return h.some(func(n node) bool { return n.has("type") && n.has("sessionID") && n.get("part").isObject() })
}

func readOpenCode(n node, b *builder) error {
	info := n.get("info")
	b.run.Key, b.run.Parent = info.str("id"), info.str("parentID")
	b.meta(MetaAgent, "opencode")
	b.meta(MetaSession, b.run.Key)
	b.meta(MetaVersion, info.str("version"))
	b.meta(MetaTitle, info.str("title"))
	b.openCodeFolder(info.str("directory"))
	b.seen(info.when("time", "created"))
	b.damaged(n)
	messages := n.items("messages")
	for i, m := range messages {
		if id := info.str("revert", "messageID"); id != "" && m.str("info", "id") == id && !info.get("revert").has("partID") {
			b.left("message that was taken back", len(messages)-i)
			break
		}
		b.wrong(b.openCodeMessage(m, "messages"+index(i)))
	}
	b.finish()
	return nil
}

func (b *builder) openCodeFolder(cwd string) {
	if cwd != "" && b.e.Metadata[MetaFolder] == "" {
		b.meta(MetaFolder, cwd)
		b.e.Context.Domain = base(cwd)
	}
}

func (b *builder) openCodeMessage(m node, path string) error {
	info := m.get("info")
	at := b.time(info.get("time"), "messages.info.time", "created")
	b.seen(at)
	b.seen(info.when("time", "completed"))
	people := info.str("role") == "user"
	if !people {
		model := info.str("modelID")
		if provider := info.str("providerID"); provider != "" && model != "" {
			model = provider + "/" + model
		}
		b.meta(MetaModel, model)
		b.openCodeFolder(info.str("path", "cwd"))
		if info.has("error") {
			b.left("error of the API", 1)
		}
	}
	if info.yes("summary") {
		b.left("summary of a compaction", 1)
		b.openCodeUse(info)
		return nil
	}
	counted := false
	var texts []string
	for i, p := range m.items("parts") {
		if people && p.str("type") == "text" {
			if p.yes("synthetic") || p.yes("ignored") {
				b.left("note of the agent program", 1)
				continue
			}
			texts = append(texts, p.str("text"))
			continue
		}
		if p.str("type") == "step-finish" {
			b.openCodeUse(p)
			counted = true
			continue
		}
		b.wrong(b.openCodePart(p, path+".parts"+index(i), at))
	}
	b.asks(strings.Join(texts, "\n"), at)
	if !counted {
		b.openCodeUse(info)
	}
	return nil
}

// openCodeUse counts the tokens and the cost of a message, or of a step of one.
func (b *builder) openCodeUse(n node) {
	t := n.get("tokens")
	b.used(t.integer("input"), t.integer("output"))
	b.sum("reasoning_tokens", t.integer("reasoning"))
	b.sum("cache_read_tokens", t.integer("cache", "read"))
	b.sum("cache_write_tokens", t.integer("cache", "write"))
	if cost, ok := n.num("cost"); ok && cost > 0 {
		b.cost += cost
	}
}

func (b *builder) openCodePart(p node, path string, at time.Time) error {
	switch kind := p.str("type"); kind {
	case "text":
		if p.yes("synthetic") || p.yes("ignored") {
			b.left("note of the agent program", 1)
			break
		}
		b.says(p.str("text"), at)
		b.seen(p.when("time", "end"))
	case "reasoning":
		b.thinks(p.str("text"))
	case "tool":
		return b.openCodeTool(p, path, at)
	case "subtask":
		b.call(p.str("id"), "subtask", argumentsOf(p), at)
	case "file":
		b.left(mimeKind(p.str("mime")), 1)
	case "step-start", "step-finish", "snapshot", "patch", "agent", "compaction":
	case "retry":
		b.left("error of the API", 1)
	default:
		b.left("part of type "+clip(cmp.Or(kind, "none"), 40), 1)
	}
	return nil
}

// openCodeTool adds a call with its answer, which stands in it. A command that fails is
// completed too; its exit code tells.
func (b *builder) openCodeTool(p node, path string, at time.Time) error {
	tool, state := p.str("tool"), p.get("state")
	if tool == "" {
		return invalid(path+".tool", "is missing, so this call cannot be kept")
	}
	start, end := state.when("time", "start"), state.when("time", "end")
	if start.IsZero() {
		start = at
	}
	i := b.call("", tool, argumentsOf(state.get("input")), start)
	b.calls = b.calls[:len(b.calls)-1]
	b.seen(end)
	step := &b.e.Steps[i]
	code, _ := state.num("metadata", "exit")
	switch state.str("status") {
	case "completed":
		step.Result = &episodic.Result{Kind: kindOf(code != 0), Text: unquoted(state.get("output"))}
	case "error":
		step.Result = &episodic.Result{Kind: episodic.ResultError, Text: cmp.Or(state.str("error"), state.str("output"))}
	default: // pending, running; one that is not known may have ended
		if state.has("output") {
			step.Result = &episodic.Result{Kind: kindOf(code != 0), Text: unquoted(state.get("output"))}
		}
	}
	if step.Result != nil && end.After(start) && !start.IsZero() {
		step.Latency = end.Sub(start)
	}
	for _, a := range state.items("attachments") {
		b.left(mimeKind(a.str("mime")), 1)
	}
	return nil
}

func readOpenCodeRun(r *records) error {
	var b *builder
	for line, n := range r.all() {
		if b == nil {
			b = r.begin(line)
			b.meta(MetaAgent, "opencode")
		}
		b.run.Key = cmp.Or(b.run.Key, n.str("sessionID"))
		b.meta(MetaSession, b.run.Key)
		at, p := n.when("timestamp"), n.get("part")
		b.seen(at)
		b.add(p)
		var err error
		switch n.str("type") {
		case "error":
			b.left("error of the API", 1)
		case "step_finish":
			b.openCodeUse(p)
		default:
			err = b.openCodePart(p, "part", at)
		}
		if err != nil {
			r.problemAt(line, err)
		}
	}
	if b == nil {
		if r.unfinished == 0 {
			return nil
		}
		b = r.begin(1)
	}
	r.end(b)
	return nil
}
