package clients

import "encoding/json"

// Hears reports whether a client takes something to add to the model's context as an answer to
// this event.
func (e *Event) Hears() bool {
	switch e.Client {
	case ClaudeCode, Codex:
		return e.Kind == Start || e.Kind == Prompt || e.Kind == Tool
	case Gemini:
		return e.Kind == Start || e.Kind == Prompt || e.Kind == Tool
	case VSCode:
		return e.Kind == Start || e.Kind == Tool
	case Cursor:
		return e.Kind == Start
	case Cline:
		return e.Kind == Start || e.Kind == Prompt || e.Kind == Tool
	case OpenCode:
		return e.Kind == Start || e.Kind == Prompt || e.Kind == Compact
	}
	return false // Copilot does not read it, and Windsurf has no way
}

// Answer is what a hook prints for a text to be added to the model's context, in the form of the
// event's client: nothing for an empty text, and for an event that does not hear.
func (e *Event) Answer(text string) []byte {
	if text == "" || !e.Hears() {
		return nil
	}
	var v any
	switch e.Client {
	case Cursor:
		v = map[string]string{"additional_context": text}
	case Cline:
		v = map[string]any{"cancel": false, "contextModification": text}
	case OpenCode:
		v = map[string]string{"context": text}
	default:
		v = map[string]any{"hookSpecificOutput": map[string]string{"hookEventName": e.Name, "additionalContext": text}}
	}
	b, err := json.Marshal(v)
	if err != nil { // strings can always be written
		return nil
	}
	return append(b, '\n')
}
