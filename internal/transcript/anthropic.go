package transcript

// The requests of Anthropic's Messages API, with what was answered: turns of people and the
// model, whose content is blocks, and a system prompt beside them. Bedrock's Converse, whose
// blocks have no type, is the same.
// https://docs.anthropic.com/en/api/messages

var anthropic = &format{name: "anthropic", title: "an Anthropic messages transcript", fits: fitsAnthropic, each: readOpenAI}

func fitsAnthropic(h *head) bool {
	return h.some(func(n node) bool {
		list := n.items("messages")
		if len(list) == 0 || !list[0].has("role") {
			return false
		}
		if n.has("system") {
			return true
		}
		for _, m := range list {
			for _, block := range m.items("content") {
				switch block.str("type") {
				case "tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use":
					return true
				}
				if block.has("toolUse") || block.has("toolResult") {
					return true
				}
			}
		}
		return false
	})
}
