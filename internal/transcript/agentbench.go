package transcript

import (
	"cmp"
	"regexp"
	"slices"
	"time"

	"github.com/episodic-memory/episodic"
)

// The runs of AgentBench: turns of the agent and of the user, who is the environment. Calls are
// prose, of another form in each task: a turn of the agent is an action, and what the user says
// next is what it came to. https://github.com/THUDM/AgentBench

var agentBench = &format{name: "agentbench", title: "runs of AgentBench", fits: fitsAgentBench, each: readAgentBench}

func fitsAgentBench(h *head) bool {
	return h.some(func(n node) bool {
		return n.has("index") && (n.get("output", "history").isArray() || n.has("error") && n.has("time") && !n.has("messages"))
	})
}

var (
	// benchTask is how the task begins, where instructions or demonstrations stand before it.
	benchTask = regexp.MustCompile(`^\s*(Now, I will start a new problem in a new OS\. My problem is:|Now, my problem is:|A new question:|Here is your task\.)\s*`)
	// benchReady is how agents are made to answer instructions.
	benchReady = regexp.MustCompile(`(?i)^\s*(ok\b|i've understood|i understand|understood)`)
)

func readAgentBench(n node, b *builder) error {
	o := n.get("output")
	b.meta("index", n.plain("index"))
	if !o.isObject() {
		b.left("run that failed before it began", 1)
		b.run.Episode = nil
		b.emit(b.run)
		return nil
	}
	b.meta("status", o.str("status"))
	b.seen(n.when("time", "timestamp"))
	history := o.items("history")
	task, ready := taskAt(history)
	for i, m := range history {
		switch {
		case !m.isObject():
			return invalid("output.history"+index(i), "is no object")
		case i == 0 && task > 0:
			b.system(b.content(m.get("content")))
		case i < task && !(ready && i == 1):
			b.left("demonstration", 1)
		default:
			b.benchTurn(m)
		}
	}
	b.speak()
	b.judge(o.get("result"))
	b.judge(n)
	if text := n.plain("error"); text != "" {
		b.meta("error", text)
	}
	b.finish()
	return nil
}

// taskAt is the place of the turn that has the task, and whether the agent said before that it
// is ready.
func taskAt(history []node) (task int, ready bool) {
	ready = len(history) > 2 && roles[history[1].str("role")] == fromModel && benchReady.MatchString(history[1].str("content"))
	for i, m := range slices.Backward(history) {
		if m.str("role") == "user" && benchTask.MatchString(m.str("content")) {
			return i, ready
		}
	}
	if ready && history[2].str("role") == "user" {
		return 2, true
	}
	return 0, false
}

func (b *builder) benchTurn(m node) {
	text := b.content(m.get("content"))
	switch role := m.str("role"); {
	case roles[role] == fromModel:
		b.says(text, time.Time{})
	case roles[role] == fromPeople && b.e.Description != "" && b.said != "":
		b.step(episodic.Step{Result: &episodic.Result{Kind: episodic.ResultOutput, Text: text}})
	case roles[role] == fromPeople && b.e.Description == "":
		b.speak()
		b.prompts++
		b.task(benchTask.ReplaceAllString(text, ""))
	case roles[role] == fromPeople:
		b.asks(text, time.Time{})
	case roles[role] == fromSystem:
		b.system(text)
	default:
		b.left("turn of role "+clip(cmp.Or(role, "none"), 40), 1)
	}
}
