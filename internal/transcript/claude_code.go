package transcript

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// The sessions of Claude Code: a file each, of lines whose messages are those of Anthropic's
// API, with one block a line. Sub-agents write files of their own, or, before 2.0, lines into
// that of their session. An export from the web has the same lines in one object; what
// `claude -p --output-format stream-json` prints has most of them.

var claudeCode = &format{name: "claude-code", title: "a session of Claude Code", fits: fitsClaudeCode, follow: followClaudeCode, live: true}

func fitsClaudeCode(h *head) bool {
	return h.some(func(n node) bool {
		if n.has("loglines") {
			return n.get("loglines").isArray()
		}
		switch kind := n.str("type"); kind {
		case "":
			return false
		case "user", "assistant", "system", "result":
			if n.has("session_id") && (n.get("message").isObject() || n.has("subtype")) {
				return true
			}
			return n.has("uuid") && (n.has("sessionId") || n.get("message").isObject() || n.has("parentUuid"))
		case "summary":
			return n.has("leafUuid")
		case "file-history-snapshot":
			return n.has("snapshot")
		case "queue-operation", "ai-title", "custom-title", "last-prompt", "mode", "permission-mode", "agent-name", "attachment", "progress":
			return n.has("sessionId")
		}
		return false
	})
}

// claudeSession is a file of Claude Code while it is read.
type claudeSession struct {
	in      *records
	main    *claudeThread // nil: only sub-agents so far
	threads []*claudeThread
	of      map[string]*claudeThread // those of sub-agents, by agent or by the uuid of a line
	seen    map[string]bool          // uuids of lines

	id                   string // of the session
	custom, title        string // names of the session, by people and by a model
	summaries            []node // names by the line they end with
	version, cwd, branch string
	queued               []queuedPrompt
	asked                map[string]int // prompts, by how often they were asked
	ended                node           // what is printed in the end
}

// claudeThread is one conversation of a file: that with people, or of a sub-agent.
type claudeThread struct {
	b     *builder
	runs  []*Run // that have ended
	agent string // empty: it is that with people
	model string
	usage map[string]claudeUsage // of messages
	marks map[string]*mark       // by the line that prompts follow
	steps map[string]int         // by the calls' ids
	tasks map[string]string      // ids of calls, by the agents that they started
	run   *Run                   // whose steps those are
	spent int64                  // tokens of the next step
	began bool
}

func followClaudeCode(r *records) follower {
	return &claudeSession{in: r, of: make(map[string]*claudeThread), seen: make(map[string]bool), asked: make(map[string]int)}
}

func (s *claudeSession) take(line int, n node) {
	lines := []node{n}
	if n.has("loglines") {
		lines = n.items("loglines")
		s.id = cmp.Or(s.id, n.str("sessionId"), n.str("session_id"), n.str("id"))
		s.custom = cmp.Or(s.custom, n.str("title"))
	}
	for _, l := range lines {
		s.line(l, line)
	}
}

func (s *claudeSession) fork(r *records) follower {
	f := *s
	f.in, f.threads = r, make([]*claudeThread, len(s.threads))
	for i, t := range s.threads {
		own := *t
		own.runs = slices.Clone(t.runs)
		own.b = t.b.fork(func(r *Run) { own.runs = append(own.runs, r) }, r.tell)
		if f.threads[i] = &own; t == s.main {
			f.main = &own
		}
	}
	return &f
}

// line reads a line of a file, or an element of loglines.
func (s *claudeSession) line(n node, line int) {
	kind := n.str("type")
	switch kind {
	case "custom-title":
		s.custom = cmp.Or(n.str("customTitle"), s.custom)
	case "ai-title":
		s.title = cmp.Or(n.str("aiTitle"), s.title)
	case "summary":
		s.summaries = append(s.summaries, n)
	case "queue-operation":
		s.queue(n, line)
	case "result": // of what is printed
		s.ended = n
	case "system":
		s.cwd, s.id = cmp.Or(s.cwd, n.str("cwd")), cmp.Or(s.id, n.str("session_id"))
	case "attachment":
		if a := n.get("attachment"); !n.yes("isSidechain") && a.str("type") == "queued_command" && cmp.Or(a.str("commandMode"), "prompt") == "prompt" {
			s.enqueue(a.get("prompt"), n, line)
		}
	}
	if id := n.str("uuid"); id != "" {
		if s.seen[id] { // it was copied, as after a compaction
			return
		}
		s.seen[id] = true
	}
	if kind != "user" && kind != "assistant" {
		if n.get("message").isObject() && kind != "progress" {
			s.thread(n, line).b.left("line of type "+clip(cmp.Or(kind, "none"), 40), 1)
		}
		return
	}
	s.describe(n)
	t := s.thread(n, line)
	t.began = true
	t.b.add(n.get("message"))
	if kind == "assistant" {
		t.assistant(n)
	} else {
		s.user(t, n)
	}
}

