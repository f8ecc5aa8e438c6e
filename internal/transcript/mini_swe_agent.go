package transcript

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The trajectories of mini-swe-agent: messages whose commands stand in prose, or are calls,
// and whose answers are turns of the user. The first versions stored nothing but the messages.
// https://mini-swe-agent.com/latest/usage/output_files/

var (
	miniSWEAgent    = &format{name: "mini-swe-agent", title: "a trajectory of mini-swe-agent", fits: fitsMini, all: readMini}
	miniSWEMessages = &format{name: "mini-swe-agent", title: "the messages of a run of mini-swe-agent", fits: fitsMiniMessages, all: readMiniMessages}
)

func fitsMini(h *head) bool {
	n := h.first()
	return n.get("messages").isArray() && (strings.HasPrefix(n.str("trajectory_format"), "mini-swe-agent") || n.has("info") && (n.get("info").has("mini_version") || n.get("info").has("submission")))
}

func fitsMiniMessages(h *head) bool {
	return fitsMessages(h) && h.some(func(n node) bool {
		text := n.str("content")
		return n.str("role") == "user" && (returnCode.MatchString(text) || strings.Contains(text, "_SUBMIT_FINAL_OUTPUT") || strings.Contains(text, "MICRO_SWE_AGENT_FINAL_OUTPUT"))
	})
}

var (
	returnCode  = regexp.MustCompile(`^(?:<exception>(?s:.*?)</exception>\s*)?<returncode>(-?\d+)</returncode>`)
	fencedShell = regexp.MustCompile("(?s)```(?:mswea_bash_command|bash)[ \t]*\n(.*?)\n?```")
)

func readMini(r *records) error {
	for line, n := range r.all() {
		b := r.begin(line)
		b.add(n)
		if err := miniRun(n, b, stem(r.Name)); err != nil {
			r.problem(at(line, err))
		}
	}
	return nil
}

func miniRun(n node, b *builder, name string) error {
	if !n.get("messages").isArray() {
		return invalid("messages", "is no array of messages")
	}
	info := n.get("info")
	id := cmp.Or(n.str("instance_id"), name)
	b.meta(MetaAgent, "mini-swe-agent")
	b.meta(MetaVersion, info.str("mini_version"))
	b.meta("task_id", id)
	b.meta("exit_status", info.str("exit_status"))
	b.meta(MetaModel, info.str("config", "model", "model_name"))
	b.meta(MetaFolder, info.str("config", "environment", "cwd"))
	b.stats(info.get("model_stats"))
	m := mini{builder: b, submission: strings.TrimSpace(info.str("submission")), template: info.str("config", "agent", "instance_template")}
	for i, one := range n.items("messages") {
		m.wrong(m.message(one, "messages"+index(i)))
	}
	if m.submission != b.said {
		b.says(m.submission, b.end)
	}
	if !b.start.IsZero() { // the record is written anew after each step
		b.run.Key = id + "@" + b.start.Format(time.RFC3339Nano)
	}
	b.judge(n)
	b.judge(info)
	b.finish()
	return nil
}

func readMiniMessages(r *records) error {
	var m mini
	i := 0
	for line, n := range r.all() {
		if m.builder == nil {
			m.builder = r.begin(line)
			m.meta(MetaAgent, "mini-swe-agent")
			m.meta("task_id", stem(r.Name))
		}
		m.add(n)
		m.wrong(m.message(n, "message"+index(i)))
		i++
	}
	if m.builder != nil {
		m.finish()
	}
	return nil
}

// mini reads messages of mini-swe-agent.
type mini struct {
	*builder
	template   string // of the first prompt
	submission string // where it is known before the end; the first versions end with it
	asked      bool   // the first prompt has been read
}

func (m *mini) message(n node, path string) error {
	at := m.time(n.get("extra"), "messages.extra", "timestamp")
	switch role := n.str("role"); {
	case demonstration(n):
		m.left("demonstration", 1)
	case role == "system":
		m.system(m.content(n.get("content")))
	case role == "user" && !m.asked:
		m.asked = true
		m.task(issue(m.content(n.get("content")), m.template))
		m.prompts++
		m.seen(at)
	case role == "user" && len(m.calls) > 0, role == "tool", n.str("type") == "function_call_output":
		m.observed(n, at)
	case role == "user":
		if text := m.content(n.get("content")); strings.TrimSpace(text) != m.submission {
			m.asks(text, at)
		}
	case role == "assistant", n.str("object") == "response":
		return m.turn(n, path, at)
	case role == "exit":
		m.exit(n, at)
	default:
		return m.builder.message(n, path)
	}
	return nil
}

