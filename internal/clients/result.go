package clients

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// result is what a tool has answered, as far as it can be told as text, and whether it failed.
func result(raw json.RawMessage) (text string, failed bool) {
	if raw == nil {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, false
	}
	var o object
	if json.Unmarshal(raw, &o) == nil && o != nil {
		failed = wentWrong(o) || wentWrong(o.object("metadata"))
		for _, key := range []string{"llmContent", "content", "textResultForLlm", "output", "aggregated_output", "text"} {
			if v := o.raw(key); v != nil {
				text, _ := result(v)
				return text, failed
			}
		}
		if o.has("stdout") || o.has("stderr") {
			return joinLines(o.str("stdout"), o.str("stderr")), failed
		}
		if text := o.str("error", "message"); failed && text != "" {
			return text, true
		}
	}
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) == nil && len(parts) > 0 {
		var texts []string
		for _, part := range parts {
			var o object
			if json.Unmarshal(part, &o) != nil || o.str("text") == "" {
				texts = nil
				break
			}
			texts = append(texts, o.str("text"))
		}
		if texts != nil {
			return joinLines(texts...), failed
		}
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return string(raw), failed
	}
	return compact.String(), failed
}

// wentWrong reports whether an answer says that the call failed.
func wentWrong(o object) bool {
	for _, key := range []string{"is_error", "isError"} {
		if string(o[key]) == "true" {
			return true
		}
	}
	if o.has("success") && string(o["success"]) == "false" {
		return true
	}
	for _, key := range []string{"exit_code", "exitCode", "exit"} {
		if v := string(o.raw(key)); v != "" && v != "0" {
			return true
		}
	}
	if kind := o.str("resultType"); kind != "" && kind != "success" {
		return true
	}
	switch v := string(o.raw("error")); v {
	case "", "false", `""`, "{}":
		return false
	}
	return true
}

// geminiExit is how Gemini CLI tells the model of a command that failed, below its output.
var geminiExit = regexp.MustCompile(`\nExit Code: -?[1-9][0-9]*(?:\n(?:Signal|Background PIDs|Process Group PGID): .*)*(?:\n</untrusted_context>)?\s*$`)

func joinLines(texts ...string) string {
	var kept []string
	for _, t := range texts {
		if t != "" {
			kept = append(kept, t)
		}
	}
	return strings.Join(kept, "\n")
}
