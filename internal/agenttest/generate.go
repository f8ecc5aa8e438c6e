package agenttest

import "net/http"

// generate is the dialect of Google's Gemini API.
var generate = dialect{
	path: "GenerateContent",
	tools: func(body map[string]any) (all []string) {
		for _, tool := range list(body, "tools") {
			all = append(all, names(list(tool, "functionDeclarations"))...)
		}
		return all
	},
	answer: func(w http.ResponseWriter, turn Turn, id string) {
		var parts []object
		if turn.Text != "" {
			parts = append(parts, object{"text": turn.Text})
		}
		for _, call := range turn.Calls {
			parts = append(parts, object{"functionCall": object{"name": call.Tool, "args": call.Input}})
		}
		stream(w, object{
			"responseId": id, "modelVersion": "fake",
			"candidates":    []any{object{"index": 0, "content": object{"role": "model", "parts": parts}, "finishReason": "STOP"}},
			"usageMetadata": object{"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
		})
	},
}
