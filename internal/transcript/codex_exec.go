package transcript

import (
	"cmp"
	"slices"

	"github.com/episodic-memory/episodic"
)

// What `codex exec --json` prints: a line for each event of a thread. The prompt and times are
// not in it.

var codexExec = &format{name: "codex", title: "the output of codex exec --json", fits: fitsCodexExec, all: readCodexExec, live: true}

func fitsCodexExec(h *head) bool {
	return h.some(func(n node) bool {
		switch n.str("type") {
		case "thread.started":
			return n.has("thread_id")
		case "item.started", "item.completed":
			return n.get("item").isObject()
		}
		return false
	})
}

func readCodexExec(r *records) error {
	var b *builder
	var begun []node // items that have not ended
	var total codexTokens
	for line, n := range r.all() {
		if b == nil {
			b = r.begin(line)
			b.meta(MetaAgent, "codex")
		}
		item := n.get("item")
		same := func(i node) bool { return i.str("id") == item.str("id") }
		switch n.str("type") {
		case "thread.started":
			b.run.Key = cmp.Or(b.run.Key, n.str("thread_id"))
			b.meta(MetaSession, b.run.Key)
		case "item.started", "item.updated":
			begun = append(slices.DeleteFunc(begun, same), item)
		case "item.completed":
			begun = slices.DeleteFunc(begun, same)
			b.add(item)
			if err := b.codexItem(item, true); err != nil {
				r.problemAt(line, err)
			}
		case "turn.completed": // what the thread has used until now
			u := n.get("usage")
			now := codexTokens{input: u.integer("input_tokens"), cached: u.integer("cached_input_tokens"), output: u.integer("output_tokens")}
			b.used(now.input-total.input, now.output-total.output)
			b.sum("cached_input_tokens", now.cached-total.cached)
			total = now
		case "turn.failed", "error":
			b.left("error of the API", 1)
		case "turn.started":
		default:
			b.left("line of type "+clip(cmp.Or(n.str("type"), "none"), 40), 1)
		}
	}
	if b == nil {
		if r.unfinished == 0 {
			return nil
		}
		b = r.begin(1)
	}
	for _, item := range begun {
		b.add(item)
		if err := b.codexItem(item, false); err != nil {
			r.problem(err)
		}
	}
	r.end(b)
	return nil
}

// codexItem reads an item of a thread, ended or not.
func (b *builder) codexItem(n node, ended bool) error {
	at := n.when("timestamp")
	kind := cmp.Or(n.str("type"), n.str("item_type"))
	failed := n.str("status") == "failed" || n.str("status") == "declined"
	step := func(tool, parameters, result string) {
		i := b.call("", tool, parameters, at)
		b.calls = b.calls[:len(b.calls)-1] // its answer is here, or there is none
		if ended {
			b.e.Steps[i].Result = &episodic.Result{Kind: kindOf(failed), Text: result}
		}
	}
	switch kind {
	case "agent_message", "assistant_message":
		b.says(n.str("text"), at)
	case "user_message":
		b.asks(cmp.Or(n.str("text"), n.str("message")), at)
	case "reasoning":
		b.thinks(n.str("text"))
	case "command_execution":
		failed = failed || codexCode(n.get("exit_code"))
		step("command_execution", `{"command":`+n.json("command")+`}`, n.str("aggregated_output"))
	case "file_change":
		step("file_change", `{"changes":`+cmp.Or(n.json("changes"), "[]")+`}`, n.str("status"))
	case "mcp_tool_call":
		if n.str("tool") == "" {
			return invalid("item.tool", "is missing, so this call cannot be kept")
		}
		name := n.str("tool")
		if server := n.str("server"); server != "" {
			name = server + "__" + name
		}
		failed = failed || n.has("error")
		result := n.get("result")
		if result.has("content") {
			result = result.get("content")
		}
		step(name, n.json("arguments"), cmp.Or(n.str("error", "message"), b.result(result)))
	case "web_search":
		step("web_search", `{"query":`+quoted(n.str("query"))+`}`, "")
	case "todo_list":
		step("todo_list", `{"items":`+cmp.Or(n.json("items"), "[]")+`}`, "")
	case "error":
		b.left("error of the agent", 1)
	default:
		b.left("item of type "+clip(cmp.Or(kind, "none"), 40), 1)
	}
	return nil
}
