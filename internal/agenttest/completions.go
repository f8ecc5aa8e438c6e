package agenttest

import (
	"fmt"
	"net/http"
)

// completions is the dialect of OpenAI's older API, which many others speak.
var completions = dialect{
	path: "/chat/completions",
	tools: func(body map[string]any) (all []string) {
		for _, tool := range list(body, "tools") {
			if f, ok := tool["function"].(map[string]any); ok {
				all = append(all, names([]map[string]any{f})...)
			}
		}
		return all
	},
	answer: func(w http.ResponseWriter, turn Turn, id string) {
		delta, reason := object{"role": "assistant", "content": turn.Text}, "stop"
		var calls []object
		for i, call := range turn.Calls {
			reason = "tool_calls"
			calls = append(calls, object{
				"index": i, "id": fmt.Sprintf("call_%s_%d", id, i), "type": "function",
				"function": object{"name": call.Tool, "arguments": text(call.Input)},
			})
		}
		if calls != nil {
			delta["tool_calls"] = calls
		}
		chunk := func(delta object, reason any) object {
			return object{"id": id, "object": "chat.completion.chunk", "model": "fake", "choices": []any{
				object{"index": 0, "delta": delta, "finish_reason": reason},
			}, "usage": object{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}
		}
		stream(w, chunk(delta, nil), chunk(object{}, reason))
		fmt.Fprint(w, "data: [DONE]\n\n")
	},
}
