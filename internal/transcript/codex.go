package transcript

import (
	"cmp"
	"strings"
	"time"
)

// The rollouts of Codex CLI: a file for each session, of lines {timestamp, type, payload}. What
// was said and done stands in it twice: as the model saw it (response_item), and as people did
// (event_msg). Before September 2025 lines were the items themselves.
// https://github.com/openai/codex/blob/main/codex-rs/protocol/src/protocol.rs

var codex = &format{name: "codex", title: "a session of Codex", fits: fitsCodex, follow: followCodex, live: true}

func fitsCodex(h *head) bool {
	n := h.first()
	switch n.str("type") {
	case "session_meta", "response_item", "event_msg", "turn_context", "compacted":
		return n.has("payload")
	}
	return isOldCodex(n) && h.some(func(n node) bool { return n.has("record_type") || n.has("type") })
}

// isOldCodex reports whether a line is the first of a file without envelopes.
func isOldCodex(n node) bool {
	return n.has("id") && n.has("timestamp") && !n.has("type") && (n.get("instructions").v != nil || n.has("git"))
}

// codexSession is a rollout while it is read.
type codexSession struct {
	in      *records
	b       *builder // nil: there was no line yet
	id      string
	started time.Time
	from    float64 // the least ordinal of what is its own; what is before was copied
	begun   bool    // people have asked for something

	events  bool // what people said is in events too, as they wrote it
	pending []codexPrompt
	last    string // what the model said last, by the events

	ends  map[string]codexEnd // of commands, by the ids of calls
	steps map[string]int      // by the ids of calls
	run   *Run                // whose steps those are
	total codexTokens         // used until now
}

// codexPrompt is what people said, as the model saw it.
type codexPrompt struct {
	text   string
	images int
	at     time.Time
}

func followCodex(r *records) follower {
	return &codexSession{in: r, ends: make(map[string]codexEnd)}
}

func (s *codexSession) take(line int, n node) {
	if s.b == nil {
		s.b = s.in.begin(line)
		s.b.meta(MetaAgent, "codex")
	}
	if err := s.line(n); err != nil {
		s.in.problemAt(line, err)
	}
}

func (s *codexSession) fork(r *records) follower {
	f := *s
	f.in, f.b = r, s.b.fork(r.emit, r.tell)
	return &f
}

func (s *codexSession) end() {
	if s.b == nil {
		s.b = s.in.begin(1)
	}
	s.ask()
	if s.b.said == "" && s.b.spoke == "" {
		s.b.says(s.last, time.Time{})
	}
	if s.b.start.IsZero() {
		s.b.seen(s.started)
	}
	if s.b.run.Key == "" {
		s.b.run.Key = stem(s.in.Name)
	}
	s.in.end(s.b)
}

func (s *codexSession) line(n node) error {
	at, p := s.b.time(n, "", "timestamp"), n.get("payload")
	if ordinal, ok := n.num("ordinal"); ok && ordinal < s.from && n.str("type") != "session_meta" {
		return nil
	}
	switch kind := n.str("type"); {
	case kind == "session_meta":
		s.meta(p, cmp.Or(p.str("cli_version"), p.str("version")))
	case kind == "turn_context":
		s.b.meta(MetaModel, p.str("model"))
		s.folder(p.str("cwd"))
	case kind == "event_msg":
		s.event(p, at)
	case kind == "response_item":
		return s.item(p, at)
	case isOldCodex(n):
		s.meta(n, "")
	case n.has("record_type"), kind == "compacted":
	case n.has("payload"), kind == "":
		s.b.left("line of type "+clip(cmp.Or(kind, "none"), 40), 1)
	default:
		return s.item(n, at)
	}
	return nil
}

