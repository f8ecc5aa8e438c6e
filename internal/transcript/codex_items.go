package transcript

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// The items of Codex: what the model said, thought and called, and what tools answered.

// codexEnd is what an event says of how a call ended.
type codexEnd struct {
	known, failed bool
	took          time.Duration
}

// ended keeps how a call ended; its answer may be there already.
func (s *codexSession) ended(id string, e codexEnd) {
	if id == "" {
		return
	}
	s.ends[id] = e
	i, ok := s.steps[id]
	if !ok || s.run != s.b.run || i >= len(s.b.e.Steps) || s.b.e.Steps[i].Result == nil {
		return
	}
	step := &s.b.e.Steps[i]
	if e.known {
		step.Result = &episodic.Result{Kind: kindOf(e.failed), Text: step.Result.Text} // forks have the former
	}
	if e.took > 0 {
		step.Latency = e.took
	}
}

func (s *codexSession) item(p node, at time.Time) error {
	kind := p.str("type")
	if kind != "message" || p.str("role") != "user" {
		s.ask()
		if s.begun {
			s.b.seen(at)
		}
	}
	s.b.add(p)
	switch kind {
	case "message":
		s.message(p, at)
	case "reasoning":
		for _, key := range []string{"summary", "content"} {
			for _, part := range p.items(key) {
				s.b.thinks(part.str("text"))
			}
		}
		if p.str("encrypted_content") != "" {
			s.b.left("encrypted reasoning", 1)
		}
	case "function_call":
		return s.call(p, p.str("name"), argumentsOf(p.get("arguments")), at)
	case "custom_tool_call":
		return s.call(p, p.str("name"), quoted(p.str("input")), at)
	case "local_shell_call":
		return s.call(p, "local_shell", p.json("action"), at)
	case "image_generation_call":
		s.b.left("image", count(p.str("result")))
		return s.call(p, "image_generation", `{"prompt":`+quoted(p.str("revised_prompt"))+`}`, at)
	case "function_call_output", "custom_tool_call_output", "mcp_tool_call_output", "tool_search_output":
		s.answer(p, at)
	case "ghost_snapshot", "compaction", "compaction_summary", "context_compaction":
	case "":
		return invalid("type", "is missing, so this item cannot be kept")
	default:
		if tool, is := strings.CutSuffix(kind, "_call"); is {
			return s.call(p, tool, argumentsOf(p.get("action"), p.get("arguments"), p.get("input")), at)
		}
		s.b.left("item of type "+clip(kind, 40), 1)
	}
	return nil
}

// message reads what somebody said.
func (s *codexSession) message(p node, at time.Time) {
	switch p.str("role") {
	case "user":
		prompt := codexPrompt{at: at}
		var texts []string
		for _, part := range p.items("content") {
			text, other := partText(part)
			if other == "image" {
				prompt.images++
			}
			if trimmed := strings.TrimSpace(text); trimmed != "" && !strings.HasPrefix(trimmed, "<image") && trimmed != "</image>" {
				texts = append(texts, text)
			}
		}
		if prompt.text = codexWords(strings.Join(texts, "\n")); prompt.text == "" && prompt.images == 0 {
			if len(texts) > 0 {
				s.b.left("note of the agent program", 1)
			}
			return
		}
		s.begun = true
		s.b.seen(at)
		s.pending = append(s.pending, prompt)
	case "assistant":
		s.b.says(s.b.content(p.get("content")), at)
	default:
		s.b.system(s.b.content(p.get("content")))
	}
}

// codexNotes are how messages begin that Codex writes in the name of people.
var codexNotes = []string{
	"<environment_context>", "# AGENTS.md instructions", "<user_instructions>", "<permissions", "<turn_aborted>", "<skill>",
	"<subagent_notification>", "<user_shell_command>", "<model_switch>", "<collaboration_mode>", "<INSTRUCTIONS>", "<recommended_plugins>",
}

// codexWords is a prompt without what Codex and its extensions for editors put before it; empty
// if that is all.
func codexWords(text string) string {
	trimmed := strings.TrimSpace(text)
	for _, note := range codexNotes {
		if strings.HasPrefix(trimmed, note) {
			return ""
		}
	}
	if strings.HasPrefix(trimmed, "# Context from my IDE setup:") {
		if _, request, found := strings.Cut(trimmed, "## My request for Codex:"); found {
			return strings.TrimSpace(request)
		}
	}
	return words(trimmed)
}

func (s *codexSession) call(p node, tool, parameters string, at time.Time) error {
	if tool == "" {
		return invalid("payload.name", "is missing, so this call cannot be kept")
	}
	if space := p.str("namespace"); space != "" && !strings.HasPrefix(tool, space) {
		tool = strings.TrimSuffix(space, "__") + "__" + tool
	}
	id := cmp.Or(p.str("call_id"), p.str("id"))
	i := s.b.call(id, tool, parameters, at)
	if s.run != s.b.run {
		s.run, s.steps = s.b.run, make(map[string]int)
	}
	if id != "" {
		s.steps[id] = i
	}
	return nil
}

// codexExit is how commands tell their exit codes in what the model sees, above their output.
var codexExit = regexp.MustCompile(`(?m)^(?:Process exited with code|Exit code:) (-?\d+)\s*$`)

func (s *codexSession) answer(p node, at time.Time) {
	id, output := p.str("call_id"), p.get("output")
	if !output.there() && p.has("tools") {
		output = p.get("tools")
	}
	a := answer{id: id, tool: p.str("name"), at: at}
	if output.isObject() && output.has("content") {
		a.failed = output.has("success") && !output.yes("success")
		output = output.get("content")
	}
	a.text = s.b.result(output)
	if inner, err := parse(a.text); strings.HasPrefix(a.text, "{") && err == nil && inner.get("output").isString() && inner.get("metadata").isObject() {
		a.text = inner.str("output")
		a.failed = codexCode(inner.get("metadata", "exit_code"))
		took, _ := inner.num("metadata", "duration_seconds")
		a.took = seconds(took)
	} else {
		above, _, _ := strings.Cut("\n"+clip(a.text, 1000), "\nOutput:")
		if m := codexExit.FindStringSubmatch(above); m != nil {
			code, err := strconv.Atoi(m[1])
			a.failed = a.failed || err != nil || code != 0
		}
	}
	if e, ok := s.ends[id]; ok {
		if e.known {
			a.failed = e.failed
		}
		a.took = cmp.Or(e.took, a.took)
		delete(s.ends, id)
	}
	s.b.answers(a)
}

// codexCode reports whether an exit code is one of failure.
func codexCode(n node) bool {
	code, ok := n.num()
	return ok && code != 0
}

// codexDuration is a duration {secs, nanos}, or in words as "1.5s".
func codexDuration(n node) time.Duration {
	if n.isString() {
		d, _ := time.ParseDuration(n.str())
		return max(d, 0)
	}
	secs, _ := n.num("secs")
	nanos, _ := n.num("nanos")
	return seconds(secs + nanos/1e9)
}
