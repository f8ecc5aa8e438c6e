package transcript

import (
	"cmp"
	"strings"
)

// The results of tau2-bench: an object with tasks and simulations, of which each is a run; or
// one simulation. The user is a model as well, and may call tools of its own.
// https://github.com/sierra-research/tau2-bench

var tau2 = &format{name: "tau2", title: "results of tau2-bench", fits: fitsTau2, all: readTau2}

func fitsTau2(h *head) bool {
	n := h.first()
	return n.get("simulations").isArray() || isSimulation(n)
}

func isSimulation(n node) bool {
	return n.get("messages").isArray() && n.has("task_id") && n.has("termination_reason")
}

func readTau2(r *records) error {
	for line, n := range r.all() {
		if isSimulation(n) {
			r.simulation(line, "", n, n, nil)
			continue
		}
		if !n.get("simulations").isArray() {
			r.problem(at(line, invalid("simulations", "is no array")))
			continue
		}
		tasks := make(map[string]node)
		for _, t := range n.items("tasks") {
			tasks[t.plain("id")] = t
		}
		for i, s := range n.items("simulations") {
			if !s.isObject() {
				r.problem(at(line, invalid("simulations"+index(i), "is no object")))
				continue
			}
			r.simulation(line, "simulations"+index(i)+".", n, s, tasks)
		}
	}
	return nil
}

// simulation reads a simulation of a results file. path is where in the file it is.
func (r *records) simulation(line int, path string, file, s node, tasks map[string]node) {
	b := r.begin(line)
	b.add(s)
	b.run.Key = s.plain("id")
	b.simulated(file.get("info"))
	task, known := tasks[s.plain("task_id")]
	if !known && len(tasks) > 0 {
		b.odd("task_id", "names no task of the file: "+clip(s.get("task_id").json(), 40))
	}
	b.simulatedTask(task)
	b.plainFields(s, "messages", "reward_info", "start_time", "end_time", "timestamp")
	b.charged(s.get("agent_cost"))
	for _, key := range []string{"start_time", "end_time"} {
		b.seen(s.when(key))
		b.zoneless(s.get(key))
	}
	if b.e.Metadata[MetaModel] == "" {
		b.meta(MetaModel, s.str("agent_info", "llm"))
	}
	for i, m := range s.items("messages") {
		b.wrong(b.simulatedMessage(m, path+"messages"+index(i)))
	}
	b.judge(s)
	if parts := s.fields("reward_info", "reward_breakdown"); b.e.Reward != nil && len(parts) > 0 {
		b.e.Reward.Components = make(map[string]float64)
		for _, f := range parts {
			if v, ok := f.value.num(); ok {
				b.e.Reward.Components[f.key] = v
			}
		}
	}
	b.finish()
}

// simulated keeps what a results file says of all of its runs.
func (b *builder) simulated(info node) {
	b.meta(MetaModel, info.str("agent_info", "llm"))
	b.meta(MetaAgent, info.str("agent_info", "implementation"))
	b.e.Context.Domain = info.str("environment_info", "domain_name")
	b.system(info.str("environment_info", "policy"))
}

// simulatedTask is what the user wants, and what else the user was told.
func (b *builder) simulatedTask(t node) {
	told := t.get("user_scenario", "instructions")
	if told.isString() {
		b.task(told.str())
		return
	}
	b.task(cmp.Or(told.str("reason_for_call"), t.str("ticket"), t.str("description", "purpose")))
	for _, key := range []string{"known_info", "unknown_info", "task_instructions"} {
		b.meta(key, told.str(key))
	}
}

// simulatedMarks are what the simulated user ends a run with.
var simulatedMarks = []string{"###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###"}

func (b *builder) simulatedMessage(m node, path string) error {
	at := m.when("timestamp")
	byUser := m.str("requestor") == "user"
	switch role := m.str("role"); {
	case role == "assistant":
		if b.prompts == 0 && len(b.e.Steps) == 0 && len(m.items("tool_calls")) == 0 {
			// Nobody has asked for anything yet.
			b.meta("greeting", join(b.e.Metadata["greeting"], b.content(m.get("content"))))
			b.seen(at)
			return nil
		}
		usage := m.get("usage")
		b.usage(usage)
		before := len(b.e.Steps)
		if err := b.message(m, path); err != nil {
			return err
		}
		for i := before; i < len(b.e.Steps); i++ { // those of a message belong to its first call
			if b.e.Steps[i].Tool != "" {
				b.e.Steps[i].Tokens = int(min(usage.integer("completion_tokens"), 1<<31-1))
				break
			}
		}
	case role == "user":
		text := b.content(m.get("content"))
		for _, mark := range simulatedMarks {
			text = strings.ReplaceAll(text, mark, "")
		}
		b.asks(text, at)
		b.seen(at)
		b.left("call by the user", len(m.items("tool_calls")))
	case role == "tool" && byUser:
		b.seen(at)
	case role == "tool" && m.get("tool_messages").isArray():
		for i, one := range m.items("tool_messages") {
			b.wrong(b.simulatedMessage(one, path+".tool_messages"+index(i)))
		}
	default:
		return b.message(m, path)
	}
	return nil
}
