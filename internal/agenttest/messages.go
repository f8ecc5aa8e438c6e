package agenttest

import (
	"fmt"
	"net/http"
)

// messages is the dialect of Anthropic's Messages API.
var messages = dialect{
	path:  "/v1/messages",
	tools: func(body map[string]any) []string { return names(list(body, "tools")) },
	answer: func(w http.ResponseWriter, turn Turn, id string) {
		usage := object{"input_tokens": 10, "output_tokens": 5}
		events := []object{{"type": "message_start", "message": object{
			"id": id, "type": "message", "role": "assistant", "model": "fake", "content": []any{}, "usage": usage,
		}}}
		block := func(block, delta object) {
			index := len(events) / 3
			events = append(events,
				object{"type": "content_block_start", "index": index, "content_block": block},
				object{"type": "content_block_delta", "index": index, "delta": delta},
				object{"type": "content_block_stop", "index": index})
		}
		reason := "end_turn"
		if turn.Text != "" {
			block(object{"type": "text", "text": ""}, object{"type": "text_delta", "text": turn.Text})
		}
		for i, call := range turn.Calls {
			reason = "tool_use"
			block(object{"type": "tool_use", "id": fmt.Sprintf("toolu_%s_%d", id, i), "name": call.Tool, "input": object{}},
				object{"type": "input_json_delta", "partial_json": text(call.Input)})
		}
		events = append(events,
			object{"type": "message_delta", "delta": object{"stop_reason": reason}, "usage": usage},
			object{"type": "message_stop"})
		stream(w, events...)
	},
}
