package transcript

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"
)

// The runs of LangSmith, one record each or nested in child_runs: those of one trace are an
// episode.
// https://docs.smith.langchain.com/reference/data_formats/run_data_format

var langSmith = &format{name: "langsmith", title: "runs of LangSmith", fits: fitsLangSmith, all: readLangSmith}

func fitsLangSmith(h *head) bool {
	return h.some(func(n node) bool {
		if list := n.items("runs"); len(list) > 0 {
			n = list[0]
		}
		return n.has("run_type") && (n.has("trace_id") || n.has("id"))
	})
}

func readLangSmith(r *records) error {
	ts := newTraces(r)
	for line, n := range r.all() {
		runs := []node{n}
		if list := n.items("runs"); len(list) > 0 {
			runs = list
		}
		for _, run := range runs {
			ts.langSmith(run, line, "", "")
		}
	}
	ts.finish()
	return nil
}

// langSmith adds a run of a trace, and those in it.
func (ts *traces) langSmith(n node, line int, id, parent string) {
	if !n.has("run_type") {
		ts.in.problem(&Problem{Line: line, Text: "has no run_type, as a run of LangSmith has"})
		return
	}
	first, _, _ := strings.Cut(n.str("dotted_order"), ".")
	_, first, _ = strings.Cut(first, "Z") // the time, and the id of the outermost run
	id = cmp.Or(n.str("trace_id"), id, first, n.str("id"))
	t := ts.of(id, line)
	if t == nil {
		return
	}
	sum := n.hash()
	t.hash = sha256.Sum256(append(t.hash[:], sum[:]...))
	s := t.fresh(n.str("id"))
	s.parent = cmp.Or(n.str("parent_run_id"), parent)
	s.name, s.order = n.str("name"), n.str("dotted_order")
	s.start, s.end = n.when("start_time"), n.when("end_time")
	s.problem = n.str("error")
	s.failed = s.problem != "" || n.str("status") == "error"
	size := 512 + len(s.problem) + len(s.order)
	s.tokens = [2]int64{n.integer("prompt_tokens"), n.integer("completion_tokens")}
	s.cost, _ = n.num("total_cost")
	about := n.get("extra", "metadata")
	switch kind := n.str("run_type"); {
	case s.parent == "" && kind != "llm" && kind != "tool" && kind != "retriever":
		s.kind = spanAgent
		size += ts.langSmithRoot(t, s, n)
	case kind == "llm":
		s.kind = spanChat
		s.used = cmp.Or(about.str("ls_model_name"), n.str("extra", "invocation_params", "model"), n.str("extra", "invocation_params", "model_name"))
		size += t.add(&s.asked, langSmithMessages(n.get("inputs")))
		size += t.add(&s.answered, langSmithMessages(n.get("outputs")))
	case kind == "tool", kind == "retriever":
		s.kind = spanTool
		size += s.langSmithTool(n)
	default:
		s.kind = spanInner
		if !slices.Contains([]string{"chain", "prompt", "parser", "embedding"}, kind) {
			ts.in.emit(&Run{Line: line, Left: Left{"run of type " + clip(cmp.Or(kind, "none"), 40): 1}})
		}
	}
	if s.parent == "" {
		s.langSmithLabels(n, ts.in.opts)
	}
	for _, child := range n.items("child_runs") {
		ts.langSmith(child, line, id, n.str("id"))
	}
	ts.grow(t, size)
}

// langSmithRoot adds what the outermost run was asked, and what it answered.
func (ts *traces) langSmithRoot(t *trace, s *span, n node) (size int) {
	in, out := n.get("inputs"), n.get("outputs")
	if size = t.add(&s.asked, langSmithMessages(in)); len(s.asked) == 0 {
		s.input = plainOf(in)
	}
	size += t.add(&s.answered, langSmithMessages(out))
	if len(s.answered) == 0 {
		s.final = plainOf(out)
	}
	return size + len(s.input) + len(s.final)
}

// plainOf is the inputs or outputs of a run as text.
func plainOf(n node) string {
	if of := firstOf(n, "input", "question", "query", "output", "answer", "result", "text"); of.isString() {
		return of.str()
	}
	if fields := n.fields(); len(fields) == 1 && fields[0].value.isString() {
		return fields[0].value.str()
	} else if len(fields) == 0 {
		return ""
	}
	return n.json()
}

// langSmithMessages are the messages in the inputs or the outputs of a run.
func langSmithMessages(n node) []*turn {
	of := firstOf(n, "messages", "generations", "choices", "message", "output")
	var turns []*turn
	var add func(n node, depth int)
	add = func(n node, depth int) {
		switch {
		case n.isArray() && depth < 3: // one list for each prompt
			for _, m := range n.items() {
				add(m, depth+1)
			}
		case n.get("message").isObject(): // a generation, or a choice
			turns = append(turns, turnOf(n.get("message")))
		case n.isObject() && (n.has("role") || n.has("lc") || isLangChain(n)):
			turns = append(turns, turnOf(n))
		case n.isObject() && n.str("text") != "":
			turns = append(turns, &turn{role: fromModel, parts: []part{{text: n.str("text")}}})
		case n.isArray(), n.get("messages").isArray() && depth < 3:
			add(n.get("messages"), depth+1)
		}
	}
	add(of, 0)
	if len(turns) == 0 && n.has("role") {
		add(n, 0)
	}
	return turns
}

// langSmithTool adds what a tool was given, and what it returned.
func (s *span) langSmithTool(n node) (size int) {
	in := n.get("inputs")
	s.arguments = argumentsOf(in)
	if input := in.get("input"); input.there() && len(in.fields()) == 1 {
		s.arguments = argumentsOf(input)
	} else if query := in.get("query"); n.str("run_type") == "retriever" && query.there() {
		s.arguments = argumentsOf(in)
	}
	var text string
	switch out := firstOf(n.get("outputs"), "output", "documents"); {
	case s.problem != "":
		text = s.problem
	case out.isObject() && (out.has("lc") || isLangChain(out)):
		for _, p := range turnOf(out).parts {
			if p.kind == partAnswer {
				s.call, text, s.failed = p.id, p.text, s.failed || p.failed
			}
		}
	case out.there():
		text = resultOf(out)
	case n.get("outputs").there():
		text = resultOf(n.get("outputs"))
	default:
		return len(s.arguments)
	}
	s.result = &text
	return len(s.arguments) + len(text)
}

// resultOf is a value as text.
func resultOf(n node) string {
	if text := n.plain(); text != "" || n.isString() {
		return text
	}
	return n.json()
}

// langSmithLabels adds what the outermost run tells beside.
func (s *span) langSmithLabels(n node, o *Options) {
	add := func(key, value string) {
		if value != "" {
			s.labels = append(s.labels, label{key, value})
		}
	}
	about := n.get("extra", "metadata")
	add("name", n.str("name"))
	add("thread_id", cmp.Or(about.plain("thread_id"), about.plain("session_id"), about.plain("conversation_id")))
	add("project", cmp.Or(n.str("session_name"), n.str("session_id")))
	for _, f := range n.fields("feedback_stats") {
		add("feedback."+f.key, f.value.plain("avg"))
	}
	for _, tag := range n.items("tags") {
		if text := tag.str(); text != "" {
			s.tags = append(s.tags, text)
		}
	}
	if o.OutcomeField != "" {
		s.verdict = n.json(strings.Split(o.OutcomeField, ".")...)
	}
}
