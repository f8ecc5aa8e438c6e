package agenttest

import (
	"fmt"
	"net/http"
)

// responses is the dialect of OpenAI's Responses API.
var responses = dialect{
	path: "/responses",
	tools: func(body map[string]any) (all []string) {
		for _, tool := range list(body, "tools") {
			all = append(all, names([]map[string]any{tool})...)
			for _, inner := range names(list(tool, "tools")) { // of a namespace
				all = append(all, fmt.Sprint(tool["name"], inner))
			}
		}
		return all
	},
	answer: func(w http.ResponseWriter, turn Turn, id string) {
		var items []object
		if turn.Text != "" {
			items = append(items, object{
				"type": "message", "role": "assistant", "id": id, "content": []any{object{"type": "output_text", "text": turn.Text}},
			})
		}
		for i, call := range turn.Calls {
			item := object{
				"type": "function_call", "id": fmt.Sprintf("fc_%s_%d", id, i), "call_id": fmt.Sprintf("call_%s_%d", id, i),
				"name": call.Tool, "arguments": text(call.Input),
			}
			if call.Space != "" {
				item["namespace"] = call.Space
			}
			items = append(items, item)
		}
		events := []object{{"type": "response.created", "response": object{"id": id}}}
		for i, item := range items {
			events = append(events, object{"type": "response.output_item.done", "output_index": i, "item": item})
		}
		events = append(events, object{"type": "response.completed", "response": object{
			"id": id, "output": items, "usage": object{"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
		}})
		stream(w, events...)
	},
}
