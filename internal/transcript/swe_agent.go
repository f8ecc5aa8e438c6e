package transcript

import (
	"cmp"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// The trajectories of SWE-agent: an object whose trajectory has each action with what came of
// it. Its history says all of that again, behind demonstrations.
// https://swe-agent.com/latest/usage/trajectories/

var sweAgent = &format{name: "swe-agent", title: "a trajectory of SWE-agent", fits: fitsSWEAgent, all: readSWEAgent}

func fitsSWEAgent(h *head) bool {
	n := h.first()
	if list := n.items("attempts"); len(list) > 0 && !n.has("trajectory") {
		n = list[len(list)-1]
	}
	if list := n.items("trajectory"); len(list) > 0 && list[0].has("role") {
		return list[0].has("text") || list[0].has("system_prompt") // a data set of them
	}
	history := n.items("history")
	return n.get("trajectory").isArray() && (n.has("history") || n.has("environment")) ||
		len(history) > 0 && history[0].has("role") && history[0].has("agent")
}

func readSWEAgent(r *records) error {
	for line, n := range r.all() {
		b := r.begin(line)
		b.add(n)
		if err := sweRun(n, b, stem(r.Name)); err != nil {
			r.problem(at(line, err))
		}
	}
	return nil
}

// sweRun reads a trajectory. name is what it is called where it does not say so.
func sweRun(n node, b *builder, name string) error {
	attempts := n.items("attempts")
	if len(attempts) > 0 && !n.has("trajectory") { // none was chosen yet
		n = attempts[len(attempts)-1]
	}
	b.left("earlier attempt", len(attempts)-1)
	list := n.items("trajectory")
	switch {
	case len(list) > 0 && list[0].has("role"):
		return b.sweTurns(n, list)
	case !n.has("trajectory") && n.get("history").isArray(): // a demonstration
		b.meta(MetaAgent, "swe-agent")
		b.meta("task_id", name)
		return b.sweTurns(n, n.items("history"))
	case !n.get("trajectory").isArray():
		return invalid("trajectory", "is no array of steps")
	}
	config := n.get("replay_config")
	if config.isString() {
		config, _ = parse(config.str()) // without it, history has the task
	}
	b.meta(MetaAgent, "swe-agent")
	b.meta(MetaVersion, n.str("info", "swe_agent_version"))
	b.meta("task_id", cmp.Or(n.str("instance_id"), config.str("problem_statement", "id"), name))
	b.meta("environment", n.str("environment"))
	b.meta("exit_status", n.plain("info", "exit_status"))
	b.meta(MetaModel, cmp.Or(config.str("agent", "model", "name"), n.str("info", "model_name")))
	b.stats(n.get("info", "model_stats"))
	b.task(issue(config.str("problem_statement", "text"), ""))
	for _, m := range n.items("history") {
		switch demo := demonstration(m); {
		case demo:
			b.left("demonstration", 1)
		case m.str("role") == "system":
			b.system(b.content(m.get("content")))
		case m.str("role") == "user" && b.e.Description == "":
			b.task(issue(b.content(m.get("content")), ""))
		case roles[m.str("role")] == 0:
			b.left("message of role "+clip(cmp.Or(m.str("role"), "none"), 40), 1)
		}
	}
	for i, s := range n.items("trajectory") {
		if !s.isObject() {
			return invalid("trajectory"+index(i), "is no object")
		}
		b.sweStep(s, index(i))
	}
	b.says(strings.TrimSpace(n.str("info", "submission")), b.end)
	b.judge(n)
	b.judge(n.get("info"))
	b.finish()
	return nil
}

// sweCommand is the command in what the model says, where it has no field of its own: the block
// of code at its end.
func sweCommand(text string) (said, command string) {
	before, ok := strings.CutSuffix(strings.TrimSpace(text), "```")
	at := strings.LastIndex(before, "```")
	if !ok || at < 0 {
		return text, ""
	}
	command = before[at+3:]
	if language, rest, found := strings.Cut(command, "\n"); found && !strings.ContainsAny(strings.TrimSpace(language), " \t") {
		command = rest
	}
	return strings.TrimSpace(before[:at]), strings.TrimSpace(command)
}

// sweTurns reads a run of which there are only the turns, as in data sets: what comes after a
// command is what it came to.
func (b *builder) sweTurns(n node, turns []node) error {
	for i, t := range turns {
		path := "trajectory" + index(i)
		text := b.content(firstOf(t, "content", "text", "system_prompt"))
		switch role := t.str("role"); {
		case demonstration(t):
			b.left("demonstration", 1)
		case roles[role] == fromPeople && b.e.Description == "":
			b.task(issue(text, ""))
		case roles[role] == fromPeople && len(b.calls) > 0:
			b.answers(answer{id: b.calls[len(b.calls)-1].id, text: text})
		case roles[role] == fromModel && !t.has("tool_calls"):
			said, action := sweCommand(text)
			if t.has("action") {
				said, action = cmp.Or(t.str("thought"), text), t.str("action")
			}
			b.says(strings.TrimSpace(said), time.Time{})
			if !blank(action) {
				b.call(index(i), firstWord(action), quoted(action), time.Time{})
			}
		default:
			b.wrong(b.message(t, path))
		}
	}
	b.judge(n)
	b.judged("target", n.get("target"))
	b.plainFields(n, "trajectory", "history", "attempts", "target", "info", "environment")
	b.stats(n.get("info", "model_stats"))
	b.finish()
	return nil
}

// sweStep adds an action, whose first word is the command that it runs. id is of the step.
func (b *builder) sweStep(s node, id string) {
	b.says(cmp.Or(s.str("thought"), s.str("response")), b.end)
	action, observation := s.str("action"), s.str("observation")
	if blank(action) { // one that could not be read: what is observed says why
		if b.said != "" || observation != "" {
			b.step(episodic.Step{Action: cmp.Or(b.said, "no action"), Result: output(observation)})
		}
		return
	}
	i := b.call(id, firstWord(action), quoted(action), b.end)
	if s.get("observation").isString() {
		b.answers(answer{id: id, text: observation})
	}
	took, _ := s.num("execution_time")
	b.e.Steps[i].Latency = seconds(took)
	b.meta(MetaFolder, cmp.Or(b.e.Metadata[MetaFolder], s.str("state", "working_dir"))) // where it began
}

// output is the result that a text is; nil: there is none.
func output(text string) *episodic.Result {
	if text == "" {
		return nil
	}
	return &episodic.Result{Kind: episodic.ResultOutput, Text: text}
}

// demonstration reports whether a message only shows how such a task is done.
func demonstration(m node) bool {
	return m.yes("is_demo") || m.str("message_type") == "demonstration"
}

// stats keeps what a run has cost, as SWE-agent and its successor count it.
func (b *builder) stats(n node) {
	b.charged(n.get("instance_cost"))
	b.used(n.integer("tokens_sent"), n.integer("tokens_received"))
	if calls := n.integer("api_calls"); calls > 0 {
		b.meta("api_calls", n.plain("api_calls"))
	}
}

func firstWord(text string) string {
	if words := strings.Fields(text); len(words) > 0 {
		return clip(words[0], 100)
	}
	return ""
}

// at says at which line an error is.
func at(line int, err error) error {
	if p, ok := err.(*Problem); ok && p.Line == 0 {
		p.Line = line
	}
	return err
}
