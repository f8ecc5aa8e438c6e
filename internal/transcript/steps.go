package transcript

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/episodic-memory/episodic"
)

// Objects with a task and its steps, as many who write their own records have them: a step is
// a command or a call, what was thought before it, and what it came to.

var steps = &format{name: "steps", title: "objects with a task and its steps", fits: fitsSteps, each: readSteps}

func fitsSteps(h *head) bool {
	return h.some(func(n node) bool {
		list := n.items("steps")
		if !n.get("task").isString() || len(list) == 0 || !list[0].isObject() || n.has("description") {
			return false
		}
		return first(list[0], commandKeys).there() || first(list[0], toolKeys).there() || first(list[0], resultKeys).there() || list[0].has("action")
	})
}

// The names that the parts of a step have.
var (
	commandKeys   = []string{"command", "cmd"}
	thoughtKeys   = []string{"thought", "thoughts", "text", "message"}
	toolKeys      = []string{"tool", "tool_name", "function", "name"}
	argumentKeys  = []string{"arguments", "args", "parameters", "params", "input", "tool_input", "action_input"}
	resultKeys    = []string{"result", "output", "observation", "response", "tool_output"}
	exitKeys      = []string{"returncode", "return_code", "exit_code", "exit_status"}
	stepTimeKeys  = []string{"timestamp", "time", "start_time", "created_at"}
	reasoningKeys = []string{"reasoning", "reasoning_content", "thinking"}
)

// stepKeys are all of them.
var stepKeys = slices.Concat(commandKeys, thoughtKeys, toolKeys, argumentKeys, resultKeys, exitKeys, stepTimeKeys, reasoningKeys, []string{"action", "error"})

// first is the first value that is there.
func first(n node, keys []string) node {
	for _, key := range keys {
		if v := n.get(key); v.there() {
			return v
		}
	}
	return node{}
}

func readSteps(n node, b *builder) error {
	if !n.get("steps").isArray() {
		return invalid("steps", "is no array")
	}
	b.task(n.str("task"))
	for i, s := range n.items("steps") {
		if !s.isObject() {
			return invalid("steps"+index(i), "is no object")
		}
		b.plainStep(s, index(i))
	}
	b.says(strings.TrimSpace(cmp.Or(n.str("final_answer"), n.str("answer"))), b.end)
	b.usage(n.get("usage"))
	b.judge(n)
	b.plainFields(n, "task", "steps", "final_answer", "answer", "reward", "usage")
	b.finish()
	return nil
}

// plainStep adds a step. id is its own.
func (b *builder) plainStep(s node, id string) {
	at := b.time(s, "steps", stepTimeKeys...)
	b.seen(at)
	b.thinks(first(s, reasoningKeys).str())
	said := first(s, thoughtKeys).str()
	command, tool, action := first(s, commandKeys), first(s, toolKeys), s.get("action")
	arguments := first(s, argumentKeys)
	for _, whole := range []node{action, tool} { // {name, arguments}
		if whole.isObject() {
			tool, arguments = first(whole, toolKeys), first(whole, argumentKeys)
		}
	}
	i := 0
	switch {
	case command.isString():
		b.says(join(said, action.str()), at)
		i = b.call(id, cmp.Or(tool.str(), "bash"), `{"command":`+quoted(command.str())+`}`, at)
	case tool.isString() && tool.str() != "":
		b.says(join(said, action.str()), at)
		i = b.call(id, tool.str(), argumentsOf(arguments), at)
	default:
		b.says(cmp.Or(join(said, cmp.Or(action.str(), action.json())), "no action"), at)
		i = b.step(episodic.Step{Parameters: episodic.JSON(argumentsOf(arguments)), Time: at})
		b.calls = append(b.calls, openCall{id, i, at})
	}
	code, failed := first(s, exitKeys).num()
	result := b.result(first(s, resultKeys))
	if e := s.get("error"); e.yes() || e.isString() && !blank(e.str()) || e.isObject() {
		failed, result = true, join(result, cmp.Or(e.str("message"), e.str()))
	} else {
		failed = failed && code != 0
	}
	if failed || first(s, resultKeys).there() {
		b.answers(answer{id: id, text: result, failed: failed})
	}
	if failed && code != 0 {
		b.note(i, "exit_code", strconv.FormatInt(int64(code), 10))
	}
	for _, f := range s.fields() {
		switch {
		case slices.Contains(stepKeys, f.key):
		case f.value.isObject() || f.value.isArray():
			b.left("field "+clip(f.key, 40)+" of a step", 1)
		default:
			b.note(i, f.key, f.value.plain())
		}
	}
}
