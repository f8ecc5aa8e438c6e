package transcript

import (
	"cmp"
	"regexp"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// What OpenHands records: events, of which an observation belongs to the action that is its
// cause. Evaluations write an object a run, with the events as its history; the program itself
// one array of them. The events of its SDK, since version 1, are read by openhands_v1.go.
// https://docs.all-hands.dev

var (
	openHands       = &format{name: "openhands", title: "the output of an OpenHands evaluation", fits: fitsOpenHands, all: readOpenHands}
	openHandsEvents = &format{name: "openhands", title: "the events of an OpenHands run", fits: fitsOpenHandsEvents, all: readOpenHandsEvents}
)

func fitsOpenHands(h *head) bool {
	return h.some(func(n node) bool {
		if list := n.items("trajectory"); len(list) > 0 && isHandsEvent(list[0]) {
			return true
		}
		return n.get("history").isArray() && (n.has("instance_id") || n.has("issue") || n.has("test_result") || n.has("instruction")) && !n.has("trajectory")
	})
}

func fitsOpenHandsEvents(h *head) bool { return h.some(isHandsEvent) }

// isHandsEvent reports whether a value is an event.
func isHandsEvent(n node) bool {
	old := n.get("source").isString() && (n.get("action").isString() || n.get("observation").isString())
	return old || isHandsEvent1(n)
}

func readOpenHands(r *records) error {
	for line, n := range r.all() {
		b := r.begin(line)
		b.add(n)
		if err := handsRun(n, b); err != nil {
			r.problem(at(line, err))
		}
	}
	return nil
}

// handsRun reads a line of an evaluation's output.
func handsRun(n node, b *builder) error {
	events := firstOf(n, "history", "trajectory")
	if !events.isArray() {
		return invalid("history", "is no array of events")
	}
	h := newHands(b)
	b.meta("task_id", n.plain("instance_id"))
	b.meta("repo", cmp.Or(n.str("instance", "repo"), n.str("repo")))
	b.meta(MetaAgent, cmp.Or(n.str("metadata", "agent_class"), "openhands"))
	b.meta(MetaModel, cmp.Or(n.str("metadata", "llm", "model"), n.str("metadata", "llm_config", "model")))
	b.task(cmp.Or(n.str("instance", "problem_statement"), issue(b.content(n.get("instruction")), ""), issueOf(n.get("issue"))))
	if err := h.events(events, "history"); err != nil {
		return err
	}
	b.metrics(n.get("metrics"))
	if patch := cmp.Or(n.str("test_result", "git_patch"), n.str("git_patch")); !blank(patch) {
		b.meta("git_patch", patch)
	}
	b.judge(n)
	b.judge(n.get("test_result"))
	b.judge(n.get("report"))
	b.judge(n.get("test_result", "report"))
	if text := n.plain("error"); !blank(text) {
		b.broke(text)
	}
	h.key(n.plain("instance_id"))
	b.finish()
	return nil
}

// broke is what ended a run early: a failure, unless the record says what came of it.
func (b *builder) broke(text string) {
	o := &b.e.Outcome
	if o.Kind == "" && b.opts.OutcomeField == "" {
		o.Kind = episodic.Failure
	}
	if o.Kind == episodic.Failure {
		o.Reason = text
	} else {
		b.meta("error", text)
	}
}

// issueOf is the task of a run that was to resolve an issue of GitHub.
func issueOf(n node) string { return join(n.str("title"), n.str("body")) }

// saved is how a conversation's folder names its events.
var saved = regexp.MustCompile(`^(event-)?\d+(-[0-9a-f-]+)?\.json$`)

func readOpenHandsEvents(r *records) error {
	if saved.MatchString(base(r.Name)) {
		return invalid("", "is one event of a conversation of OpenHands, whose others lie beside it; import the folder of all of them")
	}
	var h *hands
	i := 0
	for line, n := range r.all() {
		if h == nil {
			h = newHands(r.begin(line))
			h.meta(MetaAgent, "openhands")
		}
		h.add(n)
		h.wrong(h.event(n, "event"+index(i)))
		i++
	}
	if h != nil {
		h.key("")
		h.finish()
	}
	return nil
}

// hands reads the events of a run of OpenHands.
type hands struct {
	*builder
	first time.Time
	ids   bool // actions have them
}

func newHands(b *builder) *hands { return &hands{builder: b} }

// key is what tells a run from others: when its first event was, to the microsecond.
func (h *hands) key(task string) {
	if !h.first.IsZero() {
		h.run.Key = strings.TrimPrefix(task+"@"+h.first.Format(time.RFC3339Nano), "@")
	}
}

// events adds the events of an array. The oldest have pairs of an action and what it came to.
func (h *hands) events(n node, path string) error {
	for i, e := range n.items() {
		read := h.event
		if e.isArray() {
			read = h.events
		}
		h.wrong(read(e, path+index(i)))
	}
	return nil
}

func (h *hands) event(n node, path string) error {
	if isHandsEvent1(n) {
		return h.event1(n, path)
	}
	at := h.time(n, "history", "timestamp")
	h.seen(at)
	if h.first.IsZero() {
		h.first = at
	}
	h.metrics(n.get("llm_metrics"))
	h.meta(MetaModel, cmp.Or(h.e.Metadata[MetaModel], n.str("tool_call_metadata", "model_response", "model")))
	switch {
	case n.get("observation").isString():
		h.observation(n, at)
	case n.has("action") && !n.has("observation"):
		return h.action(n, path, at)
	default:
		h.left("event without an action or an observation", 1)
	}
	return nil
}

// handsSilent are events that say nothing of what was done.
var handsSilent = map[string]bool{
	"agent_state_changed": true, "change_agent_state": true, "null": true, "condensation_request": true,
	"loop_recovery": true, "pause": true, "resume": true, "start_hook": true,
}

// handsNoise are the arguments of actions that OpenHands keeps for itself.
var handsNoise = map[string]bool{
	"thought": true, "confirmation_state": true, "security_risk": true, "hidden": true, "impl_source": true,
	"is_confirmed": true, "wait_for_response": true, "kind": true,
}

func (h *hands) action(n node, path string, at time.Time) error {
	kind, args := n.str("action"), n.get("args")
	if !args.isObject() { // the oldest have them beside
		args = n
	}
	switch {
	case handsSilent[kind]:
	case kind == "system":
		h.system(h.content(args.get("content")))
	case kind == "recall": // its observation is counted
	case kind == "condensation":
		h.left("condensation of the history", 1)
	case kind == "message" && n.str("source") == "user":
		h.asks(issue(h.content(args.get("content")), ""), at)
		h.left("image", len(args.items("image_urls")))
	case kind == "message":
		h.says(h.content(args.get("content")), at)
		h.left("image", len(args.items("image_urls")))
	case kind == "":
		return invalid(path+".action", "is no name, so this call cannot be kept")
	default:
		h.called(n, kind, args, at)
	}
	return nil
}

// called adds an action that is a call.
func (h *hands) called(n node, kind string, args node, at time.Time) {
	tool := cmp.Or(n.str("tool_call_metadata", "function_name"), kind)
	parameters := ""
	switch {
	case kind == "think":
		parameters = `{"thought":` + quoted(args.str("thought")) + `}`
	case kind == "call_tool_mcp" && args.has("arguments"):
		tool, parameters = cmp.Or(args.str("name"), tool), args.json("arguments")
	default:
		parameters = handsArguments(args, args.v == n.v)
	}
	if kind != "think" {
		h.says(args.str("thought"), at)
	}
	id := n.plain("id")
	h.ids = h.ids || id != ""
	h.call(id, tool, parameters, at)
	if kind == "finish" {
		h.spoke = cmp.Or(strings.TrimSpace(args.str("final_thought")), strings.TrimSpace(args.str("outputs", "content")), h.spoke)
	}
}

// handsArguments are the arguments of an action, without what says nothing. flat: they stand
// among the fields of the event.
func handsArguments(args node, flat bool) string {
	var text []byte
	for _, f := range args.fields() {
		switch f.value.json() {
		case "null", "false", "{}", "[]":
			continue
		}
		if handsNoise[f.key] || flat && (f.key == "action" || f.key == "source" || f.key == "message" || f.key == "id" || f.key == "timestamp") {
			continue
		}
		text = append(appendQuoted(append(text, ','), f.key), ':')
		text = append(text, f.value.json()...)
	}
	if len(text) == 0 {
		return ""
	}
	text[0] = '{'
	return string(append(text, '}'))
}

func (h *hands) observation(n node, at time.Time) {
	kind, extras := n.str("observation"), n.get("extras")
	if handsSilent[kind] {
		return
	}
	if kind == "recall" {
		h.left("recall of knowledge", 1)
		return
	}
	id := n.plain("cause")
	if h.ids && id == "" || id == "-1" {
		id = "none" // what the environment says by itself
	}
	code, known := extras.num("metadata", "exit_code")
	if !known {
		code, known = extras.num("exit_code")
	}
	text := n.plain("content")
	failed := kind == "error" || kind == "user_rejected" || known && code != 0 || extras.yes("error") ||
		n.get("success").there() && !n.yes("success")
	if kind == "mcp" {
		if result, err := parse(text); err == nil {
			failed = failed || result.yes("isError")
		}
	}
	i := h.answers(answer{id: id, tool: h.toolOf(id, n, kind), text: text, at: at, failed: failed})
	if known && code == -1 { // it still ran when its time was over
		h.e.Steps[i].Result.Kind = episodic.ResultTimeout
	}
	h.left("image", len(extras.items("image_urls"))+count(extras.str("screenshot")))
}

// toolOf names what an observation is of, for one whose action is not there. Without an id it
// is of the call that is open.
func (h *hands) toolOf(id string, n node, kind string) string {
	if id == "" && len(h.calls) > 0 {
		return ""
	}
	return cmp.Or(n.str("tool_call_metadata", "function_name"), kind)
}

// metrics keeps what a run has cost until now.
func (b *builder) metrics(n node) {
	if !n.isObject() {
		return
	}
	b.charged(n.get("accumulated_cost"))
	usage := n.get("accumulated_token_usage")
	if input, output := usage.integer("prompt_tokens"), usage.integer("completion_tokens"); input > 0 || output > 0 {
		b.input, b.output = input, output
	}
}
