package transcript

import (
	"cmp"
	"strings"

	"github.com/episodic-memory/episodic"
)

// The events of OpenHands' SDK. https://docs.openhands.dev/sdk/arch/events

// isHandsEvent1 reports whether a value is one of them.
func isHandsEvent1(n node) bool {
	kind := n.str("kind")
	return strings.HasSuffix(kind, "Event") && kind != "Event" || kind == "UserRejectObservation" || kind == "Condensation"
}

func (h *hands) event1(n node, path string) error {
	at := h.time(n, "history", "timestamp")
	h.seen(at)
	if h.first.IsZero() {
		h.first = at
	}
	h.ids = true
	switch kind := n.str("kind"); kind {
	case "SystemPromptEvent":
		h.system(cmp.Or(h.content(n.get("system_prompt")), h.content(n.get("content"))))
	case "MessageEvent":
		m := n.get("llm_message")
		h.thinks(cmp.Or(m.str("reasoning_content"), n.str("reasoning_content")))
		switch text := h.content(m.get("content")); {
		case n.str("source") == "agent":
			h.says(text, at)
		default: // the environment speaks as the user too
			h.asks(issue(text, ""), at)
		}
	case "ActionEvent":
		tool := cmp.Or(n.str("tool_name"), n.str("tool_call", "name"), n.str("tool_call", "function", "name"), n.str("action", "kind"))
		if tool == "" {
			return invalid(path+".tool_name", "is missing, so this call cannot be kept")
		}
		h.thinks(n.str("reasoning_content"))
		h.says(h.content(n.get("thought")), at)
		arguments := argumentsOf(n.get("tool_call", "arguments"), n.get("tool_call", "function", "arguments"))
		action := n.get("action")
		if arguments == "" && action.isObject() {
			arguments = handsArguments(action, false)
		}
		h.call(cmp.Or(n.str("tool_call_id"), n.str("id")), tool, arguments, at)
		if tool == "finish" {
			h.spoke = cmp.Or(strings.TrimSpace(action.str("message")), h.spoke)
		}
	case "ObservationEvent":
		o := n.get("observation")
		text := h.observed(o)
		code, known := o.num("exit_code")
		if !known {
			code, known = o.num("metadata", "exit_code")
		}
		i := h.answers(answer{
			id: cmp.Or(n.str("tool_call_id"), n.str("action_id")), tool: n.str("tool_name"), text: text, at: at,
			failed: o.yes("is_error") || known && code != 0,
		})
		if o.yes("timeout") || known && code == -1 {
			h.e.Steps[i].Result.Kind = episodic.ResultTimeout
		}
	case "AgentErrorEvent", "UserRejectObservation":
		h.answers(answer{
			id: cmp.Or(n.str("tool_call_id"), n.str("action_id")), tool: n.str("tool_name"), at: at, failed: true,
			text: cmp.Or(n.str("error"), n.str("rejection_reason")), untold: kind != "AgentErrorEvent",
		})
	case "ConversationErrorEvent":
		h.answers(answer{id: "none", tool: "conversation", text: join(n.str("code"), n.str("detail")), failed: true, at: at})
	case "Condensation", "CondensationSummaryEvent":
		h.left("condensation of the history", 1)
	case "ConversationStateUpdateEvent":
		h.state(n)
	case "PauseEvent", "TokenEvent", "StreamingDeltaEvent", "LLMCompletionLogEvent":
	default:
		h.left("event of kind "+clip(kind, 40), 1)
	}
	return nil
}

// observed is the text of an observation: its content, else its output, else all of it.
func (h *hands) observed(o node) string {
	for _, key := range []string{"content", "output", "error"} {
		if text := h.content(o.get(key)); text != "" {
			return text
		}
	}
	if o.has("content") || o.has("output") {
		return ""
	}
	return handsArguments(o, false)
}

// state keeps what a change of the conversation's state tells of costs.
func (h *hands) state(n node) {
	stats := n.get("value")
	if n.str("key") == "full_state" {
		stats = stats.get("stats")
	}
	for _, f := range stats.fields("usage_to_metrics") {
		if f.key == "agent" {
			h.metrics(f.value)
		}
	}
}
