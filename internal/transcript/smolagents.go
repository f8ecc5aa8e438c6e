package transcript

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// The memory of an agent of smolagents: one array of steps, whose kinds are told by their
// keys. Each step has all messages before it again.
// https://huggingface.co/docs/smolagents/tutorials/memory

var (
	smolagents    = &format{name: "smolagents", title: "the steps of a smolagents run", fits: fitsSmolagents, all: readSmolagents}
	smolagentsRun = &format{name: "smolagents", title: "a smolagents run", fits: fitsSmolagentsRun, each: readSmolagentsRun}
)

func isSmolStep(n node) bool {
	return n.has("step_number") && (n.has("timing") || n.has("model_output") || n.has("llm_output") || n.has("tool_calls") || n.has("observations"))
}

// fitsSmolagentsRun: results and evaluations have the steps within an object.
func fitsSmolagentsRun(h *head) bool {
	return h.some(func(n node) bool {
		return slices.ContainsFunc(firstOf(n, "steps", "intermediate_steps").items(), isSmolStep)
	})
}

func readSmolagentsRun(n node, b *builder) error {
	list := firstOf(n, "steps", "intermediate_steps")
	if !list.isArray() {
		return invalid("steps", "is no array")
	}
	b.meta(MetaAgent, "smolagents")
	b.system(cmp.Or(n.str("system_prompt", "system_prompt"), n.str("system_prompt")))
	b.task(n.str("question"))
	for i, s := range list.items() {
		if s.has("task") && b.e.Description != "" && b.prompts == 0 {
			b.prompts++ // the same
			continue
		}
		b.wrong(b.smolStep(s, "steps"+index(i)))
	}
	if end := firstOf(n, "output", "prediction"); end.there() {
		b.ends(end)
	}
	b.judge(n)
	b.plainFields(n, "steps", "intermediate_steps", "system_prompt", "question", "output", "prediction", "reward", "token_usage", "timing")
	b.finish()
	return nil
}

func fitsSmolagents(h *head) bool {
	return h.some(isSmolStep) || h.array && h.first().get("system_prompt").isString() && len(h.first().fields()) == 1
}

func readSmolagents(r *records) error {
	var b *builder
	i := 0
	for line, n := range r.all() {
		if b == nil {
			b = r.smol(line)
		}
		if n.has("task") && (b.e.Description != "" || len(b.e.Steps) > 0) { // another on the same memory
			b.finish()
			b = r.smol(line)
		}
		b.add(n)
		b.wrong(b.smolStep(n, "steps"+index(i)))
		i++
	}
	if b != nil {
		b.finish()
	}
	return nil
}

func (r *records) smol(line int) *builder {
	b := r.begin(line)
	b.meta(MetaAgent, "smolagents")
	return b
}

// smolStep adds a step of the memory.
func (b *builder) smolStep(n node, path string) error {
	start, end, took := smolTime(n)
	b.seen(start)
	b.seen(end)
	b.used(n.integer("token_usage", "input_tokens"), n.integer("token_usage", "output_tokens"))
	for _, key := range []string{"task_images", "observations_images"} {
		b.left("image", len(n.items(key)))
	}
	switch {
	case n.has("system_prompt"):
		b.system(b.content(n.get("system_prompt")))
	case n.has("task"):
		b.asks(n.str("task"), start)
	case n.has("plan"):
		b.thinks(n.str("plan"))
	case n.has("step_number"):
		return b.smolAction(n, path, start, took)
	case n.has("output"):
		b.ends(n.get("output"))
	default:
		b.left("step of an unknown kind", 1)
	}
	return nil
}

// smolTime is when a step was; older steps have their times beside the rest.
func smolTime(n node) (start, end time.Time, took time.Duration) {
	if t := n.get("timing"); t.isObject() {
		n = t
	}
	d, _ := n.num("duration")
	return n.when("start_time"), n.when("end_time"), seconds(d)
}

// smolAction adds a step's calls. What they came to stands beside them, once.
func (b *builder) smolAction(n node, path string, start time.Time, took time.Duration) error {
	thought := b.content(n.get("model_output"))
	if thought == "" {
		thought = n.str("llm_output")
	}
	result := output(smolObserved(n))
	if e := n.get("error"); e.there() {
		text := cmp.Or(e.str("message"), e.plain(), e.json())
		result = &episodic.Result{Kind: episodic.ResultError, Text: text}
		if seen := n.str("observations"); seen != "" {
			result.Text = join(seen, text)
		}
	}
	tokens := int(min(n.integer("token_usage", "output_tokens"), 1<<31-1))
	calls := n.get("tool_calls")
	switch {
	case calls.there() && !calls.isArray():
		return invalid(path+".tool_calls", "is no array")
	case len(calls.items()) == 0:
		if !blank(thought) || result != nil {
			b.step(episodic.Step{Action: cmp.Or(strings.TrimSpace(thought), "no action"), Result: result, Time: start, Latency: took, Tokens: tokens})
		}
	default:
		b.thinks(thought)
		first := len(b.e.Steps)
		if err := b.toolCalls(n, path, start); err != nil {
			return err
		}
		b.calls = b.calls[:0]
		if len(b.e.Steps) == first { // none could be kept, but what they came to
			b.step(episodic.Step{Action: "no action", Time: start})
		}
		b.e.Steps[first].Tokens = tokens
		last := &b.e.Steps[len(b.e.Steps)-1]
		last.Result, last.Latency = result, took
	}
	if n.yes("is_final_answer") || smolFinal(calls) {
		b.ends(n.get("action_output"))
	}
	return nil
}

// ends is the final answer, which newer versions say twice.
func (b *builder) ends(n node) {
	if text := strings.TrimSpace(b.result(n)); text != b.said {
		b.says(text, b.end)
	}
}

// smolFinal reports whether calls end the run, in versions that do not say so.
func smolFinal(calls node) bool {
	for _, c := range calls.items() {
		if cmp.Or(c.str("function", "name"), c.str("name")) == "final_answer" {
			return true
		}
	}
	return false
}

// smolObserved is what a step came to.
func smolObserved(n node) string {
	if n.get("observations").isString() {
		return n.str("observations")
	}
	if out := n.get("action_output"); out.there() {
		return cmp.Or(out.str(), out.json())
	}
	return ""
}