// meta reads what a session is. Of several, as in a fork, the first is its own.
func (s *codexSession) meta(n node, version string) {
	if s.id != "" {
		return
	}
	s.id = cmp.Or(n.str("id"), n.str("session_id"))
	s.b.run.Key = s.id
	s.started = n.when("timestamp")
	s.b.meta(MetaSession, s.id)
	s.b.meta(MetaVersion, version)
	s.b.meta(MetaBranch, n.str("git", "branch"))
	s.folder(n.str("cwd"))
	s.b.run.Parent = cmp.Or(n.str("parent_thread_id"), n.str("source", "subagent", "thread_spawn", "parent_thread_id"))
	s.from, _ = n.num("subagent_history_start_ordinal")
	if end, ok := n.num("history_base", "end_ordinal_exclusive"); ok {
		s.from = max(s.from, end)
	}
	s.b.system(cmp.Or(n.str("base_instructions", "text"), n.str("instructions")))
}

func (s *codexSession) folder(cwd string) {
	if cwd != "" && s.b.e.Metadata[MetaFolder] == "" {
		s.b.meta(MetaFolder, cwd)
		s.b.e.Context.Domain = base(cwd)
	}
}

// ask takes what people said from what the model saw, if there are no events.
func (s *codexSession) ask() {
	for _, p := range s.pending {
		if !s.events {
			s.b.left("image", p.images)
			s.b.asks(p.text, p.at)
		}
	}
	s.pending = nil
}

// event reads what people saw.
func (s *codexSession) event(p node, at time.Time) {
	if s.begun {
		s.b.seen(at)
	}
	id := p.str("call_id")
	switch p.str("type") {
	case "user_message":
		s.people(p.str("message"), len(p.items("images"))+len(p.items("local_images")), at)
	case "item_completed":
		s.completed(p.get("item"), at)
	case "agent_message":
		s.last = cmp.Or(p.str("message"), s.last)
	case "task_complete", "turn_complete":
		s.last = cmp.Or(p.str("last_agent_message"), s.last)
	case "token_count":
		s.use(p.get("info", "total_token_usage"))
	case "exec_command_end":
		s.ended(id, codexCommand(p))
	case "patch_apply_end":
		s.ended(id, codexEnd{known: p.has("success"), failed: !p.yes("success")})
	case "mcp_tool_call_end":
		s.ended(id, codexEnd{known: p.has("result"), failed: p.get("result").has("Err") || p.yes("result", "Ok", "isError") || p.yes("result", "Ok", "is_error"), took: codexDuration(p.get("duration"))})
	case "error":
		s.b.left("error of the API", 1)
	}
}

// people reads a prompt as people wrote it.
func (s *codexSession) people(text string, images int, at time.Time) {
	s.events, s.begun, s.pending = true, true, nil
	s.b.seen(at)
	s.b.left("image", images)
	s.b.addText(text)
	s.b.asks(codexWords(text), at)
}

// completed reads an item as newer versions tell people of it.
func (s *codexSession) completed(item node, at time.Time) {
	id := item.str("id")
	switch item.str("type") {
	case "UserMessage":
		var texts []string
		images := 0
		for _, part := range item.items("content") {
			if text := part.str("text"); text != "" {
				texts = append(texts, text)
			} else {
				images++
			}
		}
		s.people(strings.Join(texts, "\n"), images, at)
	case "AgentMessage":
		s.last = cmp.Or(s.b.content(item.get("content")), s.last)
	case "CommandExecution":
		s.ended(id, codexCommand(item))
	case "McpToolCall", "FileChange", "DynamicToolCall":
		status := item.str("status")
		s.ended(id, codexEnd{known: status != "", failed: status == "failed" || status == "declined", took: codexDuration(item.get("duration"))})
	}
}

// codexCommand is how a command ended.
func codexCommand(n node) codexEnd {
	return codexEnd{known: n.has("exit_code"), failed: codexCode(n.get("exit_code")), took: codexDuration(n.get("duration"))}
}

// codexTokens is what a session has used.
type codexTokens struct{ input, cached, output, reasoning int64 }

// use reads what the session has used until now.
func (s *codexSession) use(n node) {
	if !n.isObject() {
		return
	}
	now, before := codexTokens{n.integer("input_tokens"), n.integer("cached_input_tokens"), n.integer("output_tokens"), n.integer("reasoning_output_tokens")}, s.total
	s.total = now
	s.b.used(now.input-before.input, now.output-before.output)
	s.b.sum("cached_input_tokens", now.cached-before.cached)
	s.b.sum("reasoning_output_tokens", now.reasoning-before.reasoning)
}
