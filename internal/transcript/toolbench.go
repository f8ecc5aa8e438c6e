package transcript

import (
	"cmp"
	"strings"
	"time"
)

// The answers of ToolBench: an object whose keys are the numbers of queries. An answer is a
// tree of turns, whose calls are as Python prints them, often cut off. Before they are made
// ready for comparing, an answer has a file of its own, with the messages of its attempts.
// https://github.com/OpenBMB/ToolBench

var toolBench = &format{name: "toolbench", title: "answers of ToolBench", fits: fitsToolBench, all: readToolBench}

func fitsToolBench(h *head) bool {
	n := h.first()
	if n.get("answer_generation").isObject() {
		return true
	}
	fields := n.fields()
	return len(fields) > 0 && isNumber(fields[0].key) && fields[0].value.has("query") && fields[0].value.has("answer")
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func readToolBench(r *records) error {
	for line, n := range r.all() {
		if n.get("answer_generation").isObject() {
			b := r.begin(line)
			b.add(n)
			if err := b.attempt(n.get("answer_generation"), stem(r.Name)); err != nil {
				r.problem(at(line, err))
			}
			continue
		}
		for _, f := range n.fields() {
			b := r.begin(line)
			b.add(f.value)
			if err := b.toolAnswer(f.key, f.value); err != nil {
				r.problem(at(line, err))
			}
		}
	}
	return nil
}

// toolAnswer reads the answer to a query.
func (b *builder) toolAnswer(id string, n node) error {
	if !n.isObject() {
		return invalid(id, "is no object with a query and its answer")
	}
	a := n.get("answer")
	b.meta("task_id", id)
	b.task(n.str("query"))
	b.plainFields(a, "final_answer", "answer_details")
	roots := a.items("answer_details")
	path := id + ".answer.answer_details"
	for len(roots) > 0 { // down the first branch
		b.left("turn of another branch", len(roots)-1)
		turn := roots[0]
		path += "[0]"
		b.wrong(b.toolTurn(turn, path))
		roots = turn.items("next")
		path += ".next"
	}
	b.says(finalAnswer(a.str("final_answer")), time.Time{})
	b.judge(n)
	b.finish()
	return nil
}

// finalAnswer is what was answered in the end, in the arguments of a call.
func finalAnswer(text string) string {
	n, err := parse(text)
	if err != nil || !n.isObject() {
		return strings.TrimSpace(text)
	}
	return strings.TrimSpace(cmp.Or(n.str("final_answer"), n.str("return_type"), text))
}

func (b *builder) toolTurn(n node, path string) error {
	text := b.content(n.get("message"))
	switch role := n.str("role"); roles[role] {
	case fromSystem:
		b.system(text)
	case fromPeople:
		if !strings.HasPrefix(b.e.Description, strings.TrimSpace(text)) { // it is cut off, too
			b.asks(text, time.Time{})
		}
	case fromModel:
		b.says(text, time.Time{})
	case fromTool:
		call, torn, err := parseTorn(text)
		if n.get("message").isObject() {
			call, err = n.get("message"), nil
		}
		if err != nil || call.str("name") == "" {
			return invalid(path+".message", "is a call without a name, or cannot be read: %s", clip(text, 60))
		}
		b.left("end of a text that was cut off", count(map[bool]string{true: "end"}[torn]))
		b.call(path, call.str("name"), argumentsOf(call.get("arguments")), time.Time{})
		if response := call.get("response"); response.there() && !(response.isString() && response.str() == "" && call.str("name") == "Finish") {
			b.answers(answer{id: path, text: b.result(response)})
		}
	default:
		b.left("turn of role "+clip(cmp.Or(role, "none"), 40), 1)
	}
	return nil
}

// attempt reads the file of an answer: the last of its attempts.
func (b *builder) attempt(n node, name string) error {
	b.meta("task_id", name)
	b.plainFields(n, "final_answer", "query", "train_messages")
	b.task(n.str("query"))
	attempts := n.items("train_messages")
	b.left("earlier attempt", len(attempts)-1)
	if len(attempts) > 0 {
		path := "answer_generation.train_messages" + index(len(attempts)-1)
		for i, m := range attempts[len(attempts)-1].items() {
			b.wrong(b.message(m, path+index(i)))
		}
	}
	if text := finalAnswer(n.str("final_answer")); text != b.said {
		b.says(text, time.Time{})
	}
	b.finish()
	return nil
}