// describe keeps what each line says of the session.
func (s *claudeSession) describe(n node) {
	id := cmp.Or(n.str("sessionId"), n.str("session_id"))
	if s.id == "" || id == stem(s.in.Name) {
		s.id = cmp.Or(id, s.id)
	}
	s.cwd = cmp.Or(s.cwd, n.str("cwd"))
	s.version = cmp.Or(n.str("version"), s.version)
	if branch := n.str("gitBranch"); branch != "HEAD" {
		s.branch = cmp.Or(branch, s.branch)
	}
}

// thread is the conversation that a line is part of.
func (s *claudeSession) thread(n node, line int) *claudeThread {
	agent := cmp.Or(n.str("agentId"), n.str("parent_tool_use_id"))
	if !n.yes("isSidechain") && !n.has("parent_tool_use_id") {
		if s.main == nil {
			s.main = s.begin(line, "")
		}
		return s.main
	}
	t := s.of[cmp.Or(agent, n.str("parentUuid"))]
	if t == nil {
		t = s.begin(line, cmp.Or(agent, n.str("uuid")))
	}
	s.of[cmp.Or(agent, n.str("uuid"))] = t
	return t
}

func (s *claudeSession) begin(line int, agent string) *claudeThread {
	t := &claudeThread{agent: agent, usage: make(map[string]claudeUsage), marks: make(map[string]*mark), tasks: make(map[string]string)}
	t.b = s.in.begin(line)
	t.b.emit = func(r *Run) { t.runs = append(t.runs, r) }
	s.threads = append(s.threads, t)
	return t
}

// name is what the session is called: by people, by a model, or by a summary of what is in
// this file. Files also hold summaries of other sessions.
func (s *claudeSession) name() string {
	name := cmp.Or(s.custom, s.title)
	for _, n := range slices.Backward(s.summaries) {
		if name == "" && s.seen[n.str("leafUuid")] {
			name = n.str("summary")
		}
	}
	return name
}

// end ends all conversations of the file.
func (s *claudeSession) end() {
	if len(s.threads) == 0 {
		s.main = s.begin(1, "")
	}
	if s.main != nil {
		s.flush(s.main.b)
		if text := s.ended.str("result"); text != s.main.b.said {
			s.main.b.says(text, time.Time{})
		}
		s.main.b.charged(s.ended.get("total_cost_usd"))
	}
	s.id = cmp.Or(s.id, stem(s.in.Name))
	for i, t := range s.threads {
		if i == 0 {
			t.b.run.Bytes = s.in.size
			t.b.left("unfinished line", s.in.unfinished)
		}
		if t == s.main && t.began {
			t.b.addText(s.name())
			t.b.meta(MetaTitle, s.name())
		}
		t.b.finish()
		for i, run := range t.runs {
			s.about(t, run, i)
			s.in.emit(run)
		}
	}
}

// about says of a run what is known of its session.
func (s *claudeSession) about(t *claudeThread, run *Run, i int) {
	run.Key = s.id
	if t.agent != "" {
		run.Key, run.Parent = s.id+"/"+t.agent, s.id
	}
	if i > 0 {
		run.Key += "#" + strconv.Itoa(i+1)
	}
	e := run.Episode
	if e == nil {
		return
	}
	e.Context.Domain = base(s.cwd)
	for key, text := range map[string]string{
		MetaAgent: s.in.format.name, MetaVersion: s.version, MetaModel: t.model, MetaFolder: s.cwd,
		MetaBranch: s.branch, MetaSession: s.id, MetaTitle: t.b.e.Metadata[MetaTitle],
	} {
		if text != "" {
			e.Metadata[key] = text
		}
	}
}