// turn is what the model said, and the commands that were taken from it.
func (m *mini) turn(n node, path string, at time.Time) error {
	text := m.content(n.get("content"))
	if n.str("object") == "response" {
		for _, item := range n.items("output") {
			if item.str("type") == "message" {
				text = join(text, m.content(item.get("content")))
			}
		}
	}
	response := n.get("extra", "response")
	usage := n.get("usage")
	if response.isObject() {
		usage = response.get("usage")
	}
	output := m.output
	m.usage(usage)
	choices := response.items("choices")
	thought := cmp.Or(n.str("reasoning_content"), n.str("reasoning"))
	if len(choices) > 0 {
		thought = cmp.Or(thought, choices[0].str("message", "reasoning_content"))
	}
	actions := n.items("extra", "actions")
	fenced := fencedShell.FindAllStringSubmatch(text, -1)
	if len(fenced) == 1 && (len(actions) == 0 || strings.TrimSpace(actions[0].str("command")) == strings.TrimSpace(fenced[0][1])) {
		text = strings.TrimSpace(strings.Replace(text, fenced[0][0], "", 1))
	}
	m.says(text, at)
	m.thinks(thought)
	before := len(m.e.Steps)
	switch calls := n.get("tool_calls"); {
	case calls.isArray() && len(calls.items()) > 0:
		if err := m.toolCalls(n, path, at); err != nil {
			return err
		}
	case len(actions) > 0:
		for i, a := range actions {
			command := a.get("command")
			if !command.isString() {
				return invalid(path+".extra.actions"+index(i)+".command", "is missing, so this call cannot be kept")
			}
			m.call(a.str("tool_call_id"), "bash", `{"command":`+quoted(command.str())+`}`, at)
		}
	case len(fenced) == 1: // with several, none is run
		m.call("", "bash", `{"command":`+quoted(fenced[0][1])+`}`, at)
	}
	if len(m.e.Steps) > before { // the tokens of a message belong to its first call
		m.e.Steps[before].Tokens = int(min(m.output-output, 1<<31-1))
	}
	return nil
}

// observed is what a command has put out, and its exit code.
func (m *mini) observed(n node, at time.Time) {
	text := m.content(n.get("content"))
	if n.str("type") == "function_call_output" {
		text = m.content(n.get("output"))
	}
	code, known := n.num("extra", "returncode")
	if found := returnCode.FindStringSubmatch(text); found != nil {
		if c, err := strconv.Atoi(found[1]); err == nil && !known {
			code, known = float64(c), true
		}
		if whole, ok := strings.CutPrefix(strings.TrimSpace(text[len(found[0]):]), "<output>"); ok && strings.HasSuffix(whole, "</output>") && !strings.HasPrefix(text, "<exception>") {
			text = strings.TrimPrefix(strings.TrimSuffix(whole, "</output>"), "\n")
		} else {
			text = strings.Replace(text, found[0][strings.Index(found[0], "<returncode>"):], "", 1)
			text = strings.TrimPrefix(text, "\n")
		}
	}
	if raw := n.get("extra", "raw_output"); raw.isString() && (raw.str() != "" || n.str("extra", "exception_info") == "") {
		text = raw.str()
	}
	if info := n.str("extra", "exception_info"); info != "" && !strings.Contains(text, info) {
		text = join(text, info)
	}
	i := m.answers(answer{id: cmp.Or(n.str("tool_call_id"), n.str("call_id")), text: text, at: at, failed: known && code != 0})
	if known && code != 0 {
		m.note(i, "exit_code", strconv.FormatInt(int64(code), 10))
	}
	if m.submission != "" && strings.TrimSpace(text) == m.submission {
		m.says(m.submission, at)
	}
}

// exit is the end of a run: what was submitted is what the last command came to.
func (m *mini) exit(n node, at time.Time) {
	m.seen(at)
	submission := n.str("extra", "submission")
	if content := m.content(n.get("content")); submission == "" && n.str("extra", "exit_status") == "Submitted" {
		submission = content
	} else if submission == "" {
		m.says(content, at) // why it ended
		return
	}
	if len(m.calls) > 0 {
		m.answers(answer{id: m.calls[len(m.calls)-1].id, text: submission, at: at})
	}
	m.says(strings.TrimSpace(submission), at)
}
